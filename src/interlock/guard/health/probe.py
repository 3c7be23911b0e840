"""Running a circuit so that the cause of a deviation can be told; see `guard.stats.attribution`."""

from __future__ import annotations

from typing import Any

import numpy as np
from qiskit.circuit import QuantumCircuit, pauli_twirl_2q_gates

from interlock.backends.calibration import Calibration
from interlock.backends.twins import Twin, TwinSpec
from interlock.errors import InputError
from interlock.guard.health.seeds import SURE
from interlock.guard.stats.attribution import Arm, Attribution, attribute
from interlock.guard.validate.repeats import chance_of_repeat

__all__ = ["arms_of", "flipped", "inverted", "mean_of", "probe", "twirled"]

#: Gates that random Paulis can be put about.
_TWIRLED = ("cx", "cz", "ecr")


def twirled(circuit: QuantumCircuit, target: Any, rng: np.random.Generator) -> QuantumCircuit:
    """Return the circuit with random Paulis about its two-qubit gates; it computes the same."""
    present = [name for name in _TWIRLED if name in circuit.count_ops()]
    if not present:
        return circuit
    made: QuantumCircuit = pauli_twirl_2q_gates(
        circuit, present, seed=int(rng.integers(2**31)), target=target
    )
    return made


def flipped(circuit: QuantumCircuit) -> QuantumCircuit:
    """Return the circuit with every measured qubit inverted just before it is measured."""
    made = circuit.copy_empty_like()
    for item in circuit.data:
        if item.operation.name == "measure":
            made.x(item.qubits[0])
        made.append(item)
    return made


def inverted(counts: dict[str, Any]) -> dict[str, Any]:
    """Return counts or probabilities with every bit inverted."""
    swap = str.maketrans("01", "10")
    return {bits.translate(swap): value for bits, value in counts.items()}


def arms_of(
    circuit: QuantumCircuit, target: Any, batches: int, rng: np.random.Generator | int | None
) -> dict[str, list[QuantumCircuit]]:
    """Return the circuits of each arm, one a batch."""
    random = np.random.default_rng(rng)
    turned = flipped(circuit)
    return {
        "plain": [circuit] * batches,
        "twirled": [twirled(circuit, target, random) for _ in range(batches)],
        "flipped": [turned] * batches,
    }


def probe(
    sampler: Any,
    circuit: QuantumCircuit,
    calibration: Calibration,
    *,
    shots: int = 4000,
    batches: int = 8,
    alpha: float = 0.03,
    effect: float = 0.05,
    rng: np.random.Generator | int | None = None,
) -> Attribution:
    """Run a circuit three ways in batches and say what its deviation comes from.

    The batches are jobs of their own, one after the other, so that a drift can show between them.

    Args:
        sampler: runs Qiskit circuits (`BaseSamplerV2`).
        circuit: in the device's own gates, at most seven qubits, measurements last.
        calibration: what the device says of itself; a deviation is one from this.
        shots: of each arm, over all batches.
        batches: at least 3.
        alpha: chance that pure shot noise is given another cause.
        effect: smallest deviation that matters, in total variation.
        rng: of the twirls; keep it secret from the device.

    Raises:
        InputError: the circuit cannot be predicted (`circuit-not-exact`, `circuit-not-isa`) or has
            too few batches (`probe-batches`), or every batch gives the same counts
            (`probe-seeded`).
    """
    if batches < 3 or shots < batches:
        raise InputError(
            "a probe needs batches to see a drift",
            code="probe-batches",
            got=f"{batches} batches of {shots} shots",
            expected="at least 3 batches, with at least one shot each",
            fix="leave the number of batches at 8",
        )
    device = Twin(TwinSpec(reported=calibration))
    arms = arms_of(circuit, device.target, batches, rng)
    expected = {
        name: mean_of([device.probabilities(c) for c in ([made[0]] if name != "twirled" else made)])
        for name, made in arms.items()
    }
    counts: dict[str, list[dict[str, int]]] = {name: [] for name in arms}
    for batch in range(batches):
        pubs = [(made[batch], None, shots // batches) for made in arms.values()]
        for name, pub in zip(arms, sampler.run(pubs).result(), strict=True):
            (register,) = (bits for bits in pub.data.values() if hasattr(bits, "get_counts"))
            counts[name].append(register.get_counts())
    same = all(c == counts["plain"][0] for c in counts["plain"][1:])
    if same and chance_of_repeat(counts["plain"][0]) < SURE:
        raise InputError(
            "the sampler answers every batch alike",
            code="probe-seeded",
            got=f"{batches} times the same counts",
            expected="fresh shots in each batch",
            fix="pass a sampler without a seed",
        )
    turned = {"flipped"}
    return attribute(
        {
            name: Arm(
                counts=tuple(inverted(c) if name in turned else c for c in counts[name]),
                expected=inverted(expected[name]) if name in turned else expected[name],
            )
            for name in arms
        },
        alpha=alpha,
        effect=effect,
    )


def mean_of(parts: list[dict[str, float]]) -> dict[str, float]:
    """Return the mean of some distributions."""
    total: dict[str, float] = {}
    for part in parts:
        for bits, value in part.items():
            total[bits] = total.get(bits, 0.0) + value / len(parts)
    return total
