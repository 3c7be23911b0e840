"""The numba loop of `alarms`: whitening, conformal p-values, e-detector, spikes, stale checks.

State is a set of plain arrays, one row a channel, so that it can be saved and restored as it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from interlock.monitor._numba import njit
from interlock.monitor.detectors._calibrate import (
    CALM,
    ORDER,
    SETTLE,
    TERMS,
    WATCH,
    absorb,
    rebase,
)

SHIFT, SPIKE, STALE, GAP = 1, 2, 3, 4
#: usual steps that the first rows may spread over
GLITCH = 1e4
#: rows without a long gap after which a short one alarms again
CALM_GAP = 4096
BETS = np.array([0.15, 0.5, 0.85])
#: noise added to each residual, in its own sd: the whitening's own error must not stand out where
#: the residuals' density has an edge, as skewed noise has at its lower end
SMOOTH = 0.2


@njit(cache=True)  # type: ignore[untyped-decorator, unused-ignore]
def tail_p(excess: float, shape: float, scale: float) -> float:
    """Return the chance of an excess this large, given the threshold was passed."""
    return float((1.0 + shape * excess / scale) ** (-1.0 / shape))


@njit(cache=True)  # type: ignore[untyped-decorator, unused-ignore]
def rank(sorted_values: Any, size: int, value: float) -> Any:
    """Return how many values are below, and how many equal."""
    low = np.searchsorted(sorted_values[:size], value, side="left")
    high = np.searchsorted(sorted_values[:size], value, side="right")
    return low, high - low


@njit(cache=True)  # type: ignore[untyped-decorator, unused-ignore]
def update_detector(sr: Any, p: float, bets: Any) -> float:
    """One Shiryaev-Roberts step of 4 directions x bets; return their mean.

    Directions: small p, large p, both tails, neither tail. Each factor b * u**(b-1) has mean one
    for a uniform u, so each numerator is an e-detector (Shin, Ramdas, Rinaldo 2022) and so is
    their mean.
    """
    total = 0.0
    fold = 2.0 * min(p, 1.0 - p)
    for d in range(4):
        u = p if d == 0 else (1.0 - p if d == 1 else (fold if d == 2 else 1.0 - fold))
        log_u = np.log(max(u, 1e-12))
        for k in range(len(bets)):
            b = bets[k]
            e = b * np.exp((b - 1.0) * log_u)
            value = min((1.0 + sr[d, k]) * e, 1e30)
            sr[d, k] = value
            total += value
    return total / (4 * len(bets))


@njit(cache=True)  # type: ignore[untyped-decorator, unused-ignore]
def heaviest(evidence: Any, top: Any, part: Any) -> None:
    """Write the channels with most evidence, most first, and each one's part of the whole."""
    whole = evidence.sum()
    left = evidence.copy()
    for k in range(min(len(top), len(left))):
        top[k] = np.argmax(left)
        part[k] = left[top[k]] / whole
        left[top[k]] = -1.0


@njit(cache=True)  # type: ignore[untyped-decorator, unused-ignore]
def run_rows(
    x: Any,
    random: Any,
    first_row: int,
    ints: Any,
    floats: Any,
    lags: Any,
    gram: Any,
    moment: Any,
    phi: Any,
    ring: Any,
    window: Any,
    pending: Any,
    exceed: Any,
    sr: Any,
    watch: Any,
    bets: Any,
    threshold: float,
    spike_level: float,
    spike_reward: float,
    spike_decay: float,
    stale_level: float,
    stale_rows: int,
    refresh: int,
    warm: int,
    memory: float,
    hold: int,
    out_row: Any,
    out_channel: Any,
    out_kind: Any,
    out_score: Any,
    out_top: Any,
    out_part: Any,
    trace: Any,
    p_trace: Any,
) -> int:
    """Take rows (n, channels); write alarms; return how many.

    out_top, out_part (alarms, any): of a shift the channels that weigh most, most first, and their
    parts of the asset's detector.
    ints: 0 ring position, 1 ring size, 2 window size, 3 pending, 4 state, 5 rows watched,
    6 equal run, 7 repeats seen, 8 rows seen, 9 exceedance position, 10 exceedances, 11 hold now,
    12 rows since the last spike, 13 rows calm, 14 stale flag, 15 lags filled, 16 gap run,
    17 repeats after a repeat, 18 rows after a repeat, 19 missing rows that a gap alarm needs now
    (0: `stale_rows`), 20 rows here since the last gap of `stale_rows`, 21 whether the first rows
    were looked at for a glitch.
    floats: 0 last value, 1 tail threshold, 2 tail shape, 3 tail scale, 4 tail share, 5 spike
    wealth, 6 mean of the detector, 7 residual scale, 8 origin of the whitening, 9 least step of the
    values (0: none seen), 10 about the usual step, 11 residuals' sd by their outer quantiles.
    """
    n, channels = x.shape
    found = 0
    limit = len(out_row)
    capacity = ring.shape[1]
    scratch = np.empty(capacity + refresh + 8)
    features = np.empty(TERMS)
    for i in range(n):
        asset = 0.0
        best = -1.0
        best_channel = -1
        for c in range(channels):
            v = x[i, c]
            it = ints[c]
            fl = floats[c]
            if not np.isfinite(v):
                it[16] += 1
                it[15] = 0
                if it[16] == stale_rows:
                    it[20] = 0
                if it[16] == max(it[19], stale_rows) and found < limit:
                    out_row[found] = first_row + i
                    out_channel[found] = c
                    out_kind[found] = GAP
                    out_score[found] = it[16]
                    found += 1
                asset += fl[6]
                continue
            if it[16] >= max(it[19], stale_rows):  # in the habit of gaps: the next has to surprise
                it[19] = 2 * max(it[19], stale_rows)
            it[16] = 0
            it[20] += 1
            if it[20] >= CALM_GAP:
                it[19] = 0
            it[8] += 1
            after_repeat = it[6] >= 1
            if it[8] > 1 and v == fl[0]:
                it[6] += 1
                it[7] += 1
                it[17] += after_repeat
            else:
                step = abs(v - fl[0])
                if it[8] > 1:
                    if fl[9] == 0.0 or step < fl[9]:
                        fl[9] = step
                    fl[10] = step if fl[10] == 0.0 else fl[10] * (2.0 if step > fl[10] else 0.5)
                it[6] = 0
                it[14] = 0
            it[18] += after_repeat
            fl[0] = v
            if it[14] == 0 and it[6] >= stale_rows - 1 and it[8] >= warm:
                run = it[6]
                one = (it[7] - run + 1.0) / (it[8] - run + 1.0)
                more = (it[17] - run + 2.0) / (it[18] - run + 3.0)
                if np.log(one) + (run - 1) * np.log(min(more, 1.0)) < np.log(stale_level):
                    it[14] = 1
                    if found < limit:
                        out_row[found] = first_row + i
                        out_channel[found] = c
                        out_kind[found] = STALE
                        out_score[found] = run
                        found += 1
            if it[14] == 1:
                it[7] -= 1
                it[8] -= 1
                it[17] -= 1
                it[18] -= 1
                it[15] = 0
                asset += fl[6]
                continue
            if it[8] == SETTLE and it[21] == 0:
                it[21] = 1
                if gram[c, 1, 1] > (GLITCH * fl[10]) ** 2 * gram[c, 0, 0]:
                    # A glitch is all that was learnt: once, begin again.
                    gram[c] = 0.0
                    moment[c] = 0.0
                    phi[c] = 0.0
                    it[8] = 1
                    it[7] = it[17] = it[18] = it[15] = it[3] = 0
            if it[8] == 1:
                fl[8] = v
            # Whole numbers and coarse converters: with ties the residuals' order would turn on
            # each refit of the whitening, and p-values would bunch. Spread over their own step
            # they are continuous; to continuous values this adds next to nothing.
            # (The low bits: those of the p-value must not depend on the place within the step.)
            v += fl[9] * ((random[i, c, 0] * 16777216.0) % 1.0 - 0.5)
            if it[15] < ORDER:
                lags[c, it[15]] = v
                it[15] += 1
                asset += fl[6]
                continue
            features[0] = 1.0
            guess = phi[c, 0] + fl[8]
            for k in range(ORDER):
                lag = lags[c, ORDER - 1 - k] - fl[8]
                features[1 + k] = lag
                guess += phi[c, 1 + k] * lag
            bare = v - guess
            radius = np.sqrt(-2.0 * np.log(1.0 - random[i, c, 1]))
            angle = 2.0 * np.pi * ((random[i, c, 1] * 67108864.0) % 1.0)
            residual = bare + SMOOTH * fl[11] * radius * np.cos(angle)
            for k in range(ORDER - 1):
                lags[c, k] = lags[c, k + 1]
            lags[c, ORDER - 1] = v

            if it[4] == WATCH:
                watch[c, it[5] % watch.shape[1]] = v
                it[5] += 1
                asset += fl[6]
                if it[5] >= it[11]:
                    rebase(c, it, fl, phi, watch, gram, moment, hold)
                continue

            clear = True
            if it[2] >= warm:
                below, equal = rank(window[c], it[2], residual)
                p = (below + random[i, c, 0] * (equal + 1.0)) / (it[2] + 1.0)
                p = min(max(p, 1e-9), 1.0 - 1e-9)
                if len(p_trace):
                    p_trace[i, c] = p
                size = abs(residual - window[c, it[2] // 2])
                if it[10] >= 200:
                    fl[5] *= spike_decay
                    it[12] += 1
                    if size > fl[1]:
                        q = fl[4] * tail_p(size - fl[1], fl[2], fl[3])
                        if q < 1e-4:
                            clear = False
                        if q <= spike_level + fl[5]:
                            fl[5] = min(fl[5] + spike_reward, 10.0 * spike_reward)
                            if it[12] > 16 and found < limit:
                                out_row[found] = first_row + i
                                out_channel[found] = c
                                out_kind[found] = SPIKE
                                out_score[found] = -np.log10(max(q, 1e-300))
                                found += 1
                            it[12] = 0
                fl[6] = update_detector(sr[c], p, bets)
                asset += fl[6]
                if fl[6] > best:
                    best = fl[6]
                    best_channel = c
            it[13] += 1
            if clear:
                lean = bare
                if it[2] >= warm:
                    low = window[c, it[2] // 200]
                    high = window[c, it[2] - 1 - it[2] // 200]
                    lean = min(max(bare, low), high)
                target = guess + lean - fl[8]
                for a in range(TERMS):
                    for b in range(TERMS):
                        gram[c, a, b] = memory * gram[c, a, b] + features[a] * features[b]
                    moment[c, a] = memory * moment[c, a] + features[a] * target
                pending[c, it[3]] = residual
                it[3] += 1
                size = abs(residual - (window[c, it[2] // 2] if it[2] else 0.0))
                if it[2] >= warm and size > fl[1] and fl[1] > 0:
                    exceed[c, it[9]] = size - fl[1]
                    it[9] = (it[9] + 1) % exceed.shape[1]
                    it[10] = min(it[10] + 1, exceed.shape[1])
            if it[3] == refresh:
                absorb(c, it, fl, phi, gram, moment, ring, window, pending, exceed, scratch, warm)
        if len(trace):
            trace[i] = asset / channels
        if asset / channels >= threshold:
            if found < limit:
                out_row[found] = first_row + i
                out_channel[found] = best_channel
                out_kind[found] = SHIFT
                out_score[found] = np.log10(asset / channels)
                heaviest(floats[:, 6], out_top[found], out_part[found])
                found += 1
            share = 0.05 * asset
            for c in range(channels):
                if floats[c, 6] >= share and ints[c, 4] == CALM:
                    ints[c, 4] = WATCH
                    ints[c, 5] = 0
                    ints[c, 3] = 0
                    ints[c, 11] = (
                        hold if ints[c, 13] > 2 * hold else min(2 * ints[c, 11], watch.shape[1])
                    )
                    ints[c, 13] = 0
                sr[c] = 0.0
                floats[c, 6] = 0.0
    return found
