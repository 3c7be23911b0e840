"""A detector's own checks while it runs, put together: good, or degraded and why.

Four checks: p-values stay uniform, long-run inputs stay near a reference that never adapts, a
planted fault is found (a canary each day, or each million rows), and rows keep coming.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from interlock.monitor.detectors.alarms import Alarm
from interlock.monitor.health import Health, InputDrift, UniformityMartingale, canary, psi
from interlock.monitor.pipeline import AssetMonitor

__all__ = ["Checkup"]

REFERENCE_ROWS = 8192
CANARY_S = 86_400.0
CANARY_ROWS = 1_000_000
WEALTH_LOG10 = 4.0
DRIFT_LIMIT, PSI_LIMIT = 1.5, 0.2
STALE_S = 900.0


class Checkup:
    """Looks after the detector of one source.

    Args:
        monitor: the detector, row by row.
        stale_s: no rows for so long is degraded.

    Example:
        >>> monitor = AssetMonitor(1)
        >>> checkup = Checkup(monitor)
        >>> rows = np.random.default_rng(0).standard_normal((20_000, 1)).astype("f4")
        >>> checkup.update(rows, monitor.update(rows, keep_trace=True), now_s=0.0)
        >>> checkup.health(now_s=1.0)
        (<Health.GOOD: 'good'>, ())
    """

    def __init__(self, monitor: AssetMonitor, *, stale_s: float = STALE_S) -> None:
        self._monitor = monitor
        self._stale_s = stale_s
        self._martingale = UniformityMartingale()
        self._reference: list[npt.NDArray[np.float32]] = []
        self._drift: InputDrift | None = None
        self._drifted: set[int] = set()
        self._recent = np.empty((0, monitor.channels), np.float32)
        self._canary_s, self._canary_row = -CANARY_S, 0
        self._canary_found = True
        self.seen_s = 0.0
        self.checks: dict[str, float] = {}

    def update(self, rows: npt.NDArray[np.float32], alarms: list[Alarm], *, now_s: float) -> None:
        """Take the rows the detector just took, and its alarms on them."""
        self.seen_s = now_s
        if alarms:  # what follows an alarm is judged afresh: its rows are not in control
            self._martingale = UniformityMartingale()
        else:
            self._martingale.update(self._monitor.bank.p_values.ravel())
        self.checks["uniformity log10"] = self._martingale.peak_log10
        self._recent = np.concatenate([self._recent, rows])[-4096:]
        if self._drift is None:
            self._learn(rows)
        else:
            self._look_for_drift(rows)
        due = now_s - self._canary_s >= CANARY_S or (
            self._monitor.rows - self._canary_row >= CANARY_ROWS
        )
        if due and self._drift is not None and len(self._recent) == 4096:
            result = canary(self._monitor.bank, self._recent.astype(np.float64))
            self._canary_found, self._canary_s = result.found, now_s
            self._canary_row = self._monitor.rows
            self.checks["canary delay rows"] = float(result.delay_rows)

    def _learn(self, rows: npt.NDArray[np.float32]) -> None:
        self._reference.append(rows)
        if sum(map(len, self._reference)) >= REFERENCE_ROWS:
            table = np.concatenate(self._reference).astype(np.float64)[:REFERENCE_ROWS]
            table = table[np.isfinite(table).all(axis=1)]
            self._reference = [table.astype(np.float32)]
            if len(table) >= 16:
                self._drift = InputDrift(table, limit=DRIFT_LIMIT)

    def _look_for_drift(self, rows: npt.NDArray[np.float32]) -> None:
        assert self._drift is not None
        self._drift.update(rows.astype(np.float64))
        self._drifted = self._drift.out
        self.checks["input drift sd"] = self._drift.largest
        shift = [
            psi(self._reference[0][:, c].astype(np.float64), self._recent[:, c].astype(np.float64))
            for c in range(self._recent.shape[1])
        ]
        self.checks["input psi"] = max(shift)

    def health(self, *, now_s: float) -> tuple[Health, tuple[str, ...]]:
        """Return the detector's health and what speaks against it."""
        reasons = []
        if self.checks.get("uniformity log10", 0.0) >= WEALTH_LOG10:
            reasons.append("p-values are not uniform")
        if self._drifted:
            reasons.append("inputs have moved away from the reference")
        elif self.checks.get("input psi", 0.0) >= PSI_LIMIT:
            reasons.append("inputs are distributed unlike the reference")
        if not self._canary_found:
            reasons.append("the planted fault was not found")
        if now_s - self.seen_s > self._stale_s:
            reasons.append("no rows come")
        return (Health.DEGRADED if reasons else Health.GOOD), tuple(reasons)
