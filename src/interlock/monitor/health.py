"""Is the detector itself well? Uniformity of its p-values, drift of its inputs, a daily canary.

A detector that absorbs slow change can be led anywhere by small steps. So the inputs are also
compared with a reference that never adapts, over a long window; that is where a slow boil shows.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from interlock.monitor.detectors.alarms import AlarmBank

__all__ = [
    "Health",
    "InputDrift",
    "UniformityMartingale",
    "canary",
    "ks_p",
    "psi",
    "widened",
]

Floats = npt.NDArray[np.float64]


class Health(enum.StrEnum):
    """What a detector's own checks say."""

    GOOD = "good"
    DEGRADED = "degraded"


class UniformityMartingale:
    """Bets that p-values are not uniform.

    By Ville's inequality it passes 1/alpha by chance at most with probability alpha, over all time
    (Vovk, Nouretdinov, Gammerman 2003). Where the wealth is refilled, the level is a rule of thumb.
    Each batch of p-values is bet on by its histogram so far, smoothed, so a lean of any shape pays.

    Example:
        >>> m = UniformityMartingale()
        >>> m.update(np.random.default_rng(0).random(5000)) < 2.0
        True
        >>> m.update(np.random.default_rng(0).random(2000) ** 2) > 2.0
        True
    """

    def __init__(self, *, bins: int = 10, prior: float = 50.0) -> None:
        self._counts = np.full(bins, prior)
        self._log10 = 0.0
        self.peak_log10 = 0.0

    def update(self, p_values: Floats) -> float:
        """Take p-values in order; return the largest log10 wealth so far, refilled at 1e-3."""
        bins = len(self._counts)
        p = np.asarray(p_values, float)
        p = p[np.isfinite(p)]
        for start in range(0, len(p), 100):
            part = np.clip((p[start : start + 100] * bins).astype(int), 0, bins - 1)
            density = self._counts / self._counts.sum() * bins
            self._log10 += float(np.log10(density[part]).sum())
            self._log10 = max(self._log10, -3.0)
            self._counts += np.bincount(part, minlength=bins)
            self.peak_log10 = max(self.peak_log10, self._log10)
        return self.peak_log10


class InputDrift:
    """Long-run level and spread of each channel against a reference that never adapts.

    Args:
        reference: rows in control, signed with the detector's card.
        window_rows: rows averaged; slower boils need longer windows.
        limit: how many reference spreads the average may move.

    `out` holds the channels beyond the limit now, `largest` the largest distance in spreads.
    """

    def __init__(self, reference: Floats, *, window_rows: int = 2000, limit: float = 1.0) -> None:
        self._centre = np.median(reference, axis=0)
        self._scale = 1.4826 * np.median(np.abs(reference - self._centre), axis=0) + 1e-12
        self._weight = 1.0 / window_rows
        self._limit = limit
        self._level = np.zeros(reference.shape[1])
        self.rows = 0
        self.out: set[int] = set()
        self.largest = 0.0

    def update(self, rows: Floats) -> list[int]:
        """Take rows; return the first row of this batch's alarm for each channel, or -1."""
        from scipy.signal import lfilter

        z = np.nan_to_num((rows - self._centre) / self._scale)
        start = self._level[None, :] * (1.0 - self._weight)
        level, _ = lfilter([self._weight], [1.0, self._weight - 1.0], z, axis=0, zi=start)
        self._level = level[-1]
        self.rows += len(rows)
        self.largest = float(np.abs(self._level).max())
        self.out = set(np.flatnonzero(np.abs(self._level) > self._limit).tolist())
        over = np.abs(level) > self._limit
        return [int(k) if o else -1 for k, o in zip(over.argmax(0), over.any(0), strict=True)]


def psi(reference: Floats, recent: Floats, *, bins: int = 10) -> float:
    """Return the population stability index of one channel, on the reference's equal-count bins.

    Below 0.1 is commonly read as stable, above 0.25 as moved. Half a count is added to each bin.

    Example:
        >>> x = np.random.default_rng(0).standard_normal(5000)
        >>> psi(x, x[:2500]) < 0.01, psi(x, x + 1) > 0.5
        (True, True)
    """
    edges = np.quantile(reference[np.isfinite(reference)], np.linspace(0, 1, bins + 1)[1:-1])
    a, b = (
        np.bincount(np.searchsorted(edges, x[np.isfinite(x)]), minlength=bins) + 0.5
        for x in (reference, recent)
    )
    p, q = a / a.sum(), b / b.sum()
    return float(((p - q) * np.log(p / q)).sum())


def ks_p(reference: Floats, recent: Floats) -> float:
    """Return the two-sample Kolmogorov-Smirnov p-value; it supposes independent samples.

    Example:
        >>> x = np.random.default_rng(0).standard_normal(2000)
        >>> ks_p(x[:1000], x[1000:]) > 0.01, ks_p(x, x + 1) < 1e-6
        (True, True)
    """
    from scipy.stats import ks_2samp

    return float(ks_2samp(reference, recent).pvalue)


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryResult:
    """What the synthetic fault did: found, and after how many rows."""

    kind: str
    found: bool
    delay_rows: int


def canary(bank: AlarmBank, recent: Floats, *, kind: str = "shift", seed: int = 0) -> CanaryResult:
    """Put a synthetic fault into recent rows and see whether a copy of the detector finds it.

    The live detector is not touched.
    """
    from interlock.monitor.simulator import inject

    scale = float(np.median(np.abs(np.diff(recent[:, 0])))) + 1e-12
    spread = max(float(recent[:, 0].std()), scale)
    start = len(recent) // 4
    faulty, fault = inject(recent, kind, start, size=2.5 * spread, rng=seed)
    trial = bank.copy()
    first = trial.rows
    rows_at = [a.row - first for a in trial.update(faulty) if a.row - first >= fault.start]
    return CanaryResult(
        kind=kind, found=bool(rows_at), delay_rows=rows_at[0] - fault.start if rows_at else -1
    )


def widened(limit: float, health: Health, *, factor: float = 2.0) -> float:
    """Return a gate's safety margin: a degraded detector makes it wider, never narrower.

    Example:
        >>> widened(0.05, Health.DEGRADED), widened(0.05, Health.GOOD)
        (0.1, 0.05)
    """
    return limit * factor if health is Health.DEGRADED else limit
