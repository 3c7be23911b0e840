"""Intervals: sampling alone (Jeffreys), and sampling with device noise and a model's own error.

The combined interval is split conformal (Vovk et al. 2005; for noisy quantum devices arXiv
2511.18225): how far earlier figures with a known answer lay off, in units of a scale that says what
shot noise, predicted device noise and the model's own error together could do, sets the width. The
scores are kept by where the truth lies (label-conditional: Vovk, Mach. Learn. 92, 349) and by
width, so that truths at 0, near it, between and at 1, of one, two and more qubits, are each covered
as often as promised. Coverage holds for figures exchangeable with those, whatever the noise looks
like.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from statistics import NormalDist, median
from typing import Any, NamedTuple

import numpy as np

__all__ = [
    "ESTIMATES",
    "FIGURES",
    "WIDTHS",
    "Bounds",
    "Figure",
    "Kind",
    "conformal_bounds",
    "interval_from",
    "jeffreys",
    "kind_of",
    "reach",
    "scale_in",
    "score",
    "shot_sd",
    "stratum",
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


class Figure(NamedTuple):
    """A probability as it was measured, or an array of them, and what could have moved it.

    Attributes:
        value: measured; a model's error may put it outside [0, 1].
        sampling: its standard error from the shots; see `shot_sd`.
        success: predicted success of the circuit.
        resting: see `reach`.
        width: qubits of the circuit, or bits of the register.
        model: standard error of the model that uses it.
    """

    value: Any
    sampling: Any
    success: float
    resting: float
    width: int
    model: Any = 0.0


def shot_sd(value: Any, shots: float) -> Any:
    """Return the standard error of a proportion; half a count each way, so it is never nothing."""
    smooth = (value * shots + 0.5) / (shots + 1)
    return np.sqrt(smooth * (1 - smooth) / shots)


def reach(truth: Any, success: float, resting: float) -> Any:
    """Return how far device noise could move a figure with this truth.

    Args:
        truth: probability on the noiseless device.
        success: predicted success of the circuit.
        resting: the value a fully decohered device would give. What few outcomes share, errors
            bring more of to each.
    """
    return (1 - success) * (0.02 + 0.5 * resting + abs(truth - resting))


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


#: Circuits of one, of two, and of more qubits have scores of their own.
WIDTHS = 3


class Bounds(NamedTuple):
    """The scores of one kind: the two that hold the next one, and their median."""

    low: float
    high: float
    median: float = 0.0


def kind_of(truth: float, kinds: Sequence[Kind] = FIGURES) -> Kind:
    """Return which kind a figure with this truth is.

    Example:
        >>> kind_of(0.0).name, kind_of(0.5).name, kind_of(1.0).name
        ('p-zero', 'p-middle', 'p-one')
    """
    return next((k for k in kinds if truth < k.high), kinds[-1])


def stratum(kind: Kind, width: int) -> str:
    """Return under which name the scores of a kind and a width are kept.

    Example:
        >>> stratum(FIGURES[0], 1), stratum(FIGURES[0], 27)
        ('p-zero/1', 'p-zero/3')
    """
    return f"{kind.name}/{min(max(width, 1), WIDTHS)}"


def scale_in(value: Any, sampling: Any, success: float, resting: float, kind: Kind) -> Any:
    """Return what shots and device could do to a figure if its truth were of a kind.

    The truth of that kind nearest to the value stands for it. From the value alone a bad device
    would look good: what it moved far no longer shows how far there was to move.

    Args:
        value: measured probability, or an array of them.
        sampling: its standard error from the shots; see `shot_sd`.
        success: predicted success of the circuit.
        resting: see `reach`.
        kind: what the truth is taken to be.
    """
    truth = np.minimum(np.maximum(value, kind.low), kind.high)
    return np.hypot(sampling, reach(truth, success, resting))


def score(value: float, truth: float, scale: float) -> float:
    """Return how far a known truth lay above a figure, in units of the scale."""
    return (truth - value) / scale


def conformal_bounds(
    scores: Sequence[float], confidence: float = 0.9, below: float = 0.5
) -> Bounds:
    """Return the two scores that hold the next one with this confidence; infinite when too few.

    Args:
        scores: of figures of one stratum.
        confidence: of the bounds together.
        below: share of the misses that is below; at 1 or 0 the other side is open.

    Example:
        >>> conformal_bounds([float(n) for n in range(1, 20)])
        Bounds(low=1.0, high=19.0, median=10.0)
        >>> conformal_bounds([float(n) for n in range(1, 20)], below=1.0)
        Bounds(low=2.0, high=inf, median=10.0)
        >>> conformal_bounds([0.0])
        Bounds(low=-inf, high=inf, median=0.0)
    """
    ordered = sorted(scores)
    room = (len(ordered) + 1) * (1 - confidence)
    low, high = math.floor(room * below + 1e-9), math.floor(room * (1 - below) + 1e-9)
    return Bounds(
        ordered[low - 1] if low >= 1 else -math.inf,
        ordered[len(ordered) - high] if high >= 1 else math.inf,
        median(ordered) if ordered else 0.0,
    )


@cache
def _z(tail: float) -> float:
    return -NormalDist().inv_cdf(tail) if tail > 0 else math.inf


def _far(tail: float, model: Any) -> Any:
    """Return how far a model's error reaches: without one nowhere, however small the tail."""
    return np.where(np.asarray(model) > 0, _z(tail), 0.0) * model


def interval_from(
    figure: Figure,
    bounds: Mapping[str, Bounds],
    kinds: Sequence[Kind] = FIGURES,
    confidence: float = 0.9,
) -> tuple[Any, Any]:
    """Return the least interval with every truth whose score lies within the bounds of its kind.

    When none does, nothing is known and the interval is all of [0, 1]. A model's own error moves
    each bound away from the median of the scores, in quadrature: both are errors of one sum.

    Args:
        figure: what was measured.
        bounds: of the scores of each stratum; see `conformal_bounds` and `stratum`.
        kinds: `FIGURES` or `ESTIMATES`.
        confidence: of the bounds; sets how far the model's error alone would reach.
    """
    miss = 1 - confidence
    low, high = np.full_like(figure.value, np.inf), np.full_like(figure.value, -np.inf)
    for kind in kinds:
        found = bounds[stratum(kind, figure.width)]
        scale = scale_in(figure.value, figure.sampling, figure.success, figure.resting, kind)
        with np.errstate(invalid="ignore"):  # nothing can move it, and nothing is known: the kind
            least, most = found.low * scale, found.high * scale
        if np.any(figure.model):
            middle = found.median * scale
            least = middle - np.hypot(middle - least, _far(miss * kind.below, figure.model))
            most = middle + np.hypot(most - middle, _far(miss * (1 - kind.below), figure.model))
        start = np.fmax(kind.low, figure.value + least)
        end = np.fmin(kind.high, figure.value + most)
        held = start <= end
        low = np.where(held, np.minimum(low, start), low)
        high = np.where(held, np.maximum(high, end), high)
    empty = low > high
    return np.where(empty, 0.0, low), np.where(empty, 1.0, high)
