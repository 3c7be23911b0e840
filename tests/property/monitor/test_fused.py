"""The fused kernel against a plain reference, for any layout, cut, gain and gaps."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.monitor.detectors.fused import FusedScorer
from tests.unit.monitor.test_fused import assert_matches


@settings(max_examples=60, deadline=None)
@given(
    channels=st.sampled_from([1, 2, 15, 16, 17, 33]),
    block=st.sampled_from([4, 12, 16, 36, 48]),
    blocks=st.integers(1, 5),
    cut=st.integers(0, 5),
    weight=st.sampled_from([0.01, 0.1, 0.5, 1.0]),
    slack=st.sampled_from([0.0, 0.25, 1.0]),
    centre=st.sampled_from([0.0, -7.0, 900.0, 2e5]),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_row_counts_as_in_the_reference(
    channels, block, blocks, cut, weight, slack, centre, seed
):
    rng = np.random.default_rng(seed)
    scorer = FusedScorer(channels, block=block, weight=weight, slack=slack)
    scorer.fit(rng.normal(centre, 1.0, (200, channels)))
    rows = rng.normal(centre, 1.5, (blocks * block, channels)).astype(np.float32)
    atol = 1e-4 if abs(centre) < 900 else 0.02
    assert_matches(scorer, rows, cut=min(cut, blocks) * block, rtol=1e-4, atol=atol)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 95), st.integers(0, 4)), min_size=1), st.integers(0, 99))
def test_missing_samples_count_as_the_centre_and_are_counted(gaps, seed):
    rng = np.random.default_rng(seed)
    scorer = FusedScorer(5, block=32).fit(rng.standard_normal((200, 5)))
    rows = rng.standard_normal((96, 5)).astype(np.float32)
    filled = rows.copy()
    for row, channel in gaps:
        rows[row, channel] = np.nan
        filled[row, channel] = scorer.weights()["centre"][channel]
    got = scorer.score(rows)
    scorer.rest()
    wanted = scorer.score(filled)
    assert got.missing.sum() == len(set(gaps))
    np.testing.assert_array_equal(got.features(), wanted.features())
    np.testing.assert_array_equal(got.q_max, wanted.q_max)
