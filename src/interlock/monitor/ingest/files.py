"""Frames from Arrow IPC, Parquet, CSV and NDJSON files, a bounded batch at a time.

A column `t_ns` gives times and `seq` row numbers, both optional; every other column is a channel.
The reader is a generator: a slow consumer holds it back, and memory does not grow with the file.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from interlock.errors import InputError, SetupError
from interlock.monitor.frames import Frame, Origin, StreamKind, StreamSpec

__all__ = ["FORMATS", "read_frames"]

BATCH_ROWS = 65_536
MAX_LINE_BYTES = 1 << 20
TIME, SEQ = "t_ns", "seq"


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
                rows.append(row)
            yield pa.RecordBatch.from_pylist(rows)


FORMATS = {
    ".arrow": _arrow,
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


def _frame(
    batch: Any,
    spec: StreamSpec | None,
    path: Path,
    first: int,
    period_ns: int,
    kind: StreamKind,
    origin: Origin,
) -> Frame:
    names = [n for n in batch.schema.names if n not in (TIME, SEQ)]
    if spec is None:
        spec = StreamSpec(
            source=path.stem, kind=kind, channels=tuple(names), period_ns=period_ns, origin=origin
        )
    if set(names) != set(spec.channels):
        raise _unreadable(path, f"columns {names[:8]}")
    rows = batch.num_rows
    values = np.empty((rows, len(spec.channels)), np.float32)
    for c, name in enumerate(spec.channels):
        values[:, c] = batch.column(name).to_numpy(zero_copy_only=False)
    seq = np.arange(first, first + rows, dtype=np.int64)
    if SEQ in batch.schema.names:
        seq = batch.column(SEQ).to_numpy(zero_copy_only=False).astype(np.int64)
    times = seq * spec.period_ns
    if TIME in batch.schema.names:
        times = batch.column(TIME).to_numpy(zero_copy_only=False).astype(np.int64)
    return Frame(spec=spec, t_ns=times, seq=seq, values=values)


def read_frames(
    path: Path,
    *,
    period_ns: int = 1_000_000,
    kind: StreamKind = StreamKind.CALIBRATION,
    origin: Origin = Origin.LAB_DRIVER,
) -> Iterator[Frame]:
    """Yield the frames of a telemetry file; the ending says the format.

    Raises:
        InputError: the ending, a column or a value is not what it should be.
    """
    reader = FORMATS.get(path.suffix.lower())
    if reader is None or not path.is_file():
        raise _unreadable(path, "no such file" if reader else f"ending {path.suffix!r}")
    spec: StreamSpec | None = None
    first = 0
    try:
        for batch in reader(path):
            for start in range(0, batch.num_rows, BATCH_ROWS):
                part = batch.slice(start, BATCH_ROWS)
                frame = _frame(part, spec, path, first, period_ns, kind, origin)
                spec, first = frame.spec, first + len(frame)
                yield frame
    except InputError:
        raise
    except (
        ValueError,
        TypeError,
        OSError,
        KeyError,
    ) as error:  # pyarrow's errors derive from these
        raise _unreadable(path, f"{type(error).__name__}: {error}") from error
