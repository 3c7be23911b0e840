"""Guarded Braket devices: ordinary tasks and results, the whole path between."""

import asyncio
import copy
import json
import pickle
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from braket.circuits import Circuit, FreeParameter, Observable, observables
from braket.circuits.noise_model import GateCriteria, NoiseModel
from braket.circuits.noises import Depolarizing
from braket.devices import Device, LocalSimulator
from braket.ir.openqasm import Program, ProgramSet
from braket.tasks import GateModelQuantumTaskResult, QuantumTask

import interlock
from interlock.backends import calibration_of
from interlock.errors import DeniedError, InputError
from interlock.guard.explain import explain
from interlock.guard.record import recorded

BELL = Circuit().h(0).cnot(0, 1)


def noisy() -> Any:
    noise = NoiseModel().add_noise(Depolarizing(0.1), GateCriteria())
    return LocalSimulator("braket_dm", noise_model=noise)


@pytest.fixture
def guarded(policy: Any, home: Any) -> Any:
    def make(device: Any = None, **options: Any) -> Any:
        return interlock.guard(device or LocalSimulator(), policy=policy, home=home, **options)

    return make


def test_a_task_gives_the_result_of_the_device_and_a_receipt(guarded: Any, home: Any) -> None:
    device = guarded()
    task = device.run(Circuit().x(0).i(1).measure([1, 0]), shots=50)
    assert isinstance(device, Device)
    assert isinstance(task, QuantumTask)
    result = task.result()
    assert isinstance(result, GateModelQuantumTaskResult)
    assert (task.state(), task.metadata()) == ("COMPLETED", {"status": "COMPLETED"})
    assert result.measurement_counts == {"01": 50}
    assert (result.interlock["outcome"], result.interlock["exact"]) == ("RELEASE", False)
    with recorded(home) as ledger:
        story = explain(ledger, result.interlock["id"])
    assert story["job"]["backend"] == "StateVectorSimulator"
    run = next(s for s in story["stages"] if s["stage"] == "execute")["controls"][-1]
    assert run["evidence"]["items"][0]["registers"]["b"]["counts"] == [{"all": {"10": 50}}]


def test_exact_values_say_that_they_are(guarded: Any) -> None:
    circuit = Circuit().h(0).cnot(0, 1).state_vector().probability(0)
    circuit.expectation(Observable.Z() @ Observable.Z(), target=[0, 1])
    result = guarded().run(circuit, shots=0).result()
    assert np.allclose(result.values[0], [0.5**0.5, 0, 0, 0.5**0.5])
    assert np.isclose(result.values[2], 1)
    assert result.interlock["exact"]
    sampled = guarded().run(Circuit().h(0).expectation(Observable.X(), target=0), shots=20).result()
    assert sampled.values == [1.0]
    with pytest.raises(InputError) as caught:
        guarded().run(BELL, shots=0)
    assert caught.value.code == "job-shots"


def test_parameters_batches_and_programs(guarded: Any) -> None:
    device = guarded()
    jobs: list[Any] = []
    device.interlock.guard.observers.append(jobs.append)
    turned = Circuit().rx(0, FreeParameter("t"))
    assert device.run(turned, 9, {"t": np.pi}).result().measurement_counts == {"1": 9}
    batch = device.run_batch(turned, shots=9, inputs=[{"t": 0.0}, {"t": np.pi}])
    assert [r.measurement_counts for r in batch.results()] == [{"0": 9}, {"1": 9}]
    assert [r.interlock["id"] for r in batch.results()] == [jobs[1].receipt.id] * 2
    assert len(jobs) == 2
    source = "OPENQASM 3.0; qubit[1] q; bit[1] b; x q[0]; b[0] = measure q[0];"
    assert device.run(Program(source=source), shots=4).result().measurement_counts == {"1": 4}
    assert asyncio.run(_waited(device)).measurement_counts.total() == 5
    with pytest.raises(InputError) as caught:
        device.run(turned, shots=4)
    assert caught.value.code == "circuit-unbound"
    with pytest.raises(InputError) as odd:
        device.run(ProgramSet(programs=[Program(source=source)]), shots=4)
    assert odd.value.code == "circuit-unsupported"


async def _waited(device: Any) -> Any:
    return await device.run(BELL, shots=5).async_result()


def test_a_refused_task_fails_and_raises(guarded: Any, policy: Any) -> None:
    policy["admit"]["budget"] = {"max_shots_per_job": 50}
    task = guarded().run(BELL, shots=51)
    with pytest.raises(DeniedError) as caught:
        task.result()
    assert task.state() == "FAILED"
    assert caught.value.receipt.rule == "admit.budget.shots-per-job"
    with pytest.raises(DeniedError, match=r"release\.baseline\.none"):
        guarded(noisy()).run(BELL, shots=5).result()
    with pytest.raises(InputError) as channel:
        guarded().run(Circuit().h(0).bit_flip(0, 0.1), shots=5)
    assert channel.value.code == "circuit-unsupported"


def test_a_noisy_device_falls_back_and_says_so(guarded: Any) -> None:
    bits = guarded(noisy(), fallback=lambda cs: [{"00": 3, "01": 2} for _ in cs])
    result = bits.run(BELL, shots=5).result()
    assert result.interlock["outcome"] == "FALLBACK"
    assert result.measurement_counts == {"00": 3, "01": 2}
    assert result.measurements.sum(axis=0).tolist() == [0, 2]
    result = guarded(noisy(), fallback=LocalSimulator()).run(BELL, shots=5).result()
    assert result.interlock["outcome"] == "FALLBACK"
    values = guarded(noisy(), fallback=lambda cs: [[[0.5, 0.5]] for _ in cs])
    exact = values.run(Circuit().h(0).probability(), shots=0).result()
    assert exact.values == [[0.5, 0.5]]
    with pytest.raises(DeniedError, match="fallback-answer"):
        guarded(noisy(), fallback=lambda _: []).run(BELL, shots=5).result()
    with pytest.raises(InputError) as caught:
        guarded(fallback=noisy()).run(BELL, shots=5)
    assert caught.value.code == "fallback-quantum"


def test_a_gradient_is_handed_over_with_its_name(guarded: Any) -> None:
    angle = FreeParameter("t")
    circuit = Circuit().rx(0, angle).rx(1, angle)
    circuit.adjoint_gradient(2 * observables.Z(0) + observables.X(1), parameters=["t"])
    value = {"expectation": 1.9, "gradient": {"t": -0.6}}
    device = guarded(noisy(), fallback=lambda circuits: [[value] for _ in circuits])
    result = device.run(circuit, shots=0, inputs={"t": 0.3}).result()
    assert result.values == [value]
    assert result.result_types[0].type.targets == [[0], [1]]
    assert result.result_types[0].type.parameters == ["t"]


def test_the_calibration_of_a_cloud_device_is_read_from_its_properties() -> None:
    class Cloud(LocalSimulator):
        type = SimpleNamespace(value="QPU")
        name = "Cloud"
        standardized: Any = None

        @property
        def properties(self) -> Any:
            return SimpleNamespace(json=lambda: json.dumps({"standardized": self.standardized}))

    Cloud.__module__ = "braket.aws.aws_device"
    device = Cloud()
    assert calibration_of(device, now=0.0) is None
    fidelity = {"fidelityType": {"name": "READOUT"}, "fidelity": 0.97}
    times = {"T1": {"value": 5e-5, "unit": "S"}, "T2": {"value": 4e-5, "unit": "S"}}
    device.standardized = {"oneQubitProperties": {"0": {**times, "oneQubitFidelity": [fidelity]}}}
    found = calibration_of(device, now=0.0)
    assert found is not None
    assert (found.device, found.qubits[0].t1_us) == ("Cloud", 50.0)
    device.type = SimpleNamespace(value="SIMULATOR")  # type: ignore[misc]
    simulator = calibration_of(device, now=0.0)
    assert simulator is not None
    assert simulator.kind == "ideal"


def test_copies_and_pickles_are_guarded_and_nothing_goes_round(guarded: Any) -> None:
    device = guarded()
    for twin in (copy.copy(device), copy.deepcopy(device), pickle.loads(pickle.dumps(device))):
        assert twin.run(BELL, shots=3).result().interlock["outcome"] == "RELEASE"
    assert device.properties == LocalSimulator().properties
    with pytest.raises(AttributeError, match="round the guard"):
        device.registered_backends()


def test_amplitudes_stay_where_the_label_of_the_job_keeps_them(policy: Any, home: Any) -> None:
    def device(*labels: str) -> Any:
        return interlock.guard(LocalSimulator(), policy=policy, home=home, labels=labels)

    state = Circuit().h(0).state_vector()
    assert len(device("study-7").run(state, shots=0).result().values[0]) == 2
    kept = device("study-7", "sensitivity:confidential")
    for circuit in (state, Circuit().h(0).density_matrix(), Circuit().h(0).amplitude(["0"])):
        with pytest.raises(DeniedError) as error:
            kept.run(circuit, shots=0)
        assert error.value.code == "data-clearance"
    assert kept.run(Circuit().h(0).probability(), shots=0).result().values
    assert kept.run(Circuit().h(0), shots=10).result().measurement_counts
    with pytest.raises(InputError, match="sensitivity"):
        device("sensitivity:none").run(state, shots=0)
