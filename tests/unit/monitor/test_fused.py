import numpy as np
import pytest

from interlock.errors import InputError
from interlock.monitor.detectors.fused import NEAR, FusedScorer


def reference(rows, scorer):
    """The same statistics, a row at a time, in doubles, from what was learnt."""
    centre, sd, lead = (scorer.weights()[k] for k in ("centre", "sd", "lead"))
    e, peaks = np.zeros(scorer.channels), []
    for start in range(0, len(rows), scorer.block):
        up, down = (np.zeros(scorer.channels) for _ in range(2))
        best = [np.zeros(scorer.channels) for _ in range(3)]
        q_all = []
        for row in rows[start : start + scorer.block].astype(float):
            z = (row - centre) / sd
            e = e + scorer.weight * (z - e)
            up = np.maximum(0, up + z - scorer.slack)
            down = np.maximum(0, down - z - scorer.slack)
            best = [np.maximum(b, v) for b, v in zip(best, (np.abs(e), up, down), strict=True)]
            q_all.append(z @ z - ((lead @ z) ** 2).sum())
        peaks.append((*best, max(q_all), np.mean(q_all)))
    return peaks


def assert_matches(scorer, rows, *, cut, rtol, atol):
    """Score the rows in two calls, whole blocks each, and compare with the reference."""
    parts = [scorer.score(rows[:cut]), scorer.score(rows[cut:])]
    for k, name in enumerate(("ewma", "up", "down", "q_max", "q_mean")):
        got = np.concatenate([getattr(p, name) for p in parts])
        wanted = np.array([block[k] for block in reference(rows, scorer)])
        np.testing.assert_allclose(got, wanted, rtol, atol, err_msg=name)


@pytest.mark.parametrize("channels", [1, 3, 16, 20, 32, 40])
@pytest.mark.parametrize("block", [32, 20])
def test_matches_a_plain_reference(channels, block):
    rng = np.random.default_rng(channels)
    scorer = FusedScorer(channels, block=block).fit(rng.normal(3, 2, (500, channels)))
    rows = rng.normal(3.2, 2, (4 * block, channels)).astype(np.float32)
    assert_matches(scorer, rows, cut=2 * block, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("far", [3e3, 1e5, -1e6])
def test_a_centre_far_out_costs_no_more_than_the_rounding_of_the_samples(far):
    rng = np.random.default_rng(1)
    noise = rng.standard_normal((4096, 16))
    scorer = FusedScorer(16, block=256).fit(noise + far)
    rows = (noise + far).astype(np.float32)
    # At most half a step of float32 a row, which a CUSUM adds up while it is above 0.
    step = float(np.spacing(np.float32(abs(far))))
    rest = 2e-5 if abs(far) > NEAR else 30 * step / 2
    assert_matches(scorer, rows, cut=1024, rtol=1e-5, atol=rest)


def test_a_channel_that_never_moved_scores_nothing_at_its_centre():
    rng = np.random.default_rng(2)
    rows = rng.standard_normal((512, 3)).astype(np.float32)
    rows[:, 1] = 4.2
    summary = FusedScorer(3, block=64).fit(rows).score(rows)
    assert summary.ewma[:, 1].max() == summary.up[:, 1].max() == summary.down[:, 1].max() == 0
    assert summary.q_max.max() < 50


def test_one_odd_row_shows_wherever_it_is():
    scorer = FusedScorer(20, block=16).fit(np.random.default_rng(3).standard_normal((500, 20)))
    for row in range(16):
        for channel in (0, 7, 15, 16, 19):
            rows = np.zeros((16, 20), np.float32)
            rows[row, channel] = 5.0
            scorer.rest()
            assert_matches(scorer, rows, cut=0, rtol=1e-5, atol=1e-4)


def test_missing_and_overflowing_samples_do_not_poison_the_state():
    rng = np.random.default_rng(0)
    scorer = FusedScorer(5, block=16).fit(rng.standard_normal((200, 5)))
    rows = rng.standard_normal((64, 5)).astype(np.float32)
    rows[3, 1] = np.nan
    rows[20, 2] = np.float32(9e37)  # it overflows; from 9.8e37 on it is no value
    rows[40, 3:] = np.float32(9.9e37), -np.inf
    summary = scorer.score(rows)
    assert summary.missing.sum(axis=1).tolist() == [1, 0, 2, 0]
    assert not summary.silent.any()
    assert np.isfinite(summary.ewma).all()
    assert np.isfinite(summary.q_max).all()
    assert summary.q_max[1] > 1e6
    assert summary.ewma[[0, 2]].max(axis=0)[[0, 1, 3, 4]].max() < 3


def test_one_wild_sample_blinds_no_later_block():
    rng = np.random.default_rng(4)
    scorer = FusedScorer(3, block=64).fit(rng.standard_normal((500, 3)))
    rows = rng.standard_normal((6400, 3)).astype(np.float32)
    for wild in (1e6, 1e15, 9e37):
        rows[3, 0] = wild
        late = scorer.score(rows).up[-5:, 0].max()
        assert 0 < late < 20
        shifted = rows.copy()
        shifted[-64:, 0] += 1
        assert scorer.score(shifted).up[-1, 0] > late


def test_a_dead_channel_is_silent_and_the_others_are_watched():
    rng = np.random.default_rng(5)
    rows = rng.standard_normal((512, 4)).astype(np.float32)
    rows[:, 2] = np.nan
    rows[100:, 3] = np.inf
    scorer = FusedScorer(4, block=64).fit(rows)
    rows[448:, 0] += 2
    summary = scorer.score(rows)
    assert summary.silent[:, 2].all()
    assert summary.silent[:, 3].tolist() == [False] * 2 + [True] * 6
    features = summary.features()
    assert np.isnan(features[:, [2, 6]]).all()
    assert np.isfinite(features[:, [0, 1, 4, 5, 8]]).all()
    assert summary.up[-1, 0] > 5 * summary.up[:-1, 0].max()


@pytest.mark.parametrize("scale", [1e36, 1e39, 1e300])
def test_numbers_beyond_float32_are_no_values(scale):
    rng = np.random.default_rng(6)
    data = scale * (1 + 0.1 * rng.standard_normal((256, 3)))
    scorer = FusedScorer(3, block=64).fit(data)
    with np.errstate(over="ignore"):
        rows = data.astype(np.float32)
    rows[7, 1], rows[9, 0] = np.inf, np.nan
    for summary in (scorer.score(rows), scorer.score(np.zeros_like(rows))):
        assert np.isfinite(summary.ewma).all()
        assert np.isfinite(summary.q_mean).all()


def test_finds_broken_correlation_that_no_single_channel_shows():
    rng = np.random.default_rng(2)
    mix = rng.standard_normal((2, 12))
    healthy = rng.standard_normal((4000, 2)) @ mix + 0.1 * rng.standard_normal((4000, 12))
    scorer = FusedScorer(12, block=100).fit(healthy)
    rows = (rng.standard_normal((200, 2)) @ mix + 0.1 * rng.standard_normal((200, 12))).astype("f4")
    rows[100:, 4] = rng.permutation(rows[100:, 4])
    q = scorer.score(rows).q_mean
    assert q[1] > 3 * q[0]


@pytest.mark.parametrize(
    "bad",
    [
        {"channels": 0},
        {"channels": 4, "block": 6},
        {"channels": 4, "weight": 0.0},
        {"channels": 4, "weight": float("nan")},
        {"channels": 4, "slack": -1.0},
        {"channels": 4, "slack": float("nan")},
        {"channels": 4, "clip": 0.0},
    ],
)
def test_layouts_that_cannot_be_are_refused(bad):
    with pytest.raises(InputError) as caught:
        FusedScorer(**bad)
    assert caught.value.code == "monitor-block"


def test_rows_that_do_not_fit_are_refused():
    scorer = FusedScorer(4, block=8)
    with pytest.raises(InputError):
        scorer.score(np.zeros((9, 4), np.float32))
    with pytest.raises(InputError):
        scorer.fit(np.zeros((100, 3)))
