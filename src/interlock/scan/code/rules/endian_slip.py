"""Qiskit bit strings read from the wrong end."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from typing import ClassVar

from interlock.scan.code.base import Hit, Module
from interlock.scan.finding import Severity

__all__ = ["EndianSlip"]

_SOURCES = {"get_counts", "get_bitstrings", "quasi_dists", "binary_probabilities"}


class EndianSlip:
    """`bitstring[0]` taken for qubit 0: in Qiskit the last character is qubit 0."""

    id: ClassVar[str] = "endian-slip"
    title: ClassVar[str] = "Bit string read from the wrong end"
    severity: ClassVar[Severity] = Severity.LOW
    confidence: ClassVar[str] = "low"
    why: ClassVar[str] = "the answer is that of another qubit, and symmetric tests do not notice"
    fix: ClassVar[str] = "reverse first: bits = key[::-1], then bits[i] is qubit i"

    def check(self, module: Module) -> Iterator[Hit]:
        """Yield indexing and enumeration of keys of counts that were not reversed."""
        if "qiskit" not in module.roots and "qiskit_aer" not in module.roots:
            return
        for node in module.nodes:
            if isinstance(node, ast.For):
                key = self._key(module, node.target, node.iter)
                if key:
                    yield from self._body(module, key, node.body)
            elif isinstance(node, (ast.DictComp, ast.ListComp, ast.GeneratorExp, ast.SetComp)):
                for part in node.generators:
                    key = self._key(module, part.target, part.iter)
                    if key:
                        yield from self._body(module, key, [node])

    def _key(self, module: Module, target: ast.expr, source: ast.expr) -> str | None:
        if isinstance(source, ast.Call) and isinstance(source.func, ast.Attribute):
            if source.func.attr not in ("items", "keys"):
                return None
            source = source.func.value
        value = module.value(source)
        method = (
            value.func.attr
            if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute)
            else ""
        )
        if method not in _SOURCES:
            return None
        name = target.elts[0] if isinstance(target, ast.Tuple) and target.elts else target
        return name.id if isinstance(name, ast.Name) else None

    def _body(self, module: Module, key: str, body: Sequence[ast.AST]) -> Iterator[Hit]:
        for part in body:
            for node in ast.walk(part):
                if isinstance(node, ast.Subscript) and self._is(node.value, key):
                    index = node.slice
                    if isinstance(index, ast.Constant) and isinstance(index.value, int):
                        yield module.hit(node, f"{key}[{index.value}] is not qubit {index.value}")
                    elif isinstance(index, ast.Name):
                        yield module.hit(node, f"{key}[{index.id}] counts from the other end")
                elif isinstance(node, ast.Call) and self._is_enumerate(node, key):
                    yield module.hit(node, f"enumerate({key}) begins at the last qubit")

    def _is(self, node: ast.expr, key: str) -> bool:
        return isinstance(node, ast.Name) and node.id == key

    def _is_enumerate(self, call: ast.Call, key: str) -> bool:
        return (
            isinstance(call.func, ast.Name)
            and call.func.id == "enumerate"
            and bool(call.args)
            and self._is(call.args[0], key)
        )
