"""Wires whose value is known, so that conditions on them are decided.

A condition on a bit that was never written, or that holds the outcome of a qubit nobody touched,
does nothing but hide what stands under it.
"""

from __future__ import annotations

from interlock.circuits.intent.gates import Gate

__all__ = ["Known"]


class Known:
    """The wires of a circuit that starts in the zero state, as far as each has one value."""

    def __init__(self, width: int) -> None:
        self.values: list[int | None] = [0] * width

    def follow(self, kind: str, wires: tuple[int, ...], gate: Gate | None) -> None:
        """Follow a step."""
        values = self.values
        if kind == "copy":
            values[wires[1]] = values[wires[0]]
        elif kind == "clear":
            values[wires[0]] = 0
        elif gate is None or not gate.classical:
            for wire in wires:
                values[wire] = None
        else:
            known = sum((values[w] is not None) << i for i, w in enumerate(wires))
            ones = sum((values[w] or 0) << i for i, w in enumerate(wires))
            found = gate.view(known, ones).outputs
            for wire, output in zip(wires, found, strict=True):
                values[wire] = output[1] if output is not None and not output[0] else None

    def fold(
        self, bits: list[int], truth: list[bool], *, base: int
    ) -> tuple[list[int], list[bool]]:
        """Return a condition on the bits that are not known.

        Args:
            bits: classical bits it reads, the first the lowest of an index.
            truth: for each of their values whether it holds.
            base: the wire of classical bit 0.
        """
        for place in reversed(range(len(bits))):
            value = self.values[base + bits[place]]
            if value is not None:
                truth = [t for i, t in enumerate(truth) if i >> place & 1 == value]
                bits = bits[:place] + bits[place + 1 :]
        return bits, truth
