"""A circuit without its dialect: single-qubit runs merged, entangling gates as cx where they are.

Renamed gates are already written out in the canonical form. Here what a compiler may change is
taken back: runs of single-qubit gates become one, `cz`, `ecr` and `rzx` between the right
single-qubit gates become `cx`, classical bits become wires, fixed loops are written out.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from interlock.circuits.canonical import Circuit, Operation
from interlock.circuits.intent.gates import SMALL, Gate, Step, conditioned, gate_of, named
from interlock.circuits.intent.known import Known
from interlock.circuits.intent.steady import steadied, steadied_pair
from interlock.circuits.matrices import written

__all__ = ["Normal", "normalise"]

_MAX_WIDTH = 8
#: A single-qubit gate, row by row; small ones are faster so than as arrays.
Small: TypeAlias = tuple[complex, complex, complex, complex]
_EYE: Small = (1, 0, 0, 1)
_R = math.sqrt(0.5)
_H: Small = (_R, _R, _R, -_R)
_X: Small = (0, 1, 1, 0)
#: Gates that are a diagonal gate between single-qubit ones.
_AROUND: dict[str, tuple[tuple[Small, Small], tuple[Small, Small]]] = {
    "rxx": ((_H, _H), (_H, _H)),
    "rzx": ((_EYE, _H), (_EYE, _H)),
    "ecr": ((_EYE, _H), (_X, _H)),
}


class Normal:
    """The steps of a circuit.

    Attributes:
        width: wires; classical bits follow the qubits.
        steps: in order.
        unfollowed: what could not be followed, "" when everything could.
        changed: whether an angle was made round.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self.steps: list[Step] = []
        self.unfollowed = ""
        self.changed = False


def normalise(circuit: Circuit, limit: int, *, steady: bool = False) -> Normal:
    """Return the normal form of a circuit whose parameters are numbers.

    Args:
        circuit: bound.
        limit: steps at most; a longer circuit is marked as not followed.
        steady: whether angles that are nearly round are made round.
    """
    maker = _Maker(circuit, limit, steady=steady)
    maker.walk(circuit.operations)
    for wire in list(maker.pending):
        maker.flush(wire)
    return maker.normal


def _times(a: Small, b: Small) -> Small:
    return (
        a[0] * b[0] + a[1] * b[2], a[0] * b[1] + a[1] * b[3],
        a[2] * b[0] + a[3] * b[2], a[2] * b[1] + a[3] * b[3],
    )  # fmt: skip


def _named(name: str) -> Gate:
    found = named(name, ())
    assert found is not None
    return found


def _small(gate: Gate) -> Small:
    (a, b), (c, d) = gate.matrix.tolist()
    return a, b, c, d


def _is_identity(gate: Small) -> bool:
    return abs(gate[1]) < SMALL and abs(gate[0] - gate[3]) < SMALL


def _is_classical(gate: Small) -> bool:
    return abs(gate[0]) < SMALL or abs(gate[1]) < SMALL


def _cost(gate: Small, other: Small) -> int:
    """Rate a gate: 0 takes basis states to basis states, 1 does with a Hadamard gate more."""
    return 0 if _is_classical(gate) else 1 if _is_classical(other) else 2


def _runs(operations: Sequence[Operation]) -> list[tuple[Small, Small] | None]:
    """Return for each gate on two qubits the single-qubit gates that directly follow on each."""
    after: dict[int, Small] = {}
    found: list[tuple[Small, Small] | None] = []
    for op in reversed(operations):
        qubits = op.qubits
        gate = None
        if len(qubits) == 2 and op.control is None and op.name != "barrier":
            found.append((after.get(qubits[0], _EYE), after.get(qubits[1], _EYE)))
        else:
            found.append(None)
            if len(qubits) == 1 and not op.clbits:
                gate = named(op.name, tuple(float(p) for p in op.params))
        if gate is not None:
            after[qubits[0]] = _times(after.get(qubits[0], _EYE), _small(gate))
        elif op.name != "barrier":
            for qubit in qubits:
                after.pop(qubit, None)
    return found[::-1]


class _Maker:
    def __init__(self, circuit: Circuit, limit: int, *, steady: bool = False) -> None:
        self.base = circuit.num_qubits
        self.steady = steady
        self.known = Known(circuit.num_qubits + circuit.num_clbits)
        self.normal = Normal(circuit.num_qubits + circuit.num_clbits)
        self.limit = limit
        self.pending: dict[int, Small] = {}

    def walk(self, operations: Sequence[Operation]) -> None:
        later = _runs(operations)
        for op, after in zip(operations, later, strict=True):
            if len(self.normal.steps) > self.limit:
                self.normal.unfollowed = f"over {self.limit} operations"
            if self.normal.unfollowed:
                return
            self.operation(op, after)

    def operation(self, op: Operation, after: tuple[Small, Small] | None) -> None:
        name = op.name
        if name in ("barrier", "delay", "delay_dt", "gphase", "id"):
            return
        if name == "measure":
            self.flush(op.qubits[0])
            self.emit("copy", (op.qubits[0], self.base + op.clbits[0]))
        elif name == "reset":
            self.pending.pop(op.qubits[0], None)
            self.emit("clear", op.qubits)
        elif op.control is not None or name in ("break_loop", "continue_loop"):
            self.controlled(op)
        elif len(op.qubits) <= _MAX_WIDTH:
            self.gate(op, after)
        else:
            self.normal.unfollowed = f"{name} on {len(op.qubits)} qubits"

    def emit(self, kind: str, wires: tuple[int, ...], gate: Gate | None = None) -> None:
        self.normal.steps.append(Step(kind, wires, gate))
        self.known.follow(kind, wires, gate)

    def steadied(self, gate: Small) -> Small:
        if not self.steady:
            return gate
        made = steadied(gate)
        phase = made[0] * gate[0].conjugate() + made[2] * gate[2].conjugate()
        self.normal.changed |= any(
            abs(m - g * phase / abs(phase)) > SMALL for m, g in zip(made, gate, strict=True)
        )
        return made

    def flush(self, wire: int) -> None:
        gate = self.pending.pop(wire, None)
        gate = None if gate is None else self.steadied(gate)
        if gate is not None and not _is_identity(gate):
            self.emit("gate", (wire,), gate_of(np.array(gate, complex).reshape(2, 2)))

    def single(self, wire: int, gate: Small) -> None:
        self.pending[wire] = _times(gate, self.pending.get(wire, _EYE))

    def gate(self, op: Operation, after: tuple[Small, Small] | None) -> None:
        params = tuple(float(p) for p in op.params)
        found = named(op.name, params)
        if self.steady and found is not None and len(op.qubits) > 1:
            steady = steadied_pair(found)
            self.normal.changed |= steady is not found
            if steady is None:
                return
            if steady is not found:
                op, found = Operation("unitary", (), op.qubits), steady
        if found is None:
            self.walk(written([op]))
        elif len(op.qubits) == 1:
            self.single(op.qubits[0], _small(found))
        elif len(op.qubits) == 2:
            before, behind = _AROUND.get(op.name, ((_EYE, _EYE), (_EYE, _EYE)))
            follows = [
                self.steadied(_times(m, b))
                for m, b in zip(after or (_EYE, _EYE), behind, strict=True)
            ]
            for qubit, gate in zip(op.qubits, before, strict=True):
                self.single(qubit, gate)
            if op.name in _AROUND:
                found = named("rzz", (math.pi / 2 if op.name == "ecr" else params[0],))
            assert found is not None
            self.pair(op.qubits, found, follows)
            for qubit, gate in zip(op.qubits, behind, strict=True):
                self.single(qubit, gate)
        else:
            for qubit in op.qubits:
                self.flush(qubit)
            self.emit("gate", op.qubits, found)

    def pair(self, qubits: tuple[int, ...], gate: Gate, after: Sequence[Small]) -> None:
        """Emit a gate on two qubits; a cz is a cx to whichever side has Hadamard gates about it."""
        a, b = qubits
        follows = list(after)
        for qubit in qubits:
            if qubit in self.pending:
                self.pending[qubit] = self.steadied(self.pending[qubit])
        if gate is named("cx", ()):
            self.single(b, _H)
            follows[1] = _times(follows[1], _H)
        elif gate.phase is not None and gate.diagonal:
            p0, pa, pb, pab = gate.phase.tolist()
            if abs(math.remainder(pab - pa - pb + p0 - math.pi, math.tau)) > SMALL:
                self._plain(qubits, gate)
                return
            self.single(a, (1, 0, 0, cmath.exp(1j * (pa - p0))))
            self.single(b, (1, 0, 0, cmath.exp(1j * (pb - p0))))
        else:
            self._plain(qubits, gate)
            return
        here = [self.pending.get(q, _EYE) for q in qubits]
        turned = [_times(_H, m) for m in here]
        back = [_times(m, _H) for m in follows]
        as_is = [
            _cost(here[k], turned[k]) + _cost(follows[k], _times(_H, follows[k])) for k in (0, 1)
        ]
        as_target = [
            _cost(turned[k], here[k]) + _cost(back[k], _times(_H, back[k])) for k in (0, 1)
        ]
        to_b, to_a, none = as_is[0] + as_target[1], as_target[0] + as_is[1], sum(as_is)
        if gate is named("cx", ()) and to_b <= min(to_a, none):
            target = b
        elif none <= min(to_a, to_b):
            self._plain(qubits, _named("cz"))
            target = -1
        else:
            target = b if to_b <= to_a else a
        if target >= 0:
            self.single(target, _H)
            self._plain((a, b) if target == b else (b, a), _named("cx"))
            self.single(target, _H)
        if gate is named("cx", ()):
            self.single(b, _H)

    def _plain(self, qubits: tuple[int, ...], gate: Gate) -> None:
        for qubit in qubits:
            self.flush(qubit)
        self.emit("gate", qubits, gate)

    def controlled(self, op: Operation) -> None:
        control = op.control
        if op.name == "box" and control is not None:
            self.walk(control.blocks[0])
        elif op.name == "for_loop" and control is not None and not control.symbol:
            kind, *rest = control.condition
            values = rest[0] if kind == "set" else range(*rest)
            for _ in values:
                if len(self.normal.steps) > self.limit or self.normal.unfollowed:
                    break
                self.walk(control.blocks[0])
        elif op.name == "if_else" and control is not None:
            read = _truth(control.condition)
            if read is None:
                self.normal.unfollowed = "a condition on many bits"
                return
            if len(control.blocks) > 1 and control.blocks[0] == control.blocks[1]:
                self.walk(control.blocks[0])  # both ways come to the same
                return
            bits, truth = self.known.fold(*read, base=self.base)
            if not bits:  # decided already
                if truth[0] or len(control.blocks) > 1:
                    self.walk(control.blocks[0 if truth[0] else 1])
                return
            for block, when in zip(control.blocks, (truth, [not t for t in truth]), strict=False):
                for inner in block:
                    self._conditional(inner, bits, when)
        else:
            self.normal.unfollowed = op.name

    def _conditional(self, op: Operation, bits: list[int], truth: list[bool]) -> None:
        if op.name in ("barrier", "delay", "delay_dt", "gphase", "id"):
            return
        found = None
        if op.control is None and len(op.qubits) + len(bits) <= _MAX_WIDTH:
            found = named(op.name, tuple(float(p) for p in op.params))
        if found is None:
            self.normal.unfollowed = f"{op.name} under a condition"
            return
        for qubit in op.qubits:
            self.flush(qubit)
        wires = (*(self.base + b for b in bits), *op.qubits)
        self.emit("gate", wires, gate_of(conditioned(found.matrix, truth)))


def _truth(condition: Any) -> tuple[list[int], list[bool]] | None:
    """Return the bits a condition reads, and for each of their values whether it holds."""
    kind, *rest = condition
    if kind == "bit":
        return [rest[0]], [False, True]
    if kind == "!":
        inner = _truth(rest[0])
        return None if inner is None else (inner[0], [not t for t in inner[1]])
    if kind in ("==", "!=") and rest[0][0] == "bits" and rest[1][0] == "value":
        bits, value = rest[0][1], rest[1][1]
        if len(bits) < _MAX_WIDTH:
            return list(bits), [(v == value) == (kind == "==") for v in range(1 << len(bits))]
    return None
