"""A Qiskit circuit in which nothing is computed when it is read.

A custom gate's class makes its definition, its matrix and its inverse on demand, and may make them
another way each time. A settled circuit has in its place a plain gate with the definition that was
read once. Running it runs what was checked.
"""

from __future__ import annotations

import copy as copying
from typing import TYPE_CHECKING, Any

from interlock.circuits.faces import disagree, of_sdk, patched
from interlock.circuits.qiskit_adapter import Reader, read_with
from interlock.circuits.qiskit_faces import METHODS, own_data
from interlock.circuits.validate import MAX_NESTING, MAX_OPERATIONS

if TYPE_CHECKING:
    from qiskit import QuantumCircuit

    from interlock.circuits.canonical import Circuit

__all__ = ["settled"]


def settled(circuit: QuantumCircuit) -> tuple[QuantumCircuit, Circuit, bool]:
    """Return a copy that is the same whenever it is read, its canonical form, and if it is plain.

    A plain circuit has no operations but Qiskit's standard gates, measurements, resets, barriers
    and delays.

    Raises:
        InputError: those of `from_qiskit`; `circuit-two-faces` for a gate that is another the
            second time it is read.

    Example:
        >>> from qiskit import QuantumCircuit
        >>> from qiskit.circuit import Gate
        >>> class Flip(Gate):
        ...     def _define(self):
        ...         self.definition = QuantumCircuit(1)
        ...         self.definition.x(0)
        >>> mine = QuantumCircuit(1)
        >>> _ = mine.append(Flip("flip", 1, []), [0])
        >>> copy, form, plain = settled(mine)
        >>> copy.data[0].operation.base_class.__name__, str(form.operations[0]), plain
        ('Gate', 'x q[0]', False)
    """
    from qiskit import QuantumCircuit

    copy = QuantumCircuit.copy(circuit)
    reader = Reader()
    form = read_with(reader, copy)
    if not reader.custom and of_sdk(type(copy), "qiskit"):
        return copy, form, True
    fixed = _Settler().circuit(copy, 0)
    again = read_with(Reader(), fixed)
    if again != form:
        raise disagree(copy.name, "a circuit that is another the second time it is read")
    return fixed, form, False


class _Settler:
    def __init__(self) -> None:
        self.count = 0

    def circuit(self, circuit: Any, level: int) -> QuantumCircuit:
        """Return a plain circuit on the same bits."""
        from qiskit import QuantumCircuit

        out = QuantumCircuit(
            list(circuit.qubits), list(circuit.clbits), *circuit.qregs, *circuit.cregs,
            name=str(circuit.name), global_phase=circuit.global_phase, metadata=circuit.metadata,
        )  # fmt: skip
        out._layout = getattr(circuit, "_layout", None)
        items = list(circuit.data)
        self.count += len(items)
        if self.count > MAX_OPERATIONS or level > MAX_NESTING:
            raise disagree(out.name, "a circuit that grows each time it is read")
        for item in items:
            if item.is_standard_gate():
                new = item.operation.base_class(*item.params)
                if item.label is not None:
                    new = new.to_mutable()
                    new.label = item.label
            else:
                new = self.operation(item.operation, level)
            out._append(item.replace(operation=new))
        return out

    def operation(self, op: Any, level: int) -> Any:
        """Return a plain operation that does what was read of this one."""
        from qiskit.circuit import Barrier, ControlFlowOp, Delay, Measure, Reset
        from qiskit.circuit.library import PermutationGate, UnitaryGate

        kind = getattr(op, "base_class", type(op))
        label = getattr(op, "label", None)
        if kind in (Measure, Reset):
            return kind(label=label)
        if kind is Barrier:
            return Barrier(op.num_qubits, label=label)
        if kind is Delay:
            return Delay(op.duration, op.unit)
        if kind is UnitaryGate:
            return UnitaryGate(op.params[0].copy(), label, check_input=False)
        if kind is PermutationGate:
            return PermutationGate(op.params[0].copy())
        if isinstance(op, ControlFlowOp):
            return op.replace_blocks([self.circuit(b, level + 1) for b in op.blocks])
        if own_data(op):
            new = op.to_mutable() if hasattr(op, "to_mutable") else copying.copy(op)
            new._definition = None  # its class makes the one that it was held to
            return new
        return self.composite(op, level)

    def composite(self, op: Any, level: int) -> Any:
        """Return a gate with the definition that is read now, and with nothing else to run."""
        from qiskit.circuit import Gate, Instruction

        definition = op.definition
        if definition is None or _is_plain(op, definition):
            return op
        name, qubits, label = str(op.name), int(op.num_qubits), getattr(op, "label", None)
        plain = (
            Gate(name, qubits, [], label=label)
            if isinstance(op, Gate)
            else Instruction(name, qubits, int(op.num_clbits), [], label=label)
        )
        plain._params = list(op.params)
        plain.definition = self.circuit(definition, level + 1)
        return plain


def _is_plain(op: Any, definition: Any) -> bool:
    """Whether a gate has standard gates for a definition, and nothing else to run.

    The copy of a circuit has copies of such gates, so nobody else holds them.
    """
    from qiskit import QuantumCircuit
    from qiskit.circuit import Gate, Instruction

    return (
        type(op) in (Gate, Instruction)
        and not patched(op, METHODS)
        and type(definition) is QuantumCircuit
        and op._definition is definition
        and all(item.is_standard_gate() for item in definition.data)
    )
