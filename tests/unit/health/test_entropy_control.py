import math
from pathlib import Path

import pytest
from qiskit import QuantumCircuit

from interlock.circuits.qiskit_adapter import from_qiskit
from interlock.guard.control import Program, check_control
from interlock.guard.result import Result, Samples
from interlock.guard.validate.entropy import EntropyControl
from interlock.types import Decision
from tests.unit.guard.doubles import a_job, a_request, ask


def looked(home: Path, circuit: QuantumCircuit, counts: dict[str, int], control=None, **settings):
    width = len(next(iter(counts)))
    item = Samples(registers={"meas": [counts]}, widths={"meas": width}, shots=sum(counts.values()))
    program = Program(circuit=from_qiskit(circuit), native=circuit, shots=item.shots)
    request = a_request(home, programs=(program,), result=Result(items=(item,)))
    control = control or EntropyControl()
    verdict = ask(control, request, control.Settings(**settings))
    check_control(control, a_job(), control.Settings(**settings), verdict.evidence)
    return verdict


def ghz(width: int) -> QuantumCircuit:
    made = QuantumCircuit(width)
    made.h(0)
    for q in range(width - 1):
        made.cx(q, q + 1)
    made.measure_all()
    return made


def test_the_three_figures_are_recorded_apart(tmp_path: Path) -> None:
    plus = QuantumCircuit(3)
    plus.h(range(3))
    plus.measure_all()
    flat = {format(i, "03b"): 125 for i in range(8)}
    (product,) = looked(tmp_path / "a", plus, flat).evidence["circuits"]
    (entangled,) = looked(tmp_path / "b", ghz(3), flat).evidence["circuits"]
    # Equal counts: the entropy cannot tell a superposition from a decohered GHZ state.
    assert product["output_entropy"] == entangled["output_entropy"] == pytest.approx(1.0)
    assert product["entanglement"] == pytest.approx(0.0, abs=1e-9)
    assert entangled["entanglement"] == pytest.approx(1.0)
    assert product["spike"] == entangled["spike"] == 0.0


def test_what_cannot_be_computed_is_none(tmp_path: Path) -> None:
    (wide,) = looked(tmp_path, ghz(3), {"000": 10}, max_qubits=2).evidence["circuits"]
    assert wide["entanglement"] is None
    middle = QuantumCircuit(2, 2)
    middle.h(0)
    middle.measure(0, 0)
    middle.h(0)
    middle.cx(0, 1)
    middle.measure(1, 1)
    (row,) = looked(tmp_path / "m", middle, {"00": 10}).evidence["circuits"]
    assert row["entanglement"] is None
    assert not math.isnan(row["output_entropy"])


def test_a_jump_is_a_spike_over_jobs_and_processes_and_may_be_acted_on(tmp_path: Path) -> None:
    calm = {"00": 900, "11": 100}
    for _ in range(12):
        verdict = looked(tmp_path, ghz(2), calm, max_spike=3.0, on_spike="fallback")
        assert verdict.decision is Decision.ALLOW
    # A new control, as in another process: the memory is in the home.
    flat = {"00": 250, "01": 250, "10": 250, "11": 250}
    jump = looked(tmp_path, ghz(2), flat, max_spike=3.0, on_spike="fallback")
    assert jump.decision is Decision.FALLBACK
    assert jump.findings[0].rule == "validate.entropy.spike"
    watched = looked(tmp_path / "w", ghz(2), flat)
    assert watched.decision is Decision.ALLOW
