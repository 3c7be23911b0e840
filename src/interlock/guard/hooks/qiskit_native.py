"""What the device gets is what was checked: composite gates are written out, as the check does."""

from __future__ import annotations

import weakref
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from qiskit import QuantumCircuit
from qiskit.circuit import ControlFlowOp
from qiskit.providers import BackendV2

from interlock.circuits.faces import of_sdk, patched
from interlock.circuits.qiskit_faces import hold_kept
from interlock.circuits.qiskit_settle import settled
from interlock.guard.execute.run import is_ours

if TYPE_CHECKING:
    from interlock.circuits.canonical import Circuit

__all__ = ["native"]

#: Classes of these packages leave the circuits they run as they are.
_LEAVING = ("qiskit", "qiskit_aer", "qiskit_ibm_runtime")
#: Circuits of which the copy and the form are remembered.
REMEMBERED = 256


class _Known(NamedTuple):
    """A circuit that was submitted, and what was made of it."""

    of: weakref.ref[QuantumCircuit]
    copy: QuantumCircuit
    form: Circuit
    kept: tuple[int, ...]


#: id of a submitted circuit -> what was made of it.
_known: dict[int, _Known] = {}


def native(circuit: QuantumCircuit, device: Any, backend: Any) -> tuple[QuantumCircuit, Circuit]:
    """Return a circuit as the device will get it, and the canonical form that is checked.

    The canonical form holds what composite gates are made of. A device that knows its gates by
    name would refuse the composite after the check has passed it, so it gets the parts.

    A plain circuit that is submitted again as it was has the same copy again.

    Args:
        circuit: what is submitted.
        device: what it is submitted to.
        backend: the one behind that.

    Raises:
        InputError: those of `settled` and `hold_kept`.
    """
    leaving = _leaves(device) and (backend is device or _leaves(backend))
    known = _known.get(id(circuit)) if leaving else None
    if known is not None and _same(circuit, known):
        hold_kept(circuit, known.copy, known.kept)
        return known.copy, known.form
    copy, form, plain = settled(circuit)
    kept = hold_kept(circuit, copy)
    if plain:
        if leaving and type(circuit) is QuantumCircuit:
            _keep_gates(copy)
            if len(_known) >= REMEMBERED:
                _known.clear()
            _known[id(circuit)] = _Known(weakref.ref(circuit), copy, form, kept)
        return copy, form
    # Aer makes its target anew each time it is asked, so it is not asked for nothing.
    if not isinstance(backend, BackendV2) or not _foreign(copy, set()):
        return copy, form
    names = set(backend.target.operation_names)
    if not names or not _foreign(copy, names):
        return copy, form
    parts, again, _ = settled(_written_out(copy, names))
    return (parts, again) if again == form else (copy, form)


def _keep_gates(circuit: QuantumCircuit) -> None:
    """Have a circuit keep the objects of its gates: else it makes them anew at each look.

    Aer looks several times in each run. Nobody else holds the objects.
    """
    data = circuit._data
    for place, item in enumerate(data):
        if item.params:  # others are kept, or singletons
            _ = item.operation  # makes the object
            data[place] = item


def _leaves(device: Any) -> bool:
    """Whether a device leaves the circuits it is given as they are, so that jobs can share them."""
    kind: Any = type(device)
    return (_own(kind) or is_ours(device)) and not patched(device, ("run", "_run"))


@lru_cache(maxsize=256)
def _own(kind: Any) -> bool:
    return of_sdk(kind, *_LEAVING)


def _same(circuit: Any, known: _Known) -> bool:
    """Whether a circuit is what it was when its copy was made.

    What runs is the copy, which was checked, whatever a gate's own `==` says here.
    """
    copy: Any = known.copy
    there = bool(known.of() is circuit)
    return (
        there
        and circuit._data == copy._data
        and circuit.name == copy.name
        and circuit._layout is copy._layout
        and circuit.cregs == copy.cregs
        and circuit.qregs == copy.qregs
        and circuit.metadata == copy.metadata
        and vars(circuit).keys() == vars(copy).keys()
    )


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
