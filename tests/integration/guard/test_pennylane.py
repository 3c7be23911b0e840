"""Guarded PennyLane devices: QNodes, gradients and layers as before, each execution a job."""

import copy
import pickle
from typing import Any

import numpy as np
import pennylane as qml
import pytest
import torch
from pennylane import numpy as pnp

import interlock
from interlock.errors import DeniedError, InputError
from interlock.guard.explain import explain
from interlock.guard.hooks.common import FallbackWarning
from interlock.guard.record import recorded

WAYS = ("parameter-shift", "backprop", "adjoint", "best", "finite-diff")


def circuit(x: Any) -> Any:
    qml.RX(x[0], 0)
    qml.CNOT([0, 1])
    qml.RY(x[1], 1)
    return qml.expval(qml.Z(0) @ qml.Z(1))


def noisy() -> Any:
    return qml.device("default.mixed", wires=2, readout_prob=0.1)


@pytest.fixture
def guarded(policy: Any, home: Any) -> Any:
    def make(target: Any = None, **options: Any) -> Any:
        device = qml.device("default.qubit", wires=2, seed=3) if target is None else target
        return interlock.guard(device, policy=policy, home=home, **options)

    return make


@pytest.mark.parametrize("way", WAYS)
def test_values_and_gradients_are_those_of_the_device(guarded: Any, way: str) -> None:
    device = guarded()
    x = pnp.array([0.3, 0.4], requires_grad=True)
    plain = qml.QNode(circuit, qml.device("default.qubit", wires=2), diff_method=way)
    node = qml.QNode(circuit, device, diff_method=way)
    assert np.isclose(node(x), plain(x), atol=1e-12)
    assert np.allclose(qml.grad(node)(x), [0, -np.sin(0.4)], atol=1e-6)
    t = torch.tensor([0.3, 0.4], dtype=torch.float64, requires_grad=True)
    node(t).backward()
    assert np.allclose(t.grad, [0, -np.sin(0.4)], atol=1e-6)
    assert device.receipts.label == "quantum"
    # No device gives such values, and the receipt says so.
    assert all(r["exact"] and r["outcome"] == "RELEASE" for r in device.receipts)


def test_a_device_with_vector_jacobian_products(guarded: Any, home: Any) -> None:
    device = guarded(qml.device("lightning.qubit", wires=2))
    x = pnp.array([0.3, 0.4], requires_grad=True)
    for vjp in (False, True):
        node = qml.QNode(circuit, device, diff_method="adjoint", device_vjp=vjp)
        assert np.allclose(qml.grad(node)(x), [0, -np.sin(0.4)], atol=1e-9)
    with recorded(home) as ledger:
        story = explain(ledger, device.receipts[-1]["id"])
    run = next(s for s in story["stages"] if s["stage"] == "execute")["controls"][-1]
    assert run["evidence"]["derivatives"] == "execute_and_compute_vjp"
    assert run["evidence"]["exact"]


def test_a_gradient_by_parameter_shift_is_one_job(guarded: Any) -> None:
    device = guarded()
    jobs: list[Any] = []
    device.interlock.guard.observers.append(jobs.append)
    node = qml.QNode(circuit, device, diff_method="parameter-shift")
    qml.grad(node)(pnp.array([0.3, 0.4], requires_grad=True))
    assert [len(j.job.circuits) for j in jobs] == [1, 4]


def test_counts_samples_and_probabilities_with_shots(guarded: Any, home: Any) -> None:
    device = guarded()

    @qml.set_shots(50)
    @qml.qnode(device)
    def node(x: Any) -> Any:
        qml.RX(x, 0)
        qml.CNOT([0, 1])
        return qml.sample(wires=[0]), qml.counts(wires=[1, 0]), qml.probs(wires=1)

    samples, counts, probabilities = node(np.pi)
    assert samples.shape == (50, 1)
    assert counts == {"11": 50}
    assert probabilities.tolist() == [0, 1]
    assert not device.receipts[-1]["exact"]
    with recorded(home) as ledger:
        story = explain(ledger, device.receipts[-1]["id"])
    run = next(s for s in story["stages"] if s["stage"] == "execute")["controls"][-1]
    kept = run["evidence"]["items"][0]["registers"]
    assert [r["counts"] for r in kept.values()] == [[{"all": {k: 50}}] for k in ("1", "11", "1")]
    _, batch, _ = node(np.array([0.0, np.pi]))
    assert batch == [{"00": 50}, {"11": 50}]


def test_other_measurements_and_mid_circuit_ones(guarded: Any) -> None:
    device = guarded()

    @qml.set_shots(20)
    @qml.qnode(device)
    def mixed(x: Any) -> Any:
        qml.RX(x, 0)
        m = qml.measure(0)
        qml.cond(m, qml.X)(1)
        return qml.counts(wires=1), qml.expval(qml.Z(0)), qml.sample(m)

    counts, value, sample = mixed(np.pi)
    assert (counts, value, sample.tolist()) == ({"1": 20}, -1.0, [1] * 20)

    @qml.qnode(device)
    def analytic() -> Any:
        qml.Hadamard(0)
        return qml.state(), qml.purity(0), qml.vn_entropy(0), qml.var(qml.Z(0))

    state, purity, entropy, variance = analytic()
    assert np.allclose(state, [np.sqrt(0.5), 0, np.sqrt(0.5), 0])
    assert np.allclose([purity, entropy, variance], [1, 0, 1])


def layer(device: Any) -> Any:
    def model(inputs: Any, w: Any) -> Any:
        qml.AngleEmbedding(inputs, [0, 1])
        qml.BasicEntanglerLayers(w, [0, 1])
        return [qml.expval(qml.Z(i)) for i in (0, 1)]

    torch.manual_seed(0)
    return qml.qnn.TorchLayer(qml.QNode(model, device), {"w": (1, 2)})


@pytest.mark.parametrize("way", ["device", "layer"])
def test_a_torch_layer_trains_as_before(guarded: Any, way: str) -> None:
    plain = layer(qml.device("default.qubit", wires=2))
    made = layer(guarded()) if way == "device" else guarded(layer(qml.device("default.qubit")))
    x = torch.rand(5, 2)
    for module in (plain, made):
        module(x).sum().backward()
    assert torch.allclose(made(x), plain(x))
    assert torch.allclose(made.w.grad, plain.w.grad)
    assert made.qnode.device.receipts.label == "quantum"
    assert copy.deepcopy(made)(x).shape == (5, 2)
    with torch.no_grad():
        assert not made(x).requires_grad


def test_a_qnode_is_guarded_by_its_device(guarded: Any) -> None:
    node = guarded(qml.QNode(circuit, qml.device("default.qubit", wires=2)))
    assert isinstance(node, qml.QNode)
    node(np.array([0.1, 0.2]))
    assert node.device.receipts[-1]["outcome"] == "RELEASE"
    assert node.device.receipts[-1]["id"]


@pytest.mark.parametrize("way", ["parameter-shift", "backprop"])
def test_a_fallback_is_labelled_and_has_gradients(guarded: Any, way: str) -> None:
    device = guarded(noisy(), fallback=qml.device("default.qubit", wires=2))
    t = torch.tensor([0.3, 0.4], dtype=torch.float64, requires_grad=True)
    with pytest.warns(FallbackWarning, match=r"FALLBACK\(health\.calibration\.missing\)"):
        qml.QNode(circuit, device, diff_method=way)(t).backward()
    assert np.allclose(t.grad, [0, -np.sin(0.4)], atol=1e-9)
    assert device.receipts.label == "fallback"


def test_a_function_as_fallback_has_gradients_by_shifts_only(guarded: Any) -> None:
    def answer(tapes: Any) -> Any:
        return [np.cos(float(t.operations[-1].data[0])) for t in tapes]

    x = pnp.array([0.3, 0.4], requires_grad=True)
    device = guarded(noisy(), fallback=answer)
    with pytest.warns(FallbackWarning):
        slope = qml.grad(qml.QNode(circuit, device, diff_method="parameter-shift"))(x)
    assert np.allclose(slope, [0, -np.sin(0.4)], atol=1e-9)
    for way in ("backprop", "adjoint"):
        inner = guarded(qml.device("default.qubit", wires=2), fallback=lambda t: [0.5] * len(t))
        inner._inner.execute = inner._inner.execute_and_compute_derivatives = _broken
        with pytest.raises(DeniedError, match="fallback-no-gradient"):
            qml.grad(qml.QNode(circuit, inner, diff_method=way))(x)


def _broken(*_: Any, **__: Any) -> Any:
    raise OSError("no device")


def test_a_refused_job_raises_and_nothing_runs(guarded: Any, policy: Any) -> None:
    policy["admit"]["budget"] = {"max_shots_per_job": 50}
    device = guarded()
    with pytest.raises(DeniedError) as caught:
        qml.set_shots(qml.QNode(circuit, device), 51)([0.1, 0.2])
    assert caught.value.receipt.rule == "admit.budget.shots-per-job"
    with pytest.raises(DeniedError, match=r"release\.baseline\.none"):
        qml.QNode(circuit, guarded(noisy()))([0.1, 0.2])
    with pytest.raises(InputError) as odd:
        qml.QNode(circuit, guarded(fallback=noisy()))([0.1, 0.2])
    assert odd.value.code == "fallback-quantum"
    with pytest.raises(InputError) as channel:
        guarded(noisy()).execute(
            qml.tape.QuantumScript([qml.BitFlip(0.1, 0)], [qml.expval(qml.Z(0))])
        )
    assert channel.value.code == "circuit-unsupported"
    assert not device.receipts.outcomes


def test_the_device_is_a_device_in_every_other_way(guarded: Any) -> None:
    device = guarded()
    assert isinstance(device, qml.devices.Device)
    assert (device.name, list(device.wires)) == ("default.qubit", [0, 1])
    with qml.Tracker(device) as tracker:
        qml.QNode(circuit, device)([0.1, 0.2])
    assert tracker.totals["executions"] == 1
    single = qml.tape.QuantumScript([qml.X(0)], [qml.expval(qml.Z(0))])
    assert device.execute(single) == -1
    both = [single, qml.tape.QuantumScript([qml.X(0)], [qml.counts(wires=0)], shots=7)]
    assert device.execute(both)[1] == {"1": 7}
    assert copy.deepcopy(device).execute(single) == -1
    assert pickle.loads(pickle.dumps(device)).execute(single) == -1


def test_amplitudes_stay_where_the_label_of_the_job_keeps_them(policy: Any, home: Any) -> None:
    def node(measure: Any, *labels: str) -> Any:
        plain = qml.device("default.qubit", wires=1)
        device = interlock.guard(plain, policy=policy, home=home, labels=labels)

        def run() -> Any:
            qml.Hadamard(0)
            return measure()

        return qml.QNode(run, device)()

    class Mine(qml.measurements.StateMP):
        pass

    label = "sensitivity:restricted"
    assert len(node(qml.state)) == 2
    for measure in (qml.state, lambda: qml.density_matrix(0), Mine):
        with pytest.raises(DeniedError) as error:
            node(measure, label)
        assert error.value.code == "data-clearance"
    assert node(lambda: qml.probs(wires=0), label).shape == (2,)
    assert abs(float(node(lambda: qml.expval(qml.Z(0)), label))) < 1e-9


def test_states_do_not_come_out_as_snapshots_or_round_the_guard(guarded: Any) -> None:
    device = guarded()

    @qml.qnode(device)
    def node() -> Any:
        qml.Hadamard(0)
        qml.Snapshot("here")
        return qml.expval(qml.X(0))

    assert np.isclose(node(), 1.0)
    with pytest.raises(InputError) as error:
        qml.snapshots(node)()
    assert error.value.code == "circuit-unsupported"
    assert error.value.receipt.outcome == "DENY"
    assert np.isclose(node(), 1.0)
    lightning = guarded(qml.device("lightning.qubit", wires=2))
    for name in ("simulate", "jacobian", "LightningStateVector"):
        with pytest.raises(AttributeError, match="round the guard"):
            getattr(lightning, name)


@pytest.mark.parametrize("good", [1, 2, 3, 5, 8, 20])
def test_an_operation_that_turns_into_another_runs_as_it_was_checked(
    guarded: Any, good: int
) -> None:
    asked: list[None] = []

    class Turning(qml.operation.Operation):  # type: ignore[misc]
        num_wires = 1
        num_params = 0

        @staticmethod
        def compute_matrix() -> Any:
            asked.append(None)
            return np.eye(2) if len(asked) <= good else np.array([[0, 1], [1, 0]])

    device = guarded()
    seen: list[Any] = []
    checked: list[Any] = []
    submit = device.interlock.guard.submit

    def spy(programs: Any, **options: Any) -> Any:
        checked.extend(p.circuit.operations[0] for p in programs)
        return submit(programs, **options)

    device.interlock.guard.submit = spy

    @qml.qnode(device, diff_method=None)
    def node() -> Any:
        Turning(0)
        return qml.expval(qml.Z(0))

    try:
        seen.append(float(node()))
    except InputError as error:
        assert error.code == "circuit-two-faces"  # noqa: PT017 - either is right
        return
    kept = np.array(checked[0].params, dtype=float).view(complex)[0]
    assert np.isclose(seen[0], 1 if np.isclose(kept, 1) else -1)


def test_custom_operations_keep_their_values_and_gradients(guarded: Any) -> None:
    class Mine(qml.operation.Operation):  # type: ignore[misc]
        num_wires = 1
        num_params = 1
        grad_method = "A"
        parameter_frequencies = [(1,)]

        @staticmethod
        def compute_matrix(x: Any) -> Any:
            return qml.RX.compute_matrix(x)

    def mine(x: Any) -> Any:
        Mine(x, 0)
        return qml.expval(qml.Z(0))

    for way in ("parameter-shift", "backprop", None):
        node = qml.QNode(mine, guarded(), diff_method=way)
        assert np.isclose(float(node(0.3)), np.cos(0.3))
        if way:
            t = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
            node(t).backward()
            assert np.isclose(float(t.grad), -np.sin(0.3))
            with torch.no_grad():
                assert torch.is_tensor(node(t))
