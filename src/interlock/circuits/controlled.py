"""Adding a control to operations of the canonical form; shared by the SDK adapters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from interlock.circuits.canonical import Operation
from interlock.circuits.expression import Param, normalise

__all__ = ["control", "exchange", "scaled", "steps_of", "total"]

_NEXT = {
    "x": "cx", "cx": "ccx", "ccx": "c3x", "c3x": "c4x", "y": "cy", "z": "cz", "cz": "ccz",
    "h": "ch", "sx": "csx", "s": "cs", "sdg": "csdg", "p": "cp", "u1": "cp", "rx": "crx",
    "ry": "cry", "rz": "crz", "swap": "cswap",
}  # fmt: skip


def scaled(param: Param, factor: float) -> Param:
    """Return a parameter times a number."""
    if isinstance(param, str):
        return normalise(f"({factor!r})*({param})")
    return factor * param + 0.0


def total(*params: Param) -> Param:
    """Return the sum of parameters."""
    if all(not isinstance(p, str) for p in params):
        return sum(float(p) for p in params) + 0.0
    return normalise(" + ".join(f"({p})" for p in params))


def control(
    steps: Iterable[Operation], qubits: Sequence[int], values: Sequence[int] | None = None
) -> list[Operation] | None:
    """Return the steps under control of `qubits`, or None where the vocabulary has no such gate.

    Args:
        steps: gates; a `gphase` among them becomes a phase of the control.
        qubits: control qubits.
        values: the value each control has to have; 1 by default.

    Example:
        >>> [str(op) for op in control([Operation("x", (), (1,))], [0]) or ()]
        ['cx q[0], q[1]']
    """
    steps = list(steps)
    for qubit in reversed(qubits):
        following: list[Operation] = []
        for op in steps:
            name, wires = op.name, (qubit, *op.qubits)
            if name == "gphase":
                following.append(Operation("p", op.params, (qubit,)))
            elif name == "U":
                following.append(Operation("cu", (*op.params, 0.0), wires))
            elif name in _NEXT:
                following.append(Operation(_NEXT[name], op.params, wires))
            elif name != "id":
                return None
        steps = following
    flipped = [q for q, value in zip(qubits, values or (), strict=False) if not value]
    flips = [Operation("x", (), (q,)) for q in flipped]
    return [*flips, *steps, *flips]


def steps_of(*steps: tuple[str, Sequence[Param], Sequence[int]]) -> list[Operation]:
    """Return operations from (name, parameters, qubits)."""
    return [Operation(name, tuple(params), tuple(qubits)) for name, params, qubits in steps]


def exchange(op: Operation) -> list[Operation]:
    """Return `xx_plus_yy` as one without phase between two rotations.

    Every SDK has the gate without phase under some name, and takes free parameters in it.
    """
    theta, phase = op.params
    first = op.qubits[:1]
    return steps_of(
        ("rz", (phase,), first),
        ("xx_plus_yy", (theta, 0.0), op.qubits),
        ("rz", (scaled(phase, -1.0),), first),
    )
