"""Reading protobuf wire format in numba: OTLP metrics and Prometheus remote write."""

from __future__ import annotations

from typing import Any

import numpy as np

from interlock.monitor._numba import njit

FNV, PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
OTLP_LEVELS = 5


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
def point(
    data: Any, start: int, stop: int, key: Any, bits: Any, time: Any, series: Any, n: int
) -> Any:
    """Read one NumberDataPoint into row n; return 0, or -1 when broken."""
    at = start
    time[n] = 0
    bits[n] = np.uint64(0x7FF8000000000000)
    whole = False
    while at < stop:
        number, wire, a, b = field(data, at, stop)
        if b < 0:
            return -1
        if number == 3 and wire == 1:
            time[n] = np.int64(fixed64(data, a))
        elif (number == 4 or number == 6) and wire == 1:
            bits[n] = fixed64(data, a)
            whole = number == 6
        elif number == 7 and wire == 2:
            key = mix(key, data, a, b)
        at = b
    series[n] = key
    return 1 if whole else 0


@njit(cache=True)  # type: ignore[untyped-decorator, unused-ignore]
def otlp_points(
    data: Any, bits: Any, whole: Any, time: Any, series: Any, name_start: Any, name_stop: Any
) -> Any:
    """Walk resource -> scope -> metric -> gauge or sum -> points; return the count, or -1 - at."""
    limit = len(bits)
    size = len(data)
    n = 0
    r = 0
    while r < size:
        number, wire, ra, rb = field(data, r, size)
        if rb < 0:
            return -1 - r
        r = rb
        if number != 1 or wire != 2:
            continue
        s = ra
        while s < rb:
            number, wire, sa, sb = field(data, s, rb)
            if sb < 0:
                return -1 - s
            s = sb
            if number != 2 or wire != 2:
                continue
            m = sa
            while m < sb:
                number, wire, ma, mb = field(data, m, sb)
                if mb < 0:
                    return -1 - m
                m = mb
                if number != 2 or wire != 2:
                    continue
                key = FNV
                low = ma
                high = ma
                at = ma
                while at < mb:
                    number, wire, fa, fb = field(data, at, mb)
                    if fb < 0:
                        return -1 - at
                    if number == 1 and wire == 2:
                        low = fa
                        high = fb
                        key = mix(FNV, data, fa, fb)
                    at = fb
                at = ma
                while at < mb:
                    number, wire, fa, fb = field(data, at, mb)
                    at = fb
                    if (number != 5 and number != 7) or wire != 2:
                        continue
                    d = fa
                    while d < fb:
                        number, wire, da, db = field(data, d, fb)
                        if db < 0:
                            return -1 - d
                        d = db
                        if number != 1 or wire != 2:
                            continue
                        if n == limit:
                            return n
                        got = point(data, da, db, key, bits, time, series, n)
                        if got < 0:
                            return -1 - da
                        whole[n] = got == 1
                        name_start[n] = low
                        name_stop[n] = high
                        n += 1
    return n


@njit(cache=True)  # type: ignore[untyped-decorator, unused-ignore]
def prometheus_samples(data: Any, bits: Any, time: Any, label_start: Any, label_stop: Any) -> Any:
    """Walk WriteRequest -> TimeSeries -> samples; return the count, or -1 - position."""
    limit = len(bits)
    size = len(data)
    n = 0
    r = 0
    while r < size:
        number, wire, ra, rb = field(data, r, size)
        if rb < 0:
            return -1 - r
        r = rb
        if number != 1 or wire != 2:
            continue
        at = ra
        while at < rb:
            number, wire, a, b = field(data, at, rb)
            if b < 0:
                return -1 - at
            at = b
            if number != 2 or wire != 2:
                continue
            if n == limit:
                return n
            bits[n] = np.uint64(0)
            time[n] = 0
            k = a
            while k < b:
                number, wire, fa, fb = field(data, k, b)
                if fb < 0:
                    return -1 - k
                if number == 1 and wire == 1:
                    bits[n] = fixed64(data, fa)
                elif number == 2 and wire == 0:
                    value, _ = varint(data, fa, fb)
                    time[n] = np.int64(value)
                k = fb
            label_start[n] = ra
            label_stop[n] = rb
            n += 1
    return n
