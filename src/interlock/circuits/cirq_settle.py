"""A Cirq circuit in which nothing is computed when it is read.

A custom gate's class answers each time it is asked, and may answer another way when it runs. A
settled circuit has in its place Cirq's own operations for what was read once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from interlock.circuits.cirq_adapter import read, sdk, to_cirq
from interlock.circuits.cirq_faces import custom
from interlock.circuits.faces import disagree

if TYPE_CHECKING:
    import cirq

    from interlock.circuits.canonical import Circuit

__all__ = ["settled"]


def settled(
    circuit: cirq.AbstractCircuit, qubits: Sequence[Any] | None = None
) -> tuple[cirq.Circuit, Circuit, dict[str, tuple[int, ...]]]:
    """Return a copy that is the same whenever it is read, with what `read` gives for it.

    Gates of Cirq and of its vendors' packages stay as they are.

    Raises:
        InputError: those of `read`; `circuit-two-faces` for a gate that is another the second time.

    Example:
        >>> import cirq
        >>> class Flip(cirq.Gate):
        ...     def _num_qubits_(self):
        ...         return 1
        ...     def _decompose_(self, qubits):
        ...         return [cirq.X(qubits[0])]
        >>> copy, form, _ = settled(cirq.Circuit(Flip().on(cirq.LineQubit(0))))
        >>> [str(op) for op in form.operations]
        ['x q[0]']
        >>> any(isinstance(op.gate, Flip) for op in copy.all_operations())
        False
    """
    module = sdk()
    copy = circuit.unfreeze(copy=True)
    if type(copy) is not module.Circuit or any(type(m) is not module.Moment for m in copy.moments):
        copy = module.Circuit(module.Moment(m.operations) for m in circuit.moments)
    form, keys = read(copy, qubits)
    if not any(_has_custom(module, op) for op in copy.all_operations()):
        return copy, form, keys
    if any(_inside(module, op) for op in copy.all_operations()):
        copy = module.unroll_circuit_op(copy, deep=True, tags_to_check=None)
    fixed = module.Circuit(
        module.Moment(_replaced(module, op) for op in moment.operations) for moment in copy
    )
    again, found = read(fixed, qubits)
    if (again.sha256, found) != (form.sha256, keys):
        raise disagree("circuit", "a circuit that is another the second time it is read")
    return fixed, form, keys


def _inside(module: Any, op: Any) -> bool:
    inner = op.without_classical_controls().untagged
    return isinstance(inner, module.CircuitOperation) and _has_custom(module, inner)


def _has_custom(module: Any, op: Any) -> bool:
    inner = op.without_classical_controls().untagged
    if isinstance(inner, module.CircuitOperation):
        return any(_has_custom(module, part) for part in inner.circuit.all_operations())
    return any(thing is not None and custom(thing) for thing in (op.untagged, inner, inner.gate))


def _replaced(module: Any, op: Any) -> Any:
    """Return an operation of Cirq's own that does what is read of this one."""
    if not _has_custom(module, op):
        return op
    inner, conditions = op.without_classical_controls(), op.classical_controls
    wires = list(inner.qubits)
    form, _ = read(module.Circuit(inner), wires)
    steps = to_cirq(form).transform_qubits(lambda q: wires[q.x])
    made = module.CircuitOperation(steps.freeze())
    return made.with_classical_controls(*conditions) if conditions else made
