"""One asset from frames to alarms: row by row when slow, block by block when fast.

Fast streams pass every row through the fused kernel and hand one feature row a block to the
alarms, whose budget is counted in rows all the same.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from interlock.errors import InputError
from interlock.monitor.detectors.alarms import Alarm, AlarmBank, AlarmSettings
from interlock.monitor.detectors.fused import FusedScorer

__all__ = ["AssetMonitor", "Attribution", "attribute"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """How much one channel adds to a quadratic score."""

    channel: int
    share: float


def attribute(z: npt.NDArray[np.float64], form: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the parts z * (form @ z) of the score z' form z; they sum to it exactly.

    Example:
        >>> z = np.array([1.0, 2.0])
        >>> attribute(z, np.array([[1.0, 0.5], [0.5, 2.0]])).tolist()
        [2.0, 9.0]
    """
    parts: npt.NDArray[np.float64] = z * (form @ z)
    return parts


class AssetMonitor:
    """Watches one asset.

    Args:
        channels: channels of the asset.
        settings: the alarm budget, in rows.
        block: 1 takes each row to the alarms; a multiple of 4 screens blocks with the fused kernel.
        fit_rows: rows the fused kernel learns from; taken as in control.
        seed: tie-breaking of the conformal p-values.
    """

    def __init__(
        self,
        channels: int,
        *,
        settings: AlarmSettings | None = None,
        block: int = 1,
        fit_rows: int = 16_384,
        seed: int | None = 0,
    ) -> None:
        self.settings = settings or AlarmSettings()
        self.channels, self.block, self._fit_rows = channels, block, fit_rows
        self._held: npt.NDArray[np.float32] = np.empty((0, channels), np.float32)
        self._scorer: FusedScorer | None = None
        self.rows = 0
        if block != 1 and (block < 4 or block % 4):
            raise InputError(
                "the block does not fit the fused kernel",
                code="monitor-block",
                got=str(block),
                expected="1 for row by row, or a multiple of 4",
                fix="use 1, or 256 for fast streams",
            )
        if block == 1:
            self.bank = AlarmBank(channels, self.settings, seed=seed)
            return
        self.bank = AlarmBank(
            2 * channels + 1,
            dataclasses.replace(
                self.settings,
                budget_per_million=self.settings.budget_per_million * block,
                window_rows=2048,
                warm_rows=256,
                memory_rows=1024,
                hold_rows=64,
                refresh_rows=64,
            ),
            seed=seed,
        )

    def update(self, rows: npt.NDArray[np.float32], *, keep_trace: bool = False) -> list[Alarm]:
        """Take rows (n, channels); return alarms whose `row` counts rows of this asset."""
        if self.block == 1:
            self.rows += len(rows)
            return self.bank.update(rows, keep_trace=keep_trace)
        if len(self._held):
            rows = np.concatenate([self._held, rows])
        if self._scorer is None:
            if len(rows) < self._fit_rows:
                self._held = np.array(rows, np.float32)
                return []
            self._scorer = FusedScorer(self.channels, block=self.block).fit(rows[: self._fit_rows])
        whole = len(rows) // self.block * self.block
        self._held = np.array(rows[whole:], np.float32)
        if not whole:
            return []
        summary = self._scorer.score(np.asarray(rows[:whole], np.float32))
        alarms = self.bank.update(summary.features(), keep_trace=keep_trace)
        self.rows += whole
        return [
            dataclasses.replace(
                a,
                row=(a.row + 1) * self.block - 1,
                channel=a.channel % self.channels if a.channel < 2 * self.channels else -1,
            )
            for a in alarms
        ]
