"""Sentinels: circuits with a known answer that look to the device like the user's own.

A sentinel has the user's gates on the user's qubits, with rotations moved to random multiples of
a quarter turn, then a random layer of Paulis, then its own inverse (mirror circuits: Proctor et
al., Nature Physics 18, 75). It is Clifford, so its one right answer follows from carrying the
Paulis through the inverse, and the random layer keeps coherent errors from undoing themselves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from qiskit.circuit import ClassicalRegister, QuantumCircuit
from qiskit.quantum_info import Pauli, SparsePauliOp

from interlock.backends.calibration import Calibration
from interlock.circuits.qiskit_adapter import from_qiskit
from interlock.errors import InputError
from interlock.guard.health.esp import predict

__all__ = ["REGISTER", "Mirror", "allowed_failure", "mirror_of"]

REGISTER = "sentinel"
#: Qubits whose answer an estimator is asked for: as an observable it has 2**n Pauli terms.
ESTIMATED = 6
#: Added to the predicted failure rate: over 14 snapshots the twin fails at most 1.09 times it.
MARGIN = 0.1
_ANGLES = frozenset({"rz", "rx", "ry", "p", "u1", "rzz"})
_SELF_INVERSE = frozenset({"cx", "cz", "ecr", "x", "id", "swap", "y", "z", "h"})
_SKIP = frozenset({"measure", "barrier", "reset", "delay", "id"})
_TURN = math.pi / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """A sentinel circuit, with its answer as a bit string (first bit last)."""

    circuit: QuantumCircuit
    answer: str
    qubits: tuple[int, ...]

    def estimated(self) -> tuple[QuantumCircuit, SparsePauliOp]:
        """Return the circuit without its measurements, and the projector on the answer.

        The projector's ideal value is 1, and one minus its value is the share of wrong shots. It
        is diagonal, so an estimator measures all its terms at once.
        """
        bare = self.circuit.copy_empty_like()
        bare.data = [item for item in self.circuit.data if item.operation.name != "measure"]
        bare.remove_final_measurements()
        terms: list[tuple[str, list[int], float]] = [("", [], 1.0)]
        for bit, qubit in zip(reversed(self.answer), self.qubits, strict=True):
            sign = -1.0 if bit == "1" else 1.0
            terms = [
                row
                for letters, where, weight in terms
                for row in (
                    (letters, where, weight / 2),
                    (letters + "Z", [*where, qubit], sign * weight / 2),
                )
            ]
        return bare, SparsePauliOp.from_sparse_list(terms, num_qubits=self.circuit.num_qubits)


def mirror_of(
    circuit: QuantumCircuit, rng: np.random.Generator | int | None, *, most: int | None = None
) -> Mirror:
    """Return a sentinel made from a circuit in the device's own gates.

    Args:
        circuit: the user's, compiled; its measured qubits are measured.
        rng: random quarter turns and Paulis; secret from the device.
        most: measure at most so many of the used qubits, at random.

    Raises:
        InputError: a gate without a Clifford twin (`sentinel-gate`).
    """
    random = np.random.default_rng(rng)
    index = {bit: i for i, bit in enumerate(circuit.qubits)}
    forward: list[tuple[str, tuple[float, ...], tuple[int, ...]]] = []
    measured: list[int] = []
    for item in circuit.data:
        where = tuple(index[q] for q in item.qubits)
        name = item.operation.name
        if name == "measure":
            measured.append(where[0])
        if name in _SKIP:
            continue
        if name in _ANGLES:
            forward.append((name, (int(random.integers(4)) * _TURN,), where))
        elif name in _SELF_INVERSE or name in ("sx", "sxdg"):
            forward.append((name, (), where))
        else:
            raise InputError(
                "no sentinel can be made from this circuit",
                code="sentinel-gate",
                got=name,
                expected="gates " + ", ".join(sorted(_ANGLES | _SELF_INVERSE | {"sx"})),
                fix="transpile for the device first; no control flow",
            )
    used = sorted({q for _, _, where in forward for q in where} | set(measured))
    qubits = tuple(used)
    if most is not None and len(used) > most:
        qubits = tuple(sorted(random.choice(used, most, replace=False).tolist()))
    made = QuantumCircuit(circuit.num_qubits)
    made.add_register(ClassicalRegister(len(qubits), REGISTER))
    back = QuantumCircuit(circuit.num_qubits)
    for name, angles, where in forward:
        getattr(made, name)(*angles, *where)
    for name, angles, where in reversed(forward):
        if name == "sx":
            back.rz(math.pi, where[0])
            back.sx(where[0])
            back.rz(math.pi, where[0])
        elif name == "sxdg":
            back.sx(where[0])
        else:
            getattr(back, name)(*(-a % (2 * math.pi) for a in angles), *where)
    made.barrier(used)
    x, z = np.zeros(circuit.num_qubits, bool), np.zeros(circuit.num_qubits, bool)
    for qubit in used:
        x[qubit], z[qubit] = random.integers(2, size=2)
        if x[qubit]:
            made.x(qubit)
        if z[qubit]:
            made.rz(math.pi, qubit)
    made.barrier(used)
    made.compose(back, inplace=True)
    for bit, qubit in enumerate(qubits):
        made.measure(qubit, bit)
    carried = Pauli((z, x)).evolve(_quarter(back), frame="s")
    answer = "".join("1" if carried.x[q] else "0" for q in reversed(qubits))
    return Mirror(circuit=made, answer=answer, qubits=qubits)


def _quarter(circuit: QuantumCircuit) -> QuantumCircuit:
    """Write quarter turns as Clifford gates by name, which Qiskit can carry a Pauli through."""
    made = QuantumCircuit(circuit.num_qubits)
    index = {bit: i for i, bit in enumerate(circuit.qubits)}
    for item in circuit.data:
        where = [index[q] for q in item.qubits]
        name = item.operation.name
        if name not in _ANGLES:
            getattr(made, name)(*where)
            continue
        turns = round(float(item.operation.params[0]) / _TURN) % 4
        for _ in range(turns):
            if name in ("rz", "p", "u1"):
                made.s(*where)
            elif name == "rx":
                made.sx(*where)
            elif name == "ry":
                made.h(*where)
                made.x(*where)
            else:
                made.cx(*where)
                made.s(where[1])
                made.cx(*where)
    return made


def allowed_failure(circuit: QuantumCircuit, calibration: Calibration) -> float:
    """Return the failure rate that the calibration allows a sentinel, with a small margin.

    Raises:
        InputError: the calibration has no value for an operation (`sentinel-unknown`).
    """
    made = predict(from_qiskit(circuit), calibration, process=True)
    if made.success is None:
        raise InputError(
            "the success of a sentinel cannot be predicted",
            code="sentinel-unknown",
            got=str(made.unknown),
            expected="a usable calibration of every operation",
            fix="transpile for the backend",
        )
    width = len(circuit.clbits)
    success = made.success + (1 - made.success) / 2**width
    return float(min(0.98, max(1e-4, (1 - success) * (1 + MARGIN))))
