"""What the device gets is what was checked: composite gates are written out, as the check does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qiskit import QuantumCircuit
from qiskit.circuit import ControlFlowOp
from qiskit.providers import BackendV2

from interlock.circuits.qiskit_settle import settled
from interlock.guard.hooks.qiskit_targets import backend_of

if TYPE_CHECKING:
    from interlock.circuits.canonical import Circuit

__all__ = ["native"]


def native(circuit: QuantumCircuit, device: Any) -> tuple[QuantumCircuit, Circuit]:
    """Return a circuit as the device will get it, and the canonical form that is checked.

    The canonical form holds what composite gates are made of. A device that knows its gates by
    name would refuse the composite after the check has passed it, so it gets the parts.

    Raises:
        InputError: those of `settled`.
    """
    copy, form = settled(circuit)
    backend = backend_of(device)
    # Aer makes its target anew each time it is asked, so it is not asked for nothing.
    if not isinstance(backend, BackendV2) or not _foreign(copy, set()):
        return copy, form
    known = set(backend.target.operation_names)
    if not known or not _foreign(copy, known):
        return copy, form
    parts, again = settled(_written_out(copy, known))
    return (parts, again) if again == form else (copy, form)


def _composite(op: Any, known: set[str]) -> bool:
    return op.name not in known and not _plain(op) and op.definition is not None


def _plain(op: Any) -> bool:
    return isinstance(op, ControlFlowOp) or op.name in ("barrier", "delay", "measure", "reset")


def _foreign(circuit: QuantumCircuit, known: set[str]) -> bool:
    return any(
        any(_foreign(block, known) for block in item.operation.blocks)
        if item.is_control_flow()
        else not item.is_standard_gate() and _composite(item.operation, known)
        for item in circuit.data
    )


def _written_out(circuit: QuantumCircuit, known: set[str]) -> QuantumCircuit:
    out: QuantumCircuit = circuit.copy_empty_like()
    for item in circuit.data:
        op = item.operation
        if item.is_control_flow():
            blocks = [_written_out(block, known) for block in op.blocks]
            out._append(item.replace(operation=op.replace_blocks(blocks)))
        elif not item.is_standard_gate() and _composite(op, known):
            parts = _written_out(op.definition, known)
            out.compose(parts, item.qubits, item.clbits, inplace=True, copy=False)
        else:
            out._append(item)
    return out
