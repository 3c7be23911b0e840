"""Drift forecasts with conformal intervals, beside the two baselines that often win.

T1 returns to its mean, so the historic mean is the honest baseline; the forecaster says to use it
where it wins on the held-back tail of the history. Intervals are the empirical quantiles of past
absolute errors at the same horizon (split conformal over time), so their coverage is measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from interlock.errors import InputError

__all__ = [
    "METHODS",
    "Forecast",
    "Outlook",
    "backtest",
    "forecast",
    "outlook",
    "recalibration_window",
]

Floats = npt.NDArray[np.float64]
MIN_HISTORY = 20
MAX_HISTORY = 120
MIN_PATHS = 11


def _persistence(history: Floats, horizon: int) -> Floats:
    return np.full(horizon, history[-1])


def _mean(history: Floats, horizon: int) -> Floats:
    return np.full(horizon, history.mean())


def _smoothing(history: Floats, horizon: int) -> Floats:
    """Simple exponential smoothing; the weight is the one with least one-step error."""
    best, level_best = np.inf, float(history[-1])
    for weight in (0.05, 0.1, 0.2, 0.35, 0.5, 0.8):
        level, loss = float(history[0]), 0.0
        for value in history[1:]:
            loss += (value - level) ** 2
            level += weight * (value - level)
        if loss < best:
            best, level_best = loss, level
    return np.full(horizon, level_best)


def _reverting(history: Floats, horizon: int) -> Floats:
    """AR(1) towards the mean, with its coefficient shrunk by the length of the history."""
    centre = history.mean()
    z = history - centre
    power = float(z[:-1] @ z[:-1])
    phi = float(z[1:] @ z[:-1]) / power if power > 0 else 0.0
    phi = min(max(phi * len(z) / (len(z) + 10.0), 0.0), 0.98)
    path: Floats = centre + z[-1] * phi ** np.arange(1, horizon + 1)
    return path


METHODS = {
    "persistence": _persistence,
    "mean": _mean,
    "smoothing": _smoothing,
    "mean-reverting": _reverting,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """The next values with an interval, the method that earned it, and its advice.

    `p_cross[h]` is the chance of being below the threshold at some step up to h, from the past
    error paths themselves.
    """

    method: str
    path: Floats
    low: Floats
    high: Floats
    error: dict[str, float]
    p_cross: Floats
    advice: str


def _first(count: int) -> int:
    """Return the first origin of past errors: what a method learns from comes before it."""
    return max(MIN_HISTORY // 2, count // 3)


def _enough(count: int, horizon: int) -> bool:
    """Return whether so many values leave enough past error paths for an interval."""
    paths = count - horizon + 1 - _first(count)
    return count >= MIN_HISTORY + horizon and paths >= MIN_PATHS


def backtest(history: Floats, horizon: int, method: str) -> Floats:
    """Return past error paths (origins, horizon), each from data before its origin only."""
    origins = range(_first(len(history)), len(history) - horizon + 1)
    return np.array(
        [history[k : k + horizon] - METHODS[method](history[:k], horizon) for k in origins]
    )


def forecast(
    history: npt.ArrayLike,
    *,
    horizon: int = 7,
    coverage: float = 0.8,
    threshold: float | None = None,
) -> Forecast:
    """Forecast a positive series such as T1; worked in logarithms.

    Raises:
        InputError: too short, or not positive and finite.

    Example:
        >>> got = forecast([100, 104, 97, 101, 99, 103, 98, 100] * 5, horizon=3)
        >>> got.low.shape, bool((got.low < got.path).all())
        ((3,), True)
    """
    values = np.asarray(history, float)
    if (
        values.ndim != 1
        or not _enough(len(values), horizon)
        or not np.isfinite(values).all()
        or (values <= 0).any()
        or not 0 < coverage < 1
    ):
        raise InputError(
            "the history cannot be forecast",
            code="monitor-forecast",
            got=f"{values.shape} values",
            expected=f"positive finite values, at least {MIN_HISTORY + horizon} and so many that"
            f" {MIN_PATHS} past forecasts can be judged",
            fix="wait for more calibrations, or shorten the horizon",
        )
    log = np.log(values)
    paths = {name: backtest(log, horizon, name) for name in METHODS}
    error = {name: float(np.abs(e).mean()) for name, e in paths.items()}
    best = min(error, key=lambda name: error[name])
    # A method has to beat the plain mean by more than chance would let it.
    method = best if error[best] < 0.97 * error["mean"] else "mean"
    errors = paths[method]
    path = METHODS[method](log, horizon)
    rank = min(int(np.ceil(coverage * (len(errors) + 1))), len(errors)) - 1
    half = np.sort(np.abs(errors), axis=0)[rank]
    p_cross = np.zeros(horizon)
    if threshold is not None:
        futures = np.minimum.accumulate(path + errors, axis=1)
        p_cross = (futures < np.log(threshold)).mean(axis=0)
    advice = "use the mean" if method == "mean" else f"use {method}"
    return Forecast(
        method=method,
        path=np.exp(path),
        low=np.exp(path - half),
        high=np.exp(path + half),
        error=error,
        p_cross=p_cross,
        advice=advice,
    )


def recalibration_window(got: Forecast, *, risk: float = 0.2) -> int | None:
    """Return how many steps the chance of crossing stays below `risk`; None if over all of them.

    Recalibrate within them; 0 says that already the first step is too late.
    """
    over = np.flatnonzero(got.p_cross >= risk)
    return int(over[0]) if len(over) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """When a value is expected to fall below a threshold, from its own history.

    Attributes:
        steps: values in the history used.
        step_h: median hours between them.
        method: what forecast it; `mean` where nothing beats the historic mean.
        p_cross: chance of being below the threshold within the horizon.
        hours: to the first step at which that chance reaches the risk, or None within a week of
            steps.
        low: lower end of the 80 % interval at the horizon.
    """

    steps: int
    step_h: float
    method: str
    p_cross: float
    hours: float | None
    low: float


def outlook(
    history: list[tuple[float, float]],
    *,
    threshold: float,
    horizon_h: float = 24.0,
    risk: float = 0.2,
    steps: int = 7,
) -> Outlook | None:
    """Return the outlook of (time in seconds, value) pairs; None when they are too few.

    A horizon of more than `steps` steps needs as many more values: it is never cut short.

    Example:
        >>> days = [(86_400.0 * k, 100.0 + 5 * (-1) ** k) for k in range(40)]
        >>> got = outlook(days, threshold=50.0)
        >>> got.method, got.p_cross, got.hours
        ('mean', 0.0, None)
        >>> outlook(days[:10], threshold=50.0) is None
        True
    """
    table = np.array(sorted(history)[-MAX_HISTORY:], float).reshape(-1, 2)
    table = table[np.isfinite(table).all(axis=1) & (table[:, 1] > 0)]
    if not _enough(len(table), steps):
        return None
    step_h = max(float(np.median(np.diff(table[:, 0]))) / 3600.0, 1e-6)
    within = max(int(np.ceil(min(horizon_h / step_h, 1e6))), 1) - 1
    steps = max(steps, within + 1)
    if not _enough(len(table), steps):
        return None
    got = forecast(table[:, 1], horizon=steps, threshold=threshold)
    over = np.flatnonzero(got.p_cross >= risk)
    return Outlook(
        steps=len(table),
        step_h=step_h,
        method=got.method,
        p_cross=float(got.p_cross[within]),
        hours=float(over[0] + 1) * step_h if len(over) else None,
        low=float(got.low[within]),
    )
