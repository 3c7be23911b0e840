"""A circuit of any SDK to the canonical form."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from interlock.circuits.canonical import Circuit
from interlock.errors import InputError

__all__ = ["canonical"]

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
