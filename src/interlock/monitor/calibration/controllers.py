"""Controllers: integral feedback, and a learned linear policy that has to beat it.

The policy follows the reading and a fading trend of the readings; the integrator is the case of no
trend. Both are fitted to the same recorded episodes: what a device shows does not depend on the
control but for a known difference, so every candidate meets the same drift and the same noise.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from interlock.errors import IntegrityError
from interlock.monitor.calibration.device import DriftingDevice

__all__ = [
    "Controller",
    "Integrator",
    "LearnedPolicy",
    "Recording",
    "episode",
    "learn_policy",
    "record",
    "tune",
]

Floats = npt.NDArray[np.float64]


class Controller(Protocol):
    """Turns a reading into a proposed step."""

    def propose(self, reading: Floats) -> Floats:
        """Return the step to add to the control parameters."""

    def reset(self) -> None:
        """Forget the readings: the device was recalibrated because they may have been false."""


@dataclass(slots=True)
class Integrator:
    """Step by a fixed share of the reading."""

    gain: float = 0.05

    def propose(self, reading: Floats) -> Floats:
        """Return gain * reading."""
        step: Floats = self.gain * reading
        return step

    def reset(self) -> None:
        """Do nothing: it remembers nothing."""


@dataclass(slots=True)
class LearnedPolicy:
    """Follow the reading and a fading trend of the readings.

    Args:
        gain: share of a reading that is stepped at once.
        trend_gain: share of a reading that joins the trend, which is stepped each time.
        memory: share of the trend that stays from one step to the next.

    Example:
        >>> policy = LearnedPolicy(0.1, 0.01, 0.9)
        >>> [round(float(policy.propose(np.ones(1))[0]), 3) for _ in range(3)]
        [0.11, 0.119, 0.127]
    """

    gain: float = 0.032
    trend_gain: float = 0.00054
    memory: float = 0.998
    _trend: Floats | None = field(default=None, init=False, repr=False, compare=False)

    def propose(self, reading: Floats) -> Floats:
        """Return trend + gain * reading, the trend having taken its share of the reading."""
        before = 0.0 if self._trend is None else self.memory * self._trend
        self._trend = before + self.trend_gain * reading
        step: Floats = self._trend + self.gain * reading
        return step

    def reset(self) -> None:
        """Forget the trend."""
        self._trend = None

    def weights(self) -> dict[str, Floats]:
        """Return the three numbers as `DetectorRegistry.release` signs them."""
        return {"policy": np.array([self.gain, self.trend_gain, self.memory])}

    @classmethod
    def from_weights(cls, weights: dict[str, npt.NDArray[Any]]) -> Self:
        """Return the policy of weights that `DetectorRegistry.load` verified.

        Raises:
            IntegrityError: they are no policy, or one whose trend would not fade.
        """
        found = weights.get("policy", np.zeros(0))
        if found.shape != (3,) or found.dtype != np.float64 or not np.isfinite(found).all():
            got = f"{sorted(weights)}, policy of shape {found.shape} and type {found.dtype}"
        elif not (0 <= found[0] <= 1 and abs(found[1]) <= 1 and 0 <= found[2] < 1):
            got = ", ".join(f"{v:g}" for v in found)
        else:
            return cls(*(float(v) for v in found))
        raise IntegrityError(
            "these weights are no calibration policy",
            code="monitor-policy",
            got=got,
            expected="`policy`: gain in [0, 1], trend gain in [-1, 1], memory in [0, 1)",
            fix="release a policy made by `learn_policy`, or roll back",
        )


@dataclass(frozen=True, slots=True)
class Recording:
    """Episodes without control, one column a parameter: what the sensor read, where it drifted."""

    seen: Floats
    optimum: Floats


def record(devices: Iterable[DriftingDevice], *, steps: int = 2000) -> Recording:
    """Run each fresh device without control and keep readings and optima."""
    seen, optimum = [], []
    for device in devices:
        still, rows = np.zeros(device.parameters), []
        for _ in range(steps):
            device.advance()
            rows.append((device.sense(still), device.optimum))
        seen.append([r for r, _ in rows])
        optimum.append([o for _, o in rows])
    return Recording(np.concatenate(seen, axis=1), np.concatenate(optimum, axis=1))


def episode(controller: Controller, device: DriftingDevice, *, steps: int = 2000) -> float:
    """Return the mean gate error of one run without a shield."""
    control, total = np.zeros(device.parameters), 0.0
    for _ in range(steps):
        device.advance()
        control = control + controller.propose(device.sense(control))
        total += device.error(control)
    return total / steps


def losses(candidates: Floats, episodes: Recording) -> Floats:
    """Return the mean squared distance from the optimum of each row gain, trend gain, memory."""
    gain, trend_gain, memory = (candidates[:, [k]] for k in range(3))
    shape = (len(candidates), episodes.seen.shape[1])
    control, trend, total = np.zeros(shape), np.zeros(shape), np.zeros(len(candidates))
    # A candidate that does not hold the device runs away to infinity, and is worst.
    with np.errstate(over="ignore", invalid="ignore"):
        for seen, optimum in zip(episodes.seen, episodes.optimum, strict=True):
            reading = seen - control
            trend *= memory
            trend += trend_gain * reading
            reading *= gain
            control += trend
            control += reading
            off = optimum - control
            total += np.einsum("ij,ij->i", off, off)
    return np.where(np.isfinite(total), total, np.inf) / episodes.seen.size


def tune(episodes: Recording) -> Integrator:
    """Return the integrator with the best gain on these episodes, to about one part in 1000."""
    low, high = np.log(0.002), np.log(0.95)
    for _ in range(4):
        grid = np.linspace(low, high, 17)
        gains = np.stack([np.exp(grid), np.zeros(17), np.zeros(17)], axis=1)
        best = int(np.argmin(losses(gains, episodes)))
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, 16)]
    return Integrator(float(np.exp(grid[best])))


def learn_policy(
    episodes: Recording,
    *,
    memory: float | None = None,
    rounds: int = 24,
    population: int = 32,
    rng: int = 0,
) -> LearnedPolicy:
    """Learn the three numbers on these episodes by the cross-entropy method.

    The tuned integrator is what has to be beaten on them: without a better candidate it is
    returned, as a policy without a trend.

    Args:
        episodes: to learn from.
        memory: do not learn it, take this.
        rounds: of each of two searches, one among trends of some 100 steps, one of some 1000.
        population: candidates a round, of which the best quarter shape the next round.
        rng: seed of the searches.
    """
    draw = np.random.default_rng(rng)
    start = tune(episodes).gain
    best, least = np.array([start, 0.0, 0.0]), np.inf
    for forgets in (0.01, 0.001):
        # Log gain; trend gain as a share of gain, of either sign; log of what the trend forgets.
        mean, spread = np.array([np.log(start), 0.0, np.log(forgets)]), np.array([0.5, 0.1, 1.0])
        for _ in range(rounds):
            points = mean + spread * draw.standard_normal((population, 3))
            gain = np.minimum(np.exp(points[:, 0]), 1.0)
            kept = 1 - np.exp(np.minimum(points[:, 2], 0.0))
            tried = np.stack([gain, gain * points[:, 1], kept], axis=1)
            if memory is not None:
                tried[:, 2] = memory
            tried = np.vstack([tried, best])
            found = losses(tried, episodes)
            if found.min() < least:
                best, least = tried[np.argmin(found)], found.min()
            elite = points[np.argsort(found[:-1])[: population // 4]]
            mean, spread = elite.mean(axis=0), elite.std(axis=0) * 1.1 + 1e-4
    return LearnedPolicy(*(float(v) for v in best))
