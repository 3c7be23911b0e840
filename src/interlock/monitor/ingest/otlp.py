"""OTLP metrics and logs, and Prometheus remote write, from their bytes to columns.

Metrics go through a compiled walk of the wire format, because a Python loop over values costs ten
times the parsing. Limits come before decompression and before allocation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from interlock.errors import InputError, SetupError

__all__ = ["LogEvent", "Points", "decode_logs", "decode_metrics", "decode_remote_write"]

MAX_BYTES = 64 << 20
SMALLEST_POINT = 11


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """Samples of many series: parallel columns; `names[code[i]]` is the metric of sample i."""

    t_ns: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    series: npt.NDArray[np.uint64]
    code: npt.NDArray[np.int64]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.t_ns)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEvent:
    """One log record: the audit stream's form."""

    t_ns: int
    severity: str
    body: str
    attributes: dict[str, str]


def _bad(what: str, got: str) -> InputError:
    return InputError(
        f"a {what} message cannot be decoded",
        code="monitor-wire",
        got=got,
        expected=f"well-formed {what} of at most {MAX_BYTES} bytes",
        fix="check the exporter; send smaller batches",
    )


def _names(
    payload: bytes, start: npt.NDArray[np.int64], stop: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    firsts, code = np.unique(start, return_inverse=True)
    ends = np.zeros(len(firsts), np.int64)
    ends[code] = stop
    texts = [payload[a:b].decode("utf-8", "replace") for a, b in zip(firsts, ends, strict=True)]
    names = tuple(dict.fromkeys(texts))
    lookup = {name: k for k, name in enumerate(names)}
    return np.array([lookup[t] for t in texts], np.int64)[code], names


def decode_metrics(payload: bytes) -> Points:
    """Decode an OTLP ExportMetricsServiceRequest: the points of its gauges and sums.

    Raises:
        InputError: too large, or not the wire format.
    """
    if len(payload) > MAX_BYTES:
        raise _bad("OTLP metrics", f"{len(payload)} bytes")
    from interlock.monitor.ingest import _wire

    data = np.frombuffer(payload, np.uint8)
    room = len(data) // SMALLEST_POINT + 1
    bits, series = np.empty(room, np.uint64), np.empty(room, np.uint64)
    whole = np.zeros(room, np.bool_)
    time, start, stop = (np.empty(room, np.int64) for _ in range(3))
    n = int(_wire.otlp_points(data, bits, whole, time, series, start, stop))
    if n < 0:
        raise _bad("OTLP metrics", f"broken at byte {-1 - n}")
    values = np.where(whole[:n], bits[:n].view(np.int64), bits[:n].view(np.float64))
    code, names = _names(payload, start[:n], stop[:n])
    return Points(t_ns=time[:n], values=values, series=series[:n], code=code, names=names)


def _labels(part: bytes) -> str:
    """Return the sorted labels of one remote-write series, without its samples."""
    from interlock.monitor.ingest import _wire

    data, at, labels = np.frombuffer(part, np.uint8), 0, []
    while at < len(data):
        number, wire, a, b = _wire.field(data, at, len(data))
        if number == 1 and wire == 2:
            texts, k = {}, a
            while k < b:
                number, _, fa, fb = _wire.field(data, k, b)
                if fb < 0:
                    raise _bad("remote write", "a broken label")
                texts[number] = part[fa:fb].decode("utf-8", "replace")
                k = fb
            labels.append((texts.get(1, ""), texts.get(2, "")))
        at = b
    name = dict(labels).get("__name__", "")
    rest = ",".join(f"{k}={v}" for k, v in sorted(labels) if k != "__name__")
    return f"{name}{{{rest}}}"


def decode_remote_write(payload: bytes) -> Points:
    """Decode a Prometheus remote-write request (snappy block format, protobuf 1.0).

    Raises:
        InputError: the declared or real size is too large, or the bytes are not the format.
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
        raise _bad("remote write", f"{len(payload)} bytes saying {int(size)}")
    try:
        raw = pa.decompress(payload, decompressed_size=int(size), codec="snappy", asbytes=True)
    except (ValueError, OSError) as error:
        raise _bad("remote write", str(error)) from error
    data = np.frombuffer(raw, np.uint8)
    room = len(data) // SMALLEST_POINT + 1
    bits = np.empty(room, np.uint64)
    time, start, stop = (np.empty(room, np.int64) for _ in range(3))
    n = int(_wire.prometheus_samples(data, bits, time, start, stop))
    if n < 0:
        raise _bad("remote write", f"broken at byte {-1 - n}")
    firsts, code = np.unique(start[:n], return_inverse=True)
    ends = np.zeros(len(firsts), np.int64)
    ends[code] = stop[:n]
    names = tuple(_labels(raw[a:b]) for a, b in zip(firsts, ends, strict=True))
    return Points(
        t_ns=time[:n] * 1_000_000,
        values=bits[:n].view(np.float64),
        series=code.astype(np.uint64),
        code=code,
        names=names,
    )


def decode_logs(payload: bytes) -> list[LogEvent]:
    """Decode an OTLP ExportLogsServiceRequest.

    Raises:
        InputError: too large, or not the wire format.
        SetupError: the extra is missing.
    """
    if len(payload) > MAX_BYTES:
        raise _bad("OTLP logs", f"{len(payload)} bytes")
    try:
        from google.protobuf.message import DecodeError
        from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
    except ImportError as error:
        raise SetupError(
            "OTLP logs need opentelemetry-proto",
            code="monitor-extra",
            got=str(error),
            expected="the extra `monitor`",
            fix="pip install 'interlock[monitor]'",
        ) from error
    message: Any = logs_service_pb2.ExportLogsServiceRequest()
    try:
        message.ParseFromString(payload)
    except DecodeError as error:
        raise _bad("OTLP logs", str(error)) from error
    return [
        LogEvent(
            t_ns=record.time_unix_nano,
            severity=record.severity_text,
            body=record.body.string_value,
            attributes={a.key: _text(a.value) for a in record.attributes},
        )
        for resource in message.resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    ]


def _text(value: Any) -> str:
    kind = value.WhichOneof("value")
    return str(getattr(value, kind)) if kind else ""
