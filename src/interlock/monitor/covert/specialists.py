"""Specialist statistics of a window of intervals. Each is blind to most channels; all are kept."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

__all__ = ["STATISTICS", "statistics_of"]

Floats = npt.NDArray[np.float64]
PERIODS_NS = (8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
HARMONICS = 10


def _centred(gaps: Floats) -> Floats:
    x = np.log(np.maximum(gaps, 1e-9))
    z: Floats = (x - x.mean()) / (x.std() + 1e-12)
    return z


def lag_one(gaps: Floats) -> float:
    """Autocorrelation at lag one: schedules remember, random bits do not."""
    z = _centred(gaps)
    return float(z[1:] @ z[:-1] / len(z))


def pair_asymmetry(gaps: Floats) -> float:
    """Log ratio of squared steps within even pairs to those across: a swap moves only these."""
    z = _centred(gaps)
    z = z[: len(z) // 2 * 2]
    within = np.mean((z[0::2] - z[1::2]) ** 2)
    across = np.mean((z[1:-1:2] - z[2::2]) ** 2)
    return float(np.log(within + 1e-12) - np.log(across + 1e-12))


def pair_order(gaps: Floats) -> float:
    """How well the order in a pair agrees with its neighbours, at the worse of both pairings.

    For a pair (a, b) between p and n the mean of (a - b)(n - p) is negative where intervals change
    slowly, and nought where the order carries random bits.
    """
    z = _centred(gaps)
    product = (z[1:-2] - z[2:-1]) * (z[3:] - z[:-3])
    return float(max(product[0::2].mean(), product[1::2].mean()))


def lag_two(gaps: Floats) -> float:
    """Autocorrelation at lag two."""
    z = _centred(gaps)
    return float(z[2:] @ z[:-2] / len(z))


def lag_three(gaps: Floats) -> float:
    """Autocorrelation at lag three."""
    z = _centred(gaps)
    return float(z[3:] @ z[:-3] / len(z))


def spread(gaps: Floats) -> float:
    """Standard deviation of the logarithm."""
    return float(np.log(np.maximum(gaps, 1e-9)).std())


def shape(gaps: Floats) -> float:
    """Fourth moment of the logarithm: two-valued intervals have a small one."""
    return float(np.mean(_centred(gaps) ** 4))


def phase(gaps: Floats) -> float:
    """Square root of the H statistic of the phase, at the worst of several periods.

    H = max over m of Z2_m - 4 m + 4, where Z2_m adds the power of the first m harmonics (de Jager,
    Raubenheimer, Swanepoel 1989). m = 1 is Rayleigh's test; bits written at exact places show in
    every harmonic, so a few marked pulses are enough.
    """
    best = 0.0
    for period in PERIODS_NS:
        turn = np.exp(2j * np.pi * gaps / period)
        harmonic, power = turn, 0.0
        for m in range(1, HARMONICS + 1):
            power += 2.0 * float(abs(harmonic.sum()) ** 2) / len(gaps)
            best = max(best, power - 4.0 * m + 4.0)
            harmonic = harmonic * turn
    return float(np.sqrt(best))


def conditional_entropy(gaps: Floats) -> float:
    """Corrected conditional entropy of order 3 on 5 equal-count bins (Gianvecchio, Wang 2007)."""
    edges = np.quantile(gaps, [0.2, 0.4, 0.6, 0.8])
    symbols = np.searchsorted(edges, gaps)
    best, before = np.inf, 0.0
    first = 0.0
    for order in (1, 2, 3):
        codes = sum(symbols[k : len(symbols) - order + 1 + k] * 5**k for k in range(order))
        _, counts = np.unique(codes, return_counts=True)
        p = counts / counts.sum()
        entropy = float(-(p * np.log2(p)).sum())
        first = entropy if order == 1 else first
        unique = float((counts == 1).sum()) / len(codes)
        best = min(best, entropy - before + unique * first)
        before = entropy
    return best


STATISTICS: dict[str, Callable[[Floats], float]] = {
    "lag-1": lag_one,
    "lag-2": lag_two,
    "lag-3": lag_three,
    "pair": pair_asymmetry,
    "pair-order": pair_order,
    "spread": spread,
    "shape": shape,
    "phase": phase,
    "entropy": conditional_entropy,
}


def statistics_of(gaps: Floats) -> Floats:
    """Return every statistic of one window, in the order of `STATISTICS`."""
    return np.array([f(gaps) for f in STATISTICS.values()])
