"""Calibrations from Cirq's own noise properties, and from metrics in the form of cirq_google."""

import math
from typing import Any

import cirq
import msgspec
import pytest
from cirq.devices.noise_utils import OpIdentifier
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.backends import calibration_of
from interlock.backends.cirq_source import from_metrics, from_noise_properties, qubits_of
from interlock.circuits.cirq_adapter import read
from interlock.errors import BackendError, InputError
from interlock.guard.health.esp import predict
from interlock.guard.health.grades import Grade, Thresholds, grade, subjects

A, B = cirq.GridQubit.rect(1, 2)
PAULI = 0.01


class Properties(cirq.devices.SuperconductingQubitsNoiseProperties):
    """A device with CZ and PhasedXZ."""

    @classmethod
    def single_qubit_gates(cls) -> set[type[cirq.Gate]]:
        return {cirq.PhasedXZGate, cirq.ZPowGate, cirq.MeasurementGate}

    @classmethod
    def symmetric_two_qubit_gates(cls) -> set[type[cirq.Gate]]:
        return {cirq.CZPowGate}

    @classmethod
    def asymmetric_two_qubit_gates(cls) -> set[type[cirq.Gate]]:
        return set()


def made(**changes: Any) -> Properties:
    errors = {OpIdentifier(cirq.PhasedXZGate, q): 0.003 for q in (A, B)}
    errors |= {OpIdentifier(cirq.CZPowGate, *pair): PAULI for pair in ((A, B), (B, A))}
    values: dict[str, Any] = {
        "gate_times_ns": {cirq.PhasedXZGate: 25.0, cirq.CZPowGate: 40.0, cirq.MeasurementGate: 6e2},
        "t1_ns": {A: 50e3, B: 60e3},
        "tphi_ns": {A: 100e3, B: 1e12},
        "readout_errors": {A: [0.01, 0.03], B: [0.02, 0.02]},
        "gate_pauli_errors": errors,
    }
    return Properties(**values | changes)


class Metrics(dict[str, Any]):
    """In the form of `cirq_google.Calibration`, which needs a package that is not installed."""

    timestamp = 5_000_000


def metrics(**changes: Any) -> Metrics:
    values = {
        "single_qubit_idle_t1_micros": {(A,): [20.0], (B,): [30.0]},
        "single_qubit_p00_error": {(A,): [0.01], (B,): [0.02]},
        "single_qubit_p11_error": {(A,): [0.05], (B,): [0.06]},
        "single_qubit_rb_pauli_error_per_gate": {(A,): [0.0015], (B,): [0.003]},
        "two_qubit_cz_gate_xeb_average_error_per_cycle": {(A, B): [0.006]},
        "two_qubit_parallel_cz_gate_xeb_pauli_error_per_cycle": {(A, B): [0.01]},
    }
    return Metrics(values | changes)


def test_the_noise_of_a_simulator_is_read_and_is_what_it_behaves_by() -> None:
    model = cirq.devices.NoiseModelFromNoiseProperties(made())
    simulator = cirq.DensityMatrixSimulator(noise=model, seed=1)
    found = calibration_of(simulator, now=7.0)
    assert found is not None
    assert (found.kind, found.observed_at, found.num_qubits) == ("model", 7.0, 2)
    assert found.qubits[0].t1_us == 50.0
    assert found.qubits[0].t2_us == pytest.approx(50.0)  # 1 / (1 / 100 + 1 / 100)
    assert (found.qubits[0].p01, found.qubits[0].p10) == (0.01, 0.03)
    assert found.edges[0, 1].error == pytest.approx(PAULI * 0.8)
    assert calibration_of(model, now=7.0) is not None
    circuit = cirq.Circuit(
        cirq.PhasedXZGate.from_matrix(cirq.unitary(cirq.X))(A), cirq.CZ(A, B), cirq.measure(A, B)
    )
    success = predict(read(circuit, qubits_of(simulator))[0], found).success
    assert success is not None
    # "10" (A flipped, B idle) is the one right answer; the density matrix gives its probability.
    bare = cirq.Circuit(circuit[:-1])
    state = simulator.simulate(bare, qubit_order=[A, B]).final_density_matrix
    right = float(state[2, 2].real) * (1 - 0.03) * (1 - 0.02)
    assert success == pytest.approx(right, abs=0.015)


def test_metrics_of_a_processor_are_read_the_worse_of_two_figures_counts() -> None:
    found = from_metrics(metrics(), device="p")
    assert (found.kind, found.observed_at) == ("device", 5000.0)
    assert found.qubits[1].p10 == 0.06
    assert found.gate_table["1q", (0,)].error == pytest.approx(0.001)
    assert found.edges[0, 1].error == pytest.approx(0.008)

    class Processor:
        processor_id = "lab"

        def get_current_calibration(self) -> Any:
            return metrics()

    class Sampler(cirq.Sampler):
        processor = Processor()

        def run_sweep(self, *_: Any, **__: Any) -> Any:
            raise AssertionError

    own = calibration_of(Sampler(), now=0.0)
    assert own == msgspec.structs.replace(found, device="lab")


def test_broken_values_are_repaired_and_never_good() -> None:
    errors = dict(made().gate_pauli_errors)
    for pair in ((A, B), (B, A)):
        errors[OpIdentifier(cirq.CZPowGate, *pair)] = math.nan
    errors[OpIdentifier(cirq.PhasedXZGate, A)] = 1.6
    broken = made(gate_pauli_errors=errors, t1_ns={A: -1.0, B: 5e4}, readout_errors={A: [1.2, 0.1]})
    found = from_noise_properties(broken, device="d", now=0.0)
    assert {r.where for r in found.repairs} >= {"q0.t1_us", "q0.p01", "cz[0, 1].error"}
    assert found.edges[0, 1].error is None
    assert grade(subjects(found, [], [(0, 1)])[0], Thresholds())[0] is Grade.RED
    for op in (cirq.CZ(A, B), cirq.X(A), cirq.measure(A)):
        circuit = read(cirq.Circuit(op), [A, B])[0]
        assert predict(circuit, found).success is None
    worse = from_metrics(
        metrics(two_qubit_cz_gate_xeb_average_error_per_cycle={(A, B): [1.5]}), device="p"
    )
    assert worse.edges[0, 1].error is None  # the other figure of the pair does not stand in for it


@pytest.mark.parametrize(
    "values",
    [metrics(single_qubit_p00_error={(A,): ["low"]}), metrics(single_qubit_p00_error={(A,): []}),
     metrics(single_qubit_p00_error=3), Metrics()],
)  # fmt: skip
def test_what_is_no_calibration_is_refused(values: Metrics) -> None:
    with pytest.raises(InputError) as caught:
        from_metrics(values, device="p")
    assert caught.value.code == "calibration-invalid"
    with pytest.raises(InputError):
        from_noise_properties(values, device="p", now=0.0)


def test_what_has_none_gives_none_and_a_failing_processor_is_said() -> None:
    noisy = cirq.DensityMatrixSimulator(noise=cirq.depolarize(0.1))  # after moments, not gates
    assert calibration_of(noisy, now=0.0) is None
    assert qubits_of(noisy) is None
    ideal = calibration_of(cirq.Simulator(), now=0.0)
    assert ideal is not None
    assert ideal.kind == "ideal"

    class Offline(cirq.Sampler):
        @property
        def processor(self) -> Any:
            raise ConnectionError("no route")

        def run_sweep(self, *_: Any, **__: Any) -> Any:
            raise AssertionError

    for ask in (qubits_of, lambda s: calibration_of(s, now=0.0)):
        with pytest.raises(BackendError) as caught:
            ask(Offline())
        assert caught.value.code == "calibration-unreadable"


@settings(max_examples=50, deadline=None)
@given(st.floats(), st.floats(), st.floats(), st.floats())
def test_no_value_makes_a_calibration_that_is_not_physics(
    t1: float, tphi: float, p01: float, error: float
) -> None:
    errors = {OpIdentifier(cirq.CZPowGate, A, B): error, OpIdentifier(cirq.CZPowGate, B, A): error}
    found = from_noise_properties(
        made(t1_ns={A: t1}, tphi_ns={A: tphi}, readout_errors={A: [p01, 0.0]},
             gate_pauli_errors=errors),
        device="d", now=0.0,
    )  # fmt: skip
    qubit = found.qubits[0]
    assert qubit.p01 is None or 0 <= qubit.p01 <= 1
    if qubit.t1_us and qubit.t2_us:
        assert 0 < qubit.t2_us <= 2 * qubit.t1_us * (1 + 1e-9)
    assert all(g.error is None or 0 <= g.error < 1 for g in found.gates)
