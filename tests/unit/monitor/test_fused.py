import numpy as np
import pytest

from interlock.errors import InputError
from interlock.monitor.detectors.fused import FusedScorer


def reference(rows, scorer):
    """The same statistics, a row at a time, in doubles."""
    con = scorer._con[:, : scorer.channels].astype(float)
    e, up, down = (np.zeros(scorer.channels) for _ in range(3))
    peaks = []
    for start in range(0, len(rows), scorer.block):
        best = [np.zeros(scorer.channels) for _ in range(3)]
        q_all = []
        for row in rows[start : start + scorer.block].astype(float):
            w = row - con[0]
            e = e + con[2] * (w - e)
            up = np.maximum(0, up + w - con[3])
            down = np.maximum(0, down - w - con[3])
            best = [np.maximum(b, v) for b, v in zip(best, (np.abs(e), up, down), strict=True)]
            z = w * con[1]
            q_all.append(z @ z - ((con[4:] @ z) ** 2).sum())
        peaks.append((*(b * con[1] for b in best), max(q_all), np.mean(q_all)))
    return peaks


@pytest.mark.parametrize("channels", [1, 3, 16, 20, 32, 40])
def test_matches_a_plain_reference(channels):
    rng = np.random.default_rng(channels)
    scorer = FusedScorer(channels, block=32).fit(rng.normal(3, 2, (500, channels)))
    rows = rng.normal(3.2, 2, (128, channels)).astype(np.float32)
    got = scorer.score(rows[:64]), scorer.score(rows[64:])
    for k, (e, up, down, q_max, q_mean) in enumerate(reference(rows, scorer)):
        part, i = got[k // 2], k % 2
        np.testing.assert_allclose(part.ewma[i], e, rtol=2e-4, atol=1e-5)
        np.testing.assert_allclose(part.up[i], up, rtol=2e-4, atol=1e-4)
        np.testing.assert_allclose(part.down[i], down, rtol=2e-4, atol=1e-4)
        assert part.q_max[i] == pytest.approx(q_max, rel=1e-3, abs=1e-3)
        assert part.q_mean[i] == pytest.approx(q_mean, rel=1e-3, abs=1e-3)


def test_missing_and_overflowing_samples_do_not_poison_the_state():
    rng = np.random.default_rng(0)
    scorer = FusedScorer(5, block=16).fit(rng.standard_normal((200, 5)))
    rows = rng.standard_normal((64, 5)).astype(np.float32)
    rows[3, 1] = np.nan
    rows[20, 2] = np.float32(3e38)
    summary = scorer.score(rows)
    assert summary.missing.tolist() == [1, 0, 0, 0]
    assert np.isfinite(summary.ewma).all()
    assert np.isfinite(summary.q_max).all()
    assert summary.q_max[1] > 1e6
    assert summary.ewma[0].max() < 3


def test_finds_broken_correlation_that_no_single_channel_shows():
    rng = np.random.default_rng(2)
    mix = rng.standard_normal((2, 12))
    healthy = rng.standard_normal((4000, 2)) @ mix + 0.1 * rng.standard_normal((4000, 12))
    scorer = FusedScorer(12, block=100).fit(healthy)
    rows = (rng.standard_normal((200, 2)) @ mix + 0.1 * rng.standard_normal((200, 12))).astype("f4")
    rows[100:, 4] = rng.permutation(rows[100:, 4])
    q = scorer.score(rows).q_mean
    assert q[1] > 3 * q[0]


@pytest.mark.parametrize("bad", [{"channels": 0}, {"channels": 4, "block": 6}])
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
