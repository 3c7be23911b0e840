"""Safety while a model learns: guarded layers, signed checkpoints, rewards, guardrail choice.

`torch` loads only with the names that need it.
"""

from __future__ import annotations

import importlib
from typing import Any

from interlock.extras import missing

__all__ = [
    "CircuitLayer",
    "DeviceLayer",
    "EntropySpikeLoss",
    "EntropySpikeWrapper",
    "FellBack",
    "GuardedLayer",
    "QuantumLayer",
    "SignedCheckpoints",
    "guarded_circuit",
    "trl_reward",
]

_HOME = {
    "CircuitLayer": "circuit",
    "DeviceLayer": "device_layer",
    "EntropySpikeLoss": "spikes",
    "EntropySpikeWrapper": "rewards",
    "FellBack": "layers",
    "GuardedLayer": "layers",
    "QuantumLayer": "layers",
    "SignedCheckpoints": "checkpoints",
    "guarded_circuit": "circuit",
    "trl_reward": "rewards",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    except ModuleNotFoundError as error:
        raise missing(error) from error
