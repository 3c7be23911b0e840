"""Matrices of the gates of the vocabulary, and of short lists of them.

The first qubit is the least significant bit, as in Qiskit. Definitions: OpenQASM 3 standard
library (arXiv 2104.14722, section on gates) and the Qiskit circuit library.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from interlock.circuits.canonical import Operation

__all__ = ["gate_matrix", "same_gate", "unitary", "written"]

Matrix: TypeAlias = NDArray[np.complex128]

#: Largest difference of two matrices of one gate: what rounding leaves.
_CLOSE = 1e-9
_R = 1 / math.sqrt(2)
_X = np.array([[0, 1], [1, 0]], complex)
_Y = np.array([[0, -1j], [1j, 0]], complex)
_Z = np.array([[1, 0], [0, -1]], complex)
_I = np.eye(2, dtype=complex)
_H: Matrix = np.array([[_R, _R], [_R, -_R]], complex)
_SX: Matrix = np.array([[0.5 + 0.5j, 0.5 - 0.5j], [0.5 - 0.5j, 0.5 + 0.5j]], complex)
_PAULI = {"x": _X, "y": _Y, "z": _Z}


def _u(theta: float, phi: float, lam: float) -> Matrix:
    c, s = math.cos(theta / 2), math.sin(theta / 2)
    e = cmath.exp
    return np.array([[c, -e(1j * lam) * s], [e(1j * phi) * s, e(1j * (phi + lam)) * c]], complex)


def _phase(angle: float) -> Matrix:
    return np.array([[1, 0], [0, cmath.exp(1j * angle)]], complex)


def _rotation(generator: Matrix, angle: float) -> Matrix:
    """Return exp(-i angle/2 G) of a generator that squares to one."""
    size = len(generator)
    return math.cos(angle / 2) * np.eye(size) - 1j * math.sin(angle / 2) * generator


def _controlled(matrix: Matrix, controls: int = 1) -> Matrix:
    """Control by the lowest bits, as Qiskit numbers them."""
    size = len(matrix) << controls
    out = np.eye(size, dtype=complex)
    rows = [(k << controls) | ((1 << controls) - 1) for k in range(len(matrix))]
    out[np.ix_(rows, rows)] = matrix
    return out


def _two(high: str, low: str) -> Matrix:
    return np.kron(_PAULI[high], _PAULI[low])


_SWAP = np.eye(4, dtype=complex)[[0, 2, 1, 3]]
_ISWAP = _rotation(_two("x", "x"), -math.pi / 2) @ _rotation(_two("y", "y"), -math.pi / 2)
_FIXED: dict[str, Matrix] = {
    "x": _X, "y": _Y, "z": _Z, "h": _H, "id": _I, "s": _phase(math.pi / 2),
    "sdg": _phase(-math.pi / 2), "t": _phase(math.pi / 4), "tdg": _phase(-math.pi / 4),
    "sx": _SX, "sxdg": _SX.conj().T, "cx": _controlled(_X), "cy": _controlled(_Y),
    "cz": _controlled(_Z), "ch": _controlled(_H), "csx": _controlled(_SX),
    "cs": _controlled(_phase(math.pi / 2)), "csdg": _controlled(_phase(-math.pi / 2)),
    "swap": _SWAP, "ccx": _controlled(_X, 2), "ccz": _controlled(_Z, 2),
    "cswap": _controlled(_SWAP), "c3x": _controlled(_X, 3), "c4x": _controlled(_X, 4),
    "c3sx": _controlled(_SX, 3), "iswap": _ISWAP,
    "dcx": np.eye(4, dtype=complex)[[0, 3, 1, 2]],
    "ecr": np.kron(_I, _R * _X).astype(complex) - np.kron(_X, _R * _Y).astype(complex),
}  # fmt: skip


def _margolus(*steps: str) -> tuple[Operation, ...]:
    """Write out a relative-phase gate on the last qubit `t`: `h`, `t+`, `t-` and `c<control>`."""
    target = max(int(s[1:]) for s in steps if s[0] == "c") + 1
    out = []
    for step in steps:
        if step == "h":
            out.append(Operation("h", (), (target,)))
        elif step[0] == "c":
            out.append(Operation("cx", (), (int(step[1:]), target)))
        else:
            out.append(Operation("t" if step == "t+" else "tdg", (), (target,)))
    return tuple(out)


#: Relative-phase Toffoli gates (Maslov, arXiv 1508.03273), written out.
_WRITTEN = {
    "rccx": _margolus("h", "t+", "c1", "t-", "c0", "t+", "c1", "t-", "h"),
    "rcccx": _margolus(
        "h", "t+", "c2", "t-", "h", "c0", "t+", "c1", "t-", "c0", "t+", "c1", "t-", "h", "t+",
        "c2", "t-", "h",
    ),
}  # fmt: skip


def gate_matrix(name: str, params: Sequence[float]) -> Matrix | None:
    """Return the matrix of a gate, or None for a gate that is not tabulated.

    Example:
        >>> gate_matrix("x", ()).real.astype(int).tolist()
        [[0, 1], [1, 0]]
    """
    if name in _FIXED:
        return _FIXED[name]
    if name in _WRITTEN:
        return unitary(_WRITTEN[name], 3 if name == "rccx" else 4)
    if name in ("U", "u3"):
        return _u(*params)
    if name == "u2":
        return _u(math.pi / 2, *params)
    if name in ("p", "u1"):
        return _phase(*params)
    if name == "cp":
        return _controlled(_phase(*params))
    if name == "cu3":
        return _controlled(_u(*params))
    if name == "cu":
        return _controlled(cmath.exp(1j * params[3]) * _u(*params[:3]))
    if name == "r":
        theta, phi = params
        return _rotation((math.cos(phi) * _X + math.sin(phi) * _Y).astype(complex), theta)
    if name[:1] == "r" and name[1:] in _PAULI:
        return _rotation(_PAULI[name[1:]], params[0])
    if name[:2] == "cr" and name[2:] in _PAULI:
        return _controlled(_rotation(_PAULI[name[2:]], params[0]))
    if name[:1] == "r" and len(name) == 3 and {name[1], name[2]} <= set(_PAULI):
        return _rotation(_two(name[2], name[1]), params[0])
    if name in ("xx_plus_yy", "xx_minus_yy"):
        theta, beta = params
        plus = name == "xx_plus_yy"
        out = np.eye(4, dtype=complex)
        a, b = (1, 2) if plus else (0, 3)
        e = cmath.exp(-1j * beta)
        out[a, a] = out[b, b] = math.cos(theta / 2)
        out[a, b] = -1j * math.sin(theta / 2) * e
        out[b, a] = -1j * math.sin(theta / 2) * e.conjugate()
        return out
    return None


def unitary(operations: Sequence[Operation], num_qubits: int) -> Matrix | None:
    """Return the matrix of a list of gates, or None when one has no matrix or no number.

    Exponential in `num_qubits`; meant for a few.
    """
    out: Matrix = np.eye(2**num_qubits, dtype=complex).reshape([2] * num_qubits + [-1])
    for op in operations:
        if op.name == "barrier":
            continue
        numbers = [p for p in op.params if not isinstance(p, str)]
        if len(numbers) != len(op.params) or op.control is not None:
            return None
        if op.name == "gphase":
            out = out * cmath.exp(1j * numbers[0])
            continue
        if op.name == "unitary":
            size = 2 ** len(op.qubits)
            matrix: Matrix | None = np.array(numbers).view(complex).reshape(size, size)
        else:
            matrix = gate_matrix(op.name, numbers)
        if matrix is None:
            return None
        k = len(op.qubits)
        axes = [num_qubits - 1 - q for q in reversed(op.qubits)]
        tensor = matrix.reshape([2] * (2 * k))
        out = np.moveaxis(np.tensordot(tensor, out, (range(k, 2 * k), axes)), range(k), axes)
    return out.reshape(2**num_qubits, 2**num_qubits)


def same_gate(body: Sequence[Operation], wanted: Operation) -> bool:
    """Whether a list of gates is one gate, up to a global phase.

    Example:
        >>> hzh = [Operation(n, (), (0,)) for n in "hzh"]
        >>> same_gate(hzh, Operation("x", (), (0,)))
        True
    """
    size = len(wanted.qubits)
    left, right = unitary(body, size), unitary([wanted], size)
    if left is None or right is None:
        return False
    overlap = np.vdot(left, right)
    phase = overlap / abs(overlap) if abs(overlap) > _CLOSE else 1.0
    return bool(np.all(np.abs(right - phase * left) < _CLOSE))  # NaN is not close either


def written(ops: Sequence[Operation]) -> list[Operation]:
    """Return the operations with those gates written out that have no matrix of their own."""
    out: list[Operation] = []
    for op in ops:
        numbers = [p for p in op.params if not isinstance(p, str)]
        if op.name in ("unitary", "gphase") or gate_matrix(op.name, numbers) is not None:
            out.append(op)
            continue
        from interlock.circuits.qiskit_adapter import from_qiskit
        from interlock.circuits.qiskit_writer import definition

        inner = from_qiskit(definition(op))
        out += [
            Operation(o.name, o.params, tuple(op.qubits[q] for q in o.qubits))
            for o in inner.operations
        ]
    return out
