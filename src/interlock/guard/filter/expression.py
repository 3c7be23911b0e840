"""A small, total expression language for constraints.

The syntax is Python's, the meaning is its own: an expression is parsed to a tree, every node is
checked against an allow-list when the policy is loaded, and evaluation walks the tree with a step
budget. There is no attribute access, no assignment, no import, no power, and no call but to the
functions listed in `FUNCTIONS`. An expression that cannot be evaluated is a violation.
"""

from __future__ import annotations

import ast
import math
import operator
import statistics
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

__all__ = ["FUNCTIONS", "MAX_STEPS", "Expression", "ExpressionError", "compile_expression"]

MAX_STEPS = 500_000
_MAX_LENGTH = 2000
_MAX_NODES = 400


class ExpressionError(ValueError):
    """The expression is not in the language, or could not be evaluated."""


def _numbers(values: Any) -> list[float]:
    if not isinstance(values, list):
        raise ExpressionError(f"expected a list, got {type(values).__name__}")
    return [_number(v) for v in values]


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ExpressionError(f"expected a finite number, got {value!r:.60}")
    return value


def _length(value: Any) -> int:
    if not isinstance(value, list | str | dict):
        raise ExpressionError(f"{type(value).__name__} has no length")
    return len(value)


def _truths(values: Any) -> list[bool]:
    if not isinstance(values, list) or not all(isinstance(v, bool) for v in values):
        raise ExpressionError("expected a list of true or false")
    return values


def _mean(values: Any) -> float:
    numbers = _numbers(values)
    if not numbers:
        raise ExpressionError("the mean of an empty list")
    return statistics.fmean(numbers)


def _extreme(choose: Callable[..., Any]) -> Callable[..., Any]:
    def pick(*values: Any) -> Any:
        numbers = _numbers(values[0] if len(values) == 1 else list(values))
        if not numbers:
            raise ExpressionError("the extreme of an empty list")
        return choose(numbers)

    return pick


def _call_or_error(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def call(value: Any) -> Any:
        try:
            return function(_number(value))
        except (ValueError, OverflowError) as error:
            raise ExpressionError(str(error)) from error

    return call


#: What an expression may call.
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": _call_or_error(abs),
    "all": lambda values: all(_truths(values)),
    "any": lambda values: any(_truths(values)),
    "exp": _call_or_error(math.exp),
    "len": _length,
    "log": _call_or_error(math.log),
    "max": _extreme(max),
    "mean": _mean,
    "min": _extreme(min),
    "round": _call_or_error(round),
    "sqrt": _call_or_error(math.sqrt),
    "sum": lambda values: math.fsum(_numbers(values)),
}
_BINARY: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
}
_ORDER: dict[type[ast.AST], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_NODES = (
    ast.Expression, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.BinOp,
    ast.Compare, ast.Eq, ast.NotEq, ast.In, ast.NotIn, ast.IfExp, ast.Call, ast.Name, ast.Load,
    ast.Constant, ast.List, ast.Tuple, ast.Subscript, ast.GeneratorExp, ast.comprehension,
    ast.Store, *_BINARY, *_ORDER,
)  # fmt: skip


class Expression:
    """A checked expression. Build it with `compile_expression`."""

    def __init__(self, text: str, tree: ast.expr) -> None:
        self.text = text
        self._tree = tree
        names = [n for n in ast.walk(tree) if isinstance(n, ast.Name)]
        # A function is called by a name, and a loop stores one: neither is a field.
        called = {id(n.func) for n in ast.walk(tree) if isinstance(n, ast.Call)}
        stored = {n.id for n in names if isinstance(n.ctx, ast.Store)}
        #: The fields it looks at, in order.
        self.fields = tuple(
            dict.fromkeys(n.id for n in names if id(n) not in called and n.id not in stored)
        )

    def __call__(self, fields: Mapping[str, Any]) -> Any:
        """Evaluate over named fields.

        Raises:
            ExpressionError: a name is missing, a type does not fit, a number is not finite, or
                the step budget is spent.
        """
        walk = _Walk(fields)
        try:
            return walk.value(self._tree, {})
        except (TypeError, ZeroDivisionError, OverflowError, RecursionError) as error:
            raise ExpressionError(f"{type(error).__name__}: {error}") from error


class _Walk:
    def __init__(self, fields: Mapping[str, Any]) -> None:
        self._fields = fields
        self._left = MAX_STEPS

    def value(self, node: ast.AST, local: Mapping[str, Any]) -> Any:
        self._left -= 1
        if self._left < 0:
            raise ExpressionError(f"more than {MAX_STEPS} steps")
        match node:
            case ast.Constant():
                return node.value
            case ast.Name():
                return self._name(node.id, local)
            case ast.List() | ast.Tuple():
                return [self.value(e, local) for e in node.elts]
            case ast.BoolOp():
                every = isinstance(node.op, ast.And)
                for part in node.values:
                    if _truth(self.value(part, local)) is not every:
                        return not every
                return every
            case ast.UnaryOp(op=ast.Not()):
                return not _truth(self.value(node.operand, local))
            case ast.UnaryOp():
                return -_number(self.value(node.operand, local))
            case ast.BinOp():
                left, right = self.value(node.left, local), self.value(node.right, local)
                return _number(_BINARY[type(node.op)](_number(left), _number(right)))
            case ast.Compare():
                return self._compare(node, local)
            case ast.IfExp():
                chosen = node.body if _truth(self.value(node.test, local)) else node.orelse
                return self.value(chosen, local)
            case ast.Subscript():
                return self._item(self.value(node.value, local), self.value(node.slice, local))
            case ast.GeneratorExp():
                return list(self._each(node, local))
            case ast.Call(func=ast.Name(id=name)):
                values = [self.value(a, local) for a in node.args]
                for value in values:
                    self._spend(value)
                return FUNCTIONS[name](*values)
        raise ExpressionError(f"{type(node).__name__} is not in the language")

    def _spend(self, value: Any) -> None:
        """Charge for going through a value: a function of a list in a loop over it is no step."""
        if isinstance(value, list | str | Mapping):
            self._left -= len(value)

    def _name(self, name: str, local: Mapping[str, Any]) -> Any:
        if name in local:
            return local[name]
        if name not in self._fields:
            raise ExpressionError(f"the output has no field {name!r}")
        return self._fields[name]

    def _each(self, node: ast.GeneratorExp, local: Mapping[str, Any]) -> Iterator[Any]:
        loop = node.generators[0]
        values = self.value(loop.iter, local)
        if not isinstance(values, list):
            raise ExpressionError(f"cannot go through {type(values).__name__}")
        assert isinstance(loop.target, ast.Name)  # checked when it was compiled
        for item in values:
            inner = {**local, loop.target.id: item}
            if all(_truth(self.value(test, inner)) for test in loop.ifs):
                yield self.value(node.elt, inner)

    def _compare(self, node: ast.Compare, local: Mapping[str, Any]) -> bool:
        left = self.value(node.left, local)
        for symbol, right_node in zip(node.ops, node.comparators, strict=True):
            right = self.value(right_node, local)
            self._spend(right)
            if not _holds(symbol, left, right):
                return False
            left = right
        return True

    @staticmethod
    def _item(container: Any, key: Any) -> Any:
        if isinstance(container, list | str) and isinstance(key, int) and not isinstance(key, bool):
            if -len(container) <= key < len(container):
                return container[key]
        elif isinstance(container, Mapping) and key in container:
            return container[key]
        raise ExpressionError(f"no element {key!r:.60}")


def _holds(symbol: ast.cmpop, left: Any, right: Any) -> bool:
    order = _ORDER.get(type(symbol))
    if order is not None:
        return order(_number(left), _number(right))
    if isinstance(symbol, ast.In | ast.NotIn):
        if not isinstance(right, list) and not (isinstance(left, str) and isinstance(right, str)):
            raise ExpressionError("`in` needs a list, or text in text")
        # `in` of Python takes true for 1.
        inside = left in right if isinstance(right, str) else any(_same(left, r) for r in right)
        return inside is isinstance(symbol, ast.In)
    if isinstance(left, bool) is not isinstance(right, bool):
        raise ExpressionError("true and false are no numbers")
    return _same(left, right) is isinstance(symbol, ast.Eq)


def _same(left: Any, right: Any) -> bool:
    """Compare as JSON does: true is not 1, at any depth."""
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same, left, right))
    return isinstance(left, bool) is isinstance(right, bool) and bool(left == right)


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ExpressionError(f"expected true or false, got {value!r:.60}")
    return value


def _check(node: ast.AST) -> None:
    if not isinstance(node, _NODES):
        raise ExpressionError(f"{type(node).__name__} is not in the language")
    if isinstance(node, ast.Call):
        known = isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS
        if not known or node.keywords or any(isinstance(a, ast.Starred) for a in node.args):
            raise ExpressionError("only these may be called: " + ", ".join(FUNCTIONS))
    if isinstance(node, ast.GeneratorExp):
        loop = node.generators[0]
        if len(node.generators) != 1 or loop.is_async or not isinstance(loop.target, ast.Name):
            raise ExpressionError("one `for name in list` at most")
    if isinstance(node, ast.Constant) and not isinstance(node.value, str | int | float | bool):
        raise ExpressionError(f"{node.value!r} is no constant of the language")


@lru_cache(maxsize=1024)
def compile_expression(text: str) -> Expression:
    """Parse and check an expression.

    Raises:
        ExpressionError: it is too long or uses something outside the language.

    Example:
        >>> compile_expression("all(abs(v) <= 1 for v in values)")({"values": [0.3, -1.0]})
        True
        >>> compile_expression("__import__('os')")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        interlock.guard.filter.expression.ExpressionError: only these may be called: abs, ...
    """
    if len(text) > _MAX_LENGTH:
        raise ExpressionError(f"longer than {_MAX_LENGTH} characters")
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise ExpressionError(f"cannot be parsed: {error}") from error
    nodes = list(ast.walk(tree))
    if len(nodes) > _MAX_NODES:
        raise ExpressionError(f"more than {_MAX_NODES} parts")
    for node in nodes:
        _check(node)
    return Expression(text, tree.body)
