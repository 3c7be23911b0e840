"""Covert timing channels in pulse start times: specialist tests, one combined verdict."""

from interlock.monitor.covert.channels import CHANNELS, embed, legitimate
from interlock.monitor.covert.detector import CovertDetector, CovertVerdict

__all__ = ["CHANNELS", "CovertDetector", "CovertVerdict", "embed", "legitimate"]
