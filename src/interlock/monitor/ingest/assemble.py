"""From samples of single series to rows of a stream, whatever order and batches they come in."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from interlock.monitor.frames import NO_VALUE, Frame, StreamSpec

__all__ = ["GAP_ROWS", "RowAssembler", "fill_gaps"]

Ints = npt.NDArray[np.int64]
#: Missing rows told one by one; after a longer gap the series starts again.
GAP_ROWS = 64


class RowAssembler:
    """Puts samples into rows on the stream's own grid: row number = time / period, rounded.

    A row stays open until a sample `late_rows` rows further on arrives, so that a row may come in
    several requests. Samples for closed rows, and second samples for one cell, are duplicates.

    Args:
        spec: the stream.
        late_rows: how many rows stay open.

    Example:
        >>> from interlock.monitor.frames import Origin, StreamKind
        >>> spec = StreamSpec(source="s", kind=StreamKind.QUEUE, channels=("a", "b"), period_ns=10,
        ...                   origin=Origin.SIMULATED)
        >>> rows = RowAssembler(spec)
        >>> t, c, v = np.array([10, 10, 20]), np.array([0, 1, 0]), np.array([1.0, 2.0, 3.0])
        >>> frame, new = rows.add(t, c, v)
        >>> frame.original.tolist(), frame.seq.tolist(), new
        ([[1.0, 2.0]], [1], 3)
    """

    def __init__(self, spec: StreamSpec, *, late_rows: int = 1) -> None:
        self.spec = spec
        self._late = late_rows
        self._seq: Ints = np.empty(0, np.int64)
        self._t: Ints = np.empty(0, np.int64)
        self._rows = np.empty((0, len(spec.channels)), np.float32)
        self._seen = np.empty((0, len(spec.channels)), bool)
        #: The first sample of each channel, subtracted before rows are float32.
        self._reference = np.full(len(spec.channels), np.nan)
        self.floor: int | None = None
        self.duplicates = 0

    def numbers(self, t_ns: Ints) -> Ints:
        """Return the row number of each time."""
        return (t_ns + self.spec.period_ns // 2) // self.spec.period_ns

    def most_rows(self, t_ns: Ints) -> int:
        """Return how many rows `add` and `fill_gaps` can make of these times, before any is made.

        Few bytes can ask for many rows: a sample a gap, in a stream of many channels.
        """
        seq = self.numbers(t_ns)
        numbers = np.union1d(self._seq, seq if self.floor is None else seq[seq >= self.floor])
        if not len(numbers):
            return 0
        before = int(numbers[0]) - 1 if self.floor is None else self.floor - 1
        holes = np.minimum(np.diff(numbers, prepend=before) - 1, GAP_ROWS)
        return len(numbers) + int(holes.sum())

    def add(
        self, t_ns: Ints, channel: Ints, values: npt.NDArray[np.float64]
    ) -> tuple[Frame | None, int]:
        """Take samples; return the rows they close, if any, and how many samples were new."""
        seq = self.numbers(t_ns)
        late = seq < self.floor if self.floor is not None else np.zeros(len(seq), bool)
        self.duplicates += int(late.sum())
        t_ns, channel, values, seq = t_ns[~late], channel[~late], values[~late], seq[~late]
        if not len(seq):
            return None, 0
        finite = np.abs(values) < NO_VALUE
        known, at = np.unique(channel[finite], return_index=True)
        unset = np.isnan(self._reference[known])
        self._reference[known[unset]] = values[finite][at[unset]]
        with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold is no value
            values = (values - np.nan_to_num(self._reference[channel])).astype(np.float32)
        numbers = np.union1d(self._seq, seq)
        old, new = np.searchsorted(numbers, self._seq), np.searchsorted(numbers, seq)
        rows = np.full((len(numbers), self._rows.shape[1]), np.nan, np.float32)
        seen = np.zeros(rows.shape, bool)
        times = np.zeros(len(numbers), np.int64)
        rows[old], seen[old], times[old] = self._rows, self._seen, self._t
        fresh = np.flatnonzero(~seen[new, channel])
        # The first sample of a cell stands.
        cells, at = np.unique((new * rows.shape[1] + channel)[fresh], return_index=True)
        self.duplicates += len(new) - len(cells)
        rows.ravel()[cells] = values[fresh[at]]
        seen.ravel()[cells] = True
        np.maximum.at(times, new, t_ns)
        done = int(np.searchsorted(numbers, numbers[-1] - self._late, side="right"))
        self._seq, self._t = numbers[done:], times[done:]
        self._rows, self._seen = rows[done:], seen[done:]
        if not done:
            return None, len(cells)
        self.floor = int(numbers[done - 1]) + 1
        frame = Frame(
            spec=self.spec, t_ns=times[:done], seq=numbers[:done], values=rows[:done],
            reference=self._reference.copy(),
        )  # fmt: skip
        return frame, len(cells)

    def flush(self) -> Frame | None:
        """Close and return what is open: at the end of a stream."""
        if not len(self._seq):
            return None
        frame = Frame(
            spec=self.spec, t_ns=self._t, seq=self._seq, values=self._rows,
            reference=self._reference.copy(),
        )  # fmt: skip
        self.floor = int(self._seq[-1]) + 1
        self._seq, self._t = self._seq[:0], self._t[:0]
        self._rows, self._seen = self._rows[:0], self._seen[:0]
        return frame


def fill_gaps(frame: Frame, expected: int | None, *, most: int = GAP_ROWS) -> Frame:
    """Return the frame with rows of NaN where rows are missing, at most `most` a gap.

    Args:
        frame: rows whose numbers rise.
        expected: the number the first row should have; None when nothing came before.
        most: longer gaps are told by this many rows, so that nobody can ask for a huge one.

    Example:
        >>> from interlock.monitor.frames import Origin, StreamKind
        >>> spec = StreamSpec(source="s", kind=StreamKind.QUEUE, channels=("a",), period_ns=10,
        ...                   origin=Origin.SIMULATED)
        >>> fill_gaps(Frame.of(spec, [[1.0]], first_seq=7), 5).seq.tolist()
        [5, 6, 7]
    """
    before = np.concatenate([[frame.seq[0] if expected is None else expected], frame.seq[:-1] + 1])
    holes = np.minimum(frame.seq - before, most)
    if not holes.any():
        return frame
    at = np.arange(len(frame)) + np.cumsum(holes)
    total = int(at[-1]) + 1
    values = np.full((total, frame.values.shape[1]), np.nan, np.float32)
    values[at] = frame.values
    owner = np.searchsorted(at, np.arange(total))
    back = at[owner] - np.arange(total)
    return dataclasses.replace(
        frame,
        t_ns=frame.t_ns[owner] - back * frame.spec.period_ns,
        seq=frame.seq[owner] - back,
        values=values,
    )
