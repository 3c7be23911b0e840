"""Random outputs, most of them hostile: what is released obeys every rule, by a second check.

The second check is written apart from the filter, from the meaning of the rules. The sweep of
100,000 is `benchmarks/filter_release.py`.
"""

from benchmarks.filter_release import sweep


def test_no_violating_output_is_released() -> None:
    tally = sweep(outputs=6_000, seed=20260101)
    assert tally.violating_releases == 0
    assert tally.released > 500
    assert tally.blocked > 500
    assert tally.fixed > 200
