"""Evidence that an effect is real, valid at every look.

For counts: the beta-binomial mixture against a binomial null (Robbins, Ann. Math. Stat. 41, 1397;
Howard et al., Ann. Stat. 49, 1055). For values with a standard error: the normal mixture. The null
may be an interval, the room that device noise takes; the evidence is then the least over it, which
is still an e-process. Acting when the evidence reaches 1/alpha acts on nothing with probability at
most alpha, over all looks together.
"""

from __future__ import annotations

import math

__all__ = ["count_evidence", "value_evidence"]


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def count_evidence(count: float, shots: float, null: float, margin: float = 0.0) -> float:
    """Return the log evidence that a probability lies outside `null +- margin`.

    Args:
        count: shots with the outcome, over all looks.
        shots: shots over all looks.
        null: the probability that means "no effect".
        margin: how far device noise alone may move it.

    Example:
        >>> round(count_evidence(50, 100, 0.5), 2), count_evidence(90, 100, 0.5) > math.log(1e6)
        (-2.53, True)
    """
    if shots <= 0:
        return 0.0
    low, high = max(0.0, null - margin), min(1.0, null + margin)
    nearest = min(max(count / shots, low), high)
    if (nearest <= 0.0 and count > 0) or (nearest >= 1.0 and count < shots):
        return math.inf
    likelihood = 0.0
    if count > 0:
        likelihood += count * math.log(nearest)
    if count < shots:
        likelihood += (shots - count) * math.log1p(-nearest)
    mixed = _log_beta(0.5 + count, 0.5 + shots - count) - _log_beta(0.5, 0.5)
    return mixed - likelihood


def value_evidence(total: float, information: float, null: float, margin: float = 0.0) -> float:
    """Return the log evidence that a mean lies outside `null +- margin`.

    Args:
        total: sum of value / variance over all looks.
        information: sum of 1 / variance over all looks.
        null: the value that means "no effect".
        margin: how far device noise alone may move it.

    Example:
        >>> value_evidence(0.0, 100.0, 0.0) < 0 < value_evidence(80.0, 100.0, 0.0)
        True
    """
    if information <= 0:
        return 0.0
    nearest = min(max(total / information, null - margin), null + margin)
    away = total - nearest * information
    spread = _SPREAD
    return 0.5 * (away * away * spread / (1 + spread * information)) - 0.5 * math.log1p(
        spread * information
    )


#: Variance of the effects the normal mixture bets on: effects of about 0.1.
_SPREAD = 0.01
