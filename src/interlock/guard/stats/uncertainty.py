"""Intervals: sampling alone (Jeffreys), and sampling with device noise and a model's own error.

The combined interval is split conformal (Vovk et al. 2005; for noisy quantum devices arXiv
2511.18225): how far earlier figures with a known answer lay off, in units of a scale that says what
shot noise, predicted device noise and the model's own error together could do, sets the width. The
scores are kept by where the truth lies (label-conditional: Vovk, Mach. Learn. 92, 349), so that
truths at 0, near it, between and at 1 are each covered as often as promised. Coverage holds for
figures exchangeable with those, whatever the noise looks like.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

__all__ = [
    "ESTIMATES",
    "FIGURES",
    "Kind",
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
        resting: the value a fully decohered device would give. What few outcomes share, errors
            bring more of to each.
        model: standard error of the model that uses the figure, when it gives one.
    """
    lost = (1 - success) * (0.02 + 0.5 * resting + abs(value - resting))
    return Scale(sampling, lost, model)


class Kind(NamedTuple):
    """Figures whose truth lies in one range have scores of their own.

    Attributes:
        name: under which their scores are kept.
        low: the truth is at least this.
        high: and at most this.
        below: share of the misses that the lower score bound takes; at a truth of 0 every error
            is to one side, at 1 to the other, and there the other bound is open.
    """

    name: str
    low: float
    high: float
    below: float


#: Probabilities of outcomes by their truth.
FIGURES = (
    Kind("p-zero", 0.0, 0.002, 1.0),
    Kind("p-small", 0.002, 0.04, 0.5),
    Kind("p-middle", 0.04, 0.998, 0.5),
    Kind("p-one", 0.998, 1.0, 0.0),
)
#: Expectation values, moved to the scale of a probability.
ESTIMATES = (
    Kind("e-low", 0.0, 0.04, 1.0),
    Kind("e-middle", 0.04, 0.96, 0.5),
    Kind("e-high", 0.96, 1.0, 0.0),
)


def kind_of(truth: float, kinds: Sequence[Kind] = FIGURES) -> Kind:
    """Return which kind a figure with this truth is.

    Example:
        >>> kind_of(0.0).name, kind_of(0.5).name, kind_of(1.0).name
        ('p-zero', 'p-middle', 'p-one')
    """
    return next((k for k in kinds if truth < k.high), kinds[-1])


def score(value: float, truth: float, scale: float) -> float:
    """Return how far a known truth lay above a figure, in units of the scale."""
    return (truth - value) / scale


def conformal_bounds(
    scores: Sequence[float], confidence: float = 0.9, below: float = 0.5
) -> tuple[float, float]:
    """Return the two scores that hold the next one with this confidence; infinite when too few.

    Args:
        scores: of figures of one kind.
        confidence: of the bounds together.
        below: share of the misses that is below; at 1 or 0 the other side is open.

    Example:
        >>> conformal_bounds([float(n) for n in range(1, 20)])
        (1.0, 19.0)
        >>> conformal_bounds([float(n) for n in range(1, 20)], below=1.0)
        (2.0, inf)
        >>> conformal_bounds([0.0])
        (-inf, inf)
    """
    ordered = sorted(scores)
    room = (len(ordered) + 1) * (1 - confidence)
    low, high = math.floor(room * below + 1e-9), math.floor(room * (1 - below) + 1e-9)
    return (
        ordered[low - 1] if low >= 1 else -math.inf,
        ordered[len(ordered) - high] if high >= 1 else math.inf,
    )


def interval_from(
    value: float,
    scale: float,
    bounds: Mapping[str, tuple[float, float]],
    kinds: Sequence[Kind] = FIGURES,
    model: float = 0.0,
) -> tuple[float, float]:
    """Return the least interval with every truth whose score lies within the bounds of its kind.

    When none does, nothing is known and the interval is all of [0, 1].

    Args:
        value: measured probability.
        scale: of shots and device; the scores are in units of it.
        bounds: of the scores of each kind; see `conformal_bounds`.
        kinds: `FIGURES` or `ESTIMATES`.
        model: half-width that the model's own error has by itself; it adds in quadrature.
    """
    low, high = math.inf, -math.inf
    for kind in kinds:
        least, most = bounds[kind.name]
        start, end = max(kind.low, value + least * scale), min(kind.high, value + most * scale)
        if start <= end:
            low, high = min(low, start), max(high, end)
    if low > high:
        return 0.0, 1.0
    centre, half = (low + high) / 2, math.hypot((high - low) / 2, model)
    return max(0.0, centre - half), min(1.0, centre + half)
