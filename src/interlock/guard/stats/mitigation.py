"""The arithmetic of error mitigation: readout weights, extrapolation, and the choice. Pure.

A method is chosen on proxies, circuits like the user's whose answer is known, and only when it
beats doing nothing by more than the proxies' own uncertainty (Czarnik et al., Quantum 5, 592 for
near-Clifford proxies; Russo et al., Quantum 6, 843 show how often mitigation does not help).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

__all__ = ["Choice", "Score", "choose", "extrapolate", "readout_weights", "shot_mean"]

#: Two-sided 90 % points of Student's t by degrees of freedom, as the choice needs them.
_T90 = {1: 6.314, 2: 2.920, 3: 2.353, 4: 2.132, 5: 2.015, 6: 1.943, 7: 1.895, 8: 1.860, 9: 1.833,
        10: 1.812, 12: 1.782, 15: 1.753, 20: 1.725, 30: 1.697}  # fmt: skip


def readout_weights(p01: float, p10: float) -> tuple[float, float]:
    """Return what reading 0 and reading 1 count for <Z>, so that assignment errors cancel.

    The row (1, -1) times the inverse assignment matrix: unbiased for errors that are independent
    between qubits, at the price of variance (Bravyi et al., Phys. Rev. A 103, 042605).

    Raises:
        ValueError: the readout tells nothing (p01 + p10 = 1).

    Example:
        >>> readout_weights(0.0, 0.0)
        (1.0, -1.0)
        >>> a, b = readout_weights(0.02, 0.06)
        >>> round(0.98 * a + 0.02 * b, 12), round(0.06 * a + 0.94 * b, 12)
        (1.0, -1.0)
    """
    determinant = 1.0 - p01 - p10
    if abs(determinant) < 1e-6:
        raise ValueError("the readout tells nothing")
    return (1.0 - p10 + p01) / determinant, -(1.0 - p01 + p10) / determinant


def shot_mean(values: np.ndarray, counts: np.ndarray, bound: float) -> tuple[float, float]:
    """Return mean and variance of the mean of one figure a shot.

    Two shots at the bounds are added for the variance alone, so that it is never nothing.

    Args:
        values: the figure of each distinct outcome.
        counts: how often each was seen.
        bound: largest absolute figure.
    """
    shots = float(counts.sum())
    mean = float((values * counts).sum() / shots)
    square = (float((values**2 * counts).sum()) + 2 * bound**2) / (shots + 2)
    centre = mean * shots / (shots + 2)
    return mean, max(square - centre**2, 0.0) / shots


def extrapolate(
    scales: Sequence[float], values: Sequence[float], variances: Sequence[float]
) -> tuple[float, float]:
    """Return the value at no noise and its variance (Temme et al., Phys. Rev. Lett. 119, 180509).

    An exponential through values that are clearly of one sign and do not grow, as noise that
    multiplies by a constant gives (Endo et al., Phys. Rev. X 8, 031027), else a straight line.

    Example:
        >>> value, variance = extrapolate((1, 3), (0.81, 0.729), (1e-4, 1e-4))
        >>> round(value, 4)
        0.8538
        >>> round(extrapolate((1, 3), (0.1, -0.1), (1e-2, 1e-2))[0], 4)
        0.2
    """
    x, y = np.asarray(scales, float), np.asarray(values, float)
    variance = np.asarray(variances, float)
    centred = x - x.mean()
    weights = 1 / len(x) - x.mean() * centred / (centred**2).sum()
    sizes = np.abs(y)
    clear = np.all(sizes > 3 * np.sqrt(variance)) and np.all(np.sign(y) == np.sign(y[0]))
    if clear and sizes[-1] <= sizes[0]:
        top = math.exp(float(weights @ np.log(sizes)))
        spread = top**2 * float((weights**2 * variance / y**2).sum())
        return math.copysign(top, float(y[0])), spread
    return float(weights @ y), float((weights**2 * variance).sum())


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """How a method did on the proxies.

    Attributes:
        rmse: root mean square error.
        bias: mean of (estimate - truth) in the direction of the truth: negative is damped.
        variance: mean variance the method gives its own estimates.
        gain: mean squared error saved against doing nothing, with its interval.
        gain_low: lower end of the 90 % interval of `gain`.
        gain_high: upper end.
        overhead: circuits run for each circuit of the user's, at equal shots in total.
    """

    rmse: float
    bias: float
    variance: float
    gain: float
    gain_low: float
    gain_high: float
    overhead: int


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """The method chosen, and every method's record on the proxies."""

    method: str
    reason: str
    proxies: int
    scores: dict[str, Score]


def choose(
    truths: Sequence[float],
    estimates: Mapping[str, Sequence[tuple[float, float]]],
    overheads: Mapping[str, int],
) -> Choice:
    """Return the method with the least error on the proxies, or `none` when that is not clear.

    Args:
        truths: the proxies' known answers.
        estimates: method -> (value, variance) of each proxy; `none` must be among them.
        overheads: method -> circuits run for each circuit.

    Raises:
        ValueError: fewer than three proxies, or no `none`.

    Example:
        >>> truths = [0.9, 0.8, 0.7, 0.9]
        >>> raw = [(0.8 * t, 1e-4) for t in truths]
        >>> good = [(t + 0.01 * s, 2e-4) for t, s in zip(truths, (1, -1, 1, -1))]
        >>> choose(truths, {"none": raw, "zne": good}, {"none": 1, "zne": 3}).method
        'zne'
        >>> choose(truths, {"none": good, "zne": raw}, {"none": 1, "zne": 3}).method
        'none'
    """
    if len(truths) < 3 or "none" not in estimates:
        raise ValueError(f"{len(truths)} proxies, methods {sorted(estimates)}")
    truth = np.asarray(truths, float)
    direction = np.where(truth >= 0, 1.0, -1.0)
    errors = {m: np.array([v for v, _ in rows]) - truth for m, rows in estimates.items()}
    points = [d for d in sorted(_T90) if d <= len(truth) - 1]
    reach = _T90[points[-1]]
    scores = {}
    for method, error in errors.items():
        saved = errors["none"] ** 2 - error**2
        half = reach * float(saved.std(ddof=1)) / math.sqrt(len(truth))
        scores[method] = Score(
            rmse=math.sqrt(float((error**2).mean())),
            bias=float((error * direction).mean()),
            variance=float(np.mean([v for _, v in estimates[method]])),
            gain=float(saved.mean()),
            gain_low=float(saved.mean()) - half,
            gain_high=float(saved.mean()) + half,
            overhead=overheads[method],
        )
    clear = [m for m, s in scores.items() if m != "none" and s.gain_low > 0]
    if not clear:
        method = "none"
        reason = "no method's gain over doing nothing is clear of nought on the proxies"
    else:
        method = min(clear, key=lambda m: (scores[m].rmse, m))
        reason = f"error {scores[method].rmse:.3g} against {scores['none'].rmse:.3g} on the proxies"
    return Choice(method=method, reason=reason, proxies=len(truth), scores=scores)
