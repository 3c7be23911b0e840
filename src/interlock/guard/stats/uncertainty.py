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
from typing import NamedTuple

__all__ = [
    "KINDS",
    "Scale",
    "conformal_bounds",
    "interval_from",
    "jeffreys",
    "kind_of",
    "scale_of",
    "score",
    "shot_sd",
]


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


class Scale(NamedTuple):
    """What could have moved a figure: standard deviations of the three parts.

    Attributes:
        sampling: of the shots.
        device: of the device's noise, from the predicted success.
        model: of the model that uses the figure.
    """

    sampling: float
    device: float
    model: float = 0.0

    @property
    def physical(self) -> float:
        """Shots and device together."""
        return math.hypot(self.sampling, self.device)


def shot_sd(value: float, shots: float) -> float:
    """Return the standard error of a proportion; half a count each way, so it is never nothing."""
    smooth = (value * shots + 0.5) / (shots + 1)
    return math.sqrt(smooth * (1 - smooth) / shots)


def scale_of(
    value: float, sampling: float, success: float, resting: float, model: float = 0.0
) -> Scale:
    """Return what shot noise, device noise and the model's error together could do to a figure.

    Args:
        value: measured probability.
        sampling: its standard error from the shots; see `shot_sd`.
        success: predicted success of the circuit.
        resting: the value a fully decohered device would give.
        model: standard error of the model that uses the figure, when it gives one.
    """
    return Scale(sampling, (1 - success) * (0.1 + abs(value - resting)), model)


#: Figures whose truth is likely near 0, small, between, or near 1 err differently, so each kind has
#: scores of its own.
KINDS = ("low", "small", "middle", "high")


def kind_of(value: float, success: float, resting: float) -> str:
    """Return which of `KINDS` a figure is, by where its truth would lie if noise were uniform.

    Example:
        >>> kind_of(0.02, 0.9, 0.25), kind_of(0.5, 0.9, 0.25), kind_of(0.9, 0.9, 0.25)
        ('low', 'middle', 'high')
    """
    likely = (value - (1 - success) * resting) / max(success, 0.05)
    steps = (("low", 0.03), ("small", 0.12), ("middle", 0.9))
    return next((name for name, top in steps if likely < top), "high")


def score(value: float, truth: float, scale: float, resting: float) -> float:
    """Return how far a known truth lay from a figure, in units of the scale, signed.

    Positive is away from the resting value: noise pulls towards it, so truths lie beyond.
    """
    return (truth - value) / scale * (1.0 if value >= resting else -1.0)


def conformal_bounds(scores: Sequence[float], confidence: float = 0.9) -> tuple[float, float]:
    """Return the two scores that hold the next one with this confidence; infinite when too few.

    Example:
        >>> conformal_bounds([float(n) for n in range(1, 20)])
        (1.0, 19.0)
        >>> conformal_bounds([0.0])
        (-inf, inf)
    """
    ordered = sorted(scores)
    tail = (len(ordered) + 1) * (1 - confidence) / 2
    low = math.floor(tail + 1e-9)
    if low < 1:
        return -math.inf, math.inf
    return ordered[low - 1], ordered[len(ordered) - low]


def interval_from(
    value: float,
    scale: float,
    bounds: tuple[float, float],
    resting: float,
    model: float = 0.0,
) -> tuple[float, float]:
    """Return the interval of a probability that these scores give, within [0, 1].

    Args:
        value: measured probability.
        scale: of shots and device; the scores are in units of it.
        bounds: see `conformal_bounds`.
        resting: the value a fully decohered device would give.
        model: half-width that the model's own error has by itself; it adds in quadrature.
    """
    low, high = bounds if value >= resting else (-bounds[1], -bounds[0])
    half = math.hypot((high - low) / 2 * scale, model)
    centre = value + (low + high) / 2 * scale if math.isfinite(half) else value
    return min(1.0, max(0.0, centre - half)), max(0.0, min(1.0, centre + half))
