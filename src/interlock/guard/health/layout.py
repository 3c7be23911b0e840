"""The best qubits of a device for a circuit: compile it a few times, then move it about.

A circuit compiled for a device may run on any set of qubits whose couplings have the same shape.
Every such place (to a limit) is scored with the predicted success, as mapomatic does (Nation and
Treinish, PRX Quantum 4, 010327).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from interlock.backends.calibration import Calibration
from interlock.circuits.canonical import Circuit
from interlock.guard.health.esp import Prediction, predict
from interlock.guard.health.grades import Grade, Thresholds, grade, subjects, worst

__all__ = ["Place", "best_place", "device_grades", "fits", "overall"]

#: Places tried for one compiled circuit.
MOST_PLACES = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a circuit runs best on a device, and how well it is expected to run there."""

    device: str
    calibration: str
    qubits: tuple[int, ...]
    prediction: Prediction
    grade: Grade
    reasons: tuple[str, ...]
    depth: int
    two_qubit_ops: int


def fits(circuit: Circuit, calibration: Calibration) -> bool:
    """Whether the device has qubits enough."""
    return len(circuit.used_qubits) <= calibration.num_qubits


def best_place(
    circuit: Circuit, device: Any, *, seeds: int = 3, older_h: float = 0.0
) -> Place | None:
    """Compile for a device and return the best place, or None when it cannot be compiled.

    Args:
        circuit: in any gates.
        device: a Qiskit backend with a `calibration`, for instance a `Twin`.
        seeds: compilations tried.
        older_h: hours since the calibration was observed.
    """
    from qiskit import transpile
    from qiskit.transpiler.exceptions import TranspilerError

    from interlock.circuits.qiskit_adapter import from_qiskit, to_qiskit

    calibration: Calibration = device.calibration
    native = to_qiskit(circuit)
    best: tuple[float, Circuit, Prediction] | None = None
    for seed in range(1, seeds + 1):
        try:
            compiled = transpile(native, device, optimization_level=2, seed_transpiler=seed)
        except TranspilerError:
            continue
        for placed in _places(from_qiskit(compiled), calibration):
            made = predict(placed, calibration)
            if made.success is not None and (best is None or made.success > best[0]):
                best = made.success, placed, made
    if best is None:
        return None
    _, placed, prediction = best
    level, reasons = _grades(placed, calibration, older_h)
    return Place(
        device=calibration.device,
        calibration=calibration.id,
        qubits=tuple(sorted(placed.used_qubits)),
        prediction=prediction,
        grade=level,
        reasons=reasons,
        depth=placed.depth,
        two_qubit_ops=placed.two_qubit_ops,
    )


def _places(compiled: Circuit, calibration: Calibration) -> list[Circuit]:
    """Return the circuit at every place of the same shape, itself first."""
    import rustworkx as rx

    usable = [pair for pair, gate in calibration.edges.items() if gate.error is not None]
    device = rx.PyGraph()
    device.add_nodes_from(range(calibration.num_qubits))
    device.add_edges_from_no_data(usable)
    used = sorted(compiled.used_qubits)
    index = {q: i for i, q in enumerate(used)}
    shape = rx.PyGraph()
    shape.add_nodes_from(used)
    links = [(index[a], index[b]) for a, b in compiled.used_edges]
    pairs = {(min(link), max(link)) for link in links}
    shape.add_edges_from_no_data(sorted(pairs))
    found = [compiled]
    mappings = rx.vf2_mapping(device, shape, subgraph=True, induced=False, id_order=False)
    for number, mapping in enumerate(mappings):
        if number >= MOST_PLACES:
            break
        place = {used[small]: large for large, small in mapping.items()}
        found.append(_moved(compiled, place, calibration))
    return found


def _moved(circuit: Circuit, place: dict[int, int], calibration: Calibration) -> Circuit:
    import msgspec

    operations = tuple(
        msgspec.structs.replace(op, qubits=tuple(place.get(q, q) for q in op.qubits))
        for op in circuit.operations
        if op.name != "barrier"
    )
    return Circuit(
        num_qubits=calibration.num_qubits,
        num_clbits=circuit.num_clbits,
        operations=operations,
        registers=circuit.registers,
    )


def _grades(
    circuit: Circuit, calibration: Calibration, older_h: float
) -> tuple[Grade, tuple[str, ...]]:
    found = [
        (s["subject"], *grade(s, Thresholds(), older_h))
        for s in subjects(calibration, circuit.used_qubits, circuit.used_edges)
    ]
    reasons = [f"{level.name} {name}: {'; '.join(why)}" for name, level, why in found if level]
    return worst(level for _, level, _ in found), tuple(sorted(reasons, reverse=True))


def device_grades(
    calibration: Calibration, older_h: float = 0.0, limits: Thresholds | None = None
) -> dict[str, tuple[Grade, list[str]]]:
    """Return grade and reasons of every qubit and coupling of a device."""
    limits = limits or Thresholds()
    every = subjects(calibration, range(calibration.num_qubits), calibration.edges)
    return {s["subject"]: grade(s, limits, older_h) for s in every}


def overall(grades: Mapping[str, tuple[Grade, list[str]]]) -> Grade:
    """Return a device's grade: RED when most of it is, or nothing is known; AMBER when some is."""
    red = sum(level is Grade.RED for level, _ in grades.values())
    if not grades or red > len(grades) / 2:
        return Grade.RED
    return Grade.AMBER if red else Grade.GREEN
