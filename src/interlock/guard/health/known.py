"""How far a device's figures lie from known answers: the record the combined interval rests on.

`learn` runs circuits with known answers and keeps one score a figure. A device without a record of
its own is given the scores of simulated devices that ship with the package.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from interlock.guard.health.evidence_store import store_of
from interlock.guard.stats.uncertainty import (
    ESTIMATES,
    FIGURES,
    WIDTHS,
    Bounds,
    Kind,
    conformal_bounds,
    kind_of,
    scale_in,
    score,
    shot_sd,
    stratum,
)

if TYPE_CHECKING:
    from qiskit.circuit import QuantumCircuit

    from interlock.backends.calibration import Calibration

__all__ = ["FAMILIES", "bounds_for", "known_circuit", "learn", "scores_of", "shipped_bounds"]

#: Scores of a kind that a device must have before they are used instead of the shipped ones.
LEAST = 50
#: Scores of a kind that are kept.
KEPT = 2000
#: Parities of a circuit that are scored.
PARITIES = 2


def bounds_for(home: Path, device: str, confidence: float) -> tuple[dict[str, Bounds], str]:
    """Return the score bounds of each stratum of figures, and where they come from.

    Args:
        home: folder of the ledger, state and keys.
        device: name of the device.
        confidence: of the intervals.
    """
    own = store_of(home).scores(device)
    made: dict[str, Bounds] = {}
    used = 0
    for kind in (*FIGURES, *ESTIMATES):
        for width in range(1, WIDTHS + 1):
            name = stratum(kind, width)
            rows = own.get(name, [])
            if len(rows) >= LEAST:
                made[name] = conformal_bounds(rows, confidence, kind.below)
                used += 1
            else:
                made[name] = shipped_bounds(kind, width, confidence)
    return made, {0: "shipped", len(made): "device"}.get(used, "device and shipped")


@cache
def _shipped() -> dict[str, list[float]]:
    text = resources.files("interlock.guard.health").joinpath("known.json").read_bytes()
    return msgspec.json.decode(text, type=dict[str, list[float]])


@cache
def shipped_bounds(kind: Kind, width: int, confidence: float) -> Bounds:
    """Return bounds from the shipped scores, which are kept as evenly spaced quantiles."""
    points = _shipped()[stratum(kind, width)]
    below = (1 - confidence) * kind.below
    above = (1 - confidence) * (1 - kind.below)
    return Bounds(
        float(np.quantile(points, below)) if below else -math.inf,
        float(np.quantile(points, 1 - above)) if above else math.inf,
        float(np.quantile(points, 0.5)),
    )


def scores_of(
    counts: Mapping[str, int],
    truth: Mapping[str, float],
    success: float,
    rng: np.random.Generator | int | None = None,
) -> list[tuple[str, float]]:
    """Return (stratum, score) of one circuit's outcomes, and of two parities.

    Of a single bit it is the outcome 1 that is scored, as the other has what is left: so scores at
    0 and at 1 are those of the two states, one of which is often read worse. The parities, of all
    qubits and of random ones, stand for expectation values.

    Args:
        counts: of one register.
        truth: noiseless probabilities.
        success: predicted success of the circuit at the worse readout.
        rng: which qubits.
    """
    shots = sum(counts.values())
    width = len(next(iter(counts), ""))
    rest = 0.5**width
    made = []

    def add(kinds: tuple[Kind, ...], value: float, known: float, resting: float) -> None:
        kind = kind_of(known, kinds)
        size = scale_in(value, shot_sd(value, shots), success, resting, kind)
        made.append((stratum(kind, width), score(value, known, size)))

    for bits in counts if width > 1 else ("1",):
        add(FIGURES, counts.get(bits, 0) / shots, truth.get(bits, 0.0), rest)
    random = np.random.default_rng(rng)
    for number in range(PARITIES):
        # the first is the parity of all qubits, where every error shows
        mask = int(random.integers(1, 2**width)) if number else 2**width - 1
        even = [b for b in counts if not (int(b, 2) & mask).bit_count() % 2]
        right = math.fsum(p for b, p in truth.items() if not (int(b, 2) & mask).bit_count() % 2)
        add(ESTIMATES, sum(counts[b] for b in even) / shots, right, 0.5)
    return made


def known_circuit(width: int, rng: np.random.Generator) -> QuantumCircuit:
    """Return a circuit of at most this width whose answer is easily computed, with measurements.

    Drawn from `FAMILIES` in equal shares. Random circuits alone would not do: their errors are
    milder than those of a Bell pair or of a row of ones, where every error shows.
    """
    return FAMILIES[sorted(FAMILIES)[int(rng.integers(len(FAMILIES)))]](width, rng)


def _random(width: int, rng: np.random.Generator) -> QuantumCircuit:
    """A third have half turns only and a third quarter turns mostly: answers near 0 and 1."""
    from qiskit.circuit import QuantumCircuit

    made = QuantumCircuit(width)
    sharp = (1.0, 0.8, 0.0)[int(rng.integers(3))]
    for _ in range(int(rng.integers(1, 5))):
        for qubit in range(width):
            angle = float(rng.uniform(-math.pi, math.pi))
            if rng.random() < sharp:
                angle = float(rng.integers(0, 3)) * math.pi / (1 if sharp == 1.0 else 2)
            made.ry(angle, qubit)
        for qubit in range(width - 1):
            if rng.random() < 0.7:
                made.cx(qubit, qubit + 1)
    made.measure_all()
    return made


def _ghz(width: int, rng: np.random.Generator) -> QuantumCircuit:
    """Bell pairs and GHZ states, half of them read in the X basis."""
    from qiskit.circuit import QuantumCircuit

    made = QuantumCircuit(width)
    made.h(0)
    for qubit in range(width - 1):
        made.cx(qubit, qubit + 1)
    if rng.random() < 0.5:
        made.h(range(width))
    made.measure_all()
    return made


def _state(width: int, rng: np.random.Generator) -> QuantumCircuit:
    """Computational states of 1 to `width` qubits, half of them all ones."""
    from qiskit.circuit import QuantumCircuit

    made = QuantumCircuit(int(rng.integers(1, width + 1)))
    ones = rng.random() < 0.5
    for qubit in range(made.num_qubits):
        if ones or rng.random() < 0.5:
            made.x(qubit)
    made.measure_all()
    return made


def _hidden(width: int, rng: np.random.Generator) -> QuantumCircuit:
    """Bernstein-Vazirani with a random string: one sharp answer after two-qubit gates."""
    from qiskit.circuit import QuantumCircuit

    made = QuantumCircuit(width)
    made.x(width - 1)
    made.h(range(width))
    for qubit in range(width - 1):
        if rng.random() < 0.6:
            made.cx(qubit, width - 1)
    made.h(range(width))
    made.measure_all()
    return made


def _rotated(width: int, rng: np.random.Generator) -> QuantumCircuit:
    """Product states of 1 to `width` qubits, each turned by any angle."""
    from qiskit.circuit import QuantumCircuit

    made = QuantumCircuit(int(rng.integers(1, width + 1)))
    for qubit in range(made.num_qubits):
        made.ry(float(rng.uniform(-math.pi, math.pi)), qubit)
    made.measure_all()
    return made


#: What known answers are drawn from.
FAMILIES: Mapping[str, Callable[[int, np.random.Generator], QuantumCircuit]] = {
    "ghz": _ghz, "hidden": _hidden, "random": _random, "rotated": _rotated, "state": _state,
}  # fmt: skip


def learn(
    sampler: Any,
    calibration: Calibration,
    target: Any,
    home: Path,
    *,
    circuits: int = 60,
    shots: int = 1000,
    rng: np.random.Generator | int | None = None,
) -> dict[str, int]:
    """Run circuits with known answers and add their scores to the device's record.

    Args:
        sampler: runs Qiskit circuits.
        calibration: in force; the record is kept under its device's name.
        target: what to compile for.
        home: folder of the ledger, state and keys.
        circuits: how many, of 2 to 5 qubits.
        shots: of each.
        rng: which circuits.

    Returns:
        How many scores of each kind were added.
    """
    from qiskit import transpile
    from qiskit.quantum_info import Statevector

    from interlock.circuits.qiskit_adapter import from_qiskit
    from interlock.guard.health.esp import predict

    random = np.random.default_rng(rng)
    logical = [
        known_circuit(int(random.integers(2, min(5, calibration.num_qubits) + 1)), random)
        for _ in range(circuits)
    ]
    native = [
        transpile(c, target, optimization_level=1, seed_transpiler=int(random.integers(2**31)))
        for c in logical
    ]
    results = sampler.run([(c, None, shots) for c in native]).result()
    rows: list[tuple[str, float]] = []
    for ideal, isa, result in zip(logical, native, results, strict=True):
        success = predict(from_qiskit(isa), calibration).worst
        if success is None:
            continue
        bare = ideal.remove_final_measurements(inplace=False)
        truth = Statevector(bare).probabilities_dict()
        rows += scores_of(result.data.meas.get_counts(), truth, success, random)
    return store_of(home).add_scores(calibration.device, _finite(rows), KEPT)


def _finite(rows: Iterable[tuple[str, float]]) -> list[tuple[str, float]]:
    return [(kind, value) for kind, value in rows if math.isfinite(value)]
