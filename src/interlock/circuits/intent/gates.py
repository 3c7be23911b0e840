"""A gate as the analysis sees it: a matrix, and what it does to basis states."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from interlock.circuits.matrices import gate_matrix

__all__ = ["Gate", "Step", "View", "gate_of", "named"]

Matrix: TypeAlias = NDArray[np.complex128]
SMALL = 1e-9


class View:
    """What a gate does when some of its wires are known.

    Attributes:
        outputs: for each wire the wires whose parity it becomes and a constant, or None when that
            is no parity.
        linear: (wire, phase) terms.
        quadratic: (wire, wire, phase) terms.
    """

    __slots__ = ("linear", "outputs", "quadratic")

    def __init__(self, gate: Gate, known: int, ones: int) -> None:
        free = [i for i in range(gate.width) if not known >> i & 1]
        count = 1 << len(free)
        index = [sum((u >> k & 1) << w for k, w in enumerate(free)) ^ ones for u in range(count)]
        assert gate.target is not None
        assert gate.phase is not None
        results = [int(gate.target[i]) for i in index]
        angles = [float(gate.phase[i]) for i in index]
        self.outputs = [self._parity(results, w, free) for w in range(gate.width)]
        self.linear = [
            (w, angles[1 << k] - angles[0])
            for k, w in enumerate(free)
            if abs(angles[1 << k] - angles[0]) > SMALL
        ]
        self.quadratic: list[tuple[int, int, float]] = []
        for a in range(len(free)):
            for b in range(a):
                both = angles[1 << a | 1 << b] - angles[1 << a] - angles[1 << b] + angles[0]
                if abs(both) > SMALL:
                    self.quadratic.append((free[a], free[b], both))

    @staticmethod
    def _parity(
        results: list[int], wire: int, free: list[int]
    ) -> tuple[tuple[int, ...], int] | None:
        start = results[0] >> wire & 1
        picks = [k for k in range(len(free)) if (results[1 << k] >> wire & 1) != start]
        for u, result in enumerate(results):
            if (result >> wire & 1) != (start + sum(u >> k & 1 for k in picks)) & 1:
                return None
        return tuple(free[k] for k in picks), start


class Gate:
    """A unitary on a few wires; the first wire is the lowest bit of an index.

    Attributes:
        matrix: the unitary.
        width: number of wires.
        target, phase: when every basis state goes to one basis state, which and with what phase;
            else None.
        spread: whether it makes an equal superposition of one wire, as a Hadamard gate does.
        rows, values: for each basis state, those it goes to and their amplitudes.
    """

    def __init__(self, matrix: Matrix) -> None:
        self.matrix = matrix
        self.width = len(matrix).bit_length() - 1
        large = np.abs(matrix) > SMALL
        fan = int(large.sum(axis=0).max())
        self.target: NDArray[np.int64] | None = None
        self.phase: NDArray[np.float64] | None = None
        if fan == 1:
            self.target = np.argmax(large, axis=0)
            self.phase = np.angle(matrix[self.target, np.arange(len(matrix))])
        self.spread = self.width == 1 and bool(np.allclose(np.abs(matrix), np.sqrt(0.5), atol=1e-6))
        order = np.argsort(~large, axis=0, kind="stable")[:fan]
        self.rows = np.ascontiguousarray(order)
        self.values = np.take_along_axis(matrix, order, axis=0)
        self._views: dict[tuple[int, int], View] = {}

    @property
    def diagonal(self) -> bool:
        """Whether it only gives phases to basis states."""
        return self.target is not None and bool((self.target == np.arange(len(self.target))).all())

    @property
    def classical(self) -> bool:
        """Whether it takes basis states to basis states."""
        return self.target is not None

    def view(self, known: int, ones: int) -> View:
        """Return what it does when the wires in `known` are constant; `ones` holds constants."""
        if (known, ones) not in self._views:
            self._views[known, ones] = View(self, known, ones)
        return self._views[known, ones]


class Step:
    """One step of a normalised circuit: a gate, `copy` (measure) or `clear` (reset) on wires."""

    __slots__ = ("gate", "kind", "wires")

    def __init__(self, kind: str, wires: tuple[int, ...], gate: Gate | None = None) -> None:
        self.kind = kind
        self.wires = wires
        self.gate = gate


_made: dict[bytes, Gate] = {}


def gate_of(matrix: Matrix) -> Gate:
    """Return the gate of a matrix; equal matrices share one."""
    key = np.round(matrix, 10).tobytes()
    if key not in _made:
        if len(_made) > 4096:
            _made.clear()
        _made[key] = Gate(matrix)
    return _made[key]


@lru_cache(maxsize=4096)
def named(name: str, params: tuple[float, ...]) -> Gate | None:
    """Return the gate of a name of the vocabulary, or None when it has no matrix."""
    if name == "unitary":
        size = round((len(params) / 2) ** 0.5)
        return gate_of(np.array(params).view(complex).reshape(size, size))
    found = gate_matrix(name, params)
    return None if found is None else gate_of(np.asarray(found, complex))


def conditioned(matrix: Matrix, truth: Sequence[bool]) -> Matrix:
    """Return the matrix that acts only where classical bits, which come first, make it so."""
    bits = len(truth)
    out = np.eye(len(matrix) * bits, dtype=complex)
    for index in np.flatnonzero(truth):
        where = np.arange(len(matrix)) * bits + int(index)
        out[np.ix_(where, where)] = matrix
    return out
