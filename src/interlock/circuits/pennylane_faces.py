"""PennyLane operations that are not PennyLane's own, or hold code or values that are not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from interlock.circuits.faces import disagree, of_sdk, patched

__all__ = ["custom", "holds_code", "plain_value", "refuse_patched", "rooted"]

_METHODS = (
    "matrix", "compute_matrix", "decomposition", "compute_decomposition", "sparse_matrix",
    "compute_sparse_matrix", "has_matrix", "has_decomposition", "eigvals", "generator",
    "diagonalizing_gates",
)  # fmt: skip
#: Packages whose numbers and arrays say the same whenever they are asked.
_ARRAYS = (
    "autograd", "builtins", "cupy", "jax", "jaxlib", "numpy", "pennylane", "scipy", "tensorflow",
    "torch",
)  # fmt: skip
#: Deepest that the parts of an operation are looked through.
_DEPTH = 16


def custom(op: Any) -> bool:
    """Whether an operation is, or is made from, one that is none of PennyLane's."""
    inner = (getattr(op, "base", None), *getattr(op, "operands", ()))
    return not of_sdk(type(op), "pennylane") or any(custom(i) for i in inner if i is not None)


def rooted(op: Any) -> bool:
    """Whether an operation is, or controls or inverts, one to a power that is no whole number.

    PennyLane writes `PhaseShift(4)**0.5` as `PhaseShift(2)`; its matrix is the principal root,
    `PhaseShift(2 - pi)`. Which of them runs is the device's choice.
    """
    while op is not None:
        power = getattr(op, "z", 1)
        if not isinstance(power, int) and not float(power).is_integer():
            return True
        op = getattr(op, "base", None)
    return False


def holds_code(thing: Any, depth: int = 0) -> bool:
    """Whether an operation of PennyLane's holds a function or an operation of the user's."""
    if depth > _DEPTH:
        return True
    if isinstance(thing, Mapping):
        return any(holds_code(value, depth + 1) for value in thing.values())
    if isinstance(thing, (list, tuple)):
        return any(holds_code(value, depth + 1) for value in thing)
    if hasattr(thing, "hyperparameters"):
        return custom(thing) or holds_code(thing.hyperparameters, depth + 1)
    return callable(thing) and not of_sdk(
        thing if isinstance(thing, type) else type(thing), *_ARRAYS
    )


def plain_value(name: str, value: Any) -> None:
    """Refuse a parameter, or a matrix, of a class that may say something else the next time.

    Raises:
        InputError: `circuit-two-faces`.
    """
    if not of_sdk(type(value), *_ARRAYS):
        raise disagree(name, f"a value of the class {type(value).__name__}")
    if isinstance(value, (list, tuple)):
        for part in value:
            plain_value(name, part)


def refuse_patched(op: Any) -> None:
    """Refuse an operation with methods of its own over those of its class."""
    method = patched(op, _METHODS)
    if method is not None:
        raise disagree(op.name, f"{method} of its own")
