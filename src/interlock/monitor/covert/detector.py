"""One verdict from specialist tests, by averaging e-values; and the capacity it leaves.

Each statistic's distance from its centre, alone and given the others, becomes a conformal p-value
against honest windows; p-values become e-values by the calibrator b * p**(b-1); e-values are
averaged, which is valid under any dependence (Vovk and Wang 2021). The alarm level is the e-value
that honest windows pass with the stated false-positive rate.

Blind zone: where honest timing is itself independent, a channel that copies its distribution looks
the same to every test here. `power` measures what is found at each size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from interlock.errors import InputError
from interlock.monitor.covert.specialists import STATISTICS, statistics_of

__all__ = ["CovertDetector", "CovertVerdict", "capacity_bits_per_interval"]

Floats = npt.NDArray[np.float64]
BETS = np.array([0.1, 0.3, 0.6])
CAP = 40.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CovertVerdict:
    """What a window shows. `alarm` needs evidence and an estimated rate above the policy budget."""

    e_value: float
    threshold: float
    found: bool
    strongest: str
    bits_per_interval: float
    bits_per_s: float
    alarm: bool


def capacity_bits_per_interval(gaps: Floats, strongest: str) -> float:
    """Return the estimated information an interval carries, by the test that found it.

    Phase tests: mutual information of a two-phase code, from the resultant of the doubled phase.
    Others: at most one bit an interval times the share of order that is missing. An estimate.
    """
    if strongest == "phase":
        best = 0.0
        for period in (8.0, 16.0, 32.0, 64.0, 128.0, 256.0):
            r = abs(np.exp(2j * np.pi * gaps / period).mean())
            best = max(best, float(np.sqrt(max(r * r - 1.0 / len(gaps), 0.0))))
        return best
    if strongest.startswith("pair"):
        return 0.5
    return 1.0


class CovertDetector:
    """Learns honest windows of one length, then tests windows.

    Args:
        honest: windows (count, length) of honest intervals in nanoseconds; a third sets
            the centre of each statistic and how they go together, a third the p-values, a third
            the alarm level.
        false_positive: share of honest windows that may be called found.
        budget_bits_per_s: the policy's budget; an estimated rate below it does not alarm.
    """

    def __init__(
        self, honest: Floats, *, false_positive: float = 0.01, budget_bits_per_s: float = 0.0
    ) -> None:
        honest = np.asarray(honest, float)
        need = int(np.ceil(6 / false_positive))
        if honest.ndim != 2 or len(honest) < need or honest.shape[1] < 32:
            raise InputError(
                "too few honest windows to learn from",
                code="monitor-covert-fit",
                got=str(honest.shape),
                expected=f"at least {need} windows of at least 32 intervals",
                fix="record more honest traffic, or allow more false positives",
            )
        self.length = honest.shape[1]
        self.budget_bits_per_s = budget_bits_per_s
        table = np.array([statistics_of(window) for window in honest])
        third = len(table) // 3
        first = table[:third]
        self._centre = np.median(first, axis=0)
        self._scale = 1.4826 * np.median(np.abs(first - self._centre), axis=0) + 1e-12
        z = np.clip((first - self._centre) / self._scale, -6, 6)
        precision = np.linalg.pinv(np.cov(z, rowvar=False) + 1e-3 * np.eye(z.shape[1]))
        self._given_rest = precision / np.sqrt(np.diag(precision))
        self._scores = np.sort([self._score(row) for row in table[third : 2 * third]], axis=0)
        own = np.array([self._combine(self._score(row)) for row in table[2 * third :]])
        rank = int(np.ceil((1 - false_positive) * (len(own) + 1))) - 1
        self.threshold = float(np.sort(own)[min(rank, len(own) - 1)])

    def _score(self, statistics: Floats) -> Floats:
        """Return |z| of each statistic, alone and given all the others."""
        z = (statistics - self._centre) / self._scale
        scores: Floats = np.abs(np.concatenate([z, self._given_rest @ z]))
        return scores

    def _evidence(self, score: Floats) -> Floats:
        """Return log e of each statistic.

        Beyond the honest scores the p-value goes on falling as a normal tail would, but the
        exponent is halved, so that a heavier honest tail is not overstated.
        """
        count = len(self._scores)
        above = np.array(
            [count - np.searchsorted(self._scores[:, k], s) for k, s in enumerate(score)]
        )
        log_p = np.log((above + 1.0) / (count + 1.0))
        excess = np.maximum(score - self._scores[-1], 0.0)
        log_p = log_p - np.minimum(0.5 * excess * self._scores[-1], CAP)
        logs = np.log(BETS)[:, None] + (BETS[:, None] - 1.0) * log_p[None, :]
        top = logs.max(axis=0)
        result: Floats = top + np.log(np.exp(logs - top).mean(axis=0))
        return result

    def _combine(self, score: Floats) -> float:
        return float(np.mean(np.exp(np.minimum(self._evidence(score), 300.0))))

    def test(self, gaps: npt.ArrayLike) -> CovertVerdict:
        """Test one window of exactly the learnt length."""
        window = np.asarray(gaps, float)
        # Zeros are the clock's resolution; a negative interval would make any rate a small one.
        sound = np.isfinite(window).all() and (window >= 0).all() and window.any()
        if window.shape != (self.length,) or not sound:
            raise InputError(
                "the window does not fit the detector",
                code="monitor-covert-window",
                got=f"{window.shape}, {int(np.sum(~(window >= 0)))} negative or missing",
                expected=f"{self.length} intervals in nanoseconds, none negative, not all 0",
                fix="cut the stream into windows of the learnt length",
            )
        score = self._score(statistics_of(window))
        e_value = self._combine(score)
        found = e_value > self.threshold
        strongest = list(STATISTICS)[int(np.argmax(self._evidence(score))) % len(STATISTICS)]
        bits = capacity_bits_per_interval(window, strongest) if found else 0.0
        rate = bits / (window.mean() * 1e-9)
        return CovertVerdict(
            e_value=e_value,
            threshold=self.threshold,
            found=found,
            strongest=strongest,
            bits_per_interval=bits,
            bits_per_s=rate,
            alarm=found and not rate <= self.budget_bits_per_s,
        )
