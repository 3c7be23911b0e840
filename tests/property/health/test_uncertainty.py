import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.guard.stats.uncertainty import (
    ESTIMATES,
    FIGURES,
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
    bounds = dict.fromkeys((k.name for k in FIGURES), (-1.0, 2.0))
    low, high = interval_from(0.4, 0.01, bounds)
    assert (low, high) == pytest.approx((0.39, 0.42))
    wide = interval_from(0.4, 0.01, bounds, model=0.1)
    assert wide[0] < low < high < wide[1]
    open_ends = dict.fromkeys(bounds, (-math.inf, math.inf))
    assert interval_from(0.4, 0.01, open_ends) == (0.0, 1.0)
    # No truth fits: nothing is known.
    assert interval_from(0.4, 0.01, dict.fromkeys(bounds, (90.0, 91.0))) == (0.0, 1.0)


@given(
    st.floats(0, 1), st.floats(1e-4, 0.5), st.floats(0, 1), st.sampled_from([FIGURES, ESTIMATES])
)
def test_a_truth_whose_score_lies_in_the_bounds_of_its_kind_lies_in_the_interval(
    value: float, scale: float, truth: float, kinds: Any
) -> None:
    own = score(value, truth, scale)
    kind = kind_of(truth, kinds)
    assert kind.low <= truth <= kind.high
    bounds = dict.fromkeys((k.name for k in kinds), (1e9, 1e9))
    bounds[kind.name] = (own - 0.1, own + 0.1)
    low, high = interval_from(value, scale, bounds, kinds)
    assert 0 <= low <= truth + 1e-9
    assert truth - 1e-9 <= high <= 1


def test_at_the_ends_all_misses_are_to_one_side() -> None:
    rng = np.random.default_rng(5)
    for truth, kind in ((0.0, FIGURES[0]), (1.0, FIGURES[-1]), (0.5, FIGURES[2])):
        noisy = np.abs(truth - np.abs(rng.normal(0, 0.05, 4000)))
        scores = [score(float(v), truth, 0.05) for v in noisy]
        low, high = conformal_bounds(scores[:2000], 0.9, kind.below)
        inside = np.mean([low <= s <= high for s in scores[2000:]])
        assert 0.88 <= inside <= 0.92
        assert (low == -math.inf, high == math.inf) == (kind.below == 0.0, kind.below == 1.0)
