"""Runs of gates on one pair of qubits as the one gate they are.

A compiler at a high level rewrites such runs (KAK decomposition), so that nothing of the source is
left in them but their product. Where the product is a classical gate between Hadamard gates, it is
put back as that.
"""

from __future__ import annotations

import numpy as np

from interlock.circuits.intent.gates import SMALL, Gate, Matrix, Step, gate_of
from interlock.circuits.matrices import gate_matrix

__all__ = ["merged"]

_H: Matrix = np.asarray(gate_matrix("h", ()), complex)
_I: Matrix = np.eye(2, dtype=complex)
#: Hadamard gates on neither, either or both of two wires; the first wire is the low bit.
_SIDES = tuple((a, b, np.kron(_H if b else _I, _H if a else _I)) for a in (0, 1) for b in (0, 1))


class _Block:
    __slots__ = ("matrix", "steps", "wires")

    def __init__(self, wires: tuple[int, int]) -> None:
        self.wires = wires
        self.matrix: Matrix = np.eye(4, dtype=complex)
        self.steps: list[Step] = []


def merged(steps: list[Step]) -> list[Step]:
    """Return the steps with each run on a pair of wires as a classical gate where it is one."""
    out: list[Step] = []
    pending: dict[int, Matrix] = {}
    open_: dict[int, _Block] = {}
    for step in steps:
        gate, wires = step.gate, step.wires
        if gate is not None and len(wires) == 1:
            wire = wires[0]
            if wire in open_:
                block = open_[wire]
                high = wire == block.wires[1]
                local = np.kron(gate.matrix, _I) if high else np.kron(_I, gate.matrix)
                block.matrix = local @ block.matrix
                block.steps.append(step)
            else:
                pending[wire] = gate.matrix @ pending.get(wire, _I)
            continue
        if gate is not None and len(wires) == 2:
            block = open_.get(wires[0]) or open_.get(wires[1]) or _Block((-1, -1))
            if set(block.wires) != set(wires) or open_.get(wires[0]) is not open_.get(wires[1]):
                for wire in wires:
                    _close(open_.get(wire), open_, pending, out)
                block = _Block((wires[0], wires[1]))
                for place, wire in enumerate(wires):
                    matrix = pending.pop(wire, None)
                    if matrix is not None:
                        local = np.kron(matrix, _I) if place else np.kron(_I, matrix)
                        block.matrix = local @ block.matrix
                        block.steps.append(Step("gate", (wire,), gate_of(matrix)))
                    open_[wire] = block
            same = wires == block.wires
            block.matrix = (gate.matrix if same else _turned(gate)) @ block.matrix
            block.steps.append(step)
            continue
        for wire in wires:
            _close(open_.get(wire), open_, pending, out)
            _flush(wire, pending, out)
        out.append(step)
    for left in list(open_.values()):
        if left.wires[0] in open_:
            _close(left, open_, pending, out)
    for wire in list(pending):
        _flush(wire, pending, out)
    return out


def _turned(gate: Gate) -> Matrix:
    """Return the matrix with its two wires the other way round."""
    order = [0, 2, 1, 3]
    return gate.matrix[np.ix_(order, order)]


def _flush(wire: int, pending: dict[int, Matrix], out: list[Step]) -> None:
    matrix = pending.pop(wire, None)
    if matrix is None:
        return
    if abs(matrix[0, 1]) > SMALL or abs(matrix[0, 0] - matrix[1, 1]) > SMALL:
        out.append(Step("gate", (wire,), gate_of(matrix)))


def _close(
    block: _Block | None, open_: dict[int, _Block], pending: dict[int, Matrix], out: list[Step]
) -> None:
    if block is None:
        return
    for wire in block.wires:
        open_.pop(wire, None)
    best: tuple[int, tuple[int, int], tuple[int, int], Matrix] | None = None
    for a, b, before in _SIDES:
        for c, d, after in _SIDES:
            if best is not None and a + b + c + d >= best[0]:
                continue
            inner = after @ block.matrix @ before
            if int((np.abs(inner) > 1e-7).sum()) == 4:
                best = a + b + c + d, (a, b), (c, d), inner
    if best is None:
        out.extend(block.steps)
        return
    _, first, last, inner = best
    for wire, turn in zip(block.wires, first, strict=True):
        if turn:
            out.append(Step("gate", (wire,), gate_of(_H)))
    inner = np.where(np.abs(inner) > 1e-7, inner, 0)
    out.append(Step("gate", block.wires, gate_of(inner)))
    for wire, turn in zip(block.wires, last, strict=True):
        if turn:
            pending[wire] = _H
