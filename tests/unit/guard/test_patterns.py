"""The most specific pattern counts, in whatever order the mapping is."""

from itertools import permutations

import pytest

from interlock.guard.patterns import best_match

PATTERNS = {"*": 0, "ibm_*": 1, "ibm_t*": 2, "ibm_torino": 3, "ibm_[kt]*": 4}


@pytest.mark.parametrize(
    ("name", "found"),
    [("ibm_torino", 3), ("ibm_toronto", 4), ("ibm_kyiv", 4), ("ibm_x", 1), ("aer", 0)],
)
def test_the_order_of_a_mapping_does_not_count(name: str, found: int) -> None:
    for order in permutations(PATTERNS.items()):
        assert best_match(name, dict(order)) == found


def test_nothing_fits_and_a_name_with_brackets_is_itself() -> None:
    assert best_match("x", {"y*": 1}) is None
    assert best_match("a[1]", {"a[1]": 1, "*": 2}) == 1
