"""Parameter expressions in one normal form, so that a template has an identity.

An expression is a polynomial with real coefficients over atoms. An atom is a symbol, a function of
an expression, or a power that is no whole number. Terms are collected and sorted, so `2*a + 1`,
`1 + a*2` and `a + a + 1` are the same text. Nothing is evaluated as code.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TypeAlias

from interlock.errors import InputError

__all__ = ["Param", "evaluate", "linear", "normalise", "quote", "split", "substitute", "symbols"]

#: A number, or the canonical text of an expression (or of NaN and the infinities).
Param: TypeAlias = float | str

_Monomial: TypeAlias = tuple[tuple[str, int], ...]
_Poly: TypeAlias = dict[_Monomial, float]

MAX_TEXT = 10_000
MAX_DEPTH = 64
MAX_TERMS = 256

_CONSTANTS = {"pi": math.pi, "π": math.pi, "tau": math.tau, "τ": math.tau, "euler": math.e,
              "ℇ": math.e}  # fmt: skip
_ALIASES = {"ln": "log", "arcsin": "asin", "arccos": "acos", "arctan": "atan"}
_FUNCTIONS: dict[str, Callable[[float], float]] = {
    "sin": math.sin,
    "cos": math.cos,
    "tan": math.tan,
    "asin": math.asin,
    "acos": math.acos,
    "atan": math.atan,
    "exp": math.exp,
    "log": math.log,
    "sqrt": math.sqrt,
    "abs": abs,
    "sign": lambda x: float((x > 0) - (x < 0)),
}
_WORDS = {*_CONSTANTS, *_ALIASES, *_FUNCTIONS, "pow", "conj", "mod", "NaN", "Infinity"}
_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?P<name>[^\W\d]\w*)"
    r"|`(?P<quoted>(?:[^`]|``)*)`|(?P<op>\*\*|[-+*/^(),]))"
)
_PLAIN = re.compile(r"[^\W\d]\w*\Z")


def quote(name: str) -> str:
    """Write a symbol's name so that it reads back as that symbol.

    Example:
        >>> quote("theta"), quote("θ[0]"), quote("pi")
        ('theta', '`θ[0]`', '`pi`')
    """
    if _PLAIN.match(name) and name not in _WORDS:
        return name
    return "`" + name.replace("`", "``") + "`"


def _unquote(atom: str) -> str:
    return atom[1:-1].replace("``", "`") if atom.startswith("`") else atom


def _error(message: str, text: str) -> InputError:
    return InputError(
        message,
        code="circuit-expression",
        got=text if len(text) <= 80 else text[:77] + "...",
        expected="numbers, names, + - * / ^, pi and the functions " + ", ".join(_FUNCTIONS),
        fix="simplify the parameter expression, or bind it to a number first",
    )


def linear(constant: float, terms: Mapping[str, float]) -> Param:
    """Return the normal form of `constant + sum(coefficient * symbol)`; the fast path.

    Example:
        >>> linear(1.5, {"b": -1.0, "a": 2.0})
        '2*a - b + 1.5'
    """
    poly: _Poly = {((quote(name), 1),): float(value) for name, value in terms.items() if value}
    if constant:
        poly[()] = float(constant)
    return _text(poly)


@lru_cache(maxsize=4096)
def normalise(text: str) -> Param:
    """Return the normal form of an expression: a number where there is no symbol left.

    Raises:
        InputError: code `circuit-expression`; it cannot be read, or is too large.

    Example:
        >>> normalise("1 + theta*2"), normalise("theta + theta + 1"), normalise("pi/2")
        ('2*theta + 1', '2*theta + 1', 1.5707963267948966)
        >>> normalise("(a+b)^2 - a^2")
        '2*a*b + b^2'
    """
    return _text(_Parser(text).parse())


@lru_cache(maxsize=4096)
def symbols(text: str) -> frozenset[str]:
    """Return the names of the free symbols of a canonical expression.

    Example:
        >>> sorted(symbols("2*a*b + sin(c)"))
        ['a', 'b', 'c']
    """
    if text in ("NaN", "Infinity", "-Infinity"):
        return frozenset()
    parser = _Parser(text)
    parser.parse()
    return frozenset(parser.names)


def substitute(text: str, values: Mapping[str, float]) -> Param:
    """Return the expression with some symbols bound: a number once none is left.

    Example:
        >>> substitute("2*a + b", {"a": 0.25}), substitute("2*a + 1", {"a": 0.25})
        ('b + 0.5', 1.5)
    """
    for name, value in values.items():
        if math.isinf(value) and text == name:
            return "Infinity" if value > 0 else "-Infinity"
        if not math.isfinite(value):
            return "NaN"
    return _text(_Parser(text, values).parse())


def evaluate(text: str, values: Mapping[str, float]) -> float:
    """Return the value of an expression with all its symbols bound.

    Raises:
        InputError: code `circuit-expression`; a symbol has no value.

    Example:
        >>> evaluate("2*a + 1", {"a": 0.25})
        1.5
    """
    if text in ("NaN", "Infinity", "-Infinity"):
        return float(text)
    value = substitute(text, values)
    if isinstance(value, str) and value not in ("NaN", "Infinity", "-Infinity"):
        raise _error("a symbol of the parameter expression has no value", text)
    return float(value)


def _number(value: float) -> str:
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def _text(poly: _Poly) -> Param:
    if all(not key for key in poly):
        return poly.get((), 0.0) + 0.0
    parts: list[str] = []
    for key in sorted(poly, key=lambda k: (k == (), k)):
        value = poly[key]
        body = "*".join(a if n == 1 else f"{a}^{n}" for a, n in key)
        size = abs(value)
        term = body if size == 1 and body else f"{_number(size)}*{body}" if body else _number(size)
        sign = "-" if value < 0 else "+"
        parts.append(f" {sign} {term}" if parts else ("-" if value < 0 else "") + term)
    return "".join(parts)


def _add(a: _Poly, b: _Poly, factor: float = 1.0) -> _Poly:
    out = dict(a)
    for key, value in b.items():
        total = out.get(key, 0.0) + factor * value
        if total == 0.0:
            out.pop(key, None)
        else:
            out[key] = total
    return out


def _mul(a: _Poly, b: _Poly) -> _Poly:
    out: _Poly = {}
    for ka, va in a.items():
        for kb, vb in b.items():
            powers = dict(ka)
            for atom, n in kb:
                powers[atom] = powers.get(atom, 0) + n
            key = tuple(sorted((atom, n) for atom, n in powers.items() if n))
            total = out.get(key, 0.0) + va * vb
            if total == 0.0:
                out.pop(key, None)
            else:
                out[key] = total
    return out


class _Parser:
    """Recursive descent with a bounded depth, straight into the normal form."""

    def __init__(self, text: str, values: Mapping[str, float] | None = None) -> None:
        self.source = text
        self.values = values
        self.names: set[str] = set()
        self.depth = 0
        self.at = 0
        if len(text) > MAX_TEXT:
            raise _error("the parameter expression is too long", text)
        self.tokens: list[tuple[str, str]] = []
        at = 0
        end = len(text.rstrip())
        while at < end:
            match = _TOKEN.match(text, at)
            if match is None:
                raise _error("the parameter expression cannot be read", text)
            kind = match.lastgroup or ""
            self.tokens.append((kind, match[kind]))
            at = match.end()
        self.tokens.append(("end", ""))

    def parse(self) -> _Poly:
        try:
            poly = self._sum()
        except (ValueError, OverflowError, ZeroDivisionError) as error:
            raise _error(f"the parameter expression has no value: {error}", self.source) from error
        if self.tokens[self.at][0] != "end":
            raise _error("the parameter expression cannot be read", self.source)
        if not all(math.isfinite(value) for value in poly.values()):
            raise _error("the parameter expression is not finite", self.source)
        return poly

    def _take(self, *ops: str) -> str | None:
        kind, text = self.tokens[self.at]
        if kind == "op" and text in ops:
            self.at += 1
            return text
        return None

    def _checked(self, poly: _Poly) -> _Poly:
        if len(poly) > MAX_TERMS:
            raise _error(f"the parameter expression has over {MAX_TERMS} terms", self.source)
        return poly

    def _sum(self) -> _Poly:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _error(f"the parameter expression nests over {MAX_DEPTH} deep", self.source)
        poly = self._product()
        while op := self._take("+", "-"):
            poly = self._checked(_add(poly, self._product(), -1.0 if op == "-" else 1.0))
        self.depth -= 1
        return poly

    def _product(self) -> _Poly:
        poly = self._unary()
        while op := self._take("*", "/"):
            right = self._unary()
            if op == "/":
                constant = right.get(()) if all(not key for key in right) else None
                if constant is not None:
                    poly = {key: value / constant for key, value in poly.items()}
                    continue
                right = self._power_of(right, {(): -1.0})
            poly = self._checked(_mul(poly, right))
        return poly

    def _unary(self) -> _Poly:
        sign = 1.0
        while op := self._take("+", "-"):
            sign = -sign if op == "-" else sign
        poly = self._atom()
        if self._take("**", "^"):
            self.depth += 1
            if self.depth > MAX_DEPTH:
                raise _error(f"the parameter expression nests over {MAX_DEPTH} deep", self.source)
            poly = self._power_of(poly, self._unary())
            self.depth -= 1
        return poly if sign > 0 else {key: -value for key, value in poly.items()}

    def _power_of(self, base: _Poly, exponent: _Poly) -> _Poly:
        fixed = exponent.get((), 0.0) if all(not key for key in exponent) else None
        if fixed is not None:
            if all(not key for key in base):
                number = base.get((), 0.0)
                if number < 0 and not fixed.is_integer():
                    raise ValueError("a negative number to a broken power is complex")
                return {(): float(number**fixed)}
            if fixed.is_integer() and abs(fixed) <= 64:
                n = int(fixed)
                if len(base) == 1:
                    ((key, value),) = base.items()
                    return {tuple((atom, k * n) for atom, k in key if n): value**n}
                if n >= 0:
                    out: _Poly = {(): 1.0}
                    for _ in range(n):
                        out = self._checked(_mul(out, base))
                    return out
        return {((f"pow({_text(base)}, {_text(exponent)})", 1),): 1.0}

    def _atom(self) -> _Poly:
        kind, text = self.tokens[self.at]
        self.at += 1
        if kind == "number":
            value = float(text)
            return {(): value} if value else {}
        if kind == "op" and text == "(":
            poly = self._sum()
            self._close()
            return poly
        if kind == "quoted":
            return self._symbol(text.replace("``", "`"))
        if kind == "name":
            if self._take("("):
                return self._call(_ALIASES.get(text, text))
            if text in _CONSTANTS:
                return {(): _CONSTANTS[text]}
            if text in ("NaN", "Infinity"):
                raise _error("a number of the parameter expression is not finite", self.source)
            if text in _WORDS:
                raise _error(f"the parameter expression uses {text} as a name", self.source)
            return self._symbol(text)
        raise _error("the parameter expression cannot be read", self.source)

    def _close(self) -> None:
        if not self._take(")"):
            raise _error("the parameter expression has an open parenthesis", self.source)

    def _symbol(self, name: str) -> _Poly:
        self.names.add(name)
        if self.values is not None and name in self.values:
            value = float(self.values[name])
            return {(): value} if value else {}
        return {((quote(name), 1),): 1.0}

    def _call(self, name: str) -> _Poly:
        argument = self._sum()
        if name == "pow":
            if not self._take(","):
                raise _error("pow takes two arguments", self.source)
            exponent = self._sum()
            self._close()
            return self._power_of(argument, exponent)
        self._close()
        if name == "conj":
            return argument
        if name not in _FUNCTIONS:
            raise _error(f"the parameter expression calls an unknown function {name}", self.source)
        if all(not key for key in argument):
            value = float(_FUNCTIONS[name](argument.get((), 0.0)))
            return {(): value} if value else {}
        return {((f"{name}({_text(argument)})", 1),): 1.0}


def split(text: str) -> list[tuple[float, list[tuple[tuple[str, ...], int]]]]:
    """Return the terms of an expression, for writing it in another system.

    Returns:
        (coefficient, factors) for each term; a factor is an atom with its power, an atom is
        `("symbol", name)`, `("pow", base, exponent)` or `(function, argument)`.

    Example:
        >>> split("2*a^2 + 1")
        [(2.0, [(('symbol', 'a'), 2)]), (1.0, [])]
    """
    poly = _Parser(text).parse()
    ordered = sorted(poly, key=lambda k: (k == (), k))
    return [(poly[key], [(_parts(atom), n) for atom, n in key]) for key in ordered]


def _parts(atom: str) -> tuple[str, ...]:
    if atom.startswith("`"):
        return ("symbol", atom[1:-1].replace("``", "`"))
    name, paren, rest = atom.partition("(")
    if not paren:
        return ("symbol", name)
    if name != "pow":
        return (name, rest[:-1])
    depth = 0
    quoted = False
    for i, char in enumerate(rest):
        quoted ^= char == "`"
        depth += 0 if quoted else (char == "(") - (char == ")")
        if char == "," and depth == 0 and not quoted:
            return ("pow", rest[:i], rest[i + 2 : -1])
    raise _error("a power cannot be read", atom)
