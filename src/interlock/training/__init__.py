"""Safety while a model learns: guarded quantum layers, entropy-spike rewards, guardrail choice.

`torch` loads only with the names that need it.
"""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["EntropySpikeLoss", "EntropySpikeWrapper", "GuardedLayer", "QuantumLayer", "trl_reward"]

_HOME = {
    "EntropySpikeLoss": "spikes",
    "EntropySpikeWrapper": "rewards",
    "GuardedLayer": "layers",
    "QuantumLayer": "layers",
    "trl_reward": "rewards",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
