"""Frames from Arrow IPC, Parquet, CSV and NDJSON files, a bounded batch at a time.

A column `t_ns` gives times and `seq` row numbers, both optional. Other clocks and row numbers are
left out, and said; every other column is a channel. The reader is a generator: a slow consumer
holds it back, and memory does not grow with the file.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, KeysView
from pathlib import Path
from typing import Any

import numpy as np

from interlock.errors import InputError, SetupError
from interlock.monitor.frames import Frame, Origin, StreamKind, StreamSpec
from interlock.monitor.ingest.assemble import GAP_ROWS, fill_gaps
from interlock.monitor.ingest.columns import SEQ, TIME, Numbering, is_clock, reference, whole
from interlock.monitor.ingest.source import Account, refusal
from interlock.monitor.store import Position

__all__ = ["FORMATS", "accounted", "read_frames"]

BATCH_ROWS = 65_536
MAX_LINE_BYTES = 1 << 20
PERIOD_NS = 1_000_000
ARROW_FILE = b"ARROW1"
TURN_ROWS = 1024
#: Samples that missing rows may add to what is in memory at once.
FILL_VALUES = 1 << 22


def _pyarrow() -> Any:
    try:
        import pyarrow as pa
    except ImportError as error:
        raise SetupError(
            "reading telemetry files needs pyarrow",
            code="monitor-extra",
            got=str(error),
            expected="the extra `monitor`",
            fix="pip install 'interlock[monitor]'",
        ) from error
    return pa


def _arrow(path: Path) -> Iterator[Any]:
    pa = _pyarrow()
    with pa.memory_map(str(path)) as source:
        if source.read(len(ARROW_FILE)) != ARROW_FILE:  # what a pipe writes: the streaming format
            source.seek(0)
            yield from pa.ipc.open_stream(source)
            return
        reader = pa.ipc.open_file(source)
        for k in range(reader.num_record_batches):
            yield reader.get_batch(k)


def _parquet(path: Path) -> Iterator[Any]:
    _pyarrow()
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as source:
        yield from source.iter_batches(batch_size=BATCH_ROWS)


def _csv(path: Path) -> Iterator[Any]:
    _pyarrow()
    from pyarrow import csv

    with csv.open_csv(path) as reader:
        yield from reader


def _ndjson(path: Path) -> Iterator[Any]:
    pa = _pyarrow()
    import orjson

    with path.open("rb") as source:
        lines = iter(lambda: source.readline(MAX_LINE_BYTES), b"")
        number = 0
        channels: KeysView[str] = {}.keys()
        while chunk := list(itertools.islice(lines, 8192)):
            rows = []
            for line in chunk:
                number += 1
                try:
                    row = orjson.loads(line)
                except orjson.JSONDecodeError as error:
                    raise _unreadable(path, f"line {number}: {error}") from error
                if not isinstance(row, dict):
                    raise _unreadable(path, f"line {number} is not an object")
                channels = channels or row.keys()
                if more := sorted(row.keys() - channels):
                    # Dropped without a word, a new channel would never be watched.
                    raise _unreadable(path, f"line {number} has {more[:8]}, and line 1 has not")
                rows.append(row)
            yield pa.RecordBatch.from_pylist(rows)


FORMATS = {
    ".arrow": _arrow,
    ".arrows": _arrow,
    ".feather": _arrow,
    ".csv": _csv,
    ".jsonl": _ndjson,
    ".ndjson": _ndjson,
    ".parquet": _parquet,
}


def _unreadable(path: Path, why: str) -> InputError:
    return InputError(
        f"telemetry file {path.name} cannot be read",
        code="monitor-file",
        got=why[:300],
        expected="numeric columns; t_ns and seq whole numbers; one of " + ", ".join(FORMATS),
        fix="check the file; missing samples are null or NaN, never text",
    )


class _Reader:
    """Turns the batches of one file into frames."""

    def __init__(
        self,
        path: Path,
        period_ns: int | None,
        kind: StreamKind,
        origin: Origin,
        say: Callable[[str], None],
        after: Position,
    ) -> None:
        self._path, self._kind, self._origin, self._say = path, kind, origin, say
        self._after = after
        self.reached = Position()
        self.repeated = 0
        self._period_ns = period_ns
        self._numbering = Numbering(period_ns)
        self._clocks: frozenset[str] = frozenset()
        self.spec: StreamSpec | None = None
        self._first = 0
        self._reference = np.empty(0)

    def _begin(self, batch: Any, period_ns: int) -> StreamSpec:
        names = [n for n in batch.schema.names if n not in (TIME, SEQ)]
        self._clocks = frozenset(n for n in names if is_clock(n, batch.column(n)))
        for name in sorted(self._clocks):
            self._say(f"column {name!r} is a clock or a row number: it is not watched")
        return StreamSpec(
            source=self._path.stem,
            kind=self._kind,
            channels=tuple(n for n in names if n not in self._clocks),
            period_ns=period_ns,
            origin=self._origin,
        )

    def frame(self, batch: Any) -> Frame:
        names, rows = batch.schema.names, batch.num_rows
        times = whole(batch.column(TIME)) if TIME in names else None
        if SEQ in names:
            seq = whole(batch.column(SEQ))
        elif times is not None:
            seq = self._numbering.number(times)
        else:
            seq = np.arange(self._first, self._first + rows, dtype=np.int64)
        self._first += rows
        spec = self.spec
        if spec is None:
            period_ns = self._period_ns or self._numbering.period_ns or PERIOD_NS
            spec = self.spec = self._begin(batch, period_ns)
            self._reference = np.full(len(spec.channels), np.nan)
        if set(names) - {TIME, SEQ} - self._clocks != set(spec.channels):
            raise _unreadable(self._path, f"columns {names[:8]}")
        values = np.empty((rows, len(spec.channels)), np.float32)
        columns = [self._numbers(n, batch.column(n)) for n in spec.channels]
        for c, column in enumerate(columns):
            if np.isnan(self._reference[c]):
                self._reference[c] = reference(column)
            take = self._reference[c]
            if take and not np.isnan(take):
                columns[c] = column - take
        # A few rows of all columns at a time: whole columns would go through memory once each.
        with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold is no value
            for at in range(0, rows, TURN_ROWS):
                for c, column in enumerate(columns):
                    values[at : at + TURN_ROWS, c] = column[at : at + TURN_ROWS]
        new = self._new(batch, seq, times)
        times = seq * spec.period_ns if times is None else times
        taken = self._reference.copy()
        whole_frame = Frame(spec=spec, t_ns=times, seq=seq, values=values, reference=taken)
        return whole_frame if new.all() else whole_frame[new]

    def _numbers(self, name: str, column: Any) -> Any:
        values = column.to_numpy(zero_copy_only=False)
        if values.dtype.kind != "O":
            return values
        try:
            return values.astype(np.float64)
        except (ValueError, TypeError) as error:
            raise _unreadable(self._path, f"column {name!r}: {error}") from error

    def _new(self, batch: Any, seq: Any, times: Any) -> Any:
        """Return which rows were not recorded before; note how far they go."""
        after, reached = self._after, self.reached
        new = np.ones(batch.num_rows, bool)
        if SEQ in batch.schema.names and len(seq):
            new = seq >= (seq.min() if after.next_seq is None else after.next_seq)
            top = max(int(seq.max()) + 1, reached.next_seq or 0)
            self.reached = Position(next_seq=top, last_t_ns=reached.last_t_ns)
        elif times is not None and len(times):
            new = times > (times.min() - 1 if after.last_t_ns is None else after.last_t_ns)
            top = max(int(times.max()), reached.last_t_ns or 0)
            self.reached = Position(next_seq=reached.next_seq, last_t_ns=top)
        self.repeated += int((~new).sum())
        return new


def read_frames(
    path: Path,
    *,
    period_ns: int | None = None,
    kind: StreamKind = StreamKind.CALIBRATION,
    origin: Origin = Origin.UNKNOWN,
    say: Callable[[str], None] = lambda _line: None,
    after: Position | None = None,
    on_end: Callable[[Position, int], None] = lambda _reached, _repeated: None,
) -> Iterator[Frame]:
    """Yield the frames of a telemetry file as they are; the ending says the format.

    Args:
        path: the file.
        period_ns: nominal time between rows; by default the median step of `t_ns`, or 1 ms.
        kind: what is measured.
        origin: where the samples come from.
        say: told which columns are left out.
        after: rows up to here, by their own numbers or times, were recorded and are left out.
        on_end: told at the end how far the rows go, and how many were left out.

    Raises:
        IntegrityError: every row was recorded before.
        InputError: the ending, a column or a value is not what it should be.
    """
    read = FORMATS.get(path.suffix.lower())
    if read is None or not path.is_file():
        raise _unreadable(path, "no such file" if read else f"ending {path.suffix!r}")
    reader = _Reader(path, period_ns, kind, origin, say, after or Position())
    rows = 0
    try:
        for batch in read(path):
            for start in range(0, batch.num_rows, BATCH_ROWS):
                frame = reader.frame(batch.slice(start, BATCH_ROWS))
                rows += len(frame)
                if len(frame):
                    yield frame
        if reader.repeated and not rows:
            raise refusal(path.stem, "every row was recorded before", "monitor-replay")
        on_end(reader.reached, reader.repeated)
    except InputError:
        raise
    except (
        ValueError,
        TypeError,
        OSError,
        KeyError,
        OverflowError,
    ) as error:  # pyarrow's errors derive from these
        raise _unreadable(path, f"{type(error).__name__}: {error}") from error


def accounted(frames: Iterator[Frame], account: Account) -> Iterator[Frame]:
    """Yield each row once, in order, missing rows as NaN, as a listener does; count the rest.

    A row whose number was seen before is a duplicate and left out: a file has no sender to refuse.
    """
    for whole_frame in frames:
        size = len(whole_frame)
        if (np.diff(whole_frame.seq) != 1).any():
            size = max(1, FILL_VALUES // ((GAP_ROWS + 1) * len(whole_frame.spec.channels)))
        for at in range(0, len(whole_frame), size or 1):
            part = whole_frame[at : at + size]
            floor = part.seq[0] - 1 if account.next_seq is None else account.next_seq - 1
            newest = np.maximum.accumulate(np.concatenate([[floor], part.seq]))
            fresh = part.seq > newest[:-1]
            account.duplicates += int((~fresh).sum())
            if not fresh.any():
                continue
            expected = account.next_seq
            yield fill_gaps(account.take(part[fresh], lag_ns=0, limit_ns=0), expected)
