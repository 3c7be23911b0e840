"""Cirq gates that are not Cirq's own: decomposition, matrix and effect have to be one gate.

A simulator takes the first of several protocols that a gate answers to; the canonical form takes
the decomposition.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from interlock.circuits.canonical import Operation
from interlock.circuits.faces import FACE_QUBITS, agree, disagree, of_sdk, patched

__all__ = ["custom", "hold", "refuse_patched"]

#: Packages whose gates their devices know by class.
VENDORS = ("cirq_aqt", "cirq_google", "cirq_ionq", "cirq_pasqal")
#: Compared with what was read.
_COMPARED = ("_unitary_", "_apply_unitary_")
#: Code of its own, or noise: never compared, so a gate that is no class of Cirq's has none.
_REFUSED = ("_act_on_", "_kraus_", "_mixture_", "_apply_channel_", "_superoperator_")
_READ = ("_decompose_", "_decompose_with_context_", "_resolve_parameters_")


def refuse_patched(op: Any) -> None:
    """Refuse an operation or gate with methods of its own over those of its class."""
    for thing in (op, op.gate):
        method = None if thing is None else patched(thing, (*_COMPARED, *_REFUSED, *_READ))
        if method is not None:
            raise disagree(type(thing).__name__, f"{method} of its own")


def hold(cirq: Any, op: Any, wires: Sequence[int], steps: Sequence[Operation]) -> None:
    """Hold a custom gate, or a custom operation, to the steps it was read as.

    Raises:
        InputError: `circuit-two-faces`.
    """
    for thing in (op, op.gate):
        if thing is None or not custom(thing, ()):
            continue
        name = type(thing).__name__
        for method in _REFUSED:
            if _own(thing, method):
                raise disagree(name, f"{method} of a custom gate")
        if not any(hasattr(thing, method) for method in _COMPARED):
            continue
        if len(wires) > FACE_QUBITS:
            raise disagree(name, f"{len(wires)} qubits")
        values = _values(cirq, op)
        bound = cirq.resolve_parameters(thing, values) if values else thing
        for matrix in _matrices(cirq, bound, len(wires)):
            agree(name, steps, wires[::-1], matrix, values)


def custom(thing: Any, vendors: Sequence[str] = VENDORS) -> bool:
    """Whether an operation or gate is, or controls or inverts, one that is no package's."""
    while thing is not None:
        if not of_sdk(type(thing), "cirq", *vendors):
            return True
        inner = (getattr(thing, name, None) for name in ("sub_gate", "sub_operation", "_original"))
        thing = next((i for i in inner if i is not None), None)
    return False


def _own(thing: Any, method: str) -> bool:
    """Whether a method comes from a class that is none of Cirq's."""
    owner = next((c for c in type(thing).__mro__ if method in vars(c)), None)
    return owner is not None and not of_sdk(owner, "cirq")


def _values(cirq: Any, op: Any) -> dict[str, float]:
    names = sorted(cirq.parameter_names(op))
    return {name: 0.371 + 0.477 * i % 2.9 for i, name in enumerate(names)}


def _matrices(cirq: Any, thing: Any, width: int) -> list[Any]:
    """Return the matrix that each protocol gives."""
    size = 2**width
    try:
        found = [getattr(thing, "_unitary_", lambda: None)()]
        if hasattr(thing, "_apply_unitary_"):
            start = np.eye(size, dtype=complex).reshape((2,) * (2 * width))
            room = np.zeros_like(start)
            done = thing._apply_unitary_(cirq.ApplyUnitaryArgs(start, room, range(width)))
            found.append(
                done if done is None or done is NotImplemented else done.reshape(size, size)
            )
    except Exception as error:
        raise disagree(type(thing).__name__, f"{type(error).__name__}: {error}") from error
    return [m for m in found if m is not None and m is not NotImplemented]
