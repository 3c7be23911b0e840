"""Model hubs asked to run code that comes with the model."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import ClassVar

from interlock.scan.code.base import Hit, Module
from interlock.scan.finding import Severity

__all__ = ["RemoteCode"]


class RemoteCode:
    """`trust_remote_code=True`, `torch.hub.load` from the network."""

    id: ClassVar[str] = "remote-code"
    title: ClassVar[str] = "Runs code that comes with a model"
    severity: ClassVar[Severity] = Severity.HIGH
    confidence: ClassVar[str] = "high"
    why: ClassVar[str] = (
        "whoever owns the model repository, today or later, runs code as this program"
    )
    fix: ClassVar[str] = "vendor and review the code, pin a revision, load weights alone"

    def check(self, module: Module) -> Iterator[Hit]:
        """Yield the calls."""
        for call in module.calls:
            flag = module.keyword(call, "trust_remote_code")
            if isinstance(flag, ast.Constant) and flag.value is True:
                yield module.hit(call, "trust_remote_code=True")
            elif module.name(call.func) == "torch.hub.load":
                source = module.keyword(call, "source")
                local = isinstance(source, ast.Constant) and source.value == "local"
                if not local:
                    yield module.hit(call, "torch.hub.load runs the repository's hubconf.py")
