"""A circuit of any SDK to the canonical form, and what the adapters of all SDKs share."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from interlock.circuits.canonical import Circuit, Operation
from interlock.circuits.operation import finite_or_text
from interlock.circuits.validate import MAX_NESTING, MAX_OPERATIONS, MAX_QUBITS
from interlock.errors import InputError, SetupError

__all__ = ["canonical", "from_matrix", "installed", "no_place", "too_large", "unsupported"]

_READERS = {
    "braket": "from_braket",
    "cirq": "from_cirq",
    "pennylane": "from_pennylane",
    "qiskit": "from_qiskit",
}


def canonical(circuit: Any) -> Circuit:
    """Return the canonical form of a circuit of Qiskit, Cirq, PennyLane or Braket.

    Raises:
        InputError: it is no circuit of these (`circuit-unsupported`), or one that has no form.

    Example:
        >>> import cirq
        >>> canonical(cirq.Circuit(cirq.H(cirq.LineQubit(0)))).size
        1
    """
    if isinstance(circuit, Circuit):
        return circuit
    for cls in type(circuit).__mro__:
        root = cls.__module__.split(".")[0]
        if root in _READERS:
            module = import_module(f"interlock.circuits.{root}_adapter")
            made: Circuit = getattr(module, _READERS[root])(circuit)
            return made
    raise InputError(
        "this is no circuit",
        code="circuit-unsupported",
        got=type(circuit).__qualname__,
        expected="a circuit of " + ", ".join(sorted(_READERS)),
        fix="of a PennyLane QNode pass its tape",
    )


def installed(module: str, what: str, version: str, extra: str) -> Any:
    """Import an SDK.

    Raises:
        SetupError: `extra-missing`; it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise SetupError(
            f"{what} is not installed",
            code="extra-missing",
            got=str(error),
            expected=f"{version} or later",
            fix=f"pip install 'interlock[{extra}]'",
        ) from error


def unsupported(what: str, got: object, fix: str) -> InputError:
    """Return the error for a part of a circuit that the canonical form cannot say."""
    return InputError(
        f"{what} has no canonical form",
        code="circuit-unsupported",
        got=f"{got!s:.120}",
        expected="gates, barriers, delays, measurements, resets, and control flow on measured bits",
        fix=fix,
    )


def no_place(sdk: str, what: str, fix: str) -> InputError:
    """Return the error for a part of the canonical form that an SDK cannot say."""
    return InputError(
        f"{sdk} has no place for {what}",
        code="circuit-unsupported",
        got=what,
        expected="what docs/reference/circuit-format.md says of the SDK",
        fix=fix,
    )


def too_large(got: str, fix: str = "split the circuit") -> InputError:
    """Return the error for a circuit beyond the bounds of the canonical form."""
    return InputError(
        "the circuit is too large, or becomes so when its gates are written out",
        code="circuit-too-large",
        got=got,
        expected=f"at most {MAX_OPERATIONS} operations on {MAX_QUBITS} qubits, nested at most "
        f"{MAX_NESTING} deep",
        fix=fix,
    )


def from_matrix(matrix: Any, wires: Sequence[int]) -> Operation:
    """Return the operation of a matrix whose first wire is the most significant bit.

    So it is in Cirq, PennyLane and Braket; in the canonical form the first is the least.

    Example:
        >>> import numpy as np
        >>> from_matrix(np.eye(4), [0, 1]).qubits
        (1, 0)
    """
    flat = [finite_or_text(float(x)) for z in matrix.ravel() for x in (z.real, z.imag)]
    return Operation("unitary", tuple(flat), tuple(wires[::-1]))
