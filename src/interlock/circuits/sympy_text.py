"""Sympy expressions (Cirq, Braket) to canonical parameters and back."""

from __future__ import annotations

from functools import cache
from typing import Any

from interlock.circuits.expression import Param, normalise, quote, split, symbols
from interlock.circuits.faces import of_sdk, plain_number
from interlock.circuits.operation import finite_or_text
from interlock.errors import InputError

__all__ = ["from_sympy", "to_sympy"]

MAX_DEPTH = 64


def from_sympy(value: Any) -> Param:
    """Return a number, or the normal form of a sympy expression, digit for digit.

    Raises:
        InputError: code `circuit-expression`; a function the form does not know, a complex one,
            or a class of the user's, which may say something else the next time.

    Example:
        >>> import sympy
        >>> from_sympy(1 + 2 * sympy.Symbol("theta"))
        '2*theta + 1'
    """
    if not (plain_number(value) or of_sdk(type(value), "sympy")):
        raise _unknown(value)
    if isinstance(value, (int, float)):
        return finite_or_text(float(value))
    if not getattr(value, "free_symbols", None):
        try:
            return finite_or_text(float(value))
        except (TypeError, ValueError, OverflowError) as error:
            raise _unknown(value) from error
    return normalise(_text(value, 0))


def _unknown(value: Any) -> InputError:
    return InputError(
        "a parameter is no expression that has a normal form",
        code="circuit-expression",
        got=f"{type(value).__name__}: {value!s:.80}",
        expected="real numbers, symbols, + - * / ^ and elementary functions",
        fix="simplify the expression, or bind it to a number first",
    )


def _text(node: Any, depth: int) -> str:
    import sympy

    if depth > MAX_DEPTH or not of_sdk(type(node), "sympy"):
        raise _unknown(node)
    if isinstance(node, sympy.Symbol):
        return quote(node.name)
    if node.is_number:
        # A double has at most 17 digits; sympy's own text of a float has 15.
        return f"({float(node)!r})"
    parts = [_text(part, depth + 1) for part in node.args]
    if isinstance(node, sympy.Add):
        return f"({' + '.join(parts)})"
    if isinstance(node, sympy.Mul):
        return f"({'*'.join(parts)})"
    if isinstance(node, sympy.Pow):
        return f"({parts[0]})^({parts[1]})"
    name = type(node).__name__.lower()
    if len(parts) != 1:
        raise _unknown(node)
    return f"{name}({parts[0]})"


def to_sympy(value: Param) -> Any:
    """Return a number as it is, and an expression in sympy.

    Example:
        >>> to_sympy("2*theta + 1")
        2.0*theta + 1.0
    """
    if not isinstance(value, str):
        return value
    return _expression(value) if symbols(value) else float(value)


@cache
def _expression(text: str) -> Any:
    import sympy

    total: Any = None
    for coefficient, factors in split(text):
        term: Any = None
        for (kind, *rest), power in factors:
            if kind == "symbol":
                atom = sympy.Symbol(rest[0])
            elif kind == "pow":
                atom = to_sympy(normalise(rest[0])) ** to_sympy(normalise(rest[1]))
            else:
                name = {"abs": "Abs"}.get(kind, kind)
                atom = getattr(sympy, name)(to_sympy(normalise(rest[0])))
            part = atom if power == 1 else atom**power
            term = part if term is None else term * part
        if term is None:
            term = sympy.Float(coefficient, 17)
        elif coefficient != 1:
            term = sympy.Float(coefficient, 17) * term
        total = term if total is None else total + term
    return total
