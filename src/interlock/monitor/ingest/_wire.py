"""Reading protobuf wire format in numba: OTLP metrics and Prometheus remote write."""

from __future__ import annotations

from typing import Any

import numpy as np

from interlock.monitor._numba import njit

FNV, PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
#: What a distribution is told as, after the metric's own name: ints[SUFFIX] is the index.
SUFFIXES = ("", ".count", ".sum", ".min", ".max", ".p50", ".p99")
#: Rows of the table of whole numbers that the walks fill.
TIME, NAME, NAME_STOP, POINT, POINT_STOP, SUFFIX, TAG = range(7)
#: request -> resource or scope -> metric
_PATH = np.array([1, 2, 2])


@njit(cache=True)  # type: ignore[untyped-decorator, unused-ignore]
def varint(data: Any, at: int, end: int) -> Any:
    """Return (value, next position); position -1 when the bytes do not hold one."""
    value = np.uint64(0)
    shift = 0
    while at < end and shift < 64:
        byte = data[at]
        value |= np.uint64(byte & 0x7F) << np.uint64(shift)
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
    return np.uint64(0), -1


@njit(cache=True)  # type: ignore[untyped-decorator, unused-ignore]
def field(data: Any, at: int, end: int) -> Any:
    """Return (number, wire type, start, stop) of the field at `at`; stop -1 when broken."""
    tag, at = varint(data, at, end)
    if at < 0:
        return 0, 0, 0, -1
    wire = int(tag & np.uint64(7))
    number = int(tag >> np.uint64(3))
    start = at
    if wire == 0:
        _, stop = varint(data, at, end)
    elif wire == 1:
        stop = at + 8
    elif wire == 5:
        stop = at + 4
    elif wire == 2:
        size, start = varint(data, at, end)
        if start < 0 or size > np.uint64(end - start):
            return 0, 0, 0, -1
        stop = start + int(size)
    else:
        return 0, 0, 0, -1
    if stop > end or stop < 0:
        return 0, 0, 0, -1
    return number, wire, start, stop


@njit(cache=True)  # type: ignore[untyped-decorator, unused-ignore]
def child(data: Any, at: int, end: int, want: int) -> Any:
    """Return (1, start, stop) of the next message `want`; (0, ...) at the end, (-1, at) broken."""
    while at < end:
        number, wire, start, stop = field(data, at, end)
        if stop < 0:
            return -1, at, at
        if number == want and wire == 2:
            return 1, start, stop
        at = stop
    return 0, end, end


@njit(cache=True)  # type: ignore[untyped-decorator, unused-ignore]
def fixed64(data: Any, at: int) -> Any:
    """Return eight little-endian bytes as an integer."""
    value = np.uint64(0)
    for k in range(8):
        value |= np.uint64(data[at + k]) << np.uint64(8 * k)
    return value


@njit(cache=True)  # type: ignore[untyped-decorator, unused-ignore]
def mix(key: Any, data: Any, start: int, stop: int) -> Any:
    """Return FNV-1a of the bytes, going on from `key`."""
    for k in range(start, stop):
        key = (key ^ np.uint64(data[k])) * PRIME
    return key


@njit(cache=True)  # type: ignore[untyped-decorator, unused-ignore]
def number_point(
    data: Any,
    start: int,
    stop: int,
    key: Any,
    bits: Any,
    values: Any,
    ints: Any,
    series: Any,
    n: int,
) -> Any:
    """Read one NumberDataPoint into row n; return 1, 0 without a time, -1 when broken."""
    at = start
    ints[TIME, n] = 0
    bits[n] = np.uint64(0x7FF8000000000000)
    while at < stop:
        number, wire, a, b = field(data, at, stop)
        if b < 0:
            return -1
        if number == 3 and wire == 1:
            ints[TIME, n] = np.int64(fixed64(data, a))
        elif number == 4 and wire == 1:
            bits[n] = fixed64(data, a)
        elif number == 6 and wire == 1:
            values[n] = np.float64(np.int64(fixed64(data, a)))
        elif number == 7 and wire == 2:
            key = mix(key, data, a, b)
        at = b
    series[n] = key
    ints[SUFFIX, n] = 0
    ints[TAG, n] = 7
    return 1 if ints[TIME, n] > 0 else 0


@njit(cache=True)  # type: ignore[untyped-decorator, unused-ignore]
def quantile(counts: Any, bounds: Any, low: float, high: float, share: float) -> Any:
    """Return the value below which `share` of a histogram lies, linear within a bucket."""
    total = counts.sum()
    seen = 0.0
    for k in range(len(counts)):
        if seen + counts[k] >= share * total and counts[k] > 0:
            a = bounds[k - 1] if k else low
            b = bounds[k] if k < len(bounds) else high
            if not np.isfinite(a):
                return float(b)
            if not np.isfinite(b):
                return float(a)
            return float(a + (b - a) * (share * total - seen) / counts[k])
        seen += counts[k]
    return np.nan


@njit(cache=True)  # type: ignore[untyped-decorator, unused-ignore]
def spread_point(
    data: Any,
    start: int,
    stop: int,
    kind: int,
    key: Any,
    bits: Any,
    values: Any,
    ints: Any,
    series: Any,
    n: int,
) -> Any:
    """Read a histogram, exponential histogram or summary point as up to six rows from n on.

    Return the rows written, -1 when broken. `kind` is the metric's field: 9, 10 or 11.
    """
    tag = 9 if kind == 9 else (1 if kind == 10 else 7)
    least = 11 if kind == 9 else (12 if kind == 10 else -1)
    found = np.full(7, np.nan)
    one = np.zeros(1, np.uint64)
    real = one.view(np.float64)
    time = 0
    counts = np.zeros(0)
    bounds = np.zeros(0)
    at = start
    while at < stop:
        number, wire, a, b = field(data, at, stop)
        if b < 0:
            return -1
        if wire == 1:
            one[0] = fixed64(data, a)
            if number == 3:
                time = int(np.int64(one[0]))
            elif number == 4:
                found[1] = np.float64(one[0])
            elif number == 5:
                found[2] = real[0]
            elif number == least:
                found[3] = real[0]
            elif number == least + 1:
                found[4] = real[0]
        elif wire == 2 and number == tag:
            key = mix(key, data, a, b)
        elif wire == 2 and kind == 9 and (number == 6 or number == 7):
            part = np.zeros((b - a) // 8)
            for k in range(len(part)):
                one[0] = fixed64(data, a + 8 * k)
                part[k] = np.float64(one[0]) if number == 6 else real[0]
            if number == 6:
                counts = part
            else:
                bounds = part
        at = b
    if len(bounds) and len(counts) == len(bounds) + 1:
        found[5] = quantile(counts, bounds, found[3], found[4], 0.5)
        found[6] = quantile(counts, bounds, found[3], found[4], 0.99)
    rows = 0
    if time <= 0:
        return 0
    for suffix in range(1, 7):
        if found[suffix] == found[suffix] and n + rows < len(bits):
            row = n + rows
            values[row] = found[suffix]
            ints[TIME, row] = time
            ints[SUFFIX, row] = suffix
            ints[TAG, row] = tag
            series[row] = (key ^ np.uint64(suffix)) * PRIME
            rows += 1
    return rows


@njit(cache=True)  # type: ignore[untyped-decorator, unused-ignore]
def metric_points(
    data: Any,
    start: int,
    stop: int,
    bits: Any,
    values: Any,
    ints: Any,
    series: Any,
    n: int,
    lost: Any,
) -> Any:
    """Read one Metric from row n on; return the next row, or -1 - position."""
    state, low, high = child(data, start, stop, 1)
    if state < 0:
        return -1 - low
    key = mix(FNV, data, low, high)
    at = start
    while at < stop:
        kind, wire, a, b = field(data, at, stop)
        if b < 0:
            return -1 - at
        at = b
        plain = kind == 5 or kind == 7
        if wire != 2 or not (plain or 9 <= kind <= 11):
            continue
        d = a
        while d < b:
            state, da, d = child(data, d, b, 1)
            if state < 0:
                return -1 - da
            if state == 0:
                break
            if n == len(bits):
                lost[0] += 1
                continue
            if plain:
                got = number_point(data, da, d, key, bits, values, ints, series, n)
            else:
                got = spread_point(data, da, d, kind, key, bits, values, ints, series, n)
            if got < 0:
                return -1 - da
            if got == 0:
                lost[0] += 1
            for row in range(n, n + got):
                ints[NAME, row] = low
                ints[NAME_STOP, row] = high
                ints[POINT, row] = da
                ints[POINT_STOP, row] = d
            n += got
    return n


@njit(cache=True)  # type: ignore[untyped-decorator, unused-ignore]
def otlp_points(data: Any, bits: Any, values: Any, ints: Any, series: Any, lost: Any) -> Any:
    """Walk resource -> scope -> metric -> points; return the count, or -1 - position."""
    ats = np.zeros(4, np.int64)
    ends = np.zeros(4, np.int64)
    ends[0] = len(data)
    n = 0
    level = 0
    while level >= 0:
        state, a, b = child(data, ats[level], ends[level], _PATH[level])
        if state < 0:
            return -1 - a
        if state == 0:
            level -= 1
            continue
        ats[level] = b
        if level < 2:
            level += 1
            ats[level] = a
            ends[level] = b
            continue
        n = metric_points(data, a, b, bits, values, ints, series, n, lost)
        if n < 0:
            return n
    return n


@njit(cache=True)  # type: ignore[untyped-decorator, unused-ignore]
def prometheus_samples(data: Any, bits: Any, ints: Any) -> Any:
    """Walk WriteRequest -> TimeSeries -> samples; return the count, or -1 - position."""
    n = 0
    r = 0
    while True:
        state, start, r = child(data, r, len(data), 1)
        if state <= 0:
            return -1 - start if state else n
        at = start
        while True:
            state, a, at = child(data, at, r, 2)
            if state < 0:
                return -1 - a
            if state == 0 or n == len(bits):
                break
            bits[n] = np.uint64(0)
            ints[TIME, n] = 0
            while a < at:
                number, wire, fa, fb = field(data, a, at)
                if fb < 0:
                    return -1 - a
                if number == 1 and wire == 1:
                    bits[n] = fixed64(data, fa)
                elif number == 2 and wire == 0:
                    value, _ = varint(data, fa, fb)
                    ints[TIME, n] = np.int64(value)
                a = fb
            ints[NAME, n] = start
            ints[NAME_STOP, n] = r
            n += 1
