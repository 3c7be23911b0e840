"""Where jobs run: calibrations, device twins, the confined worker. SDKs load on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from interlock.backends.calibration import Calibration, Gate, Qubit
from interlock.backends.snapshots import snapshot, snapshots
from interlock.backends.sources import backend_of, calibration_of

if TYPE_CHECKING:
    from interlock.backends.confined import ConfinedEstimator, ConfinedSampler
    from interlock.backends.twins import Twin, TwinEstimator, TwinSampler, TwinSpec, twin

__all__ = [
    "Calibration",
    "ConfinedEstimator",
    "ConfinedSampler",
    "Gate",
    "Qubit",
    "Twin",
    "TwinEstimator",
    "TwinSampler",
    "TwinSpec",
    "backend_of",
    "calibration_of",
    "snapshot",
    "snapshots",
    "twin",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(name)
    import importlib

    home = "confined" if name.startswith("Confined") else "twins"
    return getattr(importlib.import_module(f"interlock.backends.{home}"), name)
