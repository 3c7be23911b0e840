import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.guard.stats.eprocess import Evidence, update


@settings(max_examples=60, deadline=None)
@given(st.floats(1e-3, 0.9), st.integers(1, 12), st.floats(0, 1))
def test_one_job_has_expectation_at_most_one_under_the_null(
    p0: float, shots: int, part: float
) -> None:
    p = p0 * part
    total = 0.0
    for failures in range(shots + 1):
        chance = math.comb(shots, failures) * p**failures * (1 - p) ** (shots - failures)
        total += chance * math.exp(
            update(Evidence(), failures=failures, shots=shots, p0=p0).log_value
        )
    assert total <= 1 + 1e-9


@settings(max_examples=30, deadline=None)
@given(st.floats(0.01, 0.9), st.lists(st.integers(0, 5), min_size=1, max_size=8))
def test_the_next_job_never_raises_the_expectation(p0: float, failures: list[int]) -> None:
    state = Evidence()
    for count in failures:
        state = update(state, failures=count, shots=5, p0=p0)
    expected = sum(
        math.comb(5, k)
        * p0**k
        * (1 - p0) ** (5 - k)
        * math.exp(update(state, failures=k, shots=5, p0=p0).log_value - state.log_value)
        for k in range(6)
    )
    assert expected <= 1 + 1e-9


def test_the_false_alarm_level_holds_over_a_long_life_at_the_worst_rate() -> None:
    rng = np.random.default_rng(4)
    alpha, runs = 0.05, 300
    alarms = 0
    for _ in range(runs):
        state = Evidence()
        for failures in rng.binomial(10, 0.1, 300):
            state = update(state, failures=int(failures), shots=10, p0=0.1)
        alarms += state.alarms(alpha)
    assert alarms / runs <= alpha


def test_a_device_that_was_well_for_long_is_still_caught() -> None:
    rng = np.random.default_rng(4)
    state = Evidence()
    for failures in rng.binomial(50, 0.08, 400):
        state = update(state, failures=int(failures), shots=50, p0=0.1)
    assert not state.alarms(1e-3)
    jobs = 0
    while not state.alarms(1e-3) and jobs < 40:
        state = update(state, failures=int(rng.binomial(50, 0.25)), shots=50, p0=0.1)
        jobs += 1
    assert jobs <= 12
    calm = update(state, failures=0, shots=10_000, p0=0.1)
    assert calm.alarms(1e-3), "an alarm stays until someone clears it"


@pytest.mark.parametrize(
    ("failures", "shots", "p0"), [(3, 2, 0.1), (-1, 2, 0.1), (0, 1, 0.0), (0, 1, 1.0)]
)
def test_nonsense_is_refused(failures: int, shots: int, p0: float) -> None:
    with pytest.raises(ValueError, match="failures"):
        update(Evidence(), failures=failures, shots=shots, p0=p0)


def test_extreme_counts_stay_finite() -> None:
    state = Evidence()
    for _ in range(50):
        state = update(state, failures=0, shots=1_000_000, p0=0.5)
    assert math.isfinite(state.log_value)
    state = update(state, failures=1_000_000, shots=1_000_000, p0=1e-4)
    assert math.isfinite(state.log_value)
    assert state.alarms(1e-9)
