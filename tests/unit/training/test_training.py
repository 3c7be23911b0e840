import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from torch import nn

from interlock import config
from interlock.errors import DeniedError, InputError
from interlock.guard.filter.rules import Constraint
from interlock.guard.state import stop
from interlock.training import (
    EntropySpikeLoss,
    EntropySpikeWrapper,
    GuardedLayer,
    QuantumLayer,
    trl_reward,
)
from interlock.training.guardrails import Guardrails, compare, random_guardrails
from interlock.training.spikes import (
    SpikeTracker,
    linear_schedule,
    meyer_wallach,
    miller_madow,
    output_entropy,
)


def test_entropy_and_entanglement_are_two_things() -> None:
    plus = torch.full((1, 16), 0.25, dtype=torch.complex64)
    ghz = torch.zeros(1, 16, dtype=torch.complex64)
    ghz[0, 0] = ghz[0, 15] = 2**-0.5
    assert output_entropy(plus.abs().square()).item() == pytest.approx(1.0)
    assert meyer_wallach(plus).item() == pytest.approx(0.0, abs=1e-5)
    assert output_entropy(ghz.abs().square()).item() == pytest.approx(0.25, abs=1e-4)
    assert meyer_wallach(ghz).item() == pytest.approx(1.0, abs=1e-5)


def test_miller_madow_takes_bias_away() -> None:
    rng = np.random.default_rng(1)
    p = rng.dirichlet(np.ones(64))
    true = float(-(p * np.log(p)).sum() / np.log(64))
    plug_in, corrected = [], []
    for _ in range(200):
        counts = {str(k): int(c) for k, c in enumerate(rng.multinomial(256, p))}
        q = np.array([c for c in counts.values() if c]) / 256
        plug_in.append(-(q * np.log(q)).sum() / np.log(64))
        corrected.append(miller_madow(counts, 6))
    assert abs(np.mean(corrected) - true) < abs(np.mean(plug_in) - true) / 2


def test_a_spike_is_a_spike_and_the_default_changes_no_loss() -> None:
    loss = EntropySpikeLoss(tracker=SpikeTracker(warm_up=3))
    calm = torch.tensor([[0.97, 0.01, 0.01, 0.01]])
    for _ in range(5):
        assert loss(calm).item() == 0.0
        assert loss.report.spike == 0.0
    assert loss(torch.full((1, 4), 0.25)).item() == 0.0
    assert loss.report.spike > 3
    assert loss.report.entanglement is None


def test_the_penalty_has_a_gradient_and_a_schedule() -> None:
    loss = EntropySpikeLoss(linear_schedule(0, 4, 2.0), tracker=SpikeTracker(warm_up=3))
    for _ in range(5):
        loss(torch.tensor([[0.97, 0.01, 0.01, 0.01]]))
    logits = torch.zeros(1, 4, requires_grad=True)
    with torch.no_grad():
        logits[0, 0] = 0.1
    value = loss(torch.softmax(logits, -1))
    value.backward()
    assert value.item() > 0
    assert logits.grad is not None
    assert logits.grad.abs().sum() > 0
    loss.eval()
    seen = loss.tracker.seen
    loss(torch.full((1, 4), 0.25))
    assert loss.tracker.seen == seen


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_entropy_that_is_none_is_not_taken_for_calm(value: float) -> None:
    with pytest.raises(ValueError):
        SpikeTracker().update(value)


class Env(gymnasium.Env[Any, Any]):
    observation_space = gymnasium.spaces.Discrete(2)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, **_: Any) -> Any:  # type: ignore[override]
        return 0, {}

    def step(self, action: Any) -> Any:
        info = {} if action is None else {"decision_entropy": action}
        return 0, 1.0, False, False, info


def test_the_gymnasium_wrapper() -> None:
    env = EntropySpikeWrapper(Env(), weight=0.5, tracker=SpikeTracker(warm_up=3))
    env.reset()
    for _ in range(4):
        _, reward, *_, info = env.step(0.2)
        assert reward == 1.0
    _, reward, *_, info = env.step(0.9)
    assert reward < 0
    assert info["raw_reward"] == 1.0
    assert info["output_entropy"] == 0.9
    assert reward == 1.0 - info["spike_weight"] * info["entropy_spike"]
    with pytest.raises(KeyError):
        env.step(None)


def test_a_schedule_gives_the_rewards_their_weight() -> None:
    env = EntropySpikeWrapper(Env(), weight=linear_schedule(0, 4, 2.0))
    assert [env.step(0.2)[4]["spike_weight"] for _ in range(6)] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.0]
    plain, halved = (
        trl_reward(weight=w, tracker=SpikeTracker(warm_up=1))
        for w in (2.0, linear_schedule(0, 10, 2.0))
    )
    columns = {"completions": ["c"] * 3, "decision_entropy": [0.2, 0.2, 0.9]}
    state = SimpleNamespace(global_step=5)
    assert halved(trainer_state=state, **columns)[2] == plain(**columns)[2] / 2
    by_calls = trl_reward(weight=linear_schedule(0, 1, 1.0), tracker=SpikeTracker(warm_up=1))
    assert by_calls(**columns)[2] == 0
    assert by_calls(**columns)[2] < 0


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf"), lambda _: -0.1])
def test_a_weight_that_would_reward_spikes_or_is_none_is_refused(weight: Any) -> None:
    with pytest.raises(ValueError, match="a weight of"):
        EntropySpikeLoss(weight)(torch.full((1, 4), 0.25))
    with pytest.raises(ValueError, match="a weight of"):
        EntropySpikeWrapper(Env(), weight=weight).step(0.2)
    with pytest.raises(ValueError, match="a weight of"):
        trl_reward(weight=weight)(completions=["c"], decision_entropy=[0.2])


def test_the_trl_reward() -> None:
    logged: dict[str, float] = {}
    reward = trl_reward(weight=1.0, tracker=SpikeTracker(warm_up=3))
    call = {"prompts": ["p"] * 5, "completions": ["c"] * 5, "trainer_state": None,
            "log_extra": None, "log_metric": logged.__setitem__}  # fmt: skip
    entangled = [0.0, 0.5, None, 0.5, 1.0]
    out = reward(**call, decision_entropy=[0.2, 0.2, 0.2, None, 0.9], entanglement=entangled)
    assert out[3] is None
    assert out[4] is not None
    assert out[4] < -1
    assert logged["entropy_spike"] > 0
    assert logged["output_entropy"] == pytest.approx(1.5 / 4)
    assert logged["entanglement"] == 0.5
    with pytest.raises(ValueError):
        reward(**call, decision_entropy=[0.1])


def test_the_quantum_layer_agrees_with_qiskit() -> None:
    pytest.importorskip("qiskit")
    from qiskit import QuantumCircuit
    from qiskit.quantum_info import SparsePauliOp, Statevector

    torch.manual_seed(0)
    layer = QuantumLayer(4, 2)
    features = torch.randn(3, 4)
    got = layer(features).detach().numpy()
    for row, x in zip(got, features.tolist(), strict=True):
        circuit = QuantumCircuit(4)
        for q in range(4):
            circuit.ry(x[q], q)
        for angles in layer.angles.detach().tolist():
            for q in range(4):
                circuit.cz(q, (q + 1) % 4)
            for q in range(4):
                circuit.ry(angles[q][0], q)
                circuit.rz(angles[q][1], q)
        state = Statevector(circuit)
        want = [state.expectation_value(SparsePauliOp.from_sparse_list([("Z", [q], 1)], 4)).real
                for q in range(4)]  # fmt: skip
        assert row == pytest.approx(want, abs=1e-5)


def test_its_gradient_agrees_with_finite_differences() -> None:
    layer = QuantumLayer(3, 1).double()
    layer.ring = layer.ring.to(torch.complex64)
    x = torch.randn(2, 3)
    layer = layer.float()
    layer(x).sum().backward()
    with torch.no_grad():
        for at in ((0, 0, 0), (0, 2, 1)):
            kept = layer.angles[at].item()
            values = []
            for shift in (0.02, -0.02):
                layer.angles[at] = kept + shift
                values.append(layer(x).sum().item())
            layer.angles[at] = kept
            assert layer.angles.grad[at].item() == pytest.approx(
                (values[0] - values[1]) / 0.04, abs=2e-3
            )


class Broken(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Any) -> Any:
        y = torch.tanh(x) * self.scale
        if self.how == "nan":
            return y + torch.where(x[:, :1] > 5, float("nan"), 0.0)
        if self.how == "range":
            return torch.cat([y[:-1], y[-1:] * 0 + 7.0])
        if self.how == "shape":
            return y[:, :-1]
        if self.how == "raise":
            raise RuntimeError("device lost")
        if self.how == "always nan":
            return torch.cat([y[:-1], y[-1:] * float("nan")])
        return y


def surrogate() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 3), nn.Tanh())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("how", "share", "label"),
    [("none", 0, "quantum"), ("nan", 0.25, "mixed"), ("range", 0.25, "mixed"),
     ("always nan", 1, "surrogate"),
     ("shape", 1, "surrogate"), ("raise", 1, "surrogate")],
)  # fmt: skip
def test_the_guarded_layer(how: str, share: float, label: str, training: bool) -> None:
    layer = GuardedLayer(Broken(how), surrogate()).train(training)
    features = torch.randn(4, 3)
    features[3, 0] = 9.0
    out = layer(features)
    assert torch.isfinite(out).all()
    assert out.abs().max() <= 1
    assert layer.fallback_share == share
    assert layer.label == label
    out.sum().backward()
    grads = {name: p.grad for name, p in layer.named_parameters()}
    assert all(g is None or torch.isfinite(g).all() for g in grads.values())
    if share < 1:
        assert grads["quantum.scale"] is not None
    if how == "nan":
        assert grads["quantum.scale"].abs() > 0
    if share > 0:
        assert grads["surrogate.0.weight"].abs().sum() > 0


def test_other_rules_and_a_surrogate_that_breaks_them() -> None:
    rules = (Constraint(id="sum", expression="sum(values) <= 0.5"),)
    layer = GuardedLayer(Broken("none"), surrogate(), rules=rules)
    nn.init.constant_(layer.surrogate[0].bias, 5.0)
    with pytest.raises(DeniedError, match="neither"):
        layer(torch.full((2, 3), 3.0))
    nn.init.constant_(layer.surrogate[0].bias, -9.0)
    assert layer(torch.full((2, 3), 3.0)).sum() <= 1.0
    assert layer.reasons["sum"] > 0


def test_the_stop_stops_it(tmp_path: Path) -> None:
    layer = GuardedLayer(Broken("none"), surrogate(), home=tmp_path)
    layer(torch.zeros(1, 3))
    stop(tmp_path, "drill")
    with pytest.raises(DeniedError, match="stopped"):
        layer(torch.zeros(1, 3))


def test_the_stop_of_the_ordinary_home_stops_it_and_so_does_one_set_meanwhile() -> None:
    class Slow(Broken):
        def forward(self, features: Any) -> Any:
            if how == "meanwhile":
                stop(config.home(), "drill")
            return super().forward(features)

    for how in ("before", "meanwhile"):
        layer = GuardedLayer(Slow("none"), surrogate())
        if how == "before":
            stop(config.home(), "drill")
        with pytest.raises(DeniedError, match="stopped"):
            layer(torch.zeros(1, 3))
        (config.home() / "STOP").unlink()
        how = "after"
        assert layer(torch.zeros(1, 3)).shape == (1, 3)


def test_a_row_nobody_can_answer_is_called_so() -> None:
    features = torch.full((2, 3), float("nan"))
    with pytest.raises(DeniedError) as caught:
        GuardedLayer(Broken("none"), surrogate())(features)
    assert caught.value.code == "layer-denied"


def test_shots_are_unbiased_and_seeded() -> None:
    x = torch.randn(1, 3)
    layer = QuantumLayer(3, 1)
    noisy = QuantumLayer(3, 1, shots=20_000, seed=3)
    noisy.load_state_dict(layer.state_dict())
    assert noisy(x).detach().numpy() == pytest.approx(layer(x).detach().numpy(), abs=0.03)


@pytest.mark.parametrize("seed", range(4))
def test_exact_cp_sat_and_a_loop_agree_and_none_is_better(seed: int) -> None:
    pytest.importorskip("ortools")
    pytest.importorskip("scipy")
    g = random_guardrails(8, seed)
    choices = compare(g, seed=seed)
    assert [c.solver for c in choices] == ["exact", "cp-sat", "greedy", "random", "qaoa", "vqe"]
    best = min(
        g.energy(np.array([(k >> i) & 1 for i in range(8)], dtype=np.int8)) for k in range(256)
    )
    assert choices[0].energy == pytest.approx(best)
    assert choices[1].energy == pytest.approx(best)
    assert choices[1].proved
    assert all(c.energy >= best - 1e-9 for c in choices)


def test_an_instance_that_is_none_is_refused() -> None:
    g = random_guardrails(3, 0)
    with pytest.raises(InputError):
        Guardrails(cost=g.cost, false_blocks=g.false_blocks, benefit=g.benefit,
                   overlap=g.overlap + np.eye(3), conflict=g.conflict)  # fmt: skip
    with pytest.raises(InputError):
        random_guardrails(21, 0)
    with pytest.raises(InputError):
        compare(g, quantum=("annealer",))


class Answers(nn.Module):
    """A quantum layer that answers what a function says."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, features: torch.Tensor) -> Any:
        return self.answer(features)


@pytest.mark.parametrize(
    "answer",
    [
        lambda x: x.detach().numpy(), lambda x: None, lambda x: [0.0], lambda x: x * 1j,
        lambda x: x > 0, lambda x: x[:1], lambda x: x.T, lambda x: x[0, 0],
    ],
)  # fmt: skip
def test_an_answer_that_is_none_is_the_surrogates(answer: Any) -> None:
    surrogate = nn.Sequential(nn.Linear(3, 3), nn.Tanh())
    layer = GuardedLayer(Answers(answer), surrogate)
    features = torch.zeros(5, 3)
    assert torch.equal(layer(features), surrogate(features))
    assert layer.label == "surrogate"


def test_an_answer_in_double_comes_back_in_the_surrogates_type_row_by_row() -> None:
    surrogate = nn.Sequential(nn.Linear(3, 3), nn.Tanh())

    def answer(x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x[:4].double().tanh(), torch.full((1, 3), 5.0, dtype=torch.double)])

    layer = GuardedLayer(Answers(answer), surrogate)
    features = torch.randn(5, 3, requires_grad=True)
    out = layer(features)
    assert out.dtype is torch.float32
    assert torch.allclose(out[:4], features[:4].tanh())
    assert torch.equal(out[4], surrogate(features)[4])
    out.sum().backward()
    assert features.grad is not None
    assert features.grad.isfinite().all()


def test_a_device_that_dies_when_it_is_asked_again_leaves_the_batch_to_the_surrogate() -> None:
    surrogate = nn.Sequential(nn.Linear(3, 3), nn.Tanh())
    calls: list[int] = []

    def answer(x: torch.Tensor) -> torch.Tensor:
        calls.append(len(x))
        if len(calls) > 1:
            raise OSError("gone")
        return torch.where(torch.arange(len(x))[:, None] == 1, torch.log(-x.abs()), x.tanh())

    layer = GuardedLayer(Answers(answer), surrogate)
    features = torch.randn(4, 3, requires_grad=True)
    assert torch.equal(layer(features), surrogate(features))
    assert calls == [4, 3]
    assert layer.label == "surrogate"


@pytest.mark.parametrize("shots", [0, 16])
def test_batches_of_every_shape_copies_and_second_derivatives(shots: int) -> None:
    layer = GuardedLayer(QuantumLayer(3, shots=shots), nn.Sequential(nn.Linear(3, 3), nn.Tanh()))
    for shape in ((3,), (0, 3), (1, 3), (2, 2, 2, 3)):
        assert layer(torch.zeros(shape)).shape == torch.Size(shape)
    features = torch.zeros(2, 3, requires_grad=True)  # amplitudes of zero are in there
    (first,) = torch.autograd.grad(layer(features).sum(), features, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), features)
    assert second.isfinite().all()
    twin = copy.deepcopy(layer)
    twin.load_state_dict(layer.state_dict())
    assert twin.label == "quantum"


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("seen", [0, 20])
def test_no_entropy_is_not_taken_for_calm_in_evaluation_either(training: bool, seen: int) -> None:
    loss = EntropySpikeLoss(1.0, tracker=SpikeTracker(warm_up=3)).train()
    for _ in range(seen):
        loss(torch.full((1, 4), 0.25))
    loss.train(training)
    with pytest.raises(ValueError, match="entropy of nan"):
        loss(torch.full((1, 4), float("nan")))


def test_a_checkpoint_goes_on_with_its_schedule_and_baseline(tmp_path: Path) -> None:
    loss = EntropySpikeLoss(linear_schedule(0, 10, 1.0), tracker=SpikeTracker(warm_up=3))
    for _ in range(6):
        loss(torch.full((1, 4), 0.25))
    torch.save(loss.state_dict(), tmp_path / "loss.pt")
    other = EntropySpikeLoss(linear_schedule(0, 10, 1.0), tracker=SpikeTracker(warm_up=3))
    other.load_state_dict(torch.load(tmp_path / "loss.pt", weights_only=True))
    assert (other.step, other.tracker.state) == (6, loss.tracker.state)
    peak = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    assert torch.equal(loss(peak), other(peak))
    assert other.report is not None
    assert other.report.weight == pytest.approx(0.6)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e12])
def test_an_instance_with_a_number_that_is_none_is_refused(value: float) -> None:
    sound = random_guardrails(3, 1)
    with pytest.raises(InputError, match="no instance"):
        Guardrails(
            cost=np.array([value, 1.0, 1.0]), false_blocks=sound.false_blocks,
            benefit=sound.benefit, overlap=sound.overlap, conflict=sound.conflict,
        )  # fmt: skip
