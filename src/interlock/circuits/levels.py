"""The order of operations that the identity is made of, and what is counted on the way."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from interlock.circuits.operation import BARRIERS, Control, Operation

__all__ = ["Summary", "ordered", "rounds_of", "summarise"]

_SHIFT = 40


class Summary(msgspec.Struct, frozen=True):
    """What one pass over the operations finds; the fields are those of `Circuit`, but for one.

    Attributes:
        order: places of the operations in the order of the identity.
        depth: as `Circuit.depth`.
        size: as `Circuit.size`.
        two_qubit_ops: as `Circuit.two_qubit_ops`.
        bounded: as `Circuit.bounded`.
    """

    order: tuple[int, ...]
    depth: int
    size: int
    two_qubit_ops: int
    bounded: bool


def rounds_of(op: Operation) -> int:
    """How often the blocks of an operation run."""
    control = op.control
    if op.name != "for_loop" or control is None:
        return 1
    kind, *rest = control.condition
    if kind == "set":
        return len(rest[0])
    start, stop, step = (int(v) for v in rest)
    return max(0, -((start - stop) // step))


def summarise(
    operations: Sequence[Operation], levels: list[int] | dict[int, int], num_qubits: int
) -> Summary:
    """Level every operation by the wires it waits for, in one pass.

    A level is `depth << 40 | barriers since`, so that barriers take a place in the order without
    adding to the depth. Operations of one level share no wire.

    Args:
        operations: the operations of a circuit or a block.
        levels: zero for every wire; classical bits follow the qubits.
        num_qubits: number of the first classical wire.
    """
    base = len(levels) + num_qubits + 1
    keys: list[int] = []
    size = two = 0
    bounded = True
    one = 1 << _SHIFT
    mask = -one
    for op in operations:
        qubits = op.qubits
        if op.control is None and not op.clbits and op.name not in BARRIERS:
            if len(qubits) == 1:
                first = qubits[0]
                levels[first] = level = (levels[first] & mask) + one
                keys.append(level * base + first)
                size += 1
                continue
            if len(qubits) == 2:
                first, other = qubits
                start = levels[first]
                if levels[other] > start:
                    start = levels[other]
                levels[first] = levels[other] = level = (start & mask) + one
                keys.append(level * base + first)
                size += 1
                two += 1
                continue
        touched: Sequence[int] = [*qubits, *[num_qubits + c for c in op.clbits]]
        touched = touched or (list(levels) if isinstance(levels, dict) else range(len(levels)))
        start = max([levels[w] for w in touched], default=0)
        if op.name in BARRIERS:
            level = start + 1
        elif op.control is None:
            level = (start & mask) + one
            size += 1
            two += len(qubits) > 1
        else:
            parts = [
                summarise(block, dict.fromkeys(touched, 0), num_qubits)
                for block in op.control.blocks
            ]
            rounds = rounds_of(op)
            bounded = bounded and op.name != "while_loop" and all(p.bounded for p in parts)
            level = (start & mask) + one * max(1, rounds * max([p.depth for p in parts], default=1))
            size += 1 + rounds * sum(p.size for p in parts)
            two += rounds * sum(p.two_qubit_ops for p in parts)
        for w in touched:
            levels[w] = level
        keys.append(level * base + (min(touched) if touched else 0))
    ends = levels.values() if isinstance(levels, dict) else levels
    return Summary(
        order=tuple(sorted(range(len(keys)), key=keys.__getitem__)),
        depth=max(ends, default=0) >> _SHIFT,
        size=size,
        two_qubit_ops=two,
        bounded=bounded,
    )


def ordered(op: Operation, num_qubits: int) -> Operation:
    """Return the operation as the identity sees it: wires and blocks in canonical order."""
    control = op.control
    if control is None:
        if op.name == "barrier":
            return Operation(op.name, op.params, tuple(sorted(op.qubits)), op.clbits)
        return op
    wires = [*op.qubits, *[num_qubits + c for c in op.clbits]]
    blocks = []
    for block in control.blocks:
        order = summarise(block, dict.fromkeys(wires, 0), num_qubits).order
        blocks.append(tuple(ordered(block[i], num_qubits) for i in order))
    return Operation(
        op.name,
        op.params,
        tuple(sorted(op.qubits)),
        tuple(sorted(op.clbits)),
        Control(control.condition, tuple(blocks), control.cases, control.symbol),
    )
