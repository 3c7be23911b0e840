"""The smaller form of `python -m benchmarks.governor_steps`, several seeds."""

import pytest
from benchmarks.governor_steps import run


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_no_limit_is_breached_and_nothing_lost_or_counted_twice(seed: int) -> None:
    tally = run(15_000, seed)
    assert tally["breach"] == 0
    assert tally["lost or double"] == 0
    for happened in ("allowed", "replays", "kills", "clock jumps", "stops", "marks"):
        assert tally[happened] > 0, happened
