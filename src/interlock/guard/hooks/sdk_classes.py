"""Which classes and objects are an SDK's own: these submit each job once, and nothing besides."""

from __future__ import annotations

from typing import Any

__all__ = ["is_sdk", "is_sdk_object"]

#: Roots of the packages whose classes submit each job once.
_SDKS = (
    "braket", "cirq", "cirq_google", "interlock", "pennylane", "pennylane_lightning", "qiskit",
    "qiskit_aer", "qiskit_ibm_runtime",
)  # fmt: skip
#: What a class of the user's may have: an `__init__` sets numbers, and methods that it sets on the
#: object are looked at there.
_HARMLESS = frozenset({"__init__", "__repr__", "__str__", "__class_getitem__", "__weakref__"})
#: Modules whose base classes say nothing of a job.
_PYTHON = ("_collections_abc", "abc", "builtins", "collections", "typing")


def is_sdk(kind: type) -> bool:
    """Whether a class is an SDK's own, which submits each job once."""
    from interlock.circuits.faces import of_sdk

    return of_sdk(kind, *_SDKS)


def is_sdk_object(target: Any) -> bool:
    """Whether an object does what its SDK's class does, and nothing of the user's.

    It is of an SDK's class, or of a subclass that puts nothing in the place of a method: helpers
    such as `_run` count, because the SDK's public methods call them.

    Example:
        >>> import interlock.types
        >>> is_sdk_object(interlock.types.Principal(id="ada"))
        True
    """
    from interlock.circuits.faces import of_sdk

    kinds = type(target).__mro__
    theirs = [kind for kind in kinds if is_sdk(kind)]
    changed = {
        name
        for kind in kinds
        if kind not in theirs and not of_sdk(kind, *_PYTHON)
        for name, value in vars(kind).items()
        if (callable(value) or hasattr(value, "__get__"))
        and not getattr(value, "interlock_wrapper", False)  # guarded itself
    }
    changed |= {n for n in getattr(target, "__dict__", ()) if callable(getattr(kinds[0], n, None))}
    changed -= _HARMLESS
    return bool(theirs) and not any(name in vars(kind) for kind in theirs for name in changed)
