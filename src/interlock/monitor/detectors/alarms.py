"""Alarms with an average-run-length budget for each asset.

Each channel is whitened by a rolling AR(3); its residual becomes a conformal p-value against the
last `window` unflagged residuals; twelve betting e-detectors a channel (four directions, three
bets) are averaged over the asset and alarm at 1 / rate, so that the mean time between false alarms
is at least the budget when the p-values are uniform (Shin, Ramdas, Rinaldo, arXiv:2203.03532).
Spikes are tested on each row under online false-discovery control with decaying memory
(Rebjock et al., NeurIPS 2021), on a generalised Pareto tail. Frozen and missing samples are
counted. After an alarm a channel is watched until its level is steady, and only then taken as the
new baseline; what was flagged never enters the calibration.

Blind zone: drift slower than the whitening memory is absorbed here and is the business of
`monitor.health`; spikes need 200 tail samples, alarms `warm_rows` rows, to begin.
"""

from __future__ import annotations

import copy
import enum
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from interlock.errors import InputError

__all__ = ["Alarm", "AlarmBank", "AlarmKind", "AlarmSettings", "incidents"]

Floats = npt.NDArray[np.float64]
TOP = 3


class AlarmKind(enum.StrEnum):
    """What an alarm saw."""

    SHIFT = "shift"
    SPIKE = "spike"
    STALE = "stale"
    GAP = "gap"


_KINDS = {1: AlarmKind.SHIFT, 2: AlarmKind.SPIKE, 3: AlarmKind.STALE, 4: AlarmKind.GAP}


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmSettings:
    """How many false alarms an asset may raise, and the memory that holds it to that.

    Args:
        budget_per_million: false alarms allowed in a million rows of one asset, all kinds.
        window_rows: residuals kept for the conformal p-values; more sees rarer things.
        warm_rows: residuals before alarms begin.
        memory_rows: memory of the whitening; slower drift than this is absorbed.
        hold_rows: rows watched after an alarm before a new baseline is taken.
        stale_rows: equal or missing values in a row before a stale or gap alarm is considered.
    """

    budget_per_million: float = 10.0
    window_rows: int = 8192
    warm_rows: int = 1024
    memory_rows: int = 4096
    hold_rows: int = 512
    stale_rows: int = 8
    refresh_rows: int = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """One alarm: the row it fired at, the channel that weighed most, and its evidence.

    `evidence` is log10 of the e-detector for a shift, -log10 p for a spike, rows for the others.
    `parts` of a shift: the channels that weigh most, with their exact parts of the e-detector.
    """

    row: int
    channel: int
    kind: AlarmKind
    evidence: float
    parts: tuple[tuple[int, float], ...] = ()


def incidents(alarms: list[Alarm], gap_rows: int = 512) -> list[list[Alarm]]:
    """Group alarms that follow each other within `gap_rows`: one cause, one incident.

    Example:
        >>> a = [Alarm(row=r, channel=0, kind=AlarmKind.SPIKE, evidence=1.0) for r in (5, 9, 900)]
        >>> [len(group) for group in incidents(a)]
        [2, 1]
    """
    groups: list[list[Alarm]] = []
    for alarm in sorted(alarms, key=lambda a: a.row):
        if groups and alarm.row - groups[-1][-1].row <= gap_rows:
            groups[-1].append(alarm)
        else:
            groups.append([alarm])
    return groups


class AlarmBank:
    """The alarms of one asset with `channels` channels.

    Example:
        >>> rng = np.random.default_rng(1)
        >>> rows = rng.standard_normal((6000, 1))
        >>> rows[5000:] += 2.0
        >>> alarms = AlarmBank(1, seed=0).update(rows)
        >>> [(a.kind.value, 5000 <= a.row < 5200) for a in alarms]
        [('shift', True)]
    """

    def __init__(
        self,
        channels: int,
        settings: AlarmSettings | None = None,
        *,
        seed: int | np.random.Generator | None = None,
    ) -> None:
        self.settings = s = settings or AlarmSettings()
        sound = 0 < s.budget_per_million <= 1e6 and 64 <= s.warm_rows <= s.window_rows
        if channels < 1 or not sound or s.stale_rows < 2 or s.hold_rows < 16:
            raise InputError(
                "the alarm settings do not fit together",
                code="monitor-alarm-settings",
                got=f"{channels} channels, {s}",
                expected="channels >= 1, 0 < budget a row <= 1, 64 <= warm_rows <= window_rows",
                fix="start from AlarmSettings()",
            )
        self.channels = channels
        self.rows = 0
        self._rng = np.random.default_rng(seed)
        from interlock.monitor.detectors import _sequential as seq
        from interlock.monitor.detectors._calibrate import ORDER, TERMS

        self._seq = seq
        terms, c = TERMS, channels
        self._state: dict[str, npt.NDArray[Any]] = {
            "ints": np.zeros((c, 22), np.int64),
            "floats": np.zeros((c, 12)),
            "lags": np.zeros((c, ORDER)),
            "gram": np.zeros((c, terms, terms)),
            "moment": np.zeros((c, terms)),
            "phi": np.zeros((c, terms)),
            "ring": np.zeros((c, s.window_rows)),
            "window": np.zeros((c, s.window_rows + s.refresh_rows)),
            "pending": np.zeros((c, s.refresh_rows)),
            "exceed": np.zeros((c, 1024)),
            "sr": np.zeros((c, 4, len(seq.BETS))),
            "watch": np.zeros((c, 8 * s.hold_rows)),
        }
        self._state["ints"][:, 13] = 1 << 40
        self._state["ints"][:, 11] = s.hold_rows
        self._state["ints"][:, 12] = 1 << 40
        self.trace: Floats = np.empty(0)
        self.p_values: Floats = np.empty((0, channels))

    @property
    def ready(self) -> bool:
        """Whether a channel has seen the rows it needs before its e-detectors begin."""
        return bool((self._state["ints"][:, 2] >= self.settings.warm_rows).any())

    @property
    def alarm_level(self) -> float:
        """The e-detector at which a shift alarms: half of the budget is spent on shifts."""
        return 2e6 / self.settings.budget_per_million

    def copy(self) -> AlarmBank:
        """Return an independent bank in the same state."""
        other = AlarmBank(self.channels, self.settings)
        other.rows = self.rows
        other._rng = copy.deepcopy(self._rng)
        other._state = {name: array.copy() for name, array in self._state.items()}
        return other

    def update(self, rows: npt.ArrayLike, *, keep_trace: bool = False) -> list[Alarm]:
        """Take rows (n, channels) and return the alarms they raise.

        With `keep_trace`, `trace` holds the e-detector of each row and `p_values` the p-values.
        """
        x = np.ascontiguousarray(rows, dtype=np.float64)
        if x.ndim != 2 or x.shape[1] != self.channels:
            raise InputError(
                "rows do not fit the asset",
                code="monitor-rows",
                got=str(x.shape),
                expected=f"(n, {self.channels})",
                fix="send one value a channel a row",
            )
        alarms: list[Alarm] = []
        traces, ps = [], []
        for start in range(0, len(x), 65536):
            part = x[start : start + 65536]
            found, trace, p = self._chunk(part, keep_trace)
            alarms += found
            traces.append(trace)
            ps.append(p)
        if keep_trace and traces:
            self.trace, self.p_values = np.concatenate(traces), np.concatenate(ps)
        return alarms

    def _chunk(self, x: Floats, keep: bool) -> tuple[list[Alarm], Floats, Floats]:
        s, n = self.settings, len(x)
        rate = s.budget_per_million * 1e-6
        limit = 3 * n * self.channels + 8
        row, channel, kind = (np.zeros(min(limit, 4096), np.int64) for _ in range(3))
        score = np.zeros(len(row))
        top, part = np.zeros((len(row), TOP), np.int64), np.zeros((len(row), TOP))
        trace = np.zeros(n if keep else 0)
        p = np.full((n if keep else 0, self.channels), np.nan)
        found = self._seq.run_rows(
            x,
            self._rng.random((*x.shape, 2)),
            self.rows,
            *self._state.values(),
            self._seq.BETS,
            self.alarm_level,
            0.1 * rate / self.channels,
            1e-3,
            0.99,
            0.01 * rate / self.channels,
            s.stale_rows,
            s.refresh_rows,
            s.warm_rows,
            1.0 - 1.0 / s.memory_rows,
            s.hold_rows,
            row,
            channel,
            kind,
            score,
            top,
            part,
            trace,
            p,
        )
        self.rows += n
        return (
            [
                Alarm(
                    row=int(row[k]),
                    channel=int(channel[k]),
                    kind=_KINDS[int(kind[k])],
                    evidence=float(score[k]),
                    parts=tuple(
                        (int(c), float(v)) for c, v in zip(top[k], part[k], strict=True) if v > 0
                    ),
                )
                for k in range(found)
            ],
            trace,
            p,
        )
