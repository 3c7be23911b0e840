"""Intervals: sampling alone (Jeffreys), and sampling with device noise and a model's own error.

The combined interval is split conformal (Vovk et al. 2005; for noisy quantum devices arXiv
2511.18225): how far earlier figures with a known answer lay off, in units of a scale that says what
shot noise, predicted device noise and the model's own error together could do, sets the width. Its
coverage holds for figures exchangeable with those, whatever the noise looks like.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

__all__ = ["combined", "conformal_quantile", "jeffreys", "noise_scale"]


def _beta_cdf(x: float, a: float, b: float) -> float:
    """Regularised incomplete beta by its continued fraction (Lentz; DLMF 8.17.22)."""
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    if x > (a + 1) / (a + b + 2):
        return 1.0 - _beta_cdf(1 - x, b, a)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    tiny = 1e-300
    c, d = 1.0, 1.0 / max(tiny, 1 - (a + b) * x / (a + 1))
    total = d
    for m in range(1, 1000):
        for top in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 + top * d
            d = 1 / (d if abs(d) > tiny else tiny)
            c = 1 + top / c
            c = c if abs(c) > tiny else tiny
            total *= c * d
        if abs(c * d - 1) < 1e-12:
            break
    return front * total / a


def _beta_quantile(q: float, a: float, b: float) -> float:
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if _beta_cdf(middle, a, b) < q:
            low = middle
        else:
            high = middle
    return (low + high) / 2


@lru_cache(maxsize=65536)
def jeffreys(count: int, shots: int, confidence: float = 0.9) -> tuple[float, float]:
    """Return the equal-tailed Jeffreys interval of a proportion (Brown, Cai, DasGupta 2001).

    Example:
        >>> low, high = jeffreys(0, 100)
        >>> low, round(high, 4)
        (0.0, 0.019)
    """
    tail = (1 - confidence) / 2
    a, b = count + 0.5, shots - count + 0.5
    low = 0.0 if count == 0 else _beta_quantile(tail, a, b)
    high = 1.0 if count == shots else _beta_quantile(1 - tail, a, b)
    return low, high


def noise_scale(
    value: float, shots: int, success: float, resting: float, model_sd: float = 0.0
) -> float:
    """Return what shot noise, device noise and the model's error together could do to a figure.

    Args:
        value: measured probability.
        shots: shots.
        success: predicted success of the circuit.
        resting: the value a fully decohered device would give.
        model_sd: standard error of the model that uses the figure, when it gives one.
    """
    smooth = (value * shots + 0.5) / (shots + 1)
    sampling = smooth * (1 - smooth) / shots
    pull = (1 - success) * (0.1 + abs(value - resting))
    return math.sqrt(sampling + pull * pull + model_sd * model_sd)


def conformal_quantile(scores: Sequence[float], confidence: float = 0.9) -> float:
    """Return the factor on the scale that covers with this confidence; inf when too few scores.

    Example:
        >>> conformal_quantile([float(n) for n in range(1, 10)]), conformal_quantile([1.0])
        (9.0, inf)
    """
    rank = math.ceil((len(scores) + 1) * confidence)
    return math.inf if rank > len(scores) else sorted(scores)[rank - 1]


def combined(value: float, scale: float, factor: float) -> tuple[float, float]:
    """Return the interval of a probability, within [0, 1]."""
    return max(0.0, value - factor * scale), min(1.0, value + factor * scale)
