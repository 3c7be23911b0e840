"""A circuit on a guarded device as a torch layer."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

pytest.importorskip("qiskit_aer")

from qiskit import QuantumCircuit, transpile
from qiskit.circuit import ParameterVector
from qiskit.primitives import StatevectorEstimator
from qiskit.quantum_info import SparsePauliOp

from interlock.backends.twins import TwinEstimator, twin
from interlock.errors import DeniedError, InputError
from interlock.guard.record import recorded
from interlock.guard.state import stop
from interlock.training import QuantumLayer, guarded_circuit

POLICY: dict[str, Any] = {
    "interlock": 1,
    "name": "layer",
    "timeouts": {"control_s": 60, "execute_s": 120},
    "admit": {"kill-switch": {}, "budget": {"max_qubits": 27, "max_shots_per_job": 10**6}},
    "verify": {"limits": {}},
    "health": {"calibration": {}, "fidelity": {"minimum": 0.3}},
    "execute": {"run": {}},
    "validate": {"counts": {}},
    "filter": {
        "constraints": {
            "rules": [{"id": "expectation", "field": "values", "min": -1.3, "max": 1.3}]
        }
    },
    "govern": {"kill-switch": {}},
    "release": {"baseline": {}},
}
X, W = ParameterVector("x", 2), ParameterVector("w", 8)
Z = [SparsePauliOp("IZ"), SparsePauliOp("ZI")]


def circuit() -> QuantumCircuit:
    """The circuit of `QuantumLayer(2, 2)`."""
    made = QuantumCircuit(2)
    for q in range(2):
        made.ry(X[q], q)
    for layer in range(2):
        made.cz(0, 1)
        for q in range(2):
            made.ry(W[4 * layer + 2 * q], q)
            made.rz(W[4 * layer + 2 * q + 1], q)
    return made


def surrogate() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(2, 2), nn.Tanh())


def outcomes(home: Path) -> list[str]:
    with recorded(home) as ledger:
        return [e.header["outcome"] for e in ledger.entries() if "outcome" in e.header]


def test_values_and_gradients_are_those_of_the_statevector(tmp_path: Path) -> None:
    layer = guarded_circuit(
        StatevectorEstimator(), circuit(), Z, inputs=list(X), surrogate=surrogate(),
        policy=POLICY, home=tmp_path,
    )  # fmt: skip
    exact = QuantumLayer(2, 2)
    with torch.no_grad():
        exact.angles.copy_(layer.quantum.weights.reshape(2, 2, 2))
    features = torch.randn(3, 2)
    weight = torch.randn(3, 2)
    got, want = features.clone().requires_grad_(), features.clone().requires_grad_()
    out, reference = layer(got), exact(want)
    assert out.detach().numpy() == pytest.approx(reference.detach().numpy(), abs=1e-5)
    (out * weight).sum().backward()
    (reference * weight).sum().backward()
    assert got.grad.numpy() == pytest.approx(want.grad.numpy(), abs=1e-5)
    grad = layer.quantum.weights.grad.reshape(2, 2, 2)
    assert grad.numpy() == pytest.approx(exact.angles.grad.numpy(), abs=1e-5)
    # One job for the value and its gradient, and one for inference, with fewer rows.
    assert outcomes(tmp_path) == ["RELEASE"]
    with torch.no_grad():
        again = layer.eval()(features)
    assert again.numpy() == pytest.approx(reference.detach().numpy(), abs=1e-5)
    assert outcomes(tmp_path) == ["RELEASE", "RELEASE"]
    assert layer.label == "quantum"


@pytest.mark.parametrize("training", [True, False])
def test_on_a_red_device_the_surrogate_answers_with_its_gradient(
    tmp_path: Path, training: bool
) -> None:
    device = twin("manila", age_s=60 * 86400.0)
    ready = transpile(circuit(), device, optimization_level=1, seed_transpiler=1)
    observables = [o.apply_layout(ready.layout) for o in Z]
    layer = guarded_circuit(
        TwinEstimator(device, seed=1), ready, observables, inputs=list(X), surrogate=surrogate(),
        policy=POLICY, home=tmp_path,
    ).train(training)  # fmt: skip
    features = torch.randn(3, 2)
    out = layer(features)
    assert torch.equal(out, layer.surrogate(features))
    assert outcomes(tmp_path) == ["FALLBACK"]
    assert layer.label == "surrogate"
    assert [r.split(":")[0] for r in layer.reasons] == ["fallback"]
    out.sum().backward()
    assert layer.surrogate[0].weight.grad.abs().sum() > 0
    assert layer.quantum.weights.grad is None


def test_on_a_noisy_device_it_learns(tmp_path: Path) -> None:
    device = twin("manila")
    ready = transpile(circuit(), device, optimization_level=1, seed_transpiler=1)
    observables = [o.apply_layout(ready.layout) for o in Z]
    layer = guarded_circuit(
        TwinEstimator(device, seed=1, precision=0.05), ready, observables, inputs=list(X),
        surrogate=surrogate(), policy=POLICY, home=tmp_path,
    )  # fmt: skip
    optimiser = torch.optim.Adam([layer.quantum.weights], lr=0.3)
    features = torch.tensor([[0.3, 1.0]])
    losses = []
    for _ in range(6):
        optimiser.zero_grad()
        loss = (layer(features) + 1).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    assert set(outcomes(tmp_path)) == {"RELEASE"}


def test_what_the_path_denies_stays_denied(tmp_path: Path) -> None:
    layer = guarded_circuit(
        StatevectorEstimator(), circuit(), Z, inputs=list(X), surrogate=surrogate(),
        policy=POLICY | {"admit": {"budget": {"max_qubits": 1}}}, home=tmp_path,
    )  # fmt: skip
    with pytest.raises(DeniedError, match="qubits"):
        layer(torch.randn(1, 2))
    stop(tmp_path, "drill")
    with pytest.raises(DeniedError, match="stopped"):
        layer(torch.randn(1, 2))


def test_a_surrogate_out_of_bounds_is_no_fallback(tmp_path: Path) -> None:
    device = twin("manila", age_s=60 * 86400.0)
    ready = transpile(circuit(), device, optimization_level=1, seed_transpiler=1)
    wild = nn.Linear(2, 2)
    nn.init.constant_(wild.bias, 50.0)
    layer = guarded_circuit(
        TwinEstimator(device), ready, [o.apply_layout(ready.layout) for o in Z],
        inputs=list(X), surrogate=wild, policy=POLICY, home=tmp_path,
    )  # fmt: skip
    with pytest.raises(DeniedError):
        layer(torch.randn(1, 2))


def shared() -> QuantumCircuit:
    made = circuit()
    made.ry(W[0], 0)
    return made


def doubled() -> QuantumCircuit:
    made = QuantumCircuit(1)
    made.ry(2 * X[0], 0)
    return made


def controlled() -> QuantumCircuit:
    made = QuantumCircuit(2)
    made.crx(X[0], 0, 1)
    return made


@pytest.mark.parametrize("make", [shared, doubled, controlled])
def test_a_parameter_without_a_plain_shift_is_refused(make: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="shift") as caught:
        guarded_circuit(
            StatevectorEstimator(), make(), Z[:1], inputs=list(X[:1]), surrogate=surrogate(),
            policy=POLICY, home=tmp_path,
        )  # fmt: skip
    assert caught.value.code == "layer-shift"
