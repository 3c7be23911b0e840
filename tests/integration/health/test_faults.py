"""Faults of the whole device: the large ones are caught in one job, and no fault is no alarm."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))

from benchmarks.health_faults import FAULTS, trial

from interlock.guard.validate.repeats import RepeatsControl, chance_of_repeat
from interlock.types import Decision
from tests.unit.guard.doubles import a_job


@pytest.mark.parametrize(
    "name", ["readout flip 100 %", "swapped results", "tampering 50 %", "shot spoofing 50 %"]
)
def test_a_large_fault_is_caught_in_the_first_job(name: str) -> None:
    assert trial(FAULTS[name], 1)[0]


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("wrong bit order", "validate.sentinels.alarm"),
        ("dead qubit", "validate.sentinels.alarm"),
        ("stuck result", "validate.repeats.stuck"),
        ("leakage 30 %", "validate.sentinels.alarm"),
    ],
)
def test_other_faults_are_caught_within_five_jobs(name: str, rule: str) -> None:
    _, caught, by = trial(FAULTS[name], 1)
    assert caught
    assert by == rule


def test_no_fault_raises_no_alarm() -> None:
    assert not any(trial(None, seed)[1] for seed in range(3))


def test_equal_counts_are_only_suspicious_when_they_are_unlikely() -> None:
    assert chance_of_repeat({"0": 1000}) == 0.0
    assert chance_of_repeat({"0": 999, "1": 1}) > -1.1
    wide = {format(i, "05b"): 31 for i in range(32)}
    assert chance_of_repeat(wide) < -60
    control = RepeatsControl()
    for value, decision in ((-13.0, Decision.ALLOW), (-14.0, Decision.FALLBACK)):
        evidence = {"log_chance": value, "circuit": 0, "skipped": None}
        assert control.decide(a_job(), control.Settings(), evidence).decision is decision
