"""A betting e-process for failure counts: evidence that a device does worse than it says.

Each shot either fails or not. Under the null hypothesis every shot fails with a probability of at
most p0 given the past; p0 may differ from job to job. Betting on a failure rate p1 > p0 multiplies
the wealth by the likelihood ratio, which has expectation at most 1 under the null, so wealth is a
supermartingale, and by Ville's inequality it ever reaches 1/alpha with probability at most alpha:
over the device's whole life, however often anyone looks (Ville 1939; Shafer, JRSS A 184, 407;
Waudby-Smith and Ramdas, JRSS B 86, 1). Bets on several rates are averaged, and a new bet begins
with each job with weight 1/(j(j+1)), which sums to 1: the total is still an e-process, and a device
that was well for long cannot bank the credit.
"""

from __future__ import annotations

import math

import msgspec

__all__ = ["RATIOS", "Evidence", "update"]

#: The bets: odds of failure this many times those of the null.
RATIOS = (1.25, 1.6, 2.2, 3.5, 6.0, 12.0)
_EMPTY = -1e300


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one stream, small enough to store and to share.

    Attributes:
        bets: logarithm of the started wealth of each ratio.
        jobs: jobs seen.
        shots: sentinel shots seen.
        failures: failed sentinel shots.
        peak: the largest log evidence ever reached; an alarm stays until someone clears it.
    """

    bets: tuple[float, ...] = (_EMPTY,) * len(RATIOS)
    jobs: int = 0
    shots: int = 0
    failures: int = 0
    peak: float = 0.0

    @property
    def log_value(self) -> float:
        """Logarithm of the e-value now, with the weight of the bets not yet begun."""
        waiting = math.log(1.0 / (self.jobs + 1))
        started = _logsum(self.bets) - math.log(len(self.bets))
        return _logsum((waiting, started))

    def alarms(self, alpha: float) -> bool:
        """Whether the evidence has ever reached 1/alpha."""
        return self.peak >= math.log(1.0 / alpha)


def _logsum(values: tuple[float, ...]) -> float:
    top = max(values)
    return top + math.log(sum(math.exp(v - top) for v in values)) if top > _EMPTY else _EMPTY


def update(state: Evidence, *, failures: int, shots: int, p0: float) -> Evidence:
    """Return the evidence after one more job.

    Args:
        state: before.
        failures: sentinel shots with a wrong answer.
        shots: sentinel shots.
        p0: the failure probability the calibration allows for, fixed before the job ran.

    Raises:
        ValueError: counts or probability out of range.

    Example:
        >>> calm, ill = Evidence(), Evidence()
        >>> for _ in range(20):
        ...     calm = update(calm, failures=5, shots=100, p0=0.05)
        ...     ill = update(ill, failures=12, shots=100, p0=0.05)
        >>> calm.alarms(1e-3), ill.alarms(1e-3)
        (False, True)
    """
    if not 0 <= failures <= shots or not 0.0 < p0 < 1.0:
        raise ValueError(f"failures {failures}, shots {shots}, p0 {p0}")
    number = state.jobs + 1
    begin = -math.log(number * (number + 1))
    odds = p0 / (1 - p0)
    bets = []
    for old, ratio in zip(state.bets, RATIOS, strict=True):
        p1 = ratio * odds / (1 + ratio * odds)
        gain = failures * math.log(p1 / p0) + (shots - failures) * math.log((1 - p1) / (1 - p0))
        bets.append(max(_EMPTY, _logsum((old, begin)) + gain))
    made = Evidence(
        bets=tuple(bets),
        jobs=number,
        shots=state.shots + shots,
        failures=state.failures + failures,
        peak=state.peak,
    )
    return msgspec.structs.replace(made, peak=max(made.peak, made.log_value))
