"""Prometheus remote write 1.0, from bytes to columns; sizes are checked before decompression."""

from __future__ import annotations

import numpy as np

from interlock.errors import SetupError
from interlock.monitor.ingest.points import MAX_BYTES, Points, bad_message, room_for, series_name

__all__ = ["decode_remote_write"]

WHAT = "remote write"
MAX_MS = (1 << 63) // 1_000_000 - 1  # a later time would wrap around in nanoseconds


def _labels(part: bytes) -> str:
    """Return the name and sorted labels of one series, without its samples."""
    from interlock.monitor.ingest import _wire

    data, at, labels = np.frombuffer(part, np.uint8), 0, dict[str, str]()
    while True:
        state, k, at = _wire.child(data, at, len(data), 1)
        if state <= 0:
            name = labels.pop("__name__", "")
            return series_name(name, labels)
        texts: dict[int, str] = {}
        while k < at:
            number, _, a, k = _wire.field(data, k, at)
            if k < 0:
                raise bad_message(WHAT, "a broken label")
            texts[number] = part[a:k].decode("utf-8", "replace")
        labels[texts.get(1, "")] = texts.get(2, "")


def decode_remote_write(payload: bytes) -> Points:
    """Decode a remote-write request (snappy block format, protobuf 1.0).

    Raises:
        InputError: the declared or real size is too large, or the bytes are not the format.
        SetupError: the extra is missing.
    """
    try:
        import pyarrow as pa
    except ImportError as error:
        raise SetupError(
            "remote write needs pyarrow",
            code="monitor-extra",
            got=str(error),
            expected="the extra `monitor`",
            fix="pip install 'interlock[monitor]'",
        ) from error
    from interlock.monitor.ingest import _wire

    size, at = _wire.varint(np.frombuffer(payload[:10], np.uint8), 0, min(10, len(payload)))
    if at < 0 or int(size) > MAX_BYTES or len(payload) > MAX_BYTES:
        raise bad_message(WHAT, f"{len(payload)} bytes saying {int(size)}")
    try:
        raw = pa.decompress(payload, decompressed_size=int(size), codec="snappy", asbytes=True)
    except (ValueError, OSError) as error:
        raise bad_message(WHAT, str(error)) from error
    data = np.frombuffer(raw, np.uint8)
    bits, values, ints = room_for(len(data), 3)
    n = int(_wire.prometheus_samples(data, bits, ints))
    if n < 0:
        raise bad_message(WHAT, f"broken at byte {-1 - n}")
    firsts, first, code = np.unique(ints[_wire.NAME, :n], return_index=True, return_inverse=True)
    ends = ints[_wire.NAME_STOP, first]
    names = tuple(_labels(raw[a:b]) for a, b in zip(firsts, ends, strict=True))
    return Points(
        t_ns=np.clip(ints[_wire.TIME, :n], 0, MAX_MS) * 1_000_000,
        values=values[:n],
        series=code.astype(np.uint64),
        code=code,
        names=names,
        label=lambda k: names[code[k]],
    )
