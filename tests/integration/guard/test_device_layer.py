"""A torch layer through the guard: values, gradients, fallback, refusal, on every SDK."""

import copy
import io
import math
from typing import Any

import cirq
import numpy as np
import pennylane as qml
import pytest
import sympy
import torch
from braket.circuits.noise_model import GateCriteria, NoiseModel
from braket.circuits.noises import Depolarizing
from braket.devices import LocalSimulator
from qiskit.circuit import Parameter, QuantumCircuit
from qiskit.primitives import BaseEstimatorV2, StatevectorEstimator

import interlock
from interlock.circuits.canonical import Circuit, Operation
from interlock.errors import DeniedError, InputError
from interlock.guard.hooks.common import FallbackWarning
from interlock.training import DeviceLayer

OBSERVABLES = ("Z0", "X1", "Y0 Z1")
EXACT = {
    "qiskit": StatevectorEstimator,
    "pennylane": lambda: qml.device("default.qubit"),
}
SAMPLED = {
    "qiskit": lambda: StatevectorEstimator(seed=5),
    "cirq": lambda: cirq.Simulator(seed=5),
    "pennylane": lambda: qml.device("default.qubit", seed=5),
    "braket": LocalSimulator,
}


def template() -> Circuit:
    """Every kind of rule: shared parameters, expressions, controlled rotations."""
    steps = [
        ("ry", ("x",), (0,)), ("rx", ("2*w + 0.3*x",), (1,)), ("cry", ("v",), (0, 1)),
        ("rzz", ("sin(w)",), (0, 1)), ("U", ("v", "w*x", 0.3), (0,)), ("cp", ("v",), (1, 0)),
        ("xx_plus_yy", ("w", 0.2), (0, 1)), ("h", (), (1,)),
    ]  # fmt: skip
    return Circuit(num_qubits=2, operations=tuple(Operation(*step) for step in steps))


def small() -> Circuit:
    steps = [("ry", ("x + v",), (0,)), ("rx", ("w",), (1,)), ("rzz", ("v",), (0, 1))]
    return Circuit(num_qubits=2, operations=tuple(Operation(*step) for step in steps))


def layer(device: Any, shots: int = 0, circuit: Circuit | None = None) -> DeviceLayer:
    source = small() if circuit is None else circuit
    return DeviceLayer(source, device, observables=OBSERVABLES, inputs=("x",), shots=shots)


@pytest.fixture
def guarded(policy: Any, home: Any) -> Any:
    policy["admit"]["budget"] = {"max_shots_per_job": 10**6}
    return lambda target, **options: interlock.guard(target, policy=policy, home=home, **options)


@pytest.mark.parametrize("sdk", EXACT)
def test_values_agree_and_gradients_match_finite_differences(guarded: Any, sdk: str) -> None:
    made = guarded(layer(EXACT[sdk](), circuit=template()))
    assert isinstance(made, DeviceLayer)
    reference = layer(StatevectorEstimator(), circuit=template())
    x = torch.tensor([[0.3], [1.1]], dtype=torch.float64, requires_grad=True)
    made.double()
    reference.double()
    assert torch.allclose(made(x), reference(x), atol=1e-9)
    weight = torch.tensor([0.5, -1.0, 2.0])
    (made(x) * weight).sum().backward()

    def value(features: Any, weights: Any) -> float:
        with torch.no_grad():
            reference.weights.copy_(weights)
            return float((reference(features) * weight).sum())

    step, base = 1e-5, made.weights.detach().clone()
    for i in range(len(base)):
        shift = torch.zeros_like(base)
        shift[i] = step
        slope = (value(x, base + shift) - value(x, base - shift)) / (2 * step)
        assert math.isclose(made.weights.grad[i], slope, abs_tol=1e-6)
    for i in range(2):
        moved = torch.zeros_like(x)
        moved[i] = step
        slope = (value(x + moved, base) - value(x - moved, base)) / (2 * step)
        assert math.isclose(x.grad[i], slope, abs_tol=1e-6)


@pytest.mark.parametrize("sdk", SAMPLED)
def test_with_shots_every_sdk_agrees_within_noise(guarded: Any, sdk: str) -> None:
    shots = 800
    exact = layer(StatevectorEstimator())
    made = guarded(layer(SAMPLED[sdk](), shots))
    x = torch.tensor([[0.3], [1.1]])
    assert torch.allclose(made(x), exact(x), atol=6 / math.sqrt(shots))
    made(x).sum().backward()
    exact(x).sum().backward()
    assert torch.allclose(made.weights.grad, exact.weights.grad, atol=0.6)
    assert made.receipts.label == "quantum"
    assert made.receipts.outcomes["RELEASE"] == 2  # a pass with its gradient is one job
    assert not made.receipts[-1]["exact"]


def test_circuits_of_every_sdk_make_the_same_layer() -> None:
    native = QuantumCircuit(1)
    native.ry(Parameter("x"), 0)
    line = cirq.Circuit(cirq.ry(sympy.Symbol("x"))(cirq.LineQubit(0)))
    x = torch.tensor([[0.4], [0.8]])
    for circuit in (native, line):
        found = DeviceLayer(circuit, StatevectorEstimator(), inputs=("x",))(x)
        assert torch.allclose(found, torch.cos(x), atol=1e-6)


class Broken(BaseEstimatorV2):
    default_precision = 0.0

    def run(self, pubs: Any, *, precision: Any = None) -> Any:
        raise OSError("no device")


def test_a_fallback_is_labelled_and_has_gradients(guarded: Any) -> None:
    x = torch.tensor([[0.3], [1.1]])
    exact = layer(StatevectorEstimator())
    exact(x).sum().backward()
    made = guarded(layer(Broken()), fallback=StatevectorEstimator(seed=7))
    with pytest.warns(FallbackWarning, match="FALLBACK"):
        made(x).sum().backward()
    assert torch.allclose(made.weights.grad, exact.weights.grad, atol=1e-6)
    assert made.receipts.label == "fallback"
    noise = NoiseModel().add_noise(Depolarizing(0.1), GateCriteria())
    noisy = LocalSimulator("braket_dm", noise_model=noise)
    made = guarded(layer(noisy, 500), fallback=LocalSimulator())
    with pytest.warns(FallbackWarning):
        assert torch.allclose(made(x), exact(x), atol=0.3)


def test_a_refused_job_raises(guarded: Any, policy: Any, home: Any) -> None:
    policy["admit"]["budget"] = {"max_shots_per_job": 100}
    with pytest.raises(DeniedError) as caught:
        guarded(layer(cirq.Simulator(), 80))(torch.tensor([[0.3]]))
    assert caught.value.receipt.rule == "admit.budget.shots-per-job"
    policy["admit"]["budget"] = {}
    with pytest.raises(DeniedError, match=r"release\.baseline\.none"):
        interlock.guard(layer(Broken()), policy=policy, home=home)(torch.tensor([[0.3]]))


def test_it_trains_and_saves_like_any_module(guarded: Any) -> None:
    torch.manual_seed(0)
    made = guarded(layer(StatevectorEstimator()))
    model = torch.nn.Sequential(made, torch.nn.Linear(3, 1))
    optimiser = torch.optim.Adam(model.parameters(), lr=0.1)
    x = torch.linspace(-1, 1, 6).reshape(-1, 1)
    losses = []
    for _ in range(5):
        optimiser.zero_grad()
        loss = (model(x) - x**2).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    twin = copy.deepcopy(model)
    assert torch.equal(twin(x), model(x))
    stream = io.BytesIO()
    torch.save(model.state_dict(), stream)
    stream.seek(0)
    fresh = torch.nn.Sequential(layer(StatevectorEstimator()), torch.nn.Linear(3, 1))
    fresh.load_state_dict(torch.load(stream, weights_only=True))
    assert torch.allclose(fresh(x), model(x))
    assert np.isfinite(losses).all()


def test_what_makes_no_layer_is_refused_with_a_reason(guarded: Any) -> None:
    one = Circuit(num_qubits=1, operations=(Operation("cu", ("a", 0.1, 0.2, 0.3), (0, 1)),))
    measured = QuantumCircuit(1, 1)
    measured.measure(0, 0)
    simulator = StatevectorEstimator()
    cases = [
        (lambda: DeviceLayer(one, simulator), "layer-no-shift"),
        (lambda: DeviceLayer(measured, simulator), "layer-circuit"),
        (lambda: DeviceLayer(template(), simulator, inputs=("y",)), "layer-circuit"),
        (lambda: DeviceLayer(template(), simulator, observables=("Q0",)), "layer-circuit"),
        (lambda: layer(cirq.Simulator())(torch.ones(1, 1)), "job-shots"),
        (lambda: layer(object())(torch.ones(1, 1)), "guard-unknown-object"),
        (lambda: DeviceLayer(3, simulator), "circuit-unsupported"),
        (lambda: guarded(torch.nn.Linear(1, 1)), "guard-unknown-object"),
    ]
    for attempt, code in cases:
        with pytest.raises(InputError) as caught:
            attempt()
        assert caught.value.code == code
        assert caught.value.fix
