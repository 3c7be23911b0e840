"""Each trigger leads to the labelled baseline with the same bits each time."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))

from benchmarks.health_fallback import inject

NAMES = (
    "offline", "stale", "red", "low-fidelity", "sentinel-alarm", "fault", "time-out",
    "worker-death",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_every_injection_is_answered_by_the_labelled_baseline(name: str) -> None:
    runs = 2
    found = inject(name, runs)
    assert found["labelled"] == runs
    assert found["rule_named"] == runs
    assert found["released"] == 0
    assert found["distinct_answers"] == 1
