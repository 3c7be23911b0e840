"""Many basis states through a circuit at once, each as the few amplitudes it has."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from interlock.circuits.intent.gates import Gate

__all__ = ["SpreadError", "States"]

_GONE = 1e-7


class SpreadError(Exception):
    """The states have more amplitudes than are followed."""


class States:
    """A batch of sparse states.

    Args:
        width: number of wires.
        batch: number of states; all start in the zero state.
        most: amplitudes in all at most.
        rng: for the hash that finds equal basis states.
    """

    def __init__(self, width: int, batch: int, most: int, rng: np.random.Generator) -> None:
        self.bits: NDArray[np.uint8] = np.zeros((width, batch), np.uint8)
        self.amplitudes: NDArray[np.complex128] = np.ones(batch, complex)
        self.member: NDArray[np.int64] = np.arange(batch)
        self.batch = batch
        self.most = most
        self.work = 0
        words = 2**64 - 1
        self._wire = rng.integers(0, words, width, np.uint64)
        self._member = rng.integers(0, words, batch, np.uint64)
        self._hash = self._member.copy()

    @property
    def single(self) -> bool:
        """Whether every state of the batch is one basis state."""
        return self.amplitudes.size == self.batch

    def assign(self, wire: int, values: NDArray[np.uint8]) -> None:
        """Set a wire of every state, whatever it was."""
        self._flip(wire, self.bits[wire] ^ values[self.member])

    def clear(self, wire: int) -> None:
        """Set a wire to zero."""
        self._flip(wire, self.bits[wire].copy())

    def copy(self, source: int, to: int) -> None:
        """Set a wire to another's value."""
        self._flip(to, self.bits[to] ^ self.bits[source])

    def _flip(self, wire: int, change: NDArray[np.uint8]) -> None:
        self.bits[wire] ^= change
        self._hash ^= change * self._wire[wire]

    def apply(self, gate: Gate, wires: tuple[int, ...]) -> None:
        """Apply a gate.

        Raises:
            SpreadError: there are too many amplitudes.
        """
        self.work += 400 + self.amplitudes.size * len(gate.rows) ** 2
        index = self.bits[wires[0]].astype(np.int64)
        for i, wire in enumerate(wires[1:], 1):
            index |= self.bits[wire].astype(np.int64) << i
        if gate.target is not None and gate.phase is not None:
            self.amplitudes *= np.exp(1j * gate.phase)[index]
            self._move(wires, index, gate.target[index])
            return
        fan = len(gate.rows)
        if self.amplitudes.size * fan > 4 * self.most:
            raise SpreadError
        values = gate.values[:, index]
        rows = gate.rows[:, index].reshape(-1)
        self.bits = np.tile(self.bits, fan)
        self._hash = np.tile(self._hash, fan)
        self.member = np.tile(self.member, fan)
        self.amplitudes = (values * self.amplitudes).reshape(-1)
        self._move(wires, np.tile(index, fan), rows)
        self._merge()
        if self.amplitudes.size > self.most:
            raise SpreadError

    def _move(self, wires: tuple[int, ...], old: NDArray[np.int64], new: NDArray[np.int64]) -> None:
        changed = old ^ new
        for i, wire in enumerate(wires):
            change = (changed >> i & 1).astype(np.uint8)
            if change.any():
                self._flip(wire, change)

    def _merge(self) -> None:
        order = np.argsort(self._hash, kind="stable")
        keys = self._hash[order]
        starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
        sums = np.add.reduceat(self.amplitudes[order], starts)
        kept = np.abs(sums) > _GONE
        pick = order[starts[kept]]
        self.amplitudes = sums[kept]
        self.bits = self.bits[:, pick]
        self.member = self.member[pick]
        self._hash = self._hash[pick]

    def classical(self) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Return each wire's value in each state, and which wires have one value in each state."""
        order = np.argsort(self.member, kind="stable")
        members = self.member[order]
        starts = np.flatnonzero(np.r_[True, members[1:] != members[:-1]])
        sorted_bits = self.bits[:, order]
        low = np.minimum.reduceat(sorted_bits, starts, axis=1)
        if self.single:
            return low, np.ones(len(low), bool)
        high = np.maximum.reduceat(sorted_bits, starts, axis=1)
        return low, np.asarray((low == high).all(axis=1))
