"""Controllers: integral feedback, and a learned linear policy that has to beat it.

The policy keeps a level and a trend of the readings; its two gains are learnt by the cross-entropy
method on seeds of their own. It is used only if it beats the best-tuned integrator on others.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from interlock.monitor.calibration.device import DriftingDevice

__all__ = ["Controller", "Integrator", "LearnedPolicy", "episode", "learn_policy", "tune"]

Floats = npt.NDArray[np.float64]


class Controller(Protocol):
    """Turns a reading into a proposed step."""

    def propose(self, reading: Floats) -> Floats:
        """Return the step to add to the control parameters."""


@dataclass(slots=True)
class Integrator:
    """Step by a fixed share of the reading."""

    gain: float = 0.05

    def propose(self, reading: Floats) -> Floats:
        """Return gain * reading."""
        step: Floats = self.gain * reading
        return step


@dataclass(slots=True)
class LearnedPolicy:
    """Follow the reading and a learnt trend of its own steps."""

    gain: float = 0.05
    trend_gain: float = 0.002
    _trend: Floats | None = field(default=None, init=False)

    def propose(self, reading: Floats) -> Floats:
        """Return trend + gain * reading, the trend having taken its share of the reading."""
        if self._trend is None:
            self._trend = np.zeros(len(reading))
        self._trend = 0.9995 * self._trend + self.trend_gain * reading
        step: Floats = self._trend + self.gain * reading
        return step


def episode(controller: Controller, *, seed: int, steps: int = 2000) -> float:
    """Return the mean gate error of one run without a shield."""
    device, control, total = DriftingDevice(seed=seed), np.zeros(16), 0.0
    for _ in range(steps):
        device.advance()
        control = control + controller.propose(device.sense(control))
        total += device.error(control)
    return total / steps


def tune(seeds: range, *, steps: int = 2000) -> Integrator:
    """Return the integrator with the best gain on these seeds: a baseline at its best."""
    gains = (0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.3)
    losses = [np.mean([episode(Integrator(g), seed=s, steps=steps) for s in seeds]) for g in gains]
    return Integrator(gains[int(np.argmin(losses))])


def learn_policy(
    seeds: range, *, rounds: int = 6, population: int = 12, steps: int = 2000, rng: int = 0
) -> LearnedPolicy:
    """Learn the two gains by the cross-entropy method on these seeds."""
    draw = np.random.default_rng(rng)
    mean, spread = np.log([0.05, 0.002]), np.array([0.7, 1.2])
    for _ in range(rounds):
        points = mean + spread * draw.standard_normal((population, 2))
        losses = [
            np.mean([episode(LearnedPolicy(*np.exp(p)), seed=s, steps=steps) for s in seeds])
            for p in points
        ]
        best = points[np.argsort(losses)[: population // 4]]
        mean, spread = best.mean(axis=0), best.std(axis=0) + 0.05
    return LearnedPolicy(*(float(v) for v in np.exp(mean)))
