"""Each trigger leads to the labelled baseline with the same bits each time."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from qiskit import QuantumCircuit, transpile
from qiskit.circuit import Parameter
from qiskit.primitives import StatevectorSampler
from qiskit.quantum_info import SparsePauliOp

sys.path.insert(0, str(Path(__file__).parents[3]))

from benchmarks.health_fallback import ANSWER, Broken, Offline, bell, inject, offline, policy

import interlock
from interlock.backends import TwinSampler, twin
from interlock.cli.show import job_line as shown
from interlock.errors import DeniedError
from interlock.guard.control import check_control
from interlock.guard.events import job_line
from interlock.guard.launch import Tally
from interlock.guard.release.fallbacks import FallbacksControl
from interlock.guard.report import write_report
from interlock.training import GuardedLayer, guarded_circuit
from interlock.types import Decision
from tests.unit.guard.doubles import a_job

NAMES = (
    "offline", "stale", "red", "low-fidelity", "sentinel-alarm", "fault", "time-out",
    "worker-death", "unknown-equivalence", "filter", "estimator", "torch",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_every_injection_is_answered_by_the_labelled_baseline(name: str) -> None:
    runs = 2
    found = inject(name, runs)
    assert found["labelled"] == runs
    assert found["rule_named"] == runs
    assert found["released"] == 0
    assert found["distinct_answers"] == 1


def test_the_share_of_fallbacks_is_counted_and_alarmed(tmp_path: Path) -> None:
    settings = {"fallbacks": {"max_share": 0.2, "min_jobs": 5}}
    device = twin("manila")
    isa = bell(device)
    lines = []
    for sampler, jobs in ((TwinSampler(device, seed=1), 4), (Broken(device, offline), 2)):
        guarded = interlock.guard(
            sampler, policy=policy(release=settings), home=tmp_path, fallback=lambda _: [ANSWER]
        )
        guarded.interlock.guard.observers.append(lambda event: lines.append(job_line(event)))
        for _ in range(jobs):
            guarded.run([isa], shots=100).result()
    assert [line["outcome"] for line in lines] == ["RELEASE"] * 4 + ["FALLBACK"] * 2
    assert [bool(line["alarms"]) for line in lines] == [False] * 5 + [True]
    assert "2 of 6 jobs" in lines[-1]["alarms"][0]
    assert "ALARM" in shown(lines[-1])
    tally = Tally()
    for line in lines:
        tally.add(line)
    assert len(tally.as_dict()["alarms"]) == 1


@pytest.mark.parametrize("on_fail", [None, "fallback", "block"])
def test_a_line_has_no_figure_of_what_was_kept_back(tmp_path: Path, on_fail: str | None) -> None:
    device = twin("manila")
    rule = {"id": "none", "field": "top", "allowed": ["01"], "on_fail": on_fail}
    rules = policy(filter={"constraints": {"rules": [rule]}} if on_fail else {})
    guarded = interlock.guard(
        TwinSampler(device, seed=1), policy=rules, home=tmp_path, fallback=lambda _: [{"01": 100}]
    )
    events: list[Any] = []
    guarded.interlock.guard.observers.append(events.append)
    job = guarded.run([bell(device)], shots=100)
    if on_fail == "block":
        with pytest.raises(DeniedError):
            job.result()
    else:
        job.result()
    line = job_line(events[0])
    outcomes = {None: "RELEASE", "fallback": "FALLBACK", "block": "DENY"}
    assert line["outcome"] == outcomes[on_fail]
    assert (line["interval"] is None) == (on_fail is not None)
    assert ("p(" in shown(line)) == (on_fail is None)
    report = tmp_path / "report.html"
    write_report(report, tmp_path, [line["receipt"]], Tally().as_dict(), "x")
    caption = "not handed over" if on_fail else "<caption>Result, with"
    assert caption in report.read_text()


def test_the_alarm_may_deny_and_waits_for_enough_jobs() -> None:
    control = FallbacksControl()
    evidence = {"fell_back": True, "jobs": 30, "fallbacks": 10}
    for settings, decision in (
        (control.Settings(), Decision.ALLOW), (control.Settings(on_alarm="deny"), Decision.DENY),
        (control.Settings(on_alarm="deny", min_jobs=31), Decision.ALLOW),
        (control.Settings(on_alarm="deny", max_share=0.5), Decision.ALLOW),
    ):  # fmt: skip
        check_control(control, a_job(), settings, evidence)
        assert control.decide(a_job(), settings, evidence).decision is decision
    released = evidence | {"fell_back": False}
    assert not control.decide(a_job(), control.Settings(), released).findings


class Random(torch.nn.Module):
    """A surrogate that draws."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return torch.tanh(torch.randn_like(features))


def parametrised(device: Any) -> tuple[Any, Any, Any]:
    angle = Parameter("t")
    made = QuantumCircuit(1)
    made.ry(angle, 0)
    isa = transpile(made, device, seed_transpiler=1, optimization_level=1)
    return isa, angle, SparsePauliOp("Z").apply_layout(isa.layout)


@pytest.mark.parametrize("seed", [None, 7])
def test_an_sdks_own_sampler_answers_the_same_in_every_home(
    tmp_path: Path, seed: int | None
) -> None:
    device = twin("manila")
    counts = []
    for home in ("a", "b"):
        guarded = interlock.guard(
            Broken(device, offline), policy=policy(), home=tmp_path / home,
            fallback=StatevectorSampler(seed=seed),
        )  # fmt: skip
        result = guarded.run([bell(device)], shots=1000).result()
        assert result.metadata["interlock"]["outcome"] == "FALLBACK"
        counts.append(result[0].data.meas.get_counts())
    assert counts[0] == counts[1]


def test_a_samplers_baseline_must_repeat_itself(tmp_path: Path) -> None:
    device = twin("manila")
    rng = np.random.default_rng(1)

    def draws(pubs: list[Any]) -> list[Any]:
        ones = int(rng.binomial(1000, 0.5))
        return [{"00": 1000 - ones, "11": ones} for _ in pubs]

    guarded = interlock.guard(
        Broken(device, offline), policy=policy(), home=tmp_path, fallback=draws
    )
    with pytest.raises(DeniedError, match="not deterministic"):
        guarded.run([bell(device)], shots=1000).result()


def test_an_estimators_baseline_must_repeat_itself(tmp_path: Path) -> None:
    device = twin("manila")
    isa, _, observable = parametrised(device)
    rng = np.random.default_rng(1)
    guarded = interlock.guard(
        Offline(device), policy=policy(), home=tmp_path,
        fallback=lambda pubs: [rng.uniform(-1, 1, p.shape) for p in pubs],
    )  # fmt: skip
    with pytest.raises(DeniedError, match="not deterministic"):
        guarded.run([(isa, observable, [0.7])], precision=0.05).result()


def test_a_torch_layers_surrogate_must_repeat_itself(tmp_path: Path) -> None:
    device = twin("manila")
    isa, angle, observable = parametrised(device)
    layer = guarded_circuit(
        Offline(device), isa, [observable], inputs=[angle], surrogate=Random(),
        policy=policy(), home=tmp_path,
    )  # fmt: skip
    with pytest.raises(DeniedError, match="not deterministic"):
        layer(torch.tensor([[0.7]]))
    bare = GuardedLayer(torch.nn.Identity(), Random())
    assert torch.equal(bare(torch.tensor([[0.5]])), torch.tensor([[0.5]]))
    with pytest.raises(DeniedError, match="not deterministic"):
        bare(torch.tensor([[5.0]]))
