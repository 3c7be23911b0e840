"""Trains of entangling gates next to qubits of somebody else.

A gate on a pair of qubits shifts the frequency of their neighbours (ZZ crosstalk). A circuit that
repeats one such gate at the border of its qubits disturbs whoever has the next ones; that is the
attack of Deshpande et al., "Towards an Antivirus for Quantum Computers" (HOST 2022,
arXiv 2203.02649).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from interlock.circuits.canonical import Circuit, Operation
from interlock.circuits.levels import rounds_of
from interlock.circuits.target import Target

__all__ = ["Pressure", "coupling", "pressure"]

_ROUNDS = 4096


class Pressure(msgspec.Struct, frozen=True, kw_only=True):
    """What a circuit does to its neighbours.

    Attributes:
        train: longest run of entangling gates on one pair, with no other entangling gate on
            either qubit in between.
        pair: that pair, or empty.
        exposure: most entangling gates in all next to one foreign qubit.
        victim: that qubit, or None.
        foreign: qubits of others that the circuit itself acts on.
    """

    train: int = 0
    pair: tuple[int, ...] = ()
    exposure: int = 0
    victim: int | None = None
    foreign: tuple[int, ...] = ()


def coupling(target: Target) -> frozenset[frozenset[int]]:
    """Return the coupled pairs of a device; empty when it does not tell."""
    return frozenset(
        frozenset(place)
        for places in (target.gates or {}).values()
        if places
        for place in places
        if len(place) == 2
    )


def pressure(
    circuit: Circuit, pairs: Iterable[frozenset[int]], foreign: frozenset[int]
) -> Pressure:
    """Measure what a circuit does next to qubits that are not its own.

    Args:
        circuit: on the device's qubits.
        pairs: coupled qubits.
        foreign: qubits of others.

    Example:
        >>> cx = Operation("cx", (), (0, 1))
        >>> pairs = [frozenset({0, 1}), frozenset({1, 2})]
        >>> found = pressure(Circuit(num_qubits=2, operations=(cx,) * 50), pairs, frozenset({2}))
        >>> found.train, found.victim
        (50, 2)
    """
    near: dict[int, set[int]] = {}
    for pair in pairs:
        for qubit in pair & foreign:
            for other in pair - foreign:
                near.setdefault(other, set()).add(qubit)
    count = _Count(near)
    count.walk(circuit.operations, 1.0)
    victim = max(count.exposure, key=count.exposure.__getitem__, default=None)
    return Pressure(
        train=count.longest,
        pair=count.pair,
        exposure=round(count.exposure[victim]) if victim is not None else 0,
        victim=victim,
        foreign=tuple(sorted(circuit.used_qubits & foreign)),
    )


class _Count:
    def __init__(self, near: Mapping[int, set[int]]) -> None:
        self.near = near
        self.last: dict[int, tuple[int, ...]] = {}
        self.runs: dict[tuple[int, ...], int] = {}
        self.exposure: dict[int, float] = {}
        self.longest = 0
        self.pair: tuple[int, ...] = ()

    def walk(self, operations: Sequence[Operation], weight: float) -> None:
        for op in operations:
            if op.control is not None:
                rounds = rounds_of(op)
                walked = min(rounds, _ROUNDS // max(1, len(op.control.blocks[0])) + 1)
                for _ in range(walked):
                    for block in op.control.blocks:
                        self.walk(block, weight * rounds / walked)
            elif len(op.qubits) > 1 and op.name != "barrier":
                self.gate(tuple(sorted(op.qubits)), weight)

    def gate(self, qubits: tuple[int, ...], weight: float) -> None:
        again = all(self.last.get(q) == qubits for q in qubits)
        run = self.runs[qubits] = self.runs.get(qubits, 0) + 1 if again else 1
        for qubit in qubits:
            self.last[qubit] = qubits
        victims = set().union(*(self.near.get(q, ()) for q in qubits))
        for victim in victims:
            self.exposure[victim] = self.exposure.get(victim, 0.0) + weight
        if victims and run > self.longest:
            self.longest, self.pair = run, qubits
