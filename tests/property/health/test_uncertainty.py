import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.guard.stats.uncertainty import (
    ESTIMATES,
    FIGURES,
    WIDTHS,
    Bounds,
    Figure,
    conformal_bounds,
    interval_from,
    jeffreys,
    kind_of,
    scale_in,
    score,
    shot_sd,
    stratum,
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
        low, high, _ = conformal_bounds(scores[:120].tolist())
        covered.append(float(np.mean((scores[120:] >= low) & (scores[120:] <= high))))
    assert 0.88 <= np.mean(covered) <= 0.93
    assert conformal_bounds([1.0] * 18) == (-math.inf, math.inf, 1.0)


def figure(value: float, sampling: float = 0.01, success: float = 1.0, **more: Any) -> Figure:
    given: dict[str, Any] = {"resting": 0.5, "width": 1} | more
    return Figure(value, sampling, success, **given)


def test_more_noise_and_a_worse_model_widen_the_interval() -> None:
    middle = kind_of(0.4)
    base = scale_in(0.4, shot_sd(0.4, 1000), 0.95, 0.125, middle)
    assert scale_in(0.4, shot_sd(0.4, 1000), 0.7, 0.125, middle) > base
    assert scale_in(0.4, shot_sd(0.4, 100), 0.95, 0.125, middle) > base
    assert scale_in(0.0, shot_sd(0.0, 1000), 1.0, 0.5, FIGURES[0]) > 0
    bounds = {stratum(k, 1): Bounds(-1.0, 2.0, 0.0) for k in FIGURES}
    low, high = interval_from(figure(0.4), bounds)
    assert (low, high) == pytest.approx((0.39, 0.42))
    wide = interval_from(figure(0.4, model=0.1), bounds)
    assert wide[0] == pytest.approx(0.4 - math.hypot(0.01, 1.645 * 0.1), abs=1e-3)
    assert wide[1] == pytest.approx(0.4 + math.hypot(0.02, 1.645 * 0.1), abs=1e-3)
    open_ends = dict.fromkeys(bounds, Bounds(-math.inf, math.inf))
    assert interval_from(figure(0.4), open_ends) == (0.0, 1.0)
    # No truth fits: nothing is known.
    assert interval_from(figure(0.4), dict.fromkeys(bounds, Bounds(90.0, 91.0))) == (0.0, 1.0)


def test_a_device_that_moved_a_figure_far_is_not_taken_for_a_good_one() -> None:
    """A 1 read as 0 in half the shots stands at 0.55: from there it has moved by nearly a half."""
    one = ESTIMATES[-1]
    assert scale_in(0.55, 0.01, 0.55, 0.5, one) > 1.3 * scale_in(
        0.55, 0.01, 0.55, 0.5, ESTIMATES[1]
    )


def test_each_width_has_scores_of_its_own() -> None:
    bounds = {stratum(k, w): Bounds(-w, w) for k in FIGURES for w in range(1, WIDTHS + 1)}
    widths = [interval_from(figure(0.5, width=w), bounds) for w in (1, 2, 3, 9)]
    assert [round(high - low, 3) for low, high in widths] == [0.02, 0.04, 0.06, 0.06]


@given(
    st.floats(0, 1), st.floats(1e-4, 0.5), st.floats(0, 1), st.sampled_from([FIGURES, ESTIMATES]),
    st.floats(0, 1),
)  # fmt: skip
def test_a_truth_whose_score_lies_in_the_bounds_of_its_kind_lies_in_the_interval(
    value: float, sampling: float, truth: float, kinds: Any, success: float
) -> None:
    kind = kind_of(truth, kinds)
    assert kind.low <= truth <= kind.high
    own = score(value, truth, scale_in(value, sampling, success, 0.5, kind))
    bounds = {stratum(k, 1): Bounds(1e9, 1e9) for k in kinds}
    bounds[stratum(kind, 1)] = Bounds(own - 0.1, own + 0.1)
    low, high = interval_from(figure(value, sampling, success), bounds, kinds)
    assert 0 <= low <= truth + 1e-9
    assert truth - 1e-9 <= high <= 1


def test_at_the_ends_all_misses_are_to_one_side() -> None:
    rng = np.random.default_rng(5)
    for truth, kind in ((0.0, FIGURES[0]), (1.0, FIGURES[-1]), (0.5, FIGURES[2])):
        noisy = np.abs(truth - np.abs(rng.normal(0, 0.05, 4000)))
        scores = [score(float(v), truth, 0.05) for v in noisy]
        low, high, _ = conformal_bounds(scores[:2000], 0.9, kind.below)
        inside = np.mean([low <= s <= high for s in scores[2000:]])
        assert 0.88 <= inside <= 0.92
        assert (low == -math.inf, high == math.inf) == (kind.below == 0.0, kind.below == 1.0)
