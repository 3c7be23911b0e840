"""Calls whose target is put together at run time."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import ClassVar

from interlock.scan.code.base import GETTERS, IMPORTERS, Hit, Module
from interlock.scan.finding import Severity

__all__ = ["DynamicAttribute"]

_MODULES = {
    "os", "io", "builtins", "subprocess", "pickle", "marshal", "importlib", "sys", "ctypes",
    "shutil", "socket", "posix", "torch", "numpy", "joblib", "__builtins__",
}  # fmt: skip
_RUN = {"eval", "exec", "builtins.eval", "builtins.exec"}


class DynamicAttribute:
    """`getattr(io, "op" + "en")`, `eval` of a value, imports by computed name."""

    id: ClassVar[str] = "dynamic-attribute"
    title: ClassVar[str] = "Call target put together at run time"
    severity: ClassVar[Severity] = Severity.MEDIUM
    confidence: ClassVar[str] = "medium"
    why: ClassVar[str] = (
        "a reader and a scanner cannot see what will be called; attackers hide there"
    )
    fix: ClassVar[str] = "write the call out, or look the name up in a table of allowed functions"

    def check(self, module: Module) -> Iterator[Hit]:
        """Yield the calls."""
        for call in module.calls:
            name = module.name(call.func) if not isinstance(call.func, ast.Call) else ""
            if name in _RUN and call.args and not isinstance(call.args[0], ast.Constant):
                yield module.hit(call, f"{name} of a value")
            elif name in IMPORTERS and call.args:
                yield from self._import(module, call, name)
            elif name in GETTERS and len(call.args) >= 2:
                yield from self._getattr(module, call)

    def _import(self, module: Module, call: ast.Call, name: str) -> Iterator[Hit]:
        first = call.args[0]
        text = module.text_of(first)
        plain = name == "importlib.import_module" and isinstance(first, ast.Constant)
        if text is not None and not isinstance(module.value(first), ast.Constant):
            yield module.hit(call, f"{name} of a name in pieces: {text!r}")
        elif text in _MODULES and not plain:
            yield module.hit(call, f"{name}({text!r}) hides an import")

    def _getattr(self, module: Module, call: ast.Call) -> Iterator[Hit]:
        owner = module.name(call.args[0])
        attribute = module.text_of(call.args[1])
        pieces = not isinstance(module.value(call.args[1]), ast.Constant)
        called = isinstance(module.parent(call), ast.Call) and (
            getattr(module.parent(call), "func", None) is call
        )
        if owner.split(".")[0] not in _MODULES:
            return
        if attribute is not None and pieces:
            yield module.hit(call, f"getattr in pieces is {owner}.{attribute}")
        elif attribute is None and called and len(call.args) == 2:
            yield module.hit(call, f"a computed attribute of {owner} is called")
