"""How PennyLane's operations are said in gates of the vocabulary."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from interlock.circuits.canonical import Operation
from interlock.circuits.controlled import scaled, steps_of
from interlock.circuits.expression import Param

__all__ = ["NAMES", "inverse", "rules"]


def inverse(steps: Sequence[Operation]) -> list[Operation] | None:
    """Return the steps backwards, each inverted, or None where one has no inverse by name."""
    pairs = {"s": "sdg", "t": "tdg", "sx": "sxdg", "cs": "csdg"}
    pairs |= {b: a for a, b in pairs.items()}
    same = {"id", "x", "y", "z", "h", "cx", "cy", "cz", "ch", "swap", "ccx", "ccz", "cswap", "c3x",
            "c4x"}  # fmt: skip
    turned = {"p", "u1", "rx", "ry", "rz", "cp", "crx", "cry", "crz", "rxx", "ryy", "rzz", "gphase"}
    out: list[Operation] = []
    for op in reversed(steps):
        if op.name in turned:
            out.append(Operation(op.name, (scaled(op.params[0], -1.0),), op.qubits))
        elif op.name in pairs or op.name in same:
            out.append(Operation(pairs.get(op.name, op.name), (), op.qubits))
        else:
            return None
    return out


Rule = Callable[[list[Param], list[int], Any], "list[Operation] | None"]
#: PennyLane's class -> canonical name, where parameters and wires are the same.
NAMES: Mapping[str, str] = {
    "PauliX": "x", "PauliY": "y", "PauliZ": "z", "Hadamard": "h", "S": "s", "T": "t", "SX": "sx",
    "RX": "rx", "RY": "ry", "RZ": "rz", "PhaseShift": "p", "U1": "u1", "U2": "u2", "U3": "u3",
    "CNOT": "cx", "CY": "cy", "CZ": "cz", "CH": "ch", "SWAP": "swap", "ISWAP": "iswap",
    "CSWAP": "cswap", "Toffoli": "ccx", "CCZ": "ccz", "CRX": "crx", "CRY": "cry", "CRZ": "crz",
    "ControlledPhaseShift": "cp", "IsingXX": "rxx", "IsingYY": "ryy", "IsingZZ": "rzz",
}  # fmt: skip


def rules(module: Any) -> dict[type, Rule]:
    """Return the rule of each class. A subclass has none: it may be another gate."""

    def named(name: str) -> Rule:
        return lambda params, wires, _op: steps_of((name, params, wires))

    def parity(params: list[Param], wires: list[int], _op: Any) -> list[Operation] | None:
        name = {1: "rz", 2: "rzz"}.get(len(wires))
        return None if name is None else steps_of((name, params, wires))

    table: dict[type, Rule] = {getattr(module, kind): named(name) for kind, name in NAMES.items()}
    table |= {
        module.Identity: lambda _p, wires, _op: steps_of(*(("id", (), (w,)) for w in wires)),
        module.MultiRZ: parity,
        module.Rot: lambda p, w, _op: steps_of(
            ("rz", p[:1], w), ("ry", p[1:2], w), ("rz", p[2:], w)
        ),
        module.IsingXY: lambda p, w, _op: steps_of(("xx_plus_yy", (scaled(p[0], -1.0), 0.0), w)),
        module.GlobalPhase: lambda p, _w, _op: steps_of(("gphase", (scaled(p[0], -1.0),), ())),
    }
    return table
