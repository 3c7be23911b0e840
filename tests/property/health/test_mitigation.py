import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.guard.stats.mitigation import choose, extrapolate, readout_weights, shot_mean

PROBABILITY = st.floats(0, 0.45)


@given(PROBABILITY, PROBABILITY)
def test_readout_weights_undo_the_assignment_errors(p01: float, p10: float) -> None:
    zero, one = readout_weights(p01, p10)
    assert (1 - p01) * zero + p01 * one == pytest.approx(1.0)
    assert p10 * zero + (1 - p10) * one == pytest.approx(-1.0)


def test_a_readout_that_tells_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="tells nothing"):
        readout_weights(0.5, 0.5)


@given(st.floats(0.1, 1.0), st.floats(0.5, 0.99), st.booleans())
def test_exponential_decay_is_extrapolated_exactly(top: float, base: float, negative: bool) -> None:
    sign = -1 if negative else 1
    values = [sign * top * base**scale for scale in (1, 3, 5)]
    got, variance = extrapolate((1, 3, 5), values, (1e-12,) * 3)
    assert got == pytest.approx(sign * top, rel=1e-6)
    assert variance > 0


@settings(deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=2, max_size=3), st.floats(1e-6, 1e-1))
def test_any_values_extrapolate_to_a_finite_value(values: list[float], variance: float) -> None:
    scales = (1, 3, 5)[: len(values)]
    got, spread = extrapolate(scales, values, [variance] * len(values))
    assert np.isfinite(got)
    assert 0 < spread < 1e3


def test_the_stated_variance_of_an_extrapolation_is_the_one_it_has() -> None:
    rng = np.random.default_rng(1)
    truth = np.array([0.8 * 0.9**s for s in (1, 3, 5)])
    noisy = truth + rng.normal(0, 0.02, (4000, 3))
    made = [extrapolate((1, 3, 5), row, (4e-4,) * 3) for row in noisy]
    stated = np.mean([v for _, v in made])
    assert np.var([v for v, _ in made]) == pytest.approx(stated, rel=0.15)


def test_a_mean_of_equal_shots_is_not_certain() -> None:
    mean, variance = shot_mean(np.array([1.0]), np.array([100]), 1.0)
    assert mean == 1.0
    assert variance > 0


def test_methods_that_do_not_help_are_not_chosen() -> None:
    """Under the null all methods err alike; `none` is chosen in nearly all runs."""
    rng = np.random.default_rng(2)
    chosen = []
    for _ in range(400):
        truths = rng.uniform(-1, 1, 8)
        rows = {
            m: [(t + rng.normal(0, 0.05), 2.5e-3) for t in truths]
            for m in ("none", "zne", "readout")
        }
        chosen.append(choose(truths, rows, {"none": 1, "zne": 3, "readout": 1}).method)
    assert chosen.count("none") / 400 >= 0.9


def test_a_method_that_clearly_helps_is_chosen_and_its_record_kept() -> None:
    rng = np.random.default_rng(3)
    truths = rng.uniform(0.4, 1, 8)
    rows = {
        "none": [(0.7 * t + rng.normal(0, 0.01), 1e-4) for t in truths],
        "zne": [(t + rng.normal(0, 0.03), 9e-4) for t in truths],
    }
    made = choose(truths, rows, {"none": 1, "zne": 3})
    assert made.method == "zne"
    assert made.scores["none"].bias < -0.1
    assert abs(made.scores["zne"].bias) < 0.05
    assert made.scores["zne"].variance == pytest.approx(9e-4)
    assert made.scores["zne"].overhead == 3
    assert made.scores["zne"].gain_low > 0


def test_too_few_proxies_are_refused() -> None:
    with pytest.raises(ValueError, match="2 proxies"):
        choose([0.1, 0.2], {"none": [(0.1, 1e-4)] * 2}, {"none": 1})
