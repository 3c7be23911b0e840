"""Custom gates say twice what they are: as other gates, and as a matrix or a name.

The canonical form reads one of them, a simulator may run another. Both have to be the same gate,
or it is refused.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from interlock.circuits.canonical import Operation
from interlock.circuits.expression import evaluate
from interlock.circuits.matrices import unitary
from interlock.errors import InputError

__all__ = [
    "FACE_QUBITS",
    "agree",
    "disagree",
    "matrix_of",
    "of_sdk",
    "patched",
    "plain_number",
]

#: Widest gate whose faces are compared as matrices.
FACE_QUBITS = 8
_CLOSE = 1e-6


def disagree(name: str, got: str) -> InputError:
    """Return the error for a gate that is not held to be one gate."""
    return InputError(
        f"the custom gate {name!s:.60} is not one gate in all its forms",
        code="circuit-two-faces",
        got=f"{got:.160}",
        expected="a definition, a matrix and a name that are the same gate, on at most "
        f"{FACE_QUBITS} qubits",
        fix="keep one form, rename the gate, or write it out before it is submitted",
    )


def of_sdk(kind: type, *roots: str) -> bool:
    """Whether a class is the one that its SDK has under its name.

    Example:
        >>> of_sdk(Operation, "interlock"), of_sdk(type("Operation", (), {}), "interlock")
        (True, False)
    """
    module = getattr(kind, "__module__", None) or ""
    found: Any = sys.modules.get(module) if module.partition(".")[0] in roots else None
    for part in kind.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is kind


def patched(thing: Any, names: Iterable[str]) -> str | None:
    """Return the first of the methods that an object has of its own, over those of its class."""
    own = getattr(thing, "__dict__", None)
    if own:
        for name in names:
            if name in own:
                return name
    return None


def plain_number(value: Any) -> bool:
    """Whether a value is a number of a class that says the same whenever it is asked.

    Example:
        >>> plain_number(np.float32(0.5)), plain_number(type("Sly", (float,), {})())
        (True, False)
    """
    kind = type(value)
    return kind in (float, int, bool, complex) or of_sdk(kind, "numpy", "sympy", "fractions")


def agree(
    name: str,
    steps: Sequence[Operation],
    wires: Sequence[int],
    matrix: Any,
    at: Mapping[str, float] | None = None,
) -> None:
    """Hold the steps that a gate was read as to its matrix, up to a global phase.

    Args:
        name: for the error.
        steps: what was read.
        wires: the gate's qubits, the least significant bit of the matrix first.
        matrix: what another form of the gate says.
        at: numbers for the free parameters of the steps.

    Raises:
        InputError: `circuit-two-faces`; they differ, or cannot be compared.

    Example:
        >>> agree("x", [Operation("x", (), (3,))], [3], [[0, 1], [1, 0]])
    """
    read = matrix_of(name, steps, wires, at)
    try:
        other = np.asarray(matrix, dtype=complex)
    except (TypeError, ValueError) as error:
        raise disagree(name, f"{type(error).__name__}: {error}") from error
    if other.shape != read.shape:
        raise disagree(name, f"a matrix of shape {other.shape} on {len(wires)} qubits")
    overlap = np.vdot(read, other)
    phase = overlap / abs(overlap) if abs(overlap) > _CLOSE else 1.0
    if not np.all(np.abs(other - phase * read) < _CLOSE):  # NaN is not close either
        raise disagree(name, "two different matrices")


def matrix_of(
    name: str,
    steps: Sequence[Operation],
    wires: Sequence[int],
    at: Mapping[str, float] | None = None,
) -> Any:
    """Return the matrix of the steps that a gate was read as; the arguments are those of `agree`.

    Raises:
        InputError: `circuit-two-faces`; they have none, or are too wide.
    """
    if len(wires) > FACE_QUBITS:
        raise disagree(name, f"{len(wires)} qubits")
    place = {w: i for i, w in enumerate(wires)}
    try:
        local = [
            Operation(
                s.name,
                tuple(evaluate(p, at or {}) if isinstance(p, str) else p for p in s.params),
                tuple(place[q] for q in s.qubits),
                s.clbits,
                s.control,
            )
            for s in steps
        ]
        read = _unitary(tuple(local), len(wires))
    except (KeyError, TypeError, ValueError, ArithmeticError, InputError) as error:
        raise disagree(name, f"{type(error).__name__}: {error}") from error
    if read is None:
        raise disagree(name, "a matrix beside operations that have none")
    return read


@lru_cache(maxsize=64)
def _unitary(steps: tuple[Operation, ...], width: int) -> Any:
    return unitary(steps, width)
