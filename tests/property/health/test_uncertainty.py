import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.guard.stats.uncertainty import (
    KINDS,
    conformal_bounds,
    interval_from,
    jeffreys,
    kind_of,
    scale_of,
    score,
    shot_sd,
)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.0, 0.02), (0.98, 1.0)])
def test_nominal_90_percent_covers_88_to_92_also_near_the_edges(low: float, high: float) -> None:
    rng = np.random.default_rng(7)
    hits = 0
    for p in rng.uniform(low, high, 3000):
        a, b = jeffreys(int(rng.binomial(500, p)), 500)
        hits += a <= p <= b
    assert 0.88 <= hits / 3000 <= 0.92


def test_jeffreys_agrees_with_scipy() -> None:
    beta = pytest.importorskip("scipy.stats").beta
    for count, shots in ((1, 10), (50, 100), (3, 4000), (3999, 4000), (500_000, 1_000_000)):
        low, high = jeffreys(count, shots, 0.95)
        assert low == pytest.approx(beta.ppf(0.025, count + 0.5, shots - count + 0.5), rel=1e-6)
        assert high == pytest.approx(beta.ppf(0.975, count + 0.5, shots - count + 0.5), rel=1e-6)


def test_the_conformal_bounds_cover_what_they_did_not_see() -> None:
    rng = np.random.default_rng(2)
    covered = []
    for _ in range(300):
        scores = rng.standard_cauchy(140) + 0.3
        low, high = conformal_bounds(scores[:120].tolist())
        covered.append(float(np.mean((scores[120:] >= low) & (scores[120:] <= high))))
    assert 0.88 <= np.mean(covered) <= 0.93
    assert conformal_bounds([1.0] * 18) == (-math.inf, math.inf)


def test_more_noise_and_a_worse_model_widen_the_scale() -> None:
    base = scale_of(0.4, shot_sd(0.4, 1000), 0.95, 0.125).physical
    assert scale_of(0.4, shot_sd(0.4, 1000), 0.7, 0.125).physical > base
    assert scale_of(0.4, shot_sd(0.4, 100), 0.95, 0.125).physical > base
    assert scale_of(0.0, shot_sd(0.0, 1000), 1.0, 0.5).physical > 0
    low, high = interval_from(0.4, 0.01, (-1.0, 2.0), 0.1)
    wide = interval_from(0.4, 0.01, (-1.0, 2.0), 0.1, model=0.1)
    assert wide[0] < low < high < wide[1]
    assert interval_from(0.4, 0.01, (-math.inf, math.inf), 0.1) == (0.0, 1.0)


@given(st.floats(0, 1), st.floats(1e-4, 0.5), st.floats(0, 1), st.floats(0, 1))
def test_a_truth_lies_in_the_interval_exactly_when_its_score_lies_in_the_bounds(
    value: float, scale: float, resting: float, truth: float
) -> None:
    own = score(value, truth, scale, resting)
    for bounds in ((own - 0.1, own + 0.1), (own + 0.1, own + 0.2)):
        low, high = interval_from(value, scale, bounds, resting)
        assert 0 <= low <= high <= 1
        if bounds[0] < own:
            assert low - 1e-9 <= truth <= high + 1e-9
    assert kind_of(value, 0.9, resting) in KINDS
