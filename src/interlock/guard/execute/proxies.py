"""Known-answer circuits like the user's: near-Clifford copies (Czarnik et al., Quantum 5, 592)."""

from __future__ import annotations

import math

import numpy as np
from qiskit.circuit import QuantumCircuit
from qiskit.quantum_info import SparsePauliOp, StabilizerState, Statevector

from interlock.backends.twins import used_qubits
from interlock.errors import InputError

__all__ = ["EXACT", "expectation", "proxies_of"]

_ANGLES = frozenset({"rz", "rx", "ry", "p", "u1", "rzz"})
_TURN = math.pi / 2
#: Up to this many used qubits the answer is computed from the state; beyond, proxies are Clifford.
EXACT = 12
#: Share of the angles that are kept as they are.
KEPT = 0.3
#: Proxies whose answer is smaller than this part of the bound say little, and are drawn again.
SMALL = 0.15
_TRIES = 8


def _near_clifford(
    circuit: QuantumCircuit, keep: float, rng: np.random.Generator
) -> QuantumCircuit:
    made = circuit.copy_empty_like()
    for item in circuit.data:
        name = item.operation.name
        if name in _ANGLES and rng.random() >= keep:
            turns = float(item.operation.params[0]) / _TURN
            low = math.floor(turns)
            # The nearer quarter turn is the likelier one.
            step = low + (rng.random() < turns - low)
            places = [circuit.find_bit(q).index for q in item.qubits]
            getattr(made, name)(step * _TURN, *places)
        else:
            made.append(item)
    return made


def proxies_of(
    circuit: QuantumCircuit, observable: SparsePauliOp, number: int, rng: np.random.Generator
) -> list[QuantumCircuit]:
    """Return circuits with the user's gates on the user's qubits and other angles.

    Args:
        circuit: bound, in the device's gates, without measurements.
        observable: on its qubits.
        number: how many.
        rng: which angles are moved, and where to.

    Raises:
        InputError: the circuit measures or has gates without a Clifford twin (`proxy-gate`).
    """
    narrow = len(used_qubits(circuit)) <= EXACT
    bound = float(np.abs(observable.coeffs).sum())
    good: list[QuantumCircuit] = []
    dull: list[QuantumCircuit] = []
    for _ in range(number * _TRIES):
        made = _near_clifford(circuit, KEPT if narrow else 0.0, rng)
        telling = abs(expectation(made, observable)) >= SMALL * bound
        (good if telling else dull).append(made)
        if len(good) == number:
            break
    return (good + dull)[:number]


def expectation(circuit: QuantumCircuit, observable: SparsePauliOp) -> float:
    """Return the noiseless expectation value, on the used qubits alone.

    Raises:
        InputError: it cannot be computed (`proxy-gate`).
    """
    from qiskit.exceptions import QiskitError

    touched = {
        q
        for label in observable.paulis.to_labels()
        for q, letter in enumerate(reversed(label))
        if letter != "I"
    }
    used = sorted({*used_qubits(circuit), *touched})
    place = {q: i for i, q in enumerate(used)}
    small = QuantumCircuit(max(len(used), 1))
    try:
        for item in circuit.data:
            where = [circuit.find_bit(q).index for q in item.qubits]
            if item.operation.name in ("barrier", "delay", "id"):
                continue
            small.append(item.operation, [place[q] for q in where])
        terms = [
            (label[::-1], complex(c))
            for label, c in zip(observable.paulis.to_labels(), observable.coeffs, strict=True)
        ]
        narrow = SparsePauliOp.from_list(
            [("".join(label[q] for q in used)[::-1] or "I", c) for label, c in terms]
        )
        state = Statevector if len(used) <= EXACT else StabilizerState
        return float(np.real(state(small).expectation_value(narrow)))
    except (QiskitError, IndexError, TypeError, ValueError) as error:
        raise InputError(
            "no known answer can be computed for this circuit",
            code="proxy-gate",
            got=f"{type(error).__name__}: {error}"[:200],
            expected="gates of the device, no measurement inside, angles that are bound",
            fix="use the estimator without mitigation",
        ) from error
