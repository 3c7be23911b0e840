"""Device twins against Aer's own device model, and as Qiskit backends."""

import numpy as np
import pytest
from qiskit import QuantumCircuit, transpile
from qiskit.circuit import Parameter
from qiskit.quantum_info import PTM, SparsePauliOp, SuperOp

from interlock.backends import (
    Twin,
    TwinEstimator,
    TwinSampler,
    TwinSpec,
    calibration_of,
    snapshot,
    twin,
)
from interlock.backends.noise import relaxation
from interlock.errors import BackendError, InputError


def ghz(width: int) -> QuantumCircuit:
    circuit = QuantumCircuit(width)
    circuit.h(0)
    for qubit in range(width - 1):
        circuit.cx(qubit, qubit + 1)
    circuit.measure_all()
    return circuit


def ghz_success(backend: Twin, *, shots: int = 8000, seed: int = 1) -> float:
    isa = transpile(ghz(4), backend, seed_transpiler=1)
    counts = TwinSampler(backend, seed=seed).run([isa], shots=shots).result()[0].data.meas
    found = counts.get_counts()
    return (found.get("0000", 0) + found.get("1111", 0)) / shots


def test_a_twin_agrees_with_the_device_model_of_aer_where_both_model_the_same() -> None:
    from qiskit_aer import AerSimulator
    from qiskit_aer.noise import NoiseModel
    from qiskit_ibm_runtime.fake_provider import FakeManilaV2

    fake = FakeManilaV2()
    isa = transpile(ghz(4), fake, seed_transpiler=1)
    theirs = AerSimulator(noise_model=NoiseModel.from_backend(fake, readout_error=False))
    own = snapshot("manila")
    import msgspec

    silent = tuple(msgspec.structs.replace(q, p01=0.0, p10=0.0) for q in own.qubits)
    ours = Twin(TwinSpec(reported=msgspec.structs.replace(own, qubits=silent), idle=False))
    shots = 20_000
    a = theirs.run(isa, shots=shots, seed_simulator=1).result().get_counts()
    b = ours.run(isa, shots=shots, seed_simulator=2).result().get_counts()
    distance = sum(abs(a.get(k, 0) - b.get(k, 0)) for k in {*a, *b}) / (2 * shots)
    assert distance < 0.015


def test_more_noise_does_worse_and_idling_costs() -> None:
    calm, loud = ghz_success(twin("lima")), ghz_success(twin("lima", noise_scale=3.0))
    assert calm > loud + 0.1
    assert ghz_success(twin("yorktown", idle=False)) > ghz_success(twin("yorktown"))


def test_the_seed_decides_the_counts_unless_the_device_ignores_it() -> None:
    backend = twin("manila")
    assert ghz_success(backend, seed=5) == ghz_success(backend, seed=5)
    liar = Twin(TwinSpec(reported=backend.calibration, ignore_seed=True))
    assert len({ghz_success(liar, seed=5) for _ in range(4)}) > 1


def test_parameters_registers_and_wide_devices() -> None:
    backend = twin("sherbrooke")
    angle = Parameter("a")
    circuit = QuantumCircuit(2, 2)
    circuit.ry(angle, 0)
    circuit.cx(0, 1)
    circuit.measure([0, 1], [0, 1])
    isa = transpile(circuit, backend, seed_transpiler=1)
    assert isa.num_qubits == 127
    data = TwinSampler(backend, seed=1).run([(isa, np.array([[0.0], [np.pi]]))]).result()[0].data
    assert data.c.shape == (2,)
    assert data.c.get_counts(0)["00"] > 900
    assert data.c.get_counts(1)["11"] > 850


def test_an_estimator_on_a_twin() -> None:
    backend = twin("manila")
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    isa = transpile(circuit, backend, seed_transpiler=1)
    observable = SparsePauliOp("ZZ").apply_layout(isa.layout)
    value = TwinEstimator(backend, seed=1).run([(isa, observable)]).result()[0].data.evs
    assert 0.8 < float(value) < 0.98


def test_a_circuit_that_is_not_the_devices_own_is_refused() -> None:
    backend = twin("manila")
    with pytest.raises(InputError) as caught:
        TwinSampler(backend).run([ghz(3)]).result()
    assert caught.value.code == "circuit-not-isa"
    far = QuantumCircuit(5, 1)
    far.cx(0, 4)
    far.measure(0, 0)
    with pytest.raises(InputError):
        backend.run(far)


def test_a_twin_is_rebuilt_from_its_json_and_reports_its_calibration() -> None:
    backend = twin("manila", noise_scale=2.0, now=1e9, age_s=60.0)
    again = Twin(TwinSpec.from_json(backend.spec.to_json()))
    assert ghz_success(again, seed=3) == ghz_success(backend, seed=3)
    found = calibration_of(TwinSampler(again), now=1e9)
    assert found is not None
    assert found.observed_at == 1e9 - 60.0


def test_the_noise_of_an_aer_simulator_is_its_calibration() -> None:
    from qiskit_aer import AerSimulator
    from qiskit_aer.noise import NoiseModel, ReadoutError, depolarizing_error
    from qiskit_aer.primitives import SamplerV2

    assert calibration_of(SamplerV2(), now=1.0).kind == "ideal"
    model = NoiseModel()
    model.add_quantum_error(depolarizing_error(0.02, 2), "cx", [0, 1])
    model.add_readout_error(ReadoutError([[0.99, 0.01], [0.03, 0.97]]), [1])
    found = calibration_of(AerSimulator(noise_model=model), now=1.0)
    assert found is not None
    assert found.edges[0, 1].error == pytest.approx(0.02 * 3 / 4)
    assert found.qubits[1].p10 == pytest.approx(0.03)


def test_circuits_of_one_job_have_their_own_random_numbers() -> None:
    backend = twin("manila")
    isa = transpile(ghz(3), backend, seed_transpiler=1)
    first, second = TwinSampler(backend, seed=7).run([isa, isa], shots=500).result()
    assert not np.array_equal(first.data.meas.array, second.data.meas.array)


def line(width: int, device: Twin) -> QuantumCircuit:
    circuit = QuantumCircuit(width)
    circuit.h(0)
    for qubit in range(width - 1):
        circuit.cx(qubit, qubit + 1)
    circuit.measure_all()
    return transpile(circuit, device, optimization_level=1, seed_transpiler=1)


def test_couplings_listed_in_one_direction_are_usable() -> None:
    device = twin("cairo")
    counts = TwinSampler(device, seed=1).run([line(3, device)], shots=200).result()[0].data.meas
    assert counts.get_counts().get("000", 0) > 60


@pytest.mark.parametrize("name", ["guadalupe", "hanoi", "cairo", "algiers", "boston", "nighthawk"])
def test_a_wide_circuit_runs_where_t2_is_above_t1(name: str) -> None:
    device = twin(name)
    counts = TwinSampler(device, seed=1).run([line(9, device)], shots=60).result()[0].data.meas
    assert counts.num_shots == 60
    both = counts.get_counts()
    assert both.get("0" * 9, 0) + both.get("1" * 9, 0) > 12


@pytest.mark.parametrize(("t1", "t2"), [(50.0, 70.0), (50.0, 99.9), (80.0, 130.0), (50.0, 50.0)])
@pytest.mark.parametrize("time_us", [0.05, 1.3, 40.0])
def test_the_wide_form_of_relaxation_decays_as_the_exact_one(
    t1: float, t2: float, time_us: float
) -> None:
    exact = PTM(SuperOp(relaxation(t1, t2, time_us))).data.real
    wide_error = relaxation(t1, t2, time_us, exact=False)
    assert not any("kraus" in c.count_ops() for c in wide_error.circuits)
    wide = PTM(SuperOp(wide_error)).data.real
    assert np.allclose(np.diag(wide), np.diag(exact), atol=1e-9)
    assert 0 <= wide[3, 0] <= exact[3, 0] + 1e-9


def test_what_the_simulator_refuses_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from qiskit_aer import AerError
    from qiskit_aer.primitives import SamplerV2

    def refuse(*_: object, **__: object) -> None:  # a mock: which jobs Aer refuses differs
        raise AerError("Insufficient memory to run circuit")

    monkeypatch.setattr(SamplerV2, "run", refuse)
    device = twin("guadalupe")
    with pytest.raises(BackendError) as caught:
        TwinSampler(device, seed=1).run([line(8, device)], shots=50).result()
    assert caught.value.code == "twin-simulation"


def test_a_snapshot_without_a_usable_coupling_still_makes_a_twin() -> None:
    device = twin("kyoto")
    assert "ecr" not in device.target.operation_names
    assert any(r.where.startswith("ecr[") for r in device.calibration.repairs)
    circuit = QuantumCircuit(1)
    circuit.sx(0)
    circuit.measure_all()
    isa = transpile(circuit, device, seed_transpiler=1)
    assert TwinSampler(device, seed=1).run([isa], shots=20).result()[0].data.meas.num_shots == 20
