"""Each trigger leads to the labelled baseline with the same bits each time."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))

from benchmarks.health_fallback import ANSWER, Broken, bell, inject, offline, policy

import interlock
from interlock.backends import TwinSampler, twin
from interlock.cli.show import job_line as shown
from interlock.guard.control import check_control
from interlock.guard.events import job_line
from interlock.guard.launch import Tally
from interlock.guard.release.fallbacks import FallbacksControl
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
