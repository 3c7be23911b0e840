"""Rows put together from samples in any order and any batches: nothing twice, nothing made up."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.monitor.frames import Origin, StreamKind, StreamSpec
from interlock.monitor.ingest.assemble import RowAssembler, fill_gaps

SPEC = StreamSpec(
    source="s", kind=StreamKind.QUEUE, channels=("a", "b"), period_ns=10, origin=Origin.SIMULATED
)
SAMPLE = st.tuples(st.integers(0, 30), st.integers(0, 1), st.integers(-4, 4))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(SAMPLE, max_size=12), max_size=12), st.integers(1, 3))
def test_every_sample_ends_in_one_cell_or_is_counted(batches, late):
    rows = RowAssembler(SPEC, late_rows=late)
    frames, fresh, given_in = [], 0, 0
    for batch in batches:
        row, channel, value = (np.array(c, np.int64) for c in zip(*batch, strict=True)) if batch \
            else (np.empty(0, np.int64),) * 3  # fmt: skip
        offset = np.arange(len(row)) % 9 - 4
        frame, new = rows.add(row * 10 + offset, channel, value.astype(float))
        fresh += new
        given_in += len(row)
        frames += [frame] if frame is not None else []
    last = rows.flush()
    frames += [last] if last is not None else []
    cells = {}
    for frame in frames:
        for number, values in zip(frame.seq.tolist(), frame.original, strict=True):
            assert number not in cells
            cells[number] = values
    assert list(cells) == sorted(cells)
    filled = int(sum(np.isfinite(v).sum() for v in cells.values()))
    assert filled == fresh
    assert fresh + rows.duplicates == given_in
    sent = {(r, c, float(v)) for batch in batches for r, c, v in batch}
    for number, values in cells.items():
        for c, v in enumerate(values):
            assert np.isnan(v) or (number, c, float(v)) in sent


@settings(max_examples=100, deadline=None)
@given(st.sets(st.integers(0, 60), min_size=1), st.integers(0, 5) | st.none(), st.integers(1, 70))
def test_gaps_are_filled_with_nothing_and_within_their_bound(numbers, before, most):
    from interlock.monitor.frames import Frame

    seq = np.array(sorted(numbers), np.int64)
    expected = None if before is None else max(int(seq[0]) - before, 0)
    frame = Frame(spec=SPEC, t_ns=seq * 10, seq=seq, values=np.ones((len(seq), 2), np.float32))
    got = fill_gaps(frame, expected, most=most)
    real = np.isfinite(got.values).all(axis=1)
    assert got.seq[real].tolist() == seq.tolist()
    assert (np.diff(got.seq) >= 1).all()
    assert (got.t_ns == got.seq * 10).all()
    if most >= 70:
        assert (np.diff(got.seq) == 1).all()
