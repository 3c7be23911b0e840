"""Gates a program may use: those of the standard includes, with modifiers worked out."""

from __future__ import annotations

import math

from interlock.circuits.canonical import Operation
from interlock.circuits.expression import Param, normalise
from interlock.circuits.gates import STDGATES

__all__ = ["INCLUDES", "controlled", "inverse"]

_QELIB1 = (
    "u3", "u2", "u1", "u0", "cx", "id", "x", "y", "z", "h", "s", "sdg", "t", "tdg", "rx", "ry",
    "rz", "cz", "cy", "ch", "ccx", "crz", "cu1", "cu3", "u", "p", "sx", "sxdg", "swap", "cswap",
    "crx", "cry", "cp", "csx", "cu", "rxx", "rzz", "rccx", "rc3x", "c3x", "c3sqrtx", "c4x",
)  # fmt: skip
#: Include -> the gates it defines. No other file is ever included, and none is opened.
INCLUDES = {
    "qelib1.inc": frozenset(_QELIB1) - {"u0"},
    "stdgates.inc": (frozenset(STDGATES) - {"U", "gphase"}) | {"CX", "phase", "cphase"},
}
_SELF_INVERSE = frozenset(
    {"x", "y", "z", "h", "cx", "cy", "cz", "ch", "swap", "ccx", "cswap", "id", "ccz", "ecr",
     "c3x", "c4x"}
)  # fmt: skip
_PAIRS = {"s": "sdg", "t": "tdg", "sx": "sxdg", "cs": "csdg"}
_PAIRS |= {b: a for a, b in _PAIRS.items()}
_NEGATED = frozenset(
    {"p", "rx", "ry", "rz", "cp", "crx", "cry", "crz", "u1", "rxx", "ryy", "rzz", "rzx", "gphase"}
)
_CONTROLLED = {
    "x": "cx", "y": "cy", "z": "cz", "h": "ch", "s": "cs", "sdg": "csdg", "sx": "csx", "p": "cp",
    "u1": "cp", "rx": "crx", "ry": "cry", "rz": "crz", "swap": "cswap", "cx": "ccx", "cz": "ccz",
    "ccx": "c3x", "c3x": "c4x", "u3": "cu3",
}  # fmt: skip


def _minus(param: Param) -> Param:
    return normalise(f"-({param})") if isinstance(param, str) else -param + 0.0


def inverse(op: Operation) -> list[Operation] | None:
    """Return the inverse of a gate, or None when it is not known in closed form.

    Example:
        >>> inverse(Operation("s", (), (0,)))[0].name
        'sdg'
    """
    name, params = op.name, op.params
    if name in _SELF_INVERSE:
        return [op]
    if name in _PAIRS:
        return [Operation(_PAIRS[name], (), op.qubits)]
    if name in _NEGATED:
        return [Operation(name, tuple(_minus(p) for p in params), op.qubits)]
    if name in ("U", "u3", "cu3"):
        a, b, c = params
        return [Operation(name, (_minus(a), _minus(c), _minus(b)), op.qubits)]
    if name == "cu":
        a, b, c, d = params
        return [Operation(name, (_minus(a), _minus(c), _minus(b), _minus(d)), op.qubits)]
    if name == "u2":
        b, c = params
        return [Operation("u3", (-math.pi / 2, _minus(c), _minus(b)), op.qubits)]
    return None


def controlled(op: Operation, control: int) -> list[Operation] | None:
    """Return a gate with one more control, or None when it has no name in the vocabulary.

    Example:
        >>> str(controlled(Operation("x", (), (1,)), 0)[0])
        'cx q[0], q[1]'
    """
    if op.name == "gphase":
        return [Operation("p", op.params, (control,))]
    if op.name == "id":
        return []
    name = _CONTROLLED.get(op.name)
    return None if name is None else [Operation(name, op.params, (control, *op.qubits))]
