"""One guarded path between AI code and any quantum backend.

Example:
    >>> import interlock
    >>> callable(interlock.guard)
    True
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interlock.guard.hooks import guard
    from interlock.guard.policy import Policy, load_policy
    from interlock.types import Decision, Outcome, Principal

__all__ = [
    "Decision",
    "InterlockError",
    "Outcome",
    "Policy",
    "Principal",
    "guard",
    "load_policy",
]

from interlock.errors import InterlockError

_LAZY = {
    "Decision": "types",
    "Outcome": "types",
    "Policy": "guard.policy",
    "Principal": "types",
    "load_policy": "guard.policy",
}


def __getattr__(name: str) -> Any:
    if name == "guard":
        return importlib.import_module("interlock.guard")
    if name in _LAZY:
        return getattr(importlib.import_module(f"interlock.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'interlock' has no attribute {name!r}")
