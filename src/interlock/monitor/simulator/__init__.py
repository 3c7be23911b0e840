"""Seeded telemetry with ground truth: devices, regimes, faults, covert channels."""

from interlock.monitor.simulator.faults import FAULTS, Fault, inject
from interlock.monitor.simulator.regimes import REGIMES, regime
from interlock.monitor.simulator.tls import TlsDevice, daily_statistics

__all__ = ["FAULTS", "REGIMES", "Fault", "TlsDevice", "daily_statistics", "inject", "regime"]
