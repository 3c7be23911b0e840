"""One asset from frames to alarms: row by row when slow, block by block when fast.

Fast streams pass every row through the fused kernel and hand one feature row a block to the
alarms, whose budget is counted in rows all the same.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from interlock.errors import InputError
from interlock.monitor.detectors.alarms import Alarm, AlarmBank, AlarmSettings
from interlock.monitor.detectors.fused import FusedScorer
from interlock.monitor.detectors.subpca import SubPca

__all__ = ["AssetMonitor", "attribute", "second_look"]


def attribute(z: npt.NDArray[np.float64], form: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the parts z * (form @ z) of the score z' form z; they sum to it exactly.

    Example:
        >>> z = np.array([1.0, 2.0])
        >>> attribute(z, np.array([[1.0, 0.5], [0.5, 2.0]])).tolist()
        [2.0, 9.0]
    """
    parts: npt.NDArray[np.float64] = z * (form @ z)
    return parts


def second_look(rows: npt.NDArray[np.float32], *, span: int = 128) -> float | None:
    """Return how the last `span` rows look to Sub-PCA, against the rows before them.

    Learnt on the first two thirds of what came before; 1 is the 99 % level of the last third. It
    sees odd shapes, such as spikes and added noise; a shift or a frozen sensor looks ordinary to
    it. None with too few rows. It adds to an alarm and never takes one away.

    Example:
        >>> rows = np.random.default_rng(0).standard_normal((1000, 1)).astype("f4")
        >>> rows[-3:] += 9
        >>> second_look(rows) > 1.3
        True
    """
    channels = rows.shape[1]
    window = max(8, min(64, 256 // channels))
    known = np.isfinite(rows)
    if not known.all():
        centre = [np.median(c[k]) if k.any() else 0.0 for c, k in zip(rows.T, known.T, strict=True)]
        rows = np.where(known, rows, np.array(centre, np.float32))
    table = rows.astype(np.float64)
    past, recent = table[:-span], table[-span:]
    half = len(past) * 2 // 3
    if window * channels > 512 or half < 4 * window:
        return None
    model = SubPca(window=window).fit(past[:half])
    usual = float(np.quantile(model.score(past[half:]), 0.99))
    score = model.score(np.concatenate([past[-window:], recent]))[window // 2 :]
    return float(score.max()) / max(usual, 1e-12)


class AssetMonitor:
    """Watches one asset.

    Args:
        channels: channels of the asset.
        settings: the alarm budget, in rows.
        block: 1 takes each row to the alarms; a multiple of 4 screens blocks with the fused kernel.
        fit_rows: rows the fused kernel learns from; taken as in control.
        seed: tie-breaking of the conformal p-values.
        scorer: a fused kernel learnt before, of the same channels and block; then none is learnt.
    """

    def __init__(
        self,
        channels: int,
        *,
        settings: AlarmSettings | None = None,
        block: int = 1,
        fit_rows: int = 16_384,
        seed: int | None = 0,
        scorer: FusedScorer | None = None,
    ) -> None:
        self.settings = settings or AlarmSettings()
        self.channels, self.block, self._fit_rows = channels, block, fit_rows
        self._held: npt.NDArray[np.float32] = np.empty((0, channels), np.float32)
        self._scorer = scorer
        self._last: npt.NDArray[np.float32] = np.empty((0, channels), np.float32)
        self.rows = 0
        self.trace: npt.NDArray[np.float64] = np.empty(0)  # the e-detector of the last rows taken
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
        self.trace = np.empty(0)
        if self.block == 1:
            self.rows += len(rows)
            found = self.bank.update(rows, keep_trace=keep_trace)
            self.trace = self.bank.trace
            return found
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
        self._last = np.array(rows[whole - self.block : whole], np.float32)
        return self._score(np.asarray(rows[:whole], np.float32), whole, keep_trace=keep_trace)

    @property
    def alarm_level(self) -> float:
        """The e-process at which a shift alarms."""
        return self.bank.alarm_level

    @property
    def unscored(self) -> int:
        """Rows taken that nothing has looked at yet: too few to learn from, or for a block."""
        return len(self._held)

    @property
    def began(self) -> bool:
        """Whether enough rows came for alarms on shifts to begin."""
        return self.bank.ready

    def finish(self, *, keep_trace: bool = False) -> list[Alarm]:
        """Score the rows left over, less than a block; nothing more comes.

        The rows before them make the block whole, so that it is like every other block.
        """
        left, self.trace = len(self._held), np.empty(0)
        if self.block == 1 or self._scorer is None or not left or not len(self._last):
            return []
        rows = np.concatenate([self._last, self._held])[-self.block :]
        self._held = self._held[:0]
        found = self._score(rows, left, keep_trace=keep_trace)
        self.trace = self.trace[-left:]
        return [dataclasses.replace(a, row=self.rows - 1) for a in found]

    def _score(self, rows: npt.NDArray[np.float32], new: int, *, keep_trace: bool) -> list[Alarm]:
        assert self._scorer is not None
        summary = self._scorer.score(rows)
        alarms = self.bank.update(summary.features(), keep_trace=keep_trace)
        self.trace = np.repeat(self.bank.trace, self.block) if keep_trace else self.trace
        self.rows += new
        return [
            dataclasses.replace(
                a,
                row=(a.row + 1) * self.block - 1,
                channel=self._channel(a.channel),
                parts=tuple((self._channel(c), part) for c, part in a.parts),
            )
            for a in alarms
        ]

    def _channel(self, feature: int) -> int:
        """Return the channel of a block's feature; -1 for the one of all channels."""
        return feature % self.channels if feature < 2 * self.channels else -1
