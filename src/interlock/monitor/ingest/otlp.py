"""OTLP metrics and logs, from their bytes to columns.

Metrics go through a compiled walk of the wire format, because a Python loop over values costs ten
times the parsing. Gauges and sums give one sample a point; histograms and summaries give `.count`,
`.sum`, `.min`, `.max`, and with explicit buckets `.p50` and `.p99`. Limits come before allocation.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from interlock.errors import SetupError
from interlock.monitor.ingest.points import MAX_BYTES, Points, bad_message, room_for, series_name

__all__ = ["MAX_RECORDS", "LogEvent", "decode_logs", "decode_metrics"]

#: log records that a message may hold, and that may wait
MAX_RECORDS = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEvent:
    """One log record: the audit stream's form."""

    t_ns: int
    severity: str
    body: str
    attributes: dict[str, str]

    @property
    def cost(self) -> int:
        """Bytes of memory it takes."""
        texts = (self.severity, self.body, *self.attributes, *self.attributes.values())
        return 256 + sys.getsizeof(self.attributes) + sum(map(sys.getsizeof, texts))


def _names(
    payload: bytes, ints: npt.NDArray[np.int64], suffixes: tuple[str, ...]
) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    from interlock.monitor.ingest import _wire

    place = ints[_wire.NAME] * len(suffixes) + ints[_wire.SUFFIX]
    _, first, code = np.unique(place, return_index=True, return_inverse=True)
    texts = [
        payload[ints[_wire.NAME, k] : ints[_wire.NAME_STOP, k]].decode("utf-8", "replace")
        + suffixes[ints[_wire.SUFFIX, k]]
        for k in first
    ]
    names = tuple(dict.fromkeys(texts))
    lookup = {name: k for k, name in enumerate(names)}
    return np.array([lookup[t] for t in texts], np.int64)[code], names


def _attributes(point: bytes, tag: int) -> dict[str, str]:
    """Return the attributes of one data point; `tag` is their field number."""
    from opentelemetry.proto.common.v1 import common_pb2

    from interlock.monitor.ingest import _wire

    found: dict[str, str] = {}
    data, at = np.frombuffer(point, np.uint8), 0
    while True:
        state, start, at = _wire.child(data, at, len(data), tag)
        if state <= 0:
            return found
        pair: Any = common_pb2.KeyValue()
        pair.ParseFromString(point[start:at])
        found[pair.key] = _text(pair.value)


def decode_metrics(payload: bytes) -> Points:
    """Decode an OTLP ExportMetricsServiceRequest.

    Raises:
        InputError: too large, or not the wire format.
    """
    if len(payload) > MAX_BYTES:
        raise bad_message("OTLP metrics", f"{len(payload)} bytes")
    from interlock.monitor.ingest import _wire

    data = np.frombuffer(payload, np.uint8)
    bits, values, ints = room_for(len(data), 7)
    series, lost = np.empty(len(bits), np.uint64), np.zeros(1, np.int64)
    n = int(_wire.otlp_points(data, bits, values, ints, series, lost))
    if n < 0:
        raise bad_message("OTLP metrics", f"broken at byte {-1 - n}")
    ints = ints[:, :n]
    code, names = _names(payload, ints, _wire.SUFFIXES)

    def label(k: int) -> str:
        from google.protobuf.message import DecodeError

        point = payload[ints[_wire.POINT, k] : ints[_wire.POINT_STOP, k]]
        try:
            return series_name(names[code[k]], _attributes(point, int(ints[_wire.TAG, k])))
        except DecodeError as error:
            raise bad_message("OTLP metrics", f"attributes: {error}") from error

    return Points(
        t_ns=ints[_wire.TIME], values=values[:n], series=series[:n], code=code, names=names,
        label=label, lost=int(lost[0]),
    )  # fmt: skip


def decode_logs(payload: bytes) -> list[LogEvent]:
    """Decode an OTLP ExportLogsServiceRequest.

    Raises:
        InputError: too large, or not the wire format.
        SetupError: the extra is missing.
    """
    if len(payload) > MAX_BYTES:
        raise bad_message("OTLP logs", f"{len(payload)} bytes")
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
        raise bad_message("OTLP logs", str(error)) from error
    count = sum(len(s.log_records) for r in message.resource_logs for s in r.scope_logs)
    if count > MAX_RECORDS:
        raise bad_message("OTLP logs", f"{count} records, more than {MAX_RECORDS}")
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
