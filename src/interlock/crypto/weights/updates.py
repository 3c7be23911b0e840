"""Statistics of a training update, and a gate that stops updates unlike those before.

Each accepted update gives four numbers; a new one is judged by how far it lies from the median of
the last accepted ones in units of their spread (median absolute deviation). A gate sees only what
moves these numbers: a small, slow poison does not, and the published rates say how small.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["GateSettings", "GateVerdict", "UpdateGate", "UpdateStatistics", "update_statistics"]

Tensors = Mapping[str, NDArray[np.floating]]


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateStatistics:
    """What one update looks like.

    Attributes:
        log_norm: natural logarithm of the L2 norm of the whole update.
        log_peak: natural logarithm of largest over root-mean-square change.
        cosine: between this update and the one before, 0 for the first.
        loss: validation loss after the update on data the trainer does not choose.
        finite: whether every new weight is a finite number.
    """

    log_norm: float
    log_peak: float
    cosine: float
    loss: float
    finite: bool

    def as_dict(self) -> dict[str, float | bool]:
        """Return the numbers as JSON values, rounded so that they survive a text."""
        return {
            "log_norm": round(self.log_norm, 9),
            "log_peak": round(self.log_peak, 9),
            "cosine": round(self.cosine, 9),
            "loss": round(self.loss, 9),
            "finite": self.finite,
        }


def update_statistics(
    before: Tensors, after: Tensors, previous_update: NDArray[np.float64] | None, loss: float
) -> tuple[UpdateStatistics, NDArray[np.float64]]:
    """Return the statistics of the step from `before` to `after`, and the flat update itself."""
    names = sorted(after)
    new = np.concatenate([np.ravel(after[n]).astype(np.float64) for n in names])
    old = np.concatenate([np.ravel(before[n]).astype(np.float64) for n in names])
    finite = bool(np.isfinite(new).all()) and math.isfinite(loss)
    update = np.nan_to_num(new - old, nan=0.0, posinf=0.0, neginf=0.0)
    norm = float(np.linalg.norm(update))
    rms = norm / math.sqrt(max(update.size, 1))
    cosine = 0.0
    if previous_update is not None and norm > 0:
        other = float(np.linalg.norm(previous_update))
        cosine = float(update @ previous_update) / (norm * other) if other > 0 else 0.0
    statistics = UpdateStatistics(
        log_norm=math.log(norm + 1e-300),
        log_peak=math.log((float(np.max(np.abs(update), initial=0.0)) + 1e-300) / (rms + 1e-300)),
        cosine=cosine,
        loss=loss if math.isfinite(loss) else 1e300,
        finite=finite,
    )
    return statistics, update


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSettings:
    """When an update is stopped.

    Attributes:
        window: how many accepted updates the comparison uses.
        warmup: how many are accepted before any is judged by comparison.
        limit: distance, in spreads, beyond which an update is stopped; higher stops fewer.
    """

    window: int = 40
    warmup: int = 10
    limit: float = 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GateVerdict:
    """Whether an update may stay, and the number that decided."""

    accept: bool
    reason: str
    distance: float


class UpdateGate:
    """Judges updates one after the other; only accepted ones become part of the comparison."""

    def __init__(self, settings: GateSettings | None = None) -> None:
        self._settings = settings or GateSettings()
        self._seen: deque[UpdateStatistics] = deque(maxlen=self._settings.window)

    def judge(self, statistics: UpdateStatistics) -> GateVerdict:
        """Return whether to keep an update; one that is not kept must be reverted."""
        if not statistics.finite:
            return GateVerdict(accept=False, reason="not-finite", distance=math.inf)
        worst, reason = 0.0, "usual"
        if len(self._seen) >= self._settings.warmup:
            for name, floor, upward in (
                ("log_norm", 0.05, False),
                ("log_peak", 0.05, False),
                ("cosine", 0.02, False),
                ("loss", 0.002, True),
            ):
                distance = self._distance(name, getattr(statistics, name), floor, upward=upward)
                if distance > worst:
                    worst, reason = distance, name
        if worst > self._settings.limit:
            return GateVerdict(accept=False, reason=reason, distance=worst)
        self._seen.append(statistics)
        return GateVerdict(accept=True, reason=reason, distance=worst)

    def _distance(self, name: str, value: float, floor: float, *, upward: bool) -> float:
        values = np.array([getattr(s, name) for s in self._seen])
        middle = float(np.median(values))
        spread = max(1.4826 * float(np.median(np.abs(values - middle))), floor)
        difference = value - middle
        return max(difference, 0.0) / spread if upward else abs(difference) / spread
