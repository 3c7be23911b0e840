"""A Braket circuit in which nothing is computed when it is read.

A custom gate's class writes its text each time it is asked, and may write another when it runs. A
settled circuit has in its place Braket's own gates for what was read once.
"""

from __future__ import annotations

import copy as copying
from typing import TYPE_CHECKING, Any

from interlock.circuits.braket_adapter import from_braket, read_instruction, sdk, to_braket
from interlock.circuits.faces import disagree, of_sdk, patched, plain_number

if TYPE_CHECKING:
    from braket.circuits import Circuit as BraketCircuit

    from interlock.circuits.canonical import Circuit

__all__ = ["settled"]

#: What the text of a result type or an observable comes from.
_METHODS = ("to_ir", "_to_openqasm", "_to_jaqcd", "to_matrix", "basis_rotation_gates")


def settled(circuit: BraketCircuit, *, measured: bool = False) -> tuple[BraketCircuit, Circuit]:
    """Return a copy that is the same whenever it is read, and its canonical form.

    Gates of Braket stay as they are.

    Args:
        circuit: of Braket's own class.
        measured: as for `from_braket`.

    Raises:
        InputError: those of `from_braket`; `circuit-two-faces` for a gate that is another the
            second time, and for result types and observables that are not Braket's own.

    Example:
        >>> from braket.circuits import Circuit, Gate, Instruction
        >>> class Flip(Gate):
        ...     def __init__(self):
        ...         super().__init__(1, ["F"])
        ...     def to_matrix(self):
        ...         return [[0, 1], [1, 0]]
        ...     def _to_openqasm(self, target, *_, **__):
        ...         return f"x q[{int(target[0])}];"
        >>> copy, form = settled(Circuit([Instruction(Flip(), [0])]))
        >>> [str(i.operator.name) for i in copy.instructions], str(form.operations[0])
        (['X'], 'x q[0]')
    """
    copy = copying.deepcopy(circuit)
    form = from_braket(copy, measured=measured)
    for kind in copy.result_types:
        _result_type(kind)
    if all(_is_plain(instruction) for instruction in copy.instructions):
        return copy, form
    module = sdk()
    fixed = module.Circuit()
    for instruction in copy.instructions:
        if _is_plain(instruction):
            fixed.add_instruction(instruction)
            continue
        for own in to_braket(read_instruction(instruction)).instructions:
            fixed.add_instruction(own)
    for kind in copy.result_types:
        fixed.add_result_type(kind)
    if from_braket(fixed, measured=measured).sha256 != form.sha256:
        raise disagree("circuit", "a circuit that is another the second time it is read")
    return fixed, form


def _is_plain(instruction: Any) -> bool:
    """Whether an instruction is data alone: a class of Braket's with plain numbers and qubits."""
    operator = instruction.operator
    return (
        of_sdk(type(operator), "braket")
        and plain_number(instruction.power)
        and all(map(_is_plain_qubit, (*instruction.target, *instruction.control)))
        and all(
            plain_number(p) or of_sdk(type(p), "braket")
            for p in getattr(operator, "parameters", ())
        )
    )


def _is_plain_qubit(qubit: Any) -> bool:
    return of_sdk(type(qubit), "braket")


def _result_type(kind: Any) -> None:
    """Refuse a result type with a text of its own: it goes to the device with the circuit."""
    things = [kind]
    while things:
        thing = things.pop()
        method = patched(thing, _METHODS)
        if not of_sdk(type(thing), "braket") or method is not None:
            raise disagree(type(thing).__name__, f"{method or 'a text'} of its own")
        if not plain_number(getattr(thing, "_coef", 1)):
            raise disagree(type(thing).__name__, "a number of a class of its own")
        observable = getattr(thing, "observable", None)
        things += [*getattr(thing, "factors", ()), *getattr(thing, "summands", ())]
        things += [] if observable is None else [observable]
    if not all(map(_is_plain_qubit, getattr(kind, "target", None) or ())):
        raise disagree(type(kind).__name__, "a qubit of a class of its own")
