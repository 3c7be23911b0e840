import math

import numpy as np
import pytest

from interlock.guard.stats.uncertainty import combined, conformal_quantile, jeffreys, noise_scale


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


def test_the_conformal_factor_covers_what_it_did_not_see() -> None:
    rng = np.random.default_rng(2)
    covered = []
    for _ in range(300):
        scores = np.abs(rng.standard_cauchy(120))
        factor = conformal_quantile(scores[:100].tolist())
        covered.append(float(np.mean(scores[100:] <= factor)))
    assert 0.88 <= np.mean(covered) <= 0.93


def test_more_noise_and_a_worse_model_widen_the_scale() -> None:
    base = noise_scale(0.4, 1000, 0.95, 0.125)
    assert noise_scale(0.4, 1000, 0.7, 0.125) > base
    assert noise_scale(0.4, 1000, 0.95, 0.125, model_sd=0.2) > base
    assert noise_scale(0.4, 100, 0.95, 0.125) > base
    assert noise_scale(0.0, 1000, 1.0, 0.5) > 0
    assert combined(0.02, 0.1, 2.0)[0] == 0.0
    assert conformal_quantile([]) == math.inf
