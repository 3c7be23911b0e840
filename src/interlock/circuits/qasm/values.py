"""Expressions of OpenQASM: numbers, symbolic parameters, classical conditions."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, TypeAlias

from interlock.circuits.expression import normalise, quote
from interlock.errors import InputError

__all__ = ["Bits", "Symbol", "Value", "binary", "call", "condition_of", "unary"]


class Symbol(str):
    """The canonical text of a parameter expression with a free symbol."""

    __slots__ = ()

    @classmethod
    def named(cls, name: str) -> Symbol:
        """Return the symbol of that name."""
        return cls(quote(name))


class Bits:
    """A classical condition, in the nested lists of the canonical form, and the bits it reads."""

    __slots__ = ("node", "reads")

    def __init__(self, node: list[Any], reads: frozenset[int]) -> None:
        self.node = node
        self.reads = reads


#: What an expression can be. Whole numbers stay whole, as OpenQASM 3 has it.
Value: TypeAlias = int | float | Symbol | Bits

_NUMBERS: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "%": operator.mod,
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le,
    ">": operator.gt, ">=": operator.ge, "&&": lambda a, b: bool(a) and bool(b),
    "||": lambda a, b: bool(a) or bool(b),
}  # fmt: skip
_WHOLE: dict[str, Callable[[int, int], int]] = {
    "&": operator.and_, "|": operator.or_, "^": operator.xor,
}  # fmt: skip
_ARITHMETIC = ("+", "-", "*", "/", "**")
_CONDITIONS = ("==", "!=", "<", "<=", ">", ">=", "&&", "||", "&", "|", "^")
_FUNCTIONS: dict[str, Callable[[float], float]] = {
    "sin": math.sin, "cos": math.cos, "tan": math.tan, "exp": math.exp, "ln": math.log,
    "log": math.log, "sqrt": math.sqrt, "arcsin": math.asin, "arccos": math.acos,
    "arctan": math.atan, "asin": math.asin, "acos": math.acos, "atan": math.atan, "abs": abs,
}  # fmt: skip
MAX_BITS = 64


def binary(op: str, left: Value, right: Value, *, version: int) -> Value:
    """Apply an operator.

    Raises:
        ValueError: it has no meaning, or two.
    """
    if isinstance(left, Bits) or isinstance(right, Bits):
        return _condition(op, left, right)
    if isinstance(left, Symbol) or isinstance(right, Symbol):
        if op not in _ARITHMETIC:
            raise ValueError(f"{op} cannot be applied to a parameter without a value")
        parts = [side if isinstance(side, Symbol) else repr(side) for side in (left, right)]
        try:
            text = normalise(f"({parts[0]}){op}({parts[1]})")
        except InputError as error:
            raise ValueError(error.message) from error
        return Symbol(text) if isinstance(text, str) else text
    if op == "/":
        if right == 0:
            raise ValueError("a division by zero")
        if version >= 3 and isinstance(left, int) and isinstance(right, int):
            if left % right:
                raise ValueError(
                    f"{left}/{right} is a division of whole numbers, which OpenQASM 3 rounds; "
                    f"write {left}.0/{right}"
                )
            return left // right
        return left / right
    if op == "**" or (op == "^" and version < 3):
        if abs(right) > 64 or abs(left) > 1e6:
            raise ValueError("a power that is too large")
        result = left**right
        if isinstance(result, complex):
            raise ValueError("a negative number to a broken power")
        return float(result) if isinstance(result, float) else int(result)
    if op in ("<<", ">>"):
        if not (isinstance(left, int) and isinstance(right, int) and 0 <= right <= MAX_BITS):
            raise ValueError("a shift of something else than small whole numbers")
        return left << right if op == "<<" else left >> right
    if op in _WHOLE:
        if not (isinstance(left, int) and isinstance(right, int)):
            raise ValueError(f"{op} takes whole numbers")
        return _WHOLE[op](left, right)
    if op == "%" and right == 0:
        raise ValueError("a division by zero")
    if op not in _NUMBERS:
        raise ValueError(f"the operator {op} is not supported")
    number = _NUMBERS[op](left, right)
    if isinstance(number, int) and abs(number) > 1 << 128:
        raise ValueError("a number that is too large")
    return int(number) if isinstance(number, bool) else number


def _node(value: Value, like: Bits) -> list[Any]:
    if isinstance(value, Bits):
        return value.node
    if isinstance(value, int) and value >= 0:
        width = len(like.node[1]) if like.node[0] == "bits" else 1
        if value >= 1 << width:
            raise ValueError(f"the value {value} does not fit into {width} bits")
        return ["value", value, width]
    raise ValueError("a condition compares bits with a whole number that is not negative")


def _condition(op: str, left: Value, right: Value) -> Bits:
    if op not in _CONDITIONS:
        raise ValueError(f"{op} cannot be applied to classical bits here")
    like = left if isinstance(left, Bits) else right
    assert isinstance(like, Bits)
    reads: frozenset[int] = frozenset()
    for side in (left, right):
        reads |= side.reads if isinstance(side, Bits) else frozenset()
    return Bits(simplify([op, _node(left, like), _node(right, like)]), reads)


def simplify(node: list[Any]) -> list[Any]:
    """Write a comparison of a single bit with 0 or 1 as that bit or its opposite."""
    if node[0] in ("==", "!="):
        bit, value = (node[1], node[2]) if node[2][0] == "value" else (node[2], node[1])
        if bit[0] in ("bit", "!") and value[0] == "value":
            return bit if (node[0] == "==") == bool(value[1]) else ["!", bit]
    return node


def unary(op: str, value: Value) -> Value:
    """Apply a sign, `!` or `~`.

    Raises:
        ValueError: it has no meaning.
    """
    if isinstance(value, Bits):
        if op not in ("!", "~"):
            raise ValueError(f"{op} cannot be applied to classical bits")
        return Bits([op, value.node], value.reads)
    if isinstance(value, Symbol):
        return value if op == "+" else binary("-", 0, value, version=3)
    if op == "-":
        return -value
    if op == "+":
        return value
    if op == "!":
        return int(not value)
    raise ValueError(f"{op} cannot be applied to a number here")


def call(name: str, argument: Value) -> Value:
    """Apply a function of one argument.

    Raises:
        ValueError: no such function, or it has no value there.
    """
    if name not in _FUNCTIONS:
        raise ValueError(f"the function {name} is not known")
    if isinstance(argument, Bits):
        raise ValueError(f"{name} takes a number")  # noqa: TRY004 - one error for the parser
    if isinstance(argument, Symbol):
        try:
            text = normalise(f"{name}({argument})")
        except InputError as error:
            raise ValueError(error.message) from error
        return Symbol(text) if isinstance(text, str) else text
    return _FUNCTIONS[name](argument)


def condition_of(value: Value) -> Bits:
    """Return a value used as a condition.

    Raises:
        ValueError: it reads no bit.
    """
    if not isinstance(value, Bits):
        raise ValueError("a condition that reads no bit")  # noqa: TRY004 - as above
    if value.node[0] == "bits":
        return Bits(["!=", value.node, ["value", 0, len(value.node[1])]], value.reads)
    return value
