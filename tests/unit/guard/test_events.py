"""What a program tells while it runs is believed only as far as it can be read."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.guard.events import read_event
from interlock.guard.launch import Tally

JOB: dict[str, Any] = {
    "event": "job", "outcome": "RELEASE", "mode": "ADVISORY", "rule": None, "reason": None,
    "job": "j", "within": None, "receipt": "3-xq3z4hen3b", "backend": "b", "circuits": 1,
    "shots": 10, "cost_usd": 0.0, "executed": True, "predicted_fidelity": 0.9,
    "calibration_age_h": 0.0, "device_kind": "twin", "interval": None, "alarms": [],
    "seconds": 0.1, "execution_seconds": 0.05,
}  # fmt: skip


def test_a_job_is_read_as_it_was_told_and_counted_once() -> None:
    line = read_event(json.dumps(JOB))
    assert line == JOB
    tally = Tally()
    for _ in range(2):
        tally.add(line)
    assert (tally.jobs, tally.shots) == (1, 10)


@pytest.mark.parametrize("key", [k for k in JOB if k not in ("circuits", "event")])
def test_a_value_of_another_kind_is_not_read(key: str) -> None:
    assert read_event(json.dumps({**JOB, key: {"x": 1}})) is None


@pytest.mark.parametrize(
    "changed",
    [{"shots": -1}, {"cost_usd": -1000}, {"outcome": "1 RELEASE\nUNGUARDED"}, {"receipt": "x"}],
)
def test_a_figure_that_cannot_be_is_not_read(changed: dict[str, Any]) -> None:
    assert read_event(json.dumps({**JOB, **changed})) is None


def test_half_a_line_is_counted_as_unreadable() -> None:
    assert read_event(json.dumps(JOB)[:40]) is None
    tally = Tally()
    tally.add({"event": "unreadable"})
    assert tally.as_dict()["unreadable"] == 1
    assert not tally.loaded


@given(st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_anything_else_is_refused_quietly(text: str) -> None:
    assert read_event(text) is None
    assert read_event("[" * 100_000) is None


def test_what_a_job_within_another_took_is_counted_once() -> None:
    inner = {**JOB, "job": "in", "within": "j", "outcome": "DENY", "seconds": 0.05}
    tally = Tally()
    tally.add(inner)
    tally.add({**JOB, "receipt": "4-xq3z4hen3b", "outcome": "FALLBACK"})
    assert (tally.jobs, tally.within, tally.outcomes) == (2, 1, {"DENY": 1, "FALLBACK": 1})
    assert (tally.shots, tally.seconds, tally.execution_seconds) == (10, 0.1, 0.05)
