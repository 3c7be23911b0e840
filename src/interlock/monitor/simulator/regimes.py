"""Sensor noise in control: the regimes in which a detector must keep its false-alarm budget."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

__all__ = ["REGIMES", "jump_times", "one_over_f", "regime"]

Floats = npt.NDArray[np.float64]
AR1 = 0.9


def _ar1(noise: Floats, phi: float) -> Floats:
    from scipy.signal import lfilter

    return np.asarray(lfilter([np.sqrt(1 - phi * phi)], [1.0, -phi], noise, axis=0))


def _iid(rows: int, rng: np.random.Generator) -> Floats:
    return rng.standard_normal(rows)


def _heavy(rows: int, rng: np.random.Generator) -> Floats:
    return rng.standard_t(3, rows)


def _correlated(rows: int, rng: np.random.Generator) -> Floats:
    return _ar1(rng.standard_normal(rows), AR1)


def _drift(rows: int, rng: np.random.Generator) -> Floats:
    """AR(1) on a slow wave of five standard deviations, period 250,000 rows."""
    wave = 5.0 * np.sin(2 * np.pi * (np.arange(rows) / 250_000 + rng.random()))
    return _correlated(rows, rng) + wave


def jump_times(rows: int, every: int = 5000) -> npt.NDArray[np.int64]:
    """Return the rows at which the `jumps` regime changes level."""
    return np.arange(every, rows, every, dtype=np.int64)


def _jumps(rows: int, rng: np.random.Generator) -> Floats:
    """AR(1) whose level truly moves by 3 to 6 standard deviations every 5,000 rows."""
    level = np.zeros(rows)
    for start in jump_times(rows):
        level[start:] += rng.choice([-1.0, 1.0]) * rng.uniform(3.0, 6.0)
    return _correlated(rows, rng) + level


REGIMES: dict[str, Callable[[int, np.random.Generator], Floats]] = {
    "iid": _iid,
    "heavy-tailed": _heavy,
    "autocorrelated": _correlated,
    "slow-drift": _drift,
    "after-jumps": _jumps,
}


def regime(name: str, rows: int, *, rng: np.random.Generator | int | None = None) -> Floats:
    """Return one channel of a named regime.

    Example:
        >>> regime("iid", 3, rng=0).round(3).tolist()
        [0.126, -0.132, 0.64]
    """
    return REGIMES[name](rows, np.random.default_rng(rng))


def one_over_f(rows: int, *, rng: np.random.Generator | int | None = None) -> Floats:
    """Return 1/f noise of unit variance: a sum of OU processes with log-spaced time constants."""
    rng = np.random.default_rng(rng)
    parts = [
        _ar1(rng.standard_normal(rows), float(np.exp(-1.0 / tau)))
        for tau in np.logspace(0.5, 4.5, 9)
    ]
    total: Floats = np.sum(parts, axis=0) / 3.0
    return total
