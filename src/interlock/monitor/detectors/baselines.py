"""The detectors to beat: static three sigma, and detrended EWMA, in plain numpy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["detrended_ewma_scores", "onsets", "static_scores"]

Floats = npt.NDArray[np.float64]


def _ewma(x: Floats, weight: float) -> Floats:
    from scipy.signal import lfilter

    start = x[:1] * (1 - weight)
    return np.asarray(lfilter([weight], [1.0, weight - 1.0], x, axis=0, zi=start)[0])


def static_scores(x: Floats, train_rows: int) -> Floats:
    """Return |x - mean| / sd, mean and sd learnt once on the first rows; largest channel."""
    head = x[:train_rows]
    return np.asarray(np.max(np.abs(x - head.mean(axis=0)) / head.std(axis=0), axis=1))


def detrended_ewma_scores(
    x: Floats, train_rows: int, *, weight: float = 0.1, trend_rows: int = 2000
) -> Floats:
    """Return |EWMA(x - trend)| in its own sd, trend being a slow past EWMA; largest channel."""
    trend = np.vstack([x[:1], _ewma(x, 1.0 / trend_rows)[:-1]])
    chart = _ewma(x - trend, weight)
    return np.asarray(np.max(np.abs(chart) / chart[:train_rows].std(axis=0), axis=1))


def onsets(scores: Floats, threshold: float, *, quiet_rows: int = 1) -> npt.NDArray[np.int64]:
    """Return the rows where scores rise above the threshold after `quiet_rows` below it.

    Example:
        >>> onsets(np.array([0, 4, 5, 0, 0, 6.0]), 3.0).tolist()
        [1, 5]
    """
    rows = np.flatnonzero(scores > threshold)
    if not len(rows):
        return rows
    first = np.concatenate([[True], np.diff(rows) > quiet_rows])
    starts: npt.NDArray[np.int64] = rows[first]
    return starts
