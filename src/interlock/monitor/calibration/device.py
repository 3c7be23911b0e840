"""A device whose best control parameters drift, and two ways to look at it.

The sensor is what a controller reads: the parameters' error plus noise; an attacker may bias it.
The witness is an independent measurement of the gate error itself, noisier and costlier. All of it
is simulated. `as_environment` gives it the Gymnasium interface.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from interlock.errors import SetupError

__all__ = ["FLOOR", "DriftingDevice", "as_environment"]

Floats = npt.NDArray[np.float64]
FLOOR = 2e-3


class DriftingDevice:
    """`parameters` optima that drift with inertia, as under slow heating, and revert to a mean.

    The gate error is FLOOR + curvature * mean squared distance from the optimum.

    Example:
        >>> device = DriftingDevice(seed=0)
        >>> round(device.error(np.zeros(16)), 4) >= FLOOR
        True
    """

    def __init__(
        self,
        *,
        parameters: int = 16,
        drift: float = 0.03,
        momentum: float = 0.999,
        sensor_noise: float = 0.05,
        curvature: float = 0.5,
        seed: int | np.random.Generator | None = None,
    ) -> None:
        self._rng = np.random.default_rng(seed)
        self.parameters = parameters
        self._drift, self._momentum = drift, momentum
        self._noise, self._curvature = sensor_noise, curvature
        self.optimum = np.zeros(parameters)
        self._velocity = np.zeros(parameters)
        self.steps = 0

    def advance(self) -> None:
        """Let the optimum move: a drift with momentum."""
        kick = self._rng.normal(0.0, self._drift * (1 - self._momentum), self.parameters)
        self._velocity = self._momentum * self._velocity + kick
        self.optimum = 0.9995 * self.optimum + self._velocity
        self.steps += 1

    def sense(self, control: Floats, *, bias: float = 0.0) -> Floats:
        """Return the sensor's estimate of optimum - control, with an attacker's bias."""
        noise = self._rng.normal(0.0, self._noise, self.parameters)
        reading: Floats = self.optimum - control + noise + bias
        return reading

    def error(self, control: Floats) -> float:
        """Return the true gate error."""
        return FLOOR + self._curvature * float(np.mean((self.optimum - control) ** 2))

    def witness(self, control: Floats, *, shots: int = 20_000) -> float:
        """Return the gate error as counted in `shots` trials of an independent check."""
        p = min(self.error(control), 1.0)
        return float(self._rng.binomial(shots, p)) / shots

    def recalibrate(self) -> Floats:
        """Return freshly measured controls: costly, exact up to a small error."""
        fresh: Floats = self.optimum + self._rng.normal(0.0, 0.005, self.parameters)
        return fresh


def as_environment(seed: int = 0, horizon: int = 1000) -> Any:
    """Return a Gymnasium environment: observe the sensor, act by a step, be paid minus the error.

    Raises:
        SetupError: gymnasium is not installed.
    """
    try:
        import gymnasium
    except ImportError as error:
        raise SetupError(
            "the environment needs gymnasium",
            code="monitor-extra",
            got=str(error),
            expected="the extra `monitor-rl`",
            fix="pip install 'interlock[monitor-rl]'",
        ) from error

    class Environment(gymnasium.Env[Floats, Floats]):  # type: ignore[misc, unused-ignore]
        """`DriftingDevice` behind reset and step."""

        def __init__(self) -> None:
            box = gymnasium.spaces.Box
            self.observation_space = box(-10.0, 10.0, (16,), np.float64)
            self.action_space = box(-0.05, 0.05, (16,), np.float64)
            self._seeds = np.random.default_rng(seed)  # of episodes that nobody seeds
            self._device, self._control = DriftingDevice(seed=seed), np.zeros(16)

        def reset(
            self, *, seed: int | None = None, options: dict[str, Any] | None = None
        ) -> tuple[Floats, dict[str, Any]]:
            super().reset(seed=seed, options=options)
            of_episode = int(self._seeds.integers(1 << 31)) if seed is None else seed
            self._device, self._control = DriftingDevice(seed=of_episode), np.zeros(16)
            return np.clip(self._device.sense(self._control), -10, 10), {}

        def step(self, action: Floats) -> tuple[Floats, float, bool, bool, dict[str, Any]]:
            self._control = self._control + np.clip(action, -0.05, 0.05)
            self._device.advance()
            seen = np.clip(self._device.sense(self._control), -10, 10)
            reward = -self._device.error(self._control)
            return seen, reward, False, self._device.steps >= horizon, {}

    return Environment()
