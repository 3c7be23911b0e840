import math
from pathlib import Path
from typing import Any

import msgspec
import pytest

from interlock.backends import Calibration, Gate, Qubit, calibration_of, snapshot
from interlock.backends.noise import relaxation_fidelity
from interlock.circuits.canonical import Circuit, Operation
from interlock.guard.control import Program, check_control
from interlock.guard.health.calibration import CalibrationControl, CalibrationSettings
from interlock.guard.health.esp import predict
from interlock.guard.health.fidelity import FidelityControl, FidelitySettings
from interlock.guard.health.grades import Grade, Thresholds, grade, worst
from interlock.types import Decision, Verdict
from tests.unit.guard.doubles import a_job, a_request

NOW = 1_900_000_000.0
BELL = Circuit(
    num_qubits=5,
    num_clbits=2,
    operations=(
        Operation("sx", (), (0,)),
        Operation("rz", (0.5,), (0,)),
        Operation("cx", (), (0, 1)),
        Operation("measure", (), (0,), (0,)),
        Operation("measure", (), (1,), (1,)),
    ),
)


class Device:
    name = "device"

    def __init__(self, calibration: Calibration | None) -> None:
        self.calibration = calibration


def healthy(**changes: Any) -> Calibration:
    made = msgspec.structs.replace(snapshot("manila"), observed_at=NOW - 3600.0)
    return msgspec.structs.replace(made, **changes)


def asked(
    control: Any,
    calibration: Calibration | None,
    home: Path,
    circuit: Circuit = BELL,
    **settings: Any,
) -> tuple[Verdict, Any]:
    program = Program(circuit=circuit, native=None, shots=100)
    request = a_request(home, programs=(program,), backend=Device(calibration), now=lambda: NOW)
    evidence = control.gather(request, control.Settings(**settings))
    check_control(control, a_job(), control.Settings(**settings), evidence)
    return control.decide(a_job(), control.Settings(**settings), evidence), evidence


def test_a_fresh_healthy_calibration_is_allowed_and_recorded(tmp_path: Path) -> None:
    verdict, evidence = asked(CalibrationControl(), healthy(), tmp_path)
    assert verdict.decision is Decision.ALLOW
    assert evidence["age_h"] == pytest.approx(1.0)
    assert evidence["id"] == healthy().id
    assert [s["subject"] for s in evidence["subjects"]] == ["q0", "q1", "q0-q1"]


def test_a_stale_calibration_is_red_never_green(tmp_path: Path) -> None:
    old = healthy(observed_at=NOW - 37 * 3600)
    verdict, _ = asked(CalibrationControl(), old, tmp_path)
    assert verdict.decision is Decision.FALLBACK
    assert verdict.findings[0].rule == "health.calibration.stale"
    future = healthy(observed_at=NOW + 2 * 3600)
    assert asked(CalibrationControl(), future, tmp_path)[0].decision is Decision.FALLBACK
    nearly = healthy(observed_at=NOW - 35 * 3600)
    assert asked(CalibrationControl(), nearly, tmp_path)[0].decision is Decision.ALLOW


def test_no_calibration_and_no_date_follow_the_policy(tmp_path: Path) -> None:
    assert asked(CalibrationControl(), None, tmp_path)[0].decision is Decision.FALLBACK
    verdict, _ = asked(CalibrationControl(), None, tmp_path, on_missing="deny")
    assert verdict.decision is Decision.DENY
    undated = healthy(observed_at=None)
    assert asked(CalibrationControl(), undated, tmp_path)[0].decision is Decision.ALLOW
    verdict, _ = asked(CalibrationControl(), undated, tmp_path, on_unknown_age="fallback")
    assert verdict.findings[0].rule == "health.calibration.age-unknown"


def broken_edge(error: float | None) -> Calibration:
    gates = tuple(
        msgspec.structs.replace(g, error=error) if set(g.qubits) == {0, 1} else g
        for g in healthy().gates
    )
    return healthy(gates=gates)


@pytest.mark.parametrize("error", [0.4, None])
def test_a_bad_or_broken_coupling_in_use_is_red(tmp_path: Path, error: float | None) -> None:
    verdict, _ = asked(CalibrationControl(), broken_edge(error), tmp_path)
    assert verdict.decision is Decision.FALLBACK
    assert verdict.findings[0].location == "q0-q1"


def test_a_bad_qubit_counts_only_when_in_use(tmp_path: Path) -> None:
    qubits = healthy().qubits
    dead = msgspec.structs.replace(qubits[4], p01=0.5, p10=0.5, operational=False)
    spare = healthy(qubits=(*qubits[:4], dead))
    assert asked(CalibrationControl(), spare, tmp_path)[0].decision is Decision.ALLOW
    used = healthy(qubits=(dead, *qubits[1:]))
    verdict, _ = asked(CalibrationControl(), used, tmp_path)
    assert verdict.decision is Decision.FALLBACK
    assert "faulty" in str(verdict.findings[0].got)


def test_a_circuit_wider_than_the_device_is_red(tmp_path: Path) -> None:
    wide = Circuit(num_qubits=9, num_clbits=1, operations=(Operation("sx", (), (8,)),))
    assert asked(CalibrationControl(), healthy(), tmp_path, wide)[0].decision is Decision.FALLBACK


def test_amber_is_allowed_and_said(tmp_path: Path) -> None:
    qubits = healthy().qubits
    weak = msgspec.structs.replace(qubits[0], p01=0.08, p10=0.08)
    verdict, _ = asked(CalibrationControl(), healthy(qubits=(weak, *qubits[1:])), tmp_path)
    assert verdict.decision is Decision.ALLOW
    assert verdict.findings[0].rule == "health.calibration.amber"


def test_old_values_of_a_fresh_calibration_turn_red() -> None:
    subject = {"subject": "q0", "age_h": 1439.0}
    assert grade(subject, Thresholds())[0] is Grade.AMBER
    assert grade(subject, Thresholds(), older_h=1.0)[0] is Grade.RED
    assert worst([]) is Grade.AMBER


def test_a_device_that_fails_when_asked_leaves_no_evidence(tmp_path: Path) -> None:
    class Offline:
        name = "offline"

        def properties(self) -> None:
            raise ConnectionError

    request = a_request(tmp_path, programs=(), backend=Offline(), now=lambda: NOW)
    with pytest.raises(Exception, match="cannot be read"):
        CalibrationControl().gather(request, CalibrationSettings())


def test_the_prediction_is_the_product_of_its_parts() -> None:
    calibration = healthy()
    made = predict(BELL, calibration)
    sx = calibration.gate_table["sx", (0,)].error
    cx = calibration.gate_table["cx", (0, 1)].error
    reads = [calibration.qubits[q].readout_error for q in (0, 1)]
    expected = 1.0
    assert sx is not None
    assert cx is not None
    # What the two qubits lose during the gate is a little more than its reported error.
    table, qubits = calibration.gate_table, calibration.qubits
    for error, name, where in ((sx, "sx", (0,)), (cx, "cx", (0, 1))):
        kept = 1.0
        for q in where:
            t1, t2 = qubits[q].t1_us, qubits[q].t2_us
            kept *= (2 * relaxation_fidelity(t1, t2, table[name, where].duration_us) + 1) / 3
        expected *= min(1 - error, kept)
    for error in reads:
        assert error is not None
        expected *= 1 - error
    assert made.success == pytest.approx(expected)
    assert made.idle == 1.0


def test_an_estimators_circuit_counts_the_readout_of_the_qubits_in_use() -> None:
    calibration = healthy()
    barrier = Operation("barrier", (), (0, 1, 2, 3, 4))
    gates = tuple(op for op in BELL.operations if op.name != "measure")
    bare = Circuit(num_qubits=5, num_clbits=0, operations=(*gates, barrier))
    whole = predict(BELL, calibration)
    assert predict(bare, calibration).readout == 1.0
    assert predict(bare, calibration, read=True).readout == pytest.approx(whole.readout)
    unread = tuple(msgspec.structs.replace(q, p01=None, p10=None) for q in calibration.qubits)
    blind = msgspec.structs.replace(calibration, qubits=unread)
    assert predict(bare, blind, read=True).success is None


def test_the_cautious_prediction_takes_the_state_that_is_read_worse() -> None:
    calibration = healthy()
    qubits = tuple(msgspec.structs.replace(q, p01=0.01, p10=0.11) for q in calibration.qubits)
    calibration = msgspec.structs.replace(calibration, qubits=qubits)
    made = predict(BELL, calibration)
    assert made.success is not None
    assert made.worst is not None
    assert made.worst / made.success == pytest.approx((0.89 / 0.94) ** 2)
    bare = msgspec.structs.replace(
        BELL, operations=tuple(o for o in BELL.operations if o.name != "measure")
    )
    assert predict(bare, calibration, read=True).worst == pytest.approx(made.worst)


def test_waiting_costs() -> None:
    waiting = Circuit(
        num_qubits=2,
        num_clbits=1,
        operations=(
            Operation("sx", (), (0,)),
            Operation("delay", (50e-6,), (0,)),
            Operation("measure", (), (0,), (0,)),
        ),
    )
    qubit = healthy().qubits[0]
    assert qubit.t1_us is not None
    assert qubit.t2_us is not None
    process = (1 + 2 * math.exp(-50 / qubit.t2_us) + math.exp(-50 / qubit.t1_us)) / 4
    assert predict(waiting, healthy()).idle == pytest.approx((2 * process + 1) / 3)


@pytest.mark.parametrize(
    "operation",
    [Operation("h", (), (0,)), Operation("cx", (), (0, 4)), Operation("sx", (), (7,))],
)
def test_what_has_no_calibration_has_no_prediction(tmp_path: Path, operation: Operation) -> None:
    odd = Circuit(num_qubits=8, num_clbits=0, operations=(operation,))
    verdict, evidence = asked(FidelityControl(), healthy(), tmp_path, odd)
    assert evidence["predicted"] is None
    assert verdict.decision is Decision.FALLBACK
    assert verdict.findings[0].rule == "health.fidelity.unknown"
    verdict, _ = asked(FidelityControl(), healthy(), tmp_path, odd, on_unknown="deny")
    assert verdict.decision is Decision.DENY


def test_a_circuit_that_will_not_survive_does_not_run(tmp_path: Path) -> None:
    deep = Circuit(
        num_qubits=5,
        num_clbits=1,
        operations=(Operation("cx", (), (0, 1)),) * 400 + (Operation("measure", (), (0,), (0,)),),
    )
    verdict, evidence = asked(FidelityControl(), healthy(), tmp_path, deep)
    assert verdict.decision is Decision.FALLBACK
    assert evidence["predicted"] < 0.05
    assert verdict.findings[0].rule == "health.fidelity.low"
    assert asked(FidelityControl(), healthy(), tmp_path)[0].decision is Decision.ALLOW


def test_an_ideal_simulator_is_fresh_and_perfect(tmp_path: Path) -> None:
    ideal = Calibration(
        device="s", kind="ideal", num_qubits=0, qubits=(), gates=(), observed_at=NOW
    )
    verdict, evidence = asked(CalibrationControl(), ideal, tmp_path)
    assert (verdict.decision, evidence["age_h"]) == (Decision.ALLOW, 0.0)
    verdict, evidence = asked(FidelityControl(), ideal, tmp_path)
    assert (verdict.decision, evidence["predicted"]) == (Decision.ALLOW, 1.0)


def test_a_noise_model_is_perfect_where_it_lists_nothing(tmp_path: Path) -> None:
    model = Calibration(
        device="s", kind="model", num_qubits=2, observed_at=NOW,
        qubits=(Qubit(p01=0.01, p10=0.01), Qubit(p01=0.0, p10=0.0)),
        gates=(Gate(name="cx", qubits=(0, 1), error=0.02),),
    )  # fmt: skip
    hadamard = Circuit(
        num_qubits=2,
        num_clbits=0,
        operations=(Operation("h", (), (0,)), Operation("cx", (), (1, 0))),
    )
    assert asked(CalibrationControl(), model, tmp_path, hadamard)[0].decision is Decision.ALLOW
    _, evidence = asked(FidelityControl(), model, tmp_path, hadamard)
    assert evidence["predicted"] == pytest.approx(0.98)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"minimum": 1.5}, FidelitySettings)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"max_age_h": 0}, CalibrationSettings)


def test_a_shipped_snapshot_is_labelled_and_runs_unless_the_policy_forbids(tmp_path: Path) -> None:
    from qiskit_ibm_runtime.fake_provider import FakeManilaV2

    made = calibration_of(FakeManilaV2(), now=NOW)
    assert made is not None
    assert made.kind == "snapshot"
    verdict, evidence = asked(CalibrationControl(), made, tmp_path)
    assert verdict.decision is Decision.ALLOW
    assert evidence["age_h"] > 10_000
    assert verdict.findings[0].rule == "health.calibration.snapshot"
    assert "2024" in str(verdict.findings[0].got)
    verdict, _ = asked(CalibrationControl(), made, tmp_path, on_snapshot="deny")
    assert verdict.decision is Decision.DENY
    bad = msgspec.structs.replace(
        made, qubits=(msgspec.structs.replace(made.qubits[0], p01=0.5, p10=0.5), *made.qubits[1:])
    )
    assert asked(CalibrationControl(), bad, tmp_path)[0].decision is Decision.FALLBACK


def test_a_backend_may_be_given_a_calibration() -> None:
    from qiskit_aer import AerSimulator

    backend = AerSimulator()
    backend.calibration = healthy()  # type: ignore[attr-defined]
    found = calibration_of(backend, now=NOW)
    assert found is not None
    assert found.id == healthy().id
