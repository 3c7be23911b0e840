"""Sums over paths: every wire as a parity of variables, every phase as a term of a few of them.

A Hadamard gate makes a new variable, a cx adds one wire to another, a diagonal gate adds phases to
parities (Amy, "Towards large-scale functional verification of universal quantum circuits",
arXiv 1805.06908). The form does not change when gates commute, when controlled phases are written
as cx and rz, or when a router moves qubits about, so a Fourier transform shows in it as what it
is: a chain of variables, each with phases of pi/2, pi/4, ... to the next ones.
"""

from __future__ import annotations

import math

from interlock.circuits.intent.gates import Step
from interlock.circuits.intent.normal import Normal

__all__ = ["Paths", "Turn", "fourier_chains", "is_full", "trace"]

_TOLERANCE = 1e-6


class Turn:
    """A Hadamard-like gate: which variable went in, which came out, at which step and wire."""

    __slots__ = ("after", "before", "step", "wire")

    def __init__(self, step: int, wire: int, before: int, after: int) -> None:
        self.step = step
        self.wire = wire
        self.before = before
        self.after = after


class Paths:
    """What following all wires found.

    Attributes:
        masks: for each wire at the end the set of variables, as bits.
        fresh: variable -> (step, wire) where a constant wire was put into superposition.
        turns: Hadamard-like gates on a wire that was one variable.
        phases: set of variables -> phase of its parity.
        mixed: variables that a later superposing gate took in, as bits.
    """

    def __init__(self, width: int) -> None:
        self.masks = [0] * width
        self.ones = [0] * width
        self.fresh: dict[int, tuple[int, int]] = {}
        self.turns: list[Turn] = []
        self.phases: dict[int, float] = {}
        self.mixed = 0
        self._count = 0

    def last(self, turn: Turn) -> bool:
        """Whether nothing superposes the output of a turn again."""
        return not turn.after & self.mixed

    def pair(self, one: int, other: int) -> float:
        """Return the controlled phase between two variables, from 0 to pi."""
        return abs(math.remainder(2 * self.phases.get(one | other, 0.0), math.tau))

    def variable(self) -> int:
        """Return a new variable, as a bit."""
        self._count += 1
        return 1 << (self._count - 1)

    def step(self, number: int, step: Step) -> None:
        """Follow one step."""
        masks, ones = self.masks, self.ones
        if step.kind == "copy":
            source, to = step.wires
            masks[to], ones[to] = masks[source], ones[source]
        elif step.kind == "clear":
            masks[step.wires[0]] = ones[step.wires[0]] = 0
        elif step.gate is not None and step.gate.classical:
            self._classical(step)
        else:
            self._spread(number, step)

    def _spread(self, number: int, step: Step) -> None:
        for wire in step.wires:
            before = self.masks[wire]
            after = self.variable()
            self.mixed |= before
            if step.gate is not None and step.gate.width == 1:
                if before == 0:
                    self.fresh[after] = number, wire
                elif step.gate.spread and before & (before - 1) == 0:
                    self.turns.append(Turn(number, wire, before, after))
            self.masks[wire], self.ones[wire] = after, 0

    def _classical(self, step: Step) -> None:
        gate, wires = step.gate, step.wires
        assert gate is not None
        known = ones = 0
        for i, w in enumerate(wires):
            known |= (self.masks[w] == 0) << i
            ones |= self.ones[w] << i
        view = gate.view(known, ones)
        old = [self.masks[w] for w in wires]
        for i, angle in view.linear:
            self._phase(old[i], angle)
        for i, j, angle in view.quadratic:
            self._phase(old[i], angle / 2)
            self._phase(old[j], angle / 2)
            self._phase(old[i] ^ old[j], -angle / 2)
        for i, w in enumerate(wires):
            found = view.outputs[i]
            if found is None:
                self.masks[w], self.ones[w] = self.variable(), 0
                continue
            mask = 0
            for k in found[0]:
                mask ^= old[k]
            self.masks[w], self.ones[w] = mask, found[1]

    def _phase(self, mask: int, angle: float) -> None:
        if mask:
            self.phases[mask] = self.phases.get(mask, 0.0) + angle


def trace(normal: Normal) -> Paths:
    """Follow all wires of a circuit that starts in the zero state."""
    paths = Paths(normal.width)
    for number, step in enumerate(normal.steps):
        paths.step(number, step)
    return paths


def fourier_chains(paths: Paths, shortest: int = 2) -> list[list[Turn]]:
    """Return the longest chains of turns, each with a phase of pi/2 to the one before it."""
    made = {turn.after: k for k, turn in enumerate(paths.turns)}
    taken = {turn.before: k for k, turn in enumerate(paths.turns)}
    earlier: dict[int, list[int]] = {}
    for mask in paths.phases:
        high = 1 << (mask.bit_length() - 1)
        low = mask ^ high
        if not low or low & (low - 1):
            continue
        if abs(paths.pair(high, low) - math.pi / 2) > _TOLERANCE:
            continue
        for out, into in ((high, low), (low, high)):
            if out in made and into in taken and made[out] < taken[into]:
                earlier.setdefault(taken[into], []).append(made[out])
    length = [1] * len(paths.turns)
    back: list[int | None] = [None] * len(paths.turns)
    for k in range(len(paths.turns)):
        for j in earlier.get(k, ()):
            if length[j] + 1 > length[k]:
                length[k], back[k] = length[j] + 1, j
    free = set(range(len(paths.turns)))
    found: list[list[Turn]] = []
    for k in sorted(free, key=lambda i: -length[i]):
        chain: list[Turn] = []
        at: int | None = k
        while at is not None and at in free:
            chain.append(paths.turns[at])
            free.discard(at)
            at = back[at]
        if len(chain) >= shortest:
            found.append(chain[::-1])
    return found


def is_full(paths: Paths, chain: list[Turn]) -> bool:
    """Whether a chain also has the phases of pi/4, as a Fourier transform of three has."""
    return any(
        abs(paths.pair(one.after, third.before) - math.pi / 4) < _TOLERANCE
        for one, third in zip(chain, chain[2:], strict=False)
    )
