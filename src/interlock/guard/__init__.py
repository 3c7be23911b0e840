"""The guarded path: every quantum job goes through it, stage by stage.

The package is also a function: `interlock.guard(sampler, policy="policy.yaml")`; see
`interlock.guard.hooks.guard`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _CallableModule(ModuleType):
    """Lets `interlock.guard(...)` be the call and `interlock.guard.pipeline` the package."""

    def __call__(self, target: Any, **options: Any) -> Any:
        """Guard a sampler, estimator, backend or device."""
        from interlock.guard.hooks import guard

        return guard(target, **options)


sys.modules[__name__].__class__ = _CallableModule
