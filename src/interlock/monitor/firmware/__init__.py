"""Control firmware: signed images, measured boot, quarantine, and a triage score for binaries."""

from interlock.monitor.firmware.boot import EventLog, Quote, verify_quote
from interlock.monitor.firmware.image import Device, Image, Manifest, make_manifest

__all__ = ["Device", "EventLog", "Image", "Manifest", "Quote", "make_manifest", "verify_quote"]
