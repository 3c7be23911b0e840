"""The shield between a controller and a device: no reading, true or false, gets past it.

Steps are bounded, and so is the distance from the last good parameters. An independent witness of
the gate error is read at intervals; when it is worse than allowed the parameters go back to the
last good ones and control freezes. A freeze triggers a recalibration, after which control resumes.
An innovation gate alone would not stop a constant bias of the sensor; the witness does.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from interlock.monitor.calibration.controllers import Controller
from interlock.monitor.calibration.device import DriftingDevice

__all__ = ["Event", "Shield", "ShieldLimits"]

Floats = npt.NDArray[np.float64]


class Event(enum.StrEnum):
    """What the shield did."""

    STEP = "step"
    BOUNDED = "bounded"
    ROLLBACK = "rollback"
    RECALIBRATED = "recalibrated"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShieldLimits:
    """The signed policy's bounds.

    Args:
        max_step: largest change of one parameter in one step.
        max_from_good: largest distance of one parameter from the last witnessed good value.
        max_error: witnessed gate error above which control rolls back.
        witness_every: steps between readings of the witness.
        freeze_steps: steps from a rollback to the recalibration it triggers.
    """

    max_step: float = 0.01
    max_from_good: float = 0.2
    max_error: float = 0.01
    witness_every: int = 20
    freeze_steps: int = 5


class Shield:
    """Applies a controller's proposals to a device within limits."""

    def __init__(
        self, device: DriftingDevice, controller: Controller, limits: ShieldLimits | None = None
    ) -> None:
        self._device, self._controller = device, controller
        self.limits = limits or ShieldLimits()
        self.control = np.zeros(device.parameters)
        self.good = self.control.copy()
        self.frozen = 0
        self._steps = 0
        self.events: list[tuple[int, Event]] = []

    def step(self, *, bias: float = 0.0) -> Event:
        """Advance the device one step and control it; `bias` is an attacker's on the sensor."""
        self._device.advance()
        self._steps += 1
        event = self._act(self._device.sense(self.control, bias=bias))
        if event is not Event.STEP:
            self.events.append((self._steps, event))
        return event

    def _act(self, reading: Floats) -> Event:
        limits = self.limits
        if self.frozen:
            self.frozen -= 1
            if self.frozen:
                return Event.STEP
            self.control = self._device.recalibrate()
            self.good = self.control.copy()
            self._controller.reset()
            return Event.RECALIBRATED
        wanted = self._controller.propose(np.nan_to_num(reading, posinf=0.0, neginf=0.0))
        step = np.clip(np.nan_to_num(wanted), -limits.max_step, limits.max_step)
        low, high = self.good - limits.max_from_good, self.good + limits.max_from_good
        self.control = np.clip(self.control + step, low, high)
        if self._steps % limits.witness_every == 0:
            error = self._device.witness(self.control)
            if not error <= limits.max_error:  # a witness that reads nothing vouches for nothing
                self.control = self.good.copy()
                self.frozen = limits.freeze_steps
                return Event.ROLLBACK
            if error < 0.6 * limits.max_error:
                self.good = self.control.copy()
        return Event.STEP if np.array_equal(step, wanted) else Event.BOUNDED
