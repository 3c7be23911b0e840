"""Adaptive calibration on a simulated device: an integrator, a learned policy, and a shield."""

from interlock.monitor.calibration.controllers import (
    Integrator,
    LearnedPolicy,
    learn_policy,
    record,
    tune,
)
from interlock.monitor.calibration.device import DriftingDevice
from interlock.monitor.calibration.shield import Shield, ShieldLimits

__all__ = [
    "DriftingDevice",
    "Integrator",
    "LearnedPolicy",
    "Shield",
    "ShieldLimits",
    "learn_policy",
    "record",
    "tune",
]
