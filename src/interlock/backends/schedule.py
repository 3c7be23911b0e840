"""When each qubit waits: as-late-as-possible schedule of a list of timed operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Idle", "Timed", "alap"]


class Timed(NamedTuple):
    """Qubits and duration of one operation."""

    qubits: tuple[int, ...]
    duration_us: float


class Idle(NamedTuple):
    """After operation `after`, `qubit` waits this long for its next one."""

    after: int
    qubit: int
    duration_us: float


def alap(operations: Sequence[Timed]) -> tuple[list[Idle], float]:
    """Return every wait between two operations of a qubit, and the duration of the circuit.

    Vendors schedule as late as possible, so that a qubit waits in its ground state before its
    first operation, which costs nothing and is not listed.

    Example:
        >>> alap([Timed((0,), 1.0), Timed((1,), 3.0), Timed((0, 1), 2.0)])
        ([], 5.0)
        >>> alap([Timed((0, 1), 2.0), Timed((1,), 3.0), Timed((0, 1), 2.0)])
        ([Idle(after=0, qubit=0, duration_us=3.0)], 7.0)
    """
    busy: dict[int, float] = {}
    idles: list[Idle] = []
    for index in range(len(operations) - 1, -1, -1):
        qubits, duration = operations[index]
        end = max((busy.get(q, 0.0) for q in qubits), default=0.0)
        for qubit in qubits:
            gap = end - busy.get(qubit, end)
            if gap > 0.0:
                idles.append(Idle(index, qubit, gap))
            busy[qubit] = end + duration
    return idles[::-1], max(busy.values(), default=0.0)
