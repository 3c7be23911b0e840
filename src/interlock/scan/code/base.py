"""What a code rule gets: a parsed module with names resolved, and how it reports."""

from __future__ import annotations

import ast
import bisect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Protocol

from interlock.scan.finding import Severity

__all__ = ["GETTERS", "IMPORTERS", "CodeRule", "Hit", "Module", "RuleFacts"]

_MAX_TEXT = 4096
_MAX_DEPTH = 40
#: Calls that fetch an attribute, and those that fetch a module.
GETTERS = {"getattr", "builtins.getattr", "inspect.getattr_static"}
IMPORTERS = {"__import__", "importlib.import_module", "builtins.__import__"}
_OWN_GETTERS = {"__getattribute__", "__getattr__"}
_VARS = {"vars", "builtins.vars"}
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.Module, ast.ClassDef)


def _line(entry: tuple[int, ast.expr]) -> int:
    return entry[0]


@dataclass(frozen=True, slots=True)
class Hit:
    """One place a rule objects to."""

    line: int
    column: int
    message: str
    length: int = 1


class RuleFacts(Protocol):
    """What every rule says of itself."""

    id: ClassVar[str]
    title: ClassVar[str]
    severity: ClassVar[Severity]
    confidence: ClassVar[str]
    why: ClassVar[str]
    fix: ClassVar[str]


class CodeRule(RuleFacts, Protocol):
    """A rule over one Python module. Registered in the group `interlock.scan`."""

    def check(self, module: Module) -> Iterator[Hit]:
        """Yield each place at fault."""


class Module:
    r"""A parsed Python module with imports resolved and assignments recorded.

    Example:
        >>> m = Module("import numpy as np\nx = np.load('a')")
        >>> [m.name(call.func) for call in m.calls]
        ['numpy.load']
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.tree = ast.parse(text)
        self.imports: dict[str, str] = {}
        self.calls: list[ast.Call] = []
        self.nodes: list[ast.AST] = []
        self._scope: dict[ast.AST, ast.AST] = {}
        self._parent: dict[ast.AST, ast.AST] = {}
        self._bound: dict[tuple[ast.AST, str], list[tuple[int, ast.expr]]] = {}
        self._bases: dict[str, set[str]] = {}
        self._defined: set[str] = set()
        self.stars: list[str] = []
        self._texts: dict[ast.AST, str | None] = {}
        self._dots: dict[ast.AST, str] = {}
        self._rough: dict[ast.AST, str] = {}
        self._depth = 0
        self._cut = False
        self._index()
        for bound in self._bound.values():
            bound.sort(key=_line)
        roots = {value.split(".")[0] for value in (*self.imports.values(), *self.stars)}
        self.roots = frozenset(roots)

    def _index(self) -> None:
        stack: list[tuple[ast.AST, ast.AST]] = [(self.tree, self.tree)]
        while stack:
            node, scope = stack.pop()
            self.nodes.append(node)
            self._scope[node] = scope
            inner = node if isinstance(node, _SCOPES) else scope
            self._record(node, scope)
            for child in reversed(list(ast.iter_child_nodes(node))):
                self._parent[child] = node
                stack.append((child, inner))

    def _record(self, node: ast.AST, scope: ast.AST) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.asname or alias.name.split(".")[0]
                self.imports[name] = alias.name if alias.asname else name
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                if alias.name == "*":
                    self.stars.append(node.module)
                else:
                    self.imports[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Call):
            self.calls.append(node)
        elif isinstance(node, ast.ClassDef):
            bases = {ast.unparse(base).rpartition(".")[2] for base in node.bases[:8]}
            self._bases.setdefault(node.name, set()).update(bases)
            self._defined.add(node.name)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            self._defined.add(node.name)
        elif isinstance(node, ast.arg):
            self._defined.add(node.arg)
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                self._bind(scope, target, node.value)
        elif isinstance(node, (ast.AnnAssign, ast.NamedExpr)) and node.value is not None:
            self._bind(scope, node.target, node.value)
        elif isinstance(node, (ast.With, ast.AsyncWith)):
            for item in node.items:
                if item.optional_vars is not None:
                    self._bind(scope, item.optional_vars, item.context_expr)

    def _bind(self, scope: ast.AST, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Name):
            self._defined.add(target.id)
            self._bound.setdefault((scope, target.id), []).append((target.lineno, value))
        elif isinstance(target, (ast.Tuple, ast.List)) and isinstance(value, (ast.Tuple, ast.List)):
            for one, other in zip(target.elts, value.elts, strict=False):
                self._bind(scope, one, other)

    def bases(self, name: str) -> set[str]:
        """Return the last names of the bases of a class this module defines."""
        return self._bases.get(name, set())

    def scope(self, node: ast.AST) -> ast.AST:
        """Return the function, class or module a node stands in."""
        return self._scope[node]

    def parent(self, node: ast.AST) -> ast.AST | None:
        """Return the node that holds this one."""
        return self._parent.get(node)

    def value(self, node: ast.expr) -> ast.expr:
        """Follow a name to the expression last assigned to it, in its scope or one around it."""
        for _ in range(8):
            if not isinstance(node, ast.Name):
                return node
            found = self._lookup(node)
            if found is None or found is node:
                return node
            node = found
        return node

    def _lookup(self, node: ast.Name) -> ast.expr | None:
        scope = self._scope.get(node)
        while scope is not None:
            bound = self._bound.get((scope, node.id))
            if bound:
                index = bisect.bisect_left(bound, node.lineno, key=_line)
                if index:
                    return bound[index - 1][1]
                if not isinstance(scope, ast.Module) or scope is self._scope.get(node):
                    return None
                return bound[-1][1]
            if isinstance(scope, ast.Module):
                return None
            scope = self._scope.get(scope)
        return None

    def name(self, node: ast.AST) -> str:
        """Return the dotted, import-resolved name of an expression, or an empty string.

        An attribute or a module fetched by a text that can be worked out counts as written out:
        `getattr`, `attrgetter`, `vars(m)[...]`, `m.__dict__[...]`, `sys.modules[...]`,
        `import_module`, `__import__`.
        """
        if not self._depth:
            self._cut, self._rough = False, {}
        known = self._dots.get(node, self._rough.get(node))
        if known is not None:
            return known
        if self._depth > _MAX_DEPTH:
            self._cut = True
            return ""
        self._depth += 1
        try:
            found = self._dotted(node)
        finally:
            self._depth -= 1
        # past a cut it is not the name, only what could be told from so deep
        (self._rough if self._cut else self._dots)[node] = found
        return found

    def _dotted(self, node: ast.AST) -> str:
        parts: list[str] = []
        root = ""
        for _ in range(32):
            if isinstance(node, ast.Attribute):
                parts.append(node.attr)
                node = node.value
                continue
            if isinstance(node, ast.Name):
                root = self._root(node)
                break
            fetched = self.fetched(node) if isinstance(node, (ast.Call, ast.Subscript)) else None
            if fetched is None:
                root = self._imported(node)
                break
            node, attribute = fetched
            parts.append(attribute)
        return ".".join([root, *reversed(parts)]) if root else ""

    def _root(self, node: ast.Name) -> str:
        known = self.imports.get(node.id)
        if known is not None:
            return known
        bound = self._lookup(node)
        if isinstance(bound, (ast.Attribute, ast.Name, ast.Subscript, ast.Call)):
            made = isinstance(bound, ast.Call) and not self.fetched(bound)
            inner = self._imported(bound) if made else self.name(bound)
            return inner or node.id
        return node.id

    def _imported(self, node: ast.AST) -> str:
        """Return the module that `import_module(...)`, `__import__(...)`, `sys.modules[...]` is."""
        if isinstance(node, ast.Subscript) and self.name(node.value) == "sys.modules":
            return self.text_of(node.slice) or ""
        if not isinstance(node, ast.Call):
            return ""
        first = node.args[0] if node.args else self.keyword(node, "name")
        called = self.name(node.func)
        if first is None or called not in IMPORTERS:
            return ""
        text = self.text_of(first) or ""
        whole = called == "importlib.import_module" or self.keyword(node, "fromlist")
        return text if whole or len(node.args) > 3 else text.split(".")[0]

    def fetched(self, node: ast.Call | ast.Subscript) -> tuple[ast.expr, str] | None:
        """Return the owner and the attribute that `getattr` and its kin fetch, if worked out."""
        found: tuple[ast.expr, ast.expr] | None = None
        if isinstance(node, ast.Subscript):
            table = node.value
            if isinstance(table, ast.Attribute) and table.attr == "__dict__":
                found = table.value, node.slice
            elif isinstance(table, ast.Call) and table.args and self.name(table.func) in _VARS:
                found = table.args[0], node.slice
        elif len(node.args) >= 2 and self.name(node.func) in GETTERS:
            found = node.args[0], node.args[1]
        elif node.args and isinstance(node.func, ast.Attribute) and node.func.attr in _OWN_GETTERS:
            found = node.func.value, node.args[0]
        elif node.args and isinstance(node.func, ast.Call) and node.func.args:
            attrgetter = self.name(node.func.func) == "operator.attrgetter"
            found = (node.args[0], node.func.args[0]) if attrgetter else None
        text = self.text_of(found[1]) if found is not None else None
        return (found[0], text) if found is not None and text else None

    def bound(self, node: ast.Name) -> bool:
        """Whether this module itself gives a name a value: an import, a definition, an argument."""
        return node.id in self._defined or node.id in self.imports

    def origin(self, node: ast.expr) -> str:
        """Return the dotted name of the call that made a value, or an empty string."""
        value = self.value(node)
        return self.name(value.func) if isinstance(value, ast.Call) else ""

    def made_by(self, node: ast.expr, names: set[str]) -> bool:
        """Whether a value can only come from a call of one of these functions.

        True for such a call itself, and for a name that its scope gives a value once and that no
        argument, loop, import or `global` could fill otherwise.
        """
        value = self.value(node)
        if not isinstance(value, ast.Call) or self.name(value.func) not in names:
            return False
        root = value.func
        while isinstance(root, ast.Attribute):
            root = root.value
        if not isinstance(root, ast.Name) or root.id not in self.imports:
            return False  # a name of the same spelling that this module made itself
        return not isinstance(node, ast.Name) or self._stores(node) == 1

    def _stores(self, name: ast.Name) -> int:
        """Count the ways the scope of a name gives it a value; more than one is not told apart."""
        scope, count = self._scope[name], 0
        for node in self.nodes:
            if isinstance(node, (ast.Global, ast.Nonlocal)):
                count += 2 * (name.id in node.names)
            elif self._scope[node] is not scope:
                continue
            elif isinstance(node, ast.Name):
                count += node.id == name.id and not isinstance(node.ctx, ast.Load)
            elif isinstance(node, ast.alias):
                count += 2 * ((node.asname or node.name.split(".")[0]) in (name.id, "*"))
            elif isinstance(node, (ast.arg, ast.ExceptHandler, ast.MatchAs, ast.MatchStar)):
                said = node.arg if isinstance(node, ast.arg) else node.name
                count += 2 * (said == name.id)
        return count

    def text_of(self, node: ast.expr) -> str | None:
        """Work out a string built from constants: `+`, f-strings, join, slices, names, `chr`."""
        value = self.value(node)
        if isinstance(value, ast.Constant):
            return value.value if isinstance(value.value, str) else None
        if value in self._texts:
            return self._texts[value]
        if self._depth > _MAX_DEPTH:
            return None
        self._depth += 1
        try:
            text = self._built(value)
        finally:
            self._depth -= 1
        self._texts[value] = text if text is None or len(text) <= _MAX_TEXT else None
        return self._texts[value]

    def _built(self, value: ast.expr) -> str | None:
        if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Add):
            left, right = self.text_of(value.left), self.text_of(value.right)
            return left + right if left is not None and right is not None else None
        if isinstance(value, ast.JoinedStr):
            return self._join(
                [v.value if isinstance(v, ast.FormattedValue) else v for v in value.values]
            )
        if isinstance(value, ast.Subscript):
            return self._slice(value)
        if isinstance(value, ast.Call):
            return self._text_call(value)
        return None

    def _join(self, items: list[ast.expr], glue: str = "") -> str | None:
        parts = [self.text_of(item) for item in items]
        return glue.join(p for p in parts if p is not None) if None not in parts else None

    def _slice(self, node: ast.Subscript) -> str | None:
        text = self.text_of(node.value)
        step = node.slice.step if isinstance(node.slice, ast.Slice) else None
        if text is not None and isinstance(step, ast.UnaryOp) and isinstance(step.op, ast.USub):
            return text[::-1]
        return None

    def _text_call(self, call: ast.Call) -> str | None:
        if isinstance(call.func, ast.Name) and call.func.id == "chr" and call.args:
            code = call.args[0]
            if isinstance(code, ast.Constant) and isinstance(code.value, int):
                return chr(code.value) if 0 <= code.value < 0x110000 else None
        if isinstance(call.func, ast.Attribute) and call.func.attr == "join" and call.args:
            glue = self.text_of(call.func.value)
            if glue is not None and isinstance(call.args[0], (ast.List, ast.Tuple)):
                return self._join(call.args[0].elts, glue)
        return None

    def keyword(self, call: ast.Call, name: str) -> ast.expr | None:
        """Return the value of a keyword argument."""
        return next((k.value for k in call.keywords if k.arg == name), None)

    def pairs(self, node: ast.expr) -> dict[str, ast.expr] | None:
        """Return what a `{...}` or `dict(...)` with plain keys holds; None if it cannot be told."""
        value = self.value(node)
        if isinstance(value, ast.Dict):
            keys = [self.text_of(key) if key is not None else None for key in value.keys]
            if None in keys:
                return None
            return {key or "": item for key, item in zip(keys, value.values, strict=True)}
        if isinstance(value, ast.Call) and self.name(value.func) == "dict" and not value.args:
            if any(k.arg is None for k in value.keywords):
                return None
            return {k.arg or "": k.value for k in value.keywords}
        return None

    def argument(self, call: ast.Call, name: str) -> ast.expr | None:
        """Return the value of a keyword argument, also from a `**{...}` that can be worked out."""
        found = self.keyword(call, name)
        for item in call.keywords:
            if found is None and item.arg is None:
                found = (self.pairs(item.value) or {}).get(name)
        return found

    def number(self, node: ast.expr | None) -> int | None:
        """Return a whole number if the expression plainly is one."""
        value = self.value(node) if node is not None else None
        if isinstance(value, ast.Constant) and isinstance(value.value, int):
            return None if isinstance(value.value, bool) else value.value
        return None

    def hit(self, node: ast.AST, message: str) -> Hit:
        """Report a node."""
        line = getattr(node, "lineno", 1)
        column = getattr(node, "col_offset", 0)
        end = getattr(node, "end_col_offset", column + 1)
        same = getattr(node, "end_lineno", line) == line
        return Hit(line, column + 1, message, max(1, end - column) if same else 1)
