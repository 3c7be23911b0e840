"""What `_sequential` learns from residuals: whitening, calibration window, tail, new baselines.

The arrays are those of `run_rows`. Compiled into it: with a cached build, a change here shows when
that file changes too.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from interlock.monitor._numba import njit

ORDER = 3
TERMS = ORDER + 1
CALM, WATCH = 0, 1
#: rows whose residuals are not kept, because the whitening has not settled yet
SETTLE = 512


@njit(cache=True)  # type: ignore[untyped-decorator, unused-ignore]
def solve(gram: Any, rhs: Any, out: Any) -> None:
    """Solve the small positive system by Gauss elimination with a ridge."""
    n = len(rhs)
    a = gram.copy()
    b = rhs.copy()
    for i in range(n):
        a[i, i] += 1e-9 * (1.0 + a[i, i])
    for i in range(n):
        for j in range(i + 1, n):
            f = a[j, i] / a[i, i]
            for k in range(i, n):
                a[j, k] -= f * a[i, k]
            b[j] -= f * b[i]
    for i in range(n - 1, -1, -1):
        s = b[i]
        for k in range(i + 1, n):
            s -= a[i, k] * out[k]
        out[i] = s / a[i, i]


@njit(cache=True)  # type: ignore[untyped-decorator, unused-ignore]
def merge_window(sorted_values: Any, size: int, removed: Any, added: Any, scratch: Any) -> int:
    """Replace `removed` (values present) by `added` in a sorted array; return the new size."""
    gone = np.sort(removed)
    new = np.sort(added)
    g = 0
    k = 0
    n = 0
    for i in range(size):
        v = sorted_values[i]
        if g < len(gone) and gone[g] == v:
            g += 1
            continue
        while k < len(new) and new[k] <= v:
            scratch[n] = new[k]
            n += 1
            k += 1
        scratch[n] = v
        n += 1
    while k < len(new):
        scratch[n] = new[k]
        n += 1
        k += 1
    sorted_values[:n] = scratch[:n]
    return n


@njit(cache=True)  # type: ignore[untyped-decorator, unused-ignore]
def fit_tail(exceed: Any, count: int) -> Any:
    """Generalised Pareto shape (upper confidence) and scale by probability-weighted moments.

    Hosking and Wallis 1987. The shape is raised by 1.6 standard errors: a tail taken too light
    would break the false-alarm budget, one too heavy only costs power.
    """
    x = np.sort(exceed[:count])
    a0 = 0.0
    a1 = 0.0
    for i in range(count):
        a0 += x[i]
        a1 += x[i] * (count - 1 - i) / (count - 1)
    a0 /= count
    a1 /= count
    shape = 2.0 - a0 / (a0 - 2.0 * a1) if a0 > 2.0 * a1 else 0.45
    shape = min(max(shape, -0.3), 0.45)
    raised = shape + 1.6 * (1.0 + abs(shape)) / np.sqrt(count)
    return max(raised, 0.02), a0 * (1.0 - shape)


@njit(cache=True)  # type: ignore[untyped-decorator, unused-ignore]
def rebase(
    c: int,
    it: Any,
    fl: Any,
    phi: Any,
    watch: Any,
    gram: Any,
    moment: Any,
    hold: int,
) -> None:
    """Take the new level once two halves of the watched rows agree; else watch on.

    A step of the level becomes a step of the intercept. If the residuals' spread changed too, the
    calibration starts afresh.
    """
    count = min(it[11], watch.shape[1])
    half = count // 2
    first = np.median(watch[c, :half])
    second = np.median(watch[c, half:count])
    gain = 1.0
    for k in range(ORDER):
        gain -= phi[c, 1 + k]
    gain = max(gain, 0.02)
    rest = np.empty(count - ORDER)
    for i in range(ORDER, count):
        guess = 0.0
        for k in range(ORDER):
            guess += phi[c, 1 + k] * watch[c, i - 1 - k]
        rest[i - ORDER] = watch[c, i] - guess
    centre = np.median(rest)
    spread = 1.4826 * np.median(np.abs(rest - centre))
    noise = spread / gain / np.sqrt(half) * 1.25
    if abs(first - second) > 4.0 * 1.414 * noise and it[5] < 8 * hold:
        it[5] = 0
        return
    ratio = spread / fl[7] if fl[7] > 0 else 0.0
    if ratio < 0.8 or ratio > 1.25:
        it[2] = 0
        it[1] = 0
        it[0] = 0
        it[9] = 0
        it[10] = 0
        fl[1] = 0.0
    # The residuals' mean is nought where least squares put it; skewed ones have another median.
    rest.sort()
    cut = len(rest) // 200
    rest[:cut] = rest[cut]
    rest[len(rest) - cut :] = rest[len(rest) - 1 - cut]
    fl[8] = rest.mean() / gain
    fl[5] = 0.0
    phi[c, 0] = 0.0
    weight = min(gram[c, 0, 0], 1.0 * count)
    scale = spread * spread / max(1e-12, gain * (2.0 - gain))
    for a in range(TERMS):
        for b in range(TERMS):
            gram[c, a, b] = 0.0
            if a > 0 and b > 0:
                gram[c, a, b] = weight * scale * (1.0 - gain) ** abs(a - b)
    gram[c, 0, 0] = weight
    for a in range(TERMS):
        s = 0.0
        for b in range(TERMS):
            s += gram[c, a, b] * phi[c, b]
        moment[c, a] = s
    it[4] = CALM
    it[5] = 0
    it[13] = 0
    it[15] = 0


@njit(cache=True)  # type: ignore[untyped-decorator, unused-ignore]
def absorb(
    c: int,
    it: Any,
    fl: Any,
    phi: Any,
    gram: Any,
    moment: Any,
    ring: Any,
    window: Any,
    pending: Any,
    exceed: Any,
    scratch: Any,
    warm: int,
) -> None:
    """Move pending residuals into the calibration window, refit the whitening and the tail."""
    if it[8] < SETTLE:
        # 2 % and 98 % lie 4.1 sd apart, 0.5 % and 99.5 % 5.15, if they are Gaussian.
        first = np.sort(pending[c, : it[3]])
        fl[11] = (first[-1 - it[3] // 50] - first[it[3] // 50]) / 4.1
        it[3] = 0
        solve(gram[c], moment[c], phi[c])
        return
    count = it[3]
    capacity = ring.shape[1]
    spill = max(0, it[1] + count - capacity)
    removed = np.empty(spill)
    start = (it[0] - it[1]) % capacity
    for k in range(spill):
        removed[k] = ring[c, (start + k) % capacity]
    it[2] = merge_window(window[c], it[2], removed, pending[c, :count], scratch)
    for k in range(count):
        ring[c, it[0]] = pending[c, k]
        it[0] = (it[0] + 1) % capacity
    it[1] = min(it[1] + count, capacity)
    it[3] = 0
    solve(gram[c], moment[c], phi[c])
    size = it[2]
    fl[11] = (window[c, size - 1 - size // 200] - window[c, size // 200]) / 5.15
    if size < warm:
        return
    middle = window[c, size // 2]
    fl[7] = (window[c, (3 * size) // 4] - window[c, size // 4]) / 1.349
    level = max(window[c, size - 1 - size // 80] - middle, middle - window[c, size // 80])
    if fl[1] == 0.0 or abs(level / fl[1] - 1.0) > 0.15:
        fl[1] = level
        it[9] = 0
        it[10] = 0
        for k in range(size):
            over = abs(window[c, k] - middle) - level
            if over > 0:
                exceed[c, it[9]] = over
                it[9] = (it[9] + 1) % exceed.shape[1]
                it[10] = min(it[10] + 1, exceed.shape[1])
    beyond = 0
    for k in range(size):
        if abs(window[c, k] - middle) > fl[1]:
            beyond += 1
    fl[4] = (beyond + 1.0) / (size + 1.0)
    if it[10] >= 50:
        fl[2], fl[3] = fit_tail(exceed[c], it[10])
