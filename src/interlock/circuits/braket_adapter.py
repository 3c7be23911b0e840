"""Amazon Braket: circuits to the canonical form and back.

A gate is taken by its class; control and power modifiers are written out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from interlock.circuits.canonical import Circuit, Operation, Register
from interlock.circuits.controlled import control, exchange, scaled, steps_of, total
from interlock.circuits.convert import from_matrix, installed, too_large, unsupported
from interlock.circuits.expression import Param
from interlock.circuits.faces import agree, disagree, of_sdk, patched
from interlock.circuits.matrices import gate_matrix
from interlock.circuits.operation import finite_or_text
from interlock.circuits.sympy_text import from_sympy
from interlock.circuits.validate import MAX_OPERATIONS, MAX_QUBITS
from interlock.errors import InputError

if TYPE_CHECKING:
    from braket.circuits import Circuit as BraketCircuit

__all__ = ["from_braket", "read_instruction", "to_braket"]

MAX_POWER = 1024


def sdk() -> Any:
    """Import the SDK, or say which extra is missing."""
    return installed(
        "braket.circuits", "the Amazon Braket SDK", "amazon-braket-sdk 1.100", "braket"
    )


def from_braket(circuit: BraketCircuit, *, measured: bool = False) -> Circuit:
    """Return the canonical form of a circuit. A qubit keeps its number.

    Args:
        circuit: any circuit of gates; result types are no part of the form.
        measured: whether it runs with shots: without measurements of its own all its qubits are
            then measured in order, after the rotations its result types ask for.

    Raises:
        InputError: `circuit-unsupported` for what the form cannot say, such as noise and pulses;
            `circuit-too-large` for a circuit that grows beyond bounds when written out.
        SetupError: Braket is not installed.

    Example:
        >>> from braket.circuits import Circuit as BraketCircuit
        >>> [str(op) for op in from_braket(BraketCircuit().h(0).cnot(0, 1)).operations]
        ['h q[0]', 'cx q[0], q[1]']
    """
    module = sdk()
    for thing in (circuit, *circuit.instructions):
        if type(thing) not in (module.Circuit, module.Instruction):
            raise disagree(type(thing).__name__, "a class that may say one thing and run another")
    labels = [int(q) for q in circuit.qubits]
    if max(labels, default=0) >= MAX_QUBITS or len(circuit.instructions) > MAX_OPERATIONS:
        raise too_large(f"qubit {max(labels, default=0)}, {len(circuit.instructions)} operations")
    reader = _Reader(module)
    for instruction in circuit.instructions:
        reader.instruction(instruction)
    if measured and not reader.bits:
        for instruction in circuit.basis_rotation_instructions:
            reader.instruction(instruction)
        for qubit in sorted(labels):
            reader.measure(qubit)
    bits = tuple(range(len(reader.bits)))
    return Circuit(
        num_qubits=max(labels, default=-1) + 1,
        num_clbits=len(bits),
        operations=tuple(reader.out),
        registers=(Register("b", bits),) if bits else (),
        global_phase=reader.phase,
    )


def read_instruction(instruction: Any) -> Circuit:
    """Return the canonical form of one instruction; the qubits keep their numbers."""
    reader = _Reader(sdk())
    reader.instruction(instruction)
    qubits = [int(q) for q in (*instruction.control, *instruction.target)]
    return Circuit(
        num_qubits=max(qubits, default=-1) + 1,
        operations=tuple(reader.out),
        global_phase=reader.phase,
    )


def parameter(value: Any) -> Param:
    """Return a number, or the normal form of a free parameter expression."""
    return from_sympy(getattr(value, "expression", value))


class _Reader:
    def __init__(self, module: Any) -> None:
        self.module = module
        self.out: list[Operation] = []
        self.bits: dict[int, int] = {}
        self.phase: Param = 0.0
        self.rules = _rules(module.gates)

    def measure(self, qubit: int) -> None:
        bit = self.bits[qubit] = len(self.bits)
        self.out.append(Operation("measure", (), (qubit,), (bit,)))

    def instruction(self, instruction: Any) -> None:
        operator = instruction.operator
        wires = [int(q) for q in instruction.target]
        # By name only among Braket's own: another class of the name may be any gate.
        kind = type(operator).__name__ if of_sdk(type(operator), "braket") else ""
        method = patched(operator, _METHODS)
        if method is not None:
            raise disagree(operator.name, f"{method} of its own")
        if isinstance(operator, self.module.Measure):
            for wire in wires:
                self.measure(wire)
        elif kind == "Barrier":
            self.out.append(Operation("barrier", (), tuple(wires)))
        elif isinstance(operator, self.module.Gate):
            self.gate(instruction, operator, wires)
        elif kind not in ("StartVerbatimBox", "EndVerbatimBox"):  # they tell a compiler to keep off
            raise unsupported(
                f"the operation {operator.name}", instruction, "give the noise to the device"
            )

    def gate(self, instruction: Any, gate: Any, wires: list[int]) -> None:
        steps = self.steps(gate, wires)
        if instruction.power != 1:
            steps = _power(steps, instruction.power)
        controls = [int(q) for q in instruction.control]
        if controls:
            values = [int(v) for v in instruction.control_state]
            found = control(steps, controls, values)
            steps = found if found is not None else _controlled(steps, controls, values, wires)
        for step in steps:
            if step.name == "gphase":
                self.phase = total(self.phase, step.params[0])
            else:
                self.out.append(step)
        if len(self.out) > MAX_OPERATIONS:
            raise too_large(f"over {MAX_OPERATIONS} operations")

    def steps(self, gate: Any, wires: list[int]) -> list[Operation]:
        """Return a gate without its modifiers in gates of the vocabulary."""
        gates = self.module.gates
        if type(gate) is gates.Unitary:
            return [_named(gate, wires) or from_matrix(gate.to_matrix(), wires)]
        rule = self.rules.get(type(gate))
        if rule is not None:
            return rule([parameter(p) for p in getattr(gate, "parameters", ())], wires)
        try:
            matrix = np.asarray(gate.to_matrix(), complex)
        except Exception as error:  # a pulse, or a matrix with free parameters
            raise unsupported(
                f"the gate {gate.name}", f"{type(error).__name__}: {error}",
                "write it out in known gates, or bind its parameters",
            ) from error  # fmt: skip
        if of_sdk(type(gate), "braket"):
            return [from_matrix(matrix, wires)]
        return self.held(gate, wires, matrix)

    def held(self, gate: Any, wires: list[int], matrix: Any) -> list[Operation]:
        """Return what a device reads in a custom gate's text, held to the gate's matrix."""
        local = list(range(len(wires)))
        try:
            alone = self.module.Circuit([self.module.Instruction(gate, local)])
            steps = _read_text(alone.to_ir(ir_type=_openqasm()).source, gate.name)
        except InputError:
            raise
        except Exception as error:
            raise disagree(gate.name, f"{type(error).__name__}: {error}") from error
        agree(gate.name, steps, local[::-1], matrix)
        return [Operation(s.name, s.params, tuple(wires[q] for q in s.qubits)) for s in steps]


@lru_cache(maxsize=1024)
def _read_text(text: str, name: str) -> tuple[Operation, ...]:
    """Return what a device reads in the text of a gate; many gates of a circuit share one."""
    from braket.ir.openqasm import Program

    module = sdk()
    inner = _Reader(module)
    parts = list(module.Circuit.from_ir(Program(source=text)).instructions)
    while parts and type(parts[-1].operator) is module.Measure:
        parts.pop()  # Braket's text measures all qubits where a circuit measures none
    for instruction in parts:
        if not of_sdk(type(instruction.operator), "braket"):
            raise disagree(name, "text that is no gate of Braket's")
        inner.instruction(instruction)
    return tuple(inner.out)


def _openqasm() -> Any:
    from braket.circuits.serialization import IRType

    return IRType.OPENQASM


def _named(gate: Any, wires: list[int]) -> Operation | None:
    """Return the canonical gate a matrix was written from, if the matrix still is that gate's."""
    name, bracket, rest = gate.ascii_symbols[0].partition("(")
    if not bracket:
        return None
    try:
        params = tuple(float(p) for p in rest[:-1].split(",") if p)
        matrix = gate_matrix(name, params)
    except (ValueError, TypeError):
        return None
    if matrix is None or not np.array_equal(matrix, gate.to_matrix()):
        return None
    return Operation(name, params, tuple(wires[::-1]))


def _power(steps: list[Operation], power: float) -> list[Operation]:
    """Return the steps to a power: a rotation turns further, anything else is repeated.

    A device takes the principal root of the matrix, which turns as far only while the rotation has
    no eigenvalue beyond half a turn.
    """
    (step, *more) = steps
    reach = _REACH.get(step.name)
    whole = float(power).is_integer()
    if reach is not None and not more:
        angle = step.params[0]
        if whole or (not isinstance(angle, str) and abs(angle) < reach - 1e-9):
            return [Operation(step.name, (scaled(angle, float(power)),), step.qubits)]
    if whole and 0 <= power <= MAX_POWER:
        return steps * int(power)
    raise unsupported("a broken or negative power", power, "write the gate out")


def _controlled(
    steps: list[Operation], controls: list[int], values: list[int], wires: list[int]
) -> list[Operation]:
    """Return steps under control as one matrix, where the vocabulary has no gate for it."""
    from interlock.circuits.matrices import unitary

    order = {w: i for i, w in enumerate(wires)}
    local = [Operation(s.name, s.params, tuple(order[q] for q in s.qubits)) for s in steps]
    inner = unitary(local, len(wires)) if len(wires) + len(controls) <= 6 else None
    if inner is None:
        raise unsupported("a controlled gate", steps[0].name, "write it out in known gates")
    size = len(inner) << len(controls)
    matrix = np.eye(size, dtype=complex)
    wanted = sum(v << i for i, v in enumerate(values))
    rows = [(k << len(controls)) | wanted for k in range(len(inner))]
    matrix[np.ix_(rows, rows)] = inner
    flat = [finite_or_text(float(x)) for z in matrix.ravel() for x in (z.real, z.imag)]
    return [Operation("unitary", tuple(flat), (*controls, *wires))]


#: Rotation -> the angle from which on an eigenvalue is beyond half a turn.
_REACH: Mapping[str, float] = {
    **dict.fromkeys(("p", "cp", "gphase"), math.pi),
    **dict.fromkeys(("rx", "ry", "rz", "rxx", "ryy", "rzz"), 2 * math.pi),
}
_METHODS = ("to_matrix", "to_ir", "_to_openqasm", "_to_jaqcd", "adjoint")
Rule = Callable[[list[Param], list[int]], list[Operation]]
#: Braket's class -> canonical name, where parameters and qubits are the same.
NAMES: Mapping[str, str] = {
    "I": "id", "H": "h", "X": "x", "Y": "y", "Z": "z", "S": "s", "Si": "sdg", "T": "t",
    "Ti": "tdg", "V": "sx", "Vi": "sxdg", "Rx": "rx", "Ry": "ry", "Rz": "rz", "PhaseShift": "p",
    "U": "U", "PRx": "r", "CNot": "cx", "CY": "cy", "CZ": "cz", "CV": "csx", "CPhaseShift": "cp",
    "Swap": "swap", "ISwap": "iswap", "XX": "rxx", "YY": "ryy", "ZZ": "rzz", "CCNot": "ccx",
    "CSwap": "cswap",
}  # fmt: skip


def _rules(gates: Any) -> dict[type, Rule]:
    """Return the rule of each class. A subclass has none: it may be another gate."""

    def named(name: str) -> Rule:
        return lambda params, wires: steps_of((name, params, wires))

    def corner(first: int, second: int) -> Rule:
        """Return the rule of a phase on one basis state of two qubits."""

        def rule(params: list[Param], wires: list[int]) -> list[Operation]:
            flips = [("x", (), [w]) for w, v in zip(wires, (first, second), strict=True) if not v]
            return steps_of(*flips, ("cp", params, wires), *flips)

        return rule

    rules: dict[type, Rule] = {getattr(gates, kind): named(name) for kind, name in NAMES.items()}
    rules |= {
        gates.CPhaseShift00: corner(0, 0),
        gates.CPhaseShift01: corner(0, 1),
        gates.CPhaseShift10: corner(1, 0),
        gates.XY: lambda p, w: steps_of(("xx_plus_yy", (scaled(p[0], -1.0), 0.0), w)),
        gates.PSwap: lambda p, w: steps_of(
            ("cx", (), w), ("p", p, w[1:]), ("cx", (), w), ("swap", (), w)
        ),
        gates.GPi: lambda p, w: steps_of(("r", (math.pi, p[0]), w), ("gphase", (math.pi / 2,), ())),
        gates.GPi2: lambda p, w: steps_of(("r", (math.pi / 2, p[0]), w)),
        gates.GPhase: lambda p, _w: steps_of(("gphase", p, ())),
    }
    return rules


def to_braket(circuit: Circuit) -> BraketCircuit:
    """Return a Braket circuit with the same identity; the qubits keep their numbers.

    Gates that Braket lacks are matrices that carry their canonical name, which is believed only
    while the matrix is that gate's.

    Raises:
        InputError: `circuit-unsupported` for control flow, resets, delays, and measurements that
            are not the last operation of their qubit or leave a bit out.
        SetupError: Braket is not installed.

    Example:
        >>> to_braket(Circuit(num_qubits=1, operations=(Operation("h", (), (0,)),))).depth
        1
    """
    module = sdk()
    out = module.Circuit()
    source: dict[int, int] = {}
    for op in circuit.operations:
        if op.name == "measure":
            source[op.clbits[0]] = op.qubits[0]
            continue
        if set(op.qubits) & set(source.values()) or op.control is not None:
            raise _no_place("what follows a measurement, and control flow")
        symbolic = op.name == "xx_plus_yy" and any(isinstance(p, str) for p in op.params)
        for step in exchange(op) if symbolic and op.params[1] != 0.0 else [op]:
            made = _write(module, step)
            if made is not None:
                out.add_instruction(made)
    phase = circuit.global_phase
    if isinstance(phase, str) or phase:
        out.add_instruction(module.Instruction(module.gates.GPhase(_angle(phase)), []))
    if source:
        targets = [source.get(bit) for bit in range(circuit.num_clbits)]
        if None in targets or len(set(targets)) != len(circuit.measured):
            raise _no_place("a bit that no qubit or several write")
        for target in targets:
            out.measure(target)
    return out


def _no_place(what: str) -> InputError:
    return InputError(
        f"Braket has no place for {what}",
        code="circuit-unsupported",
        got=what,
        expected="gates, barriers, and one measurement of each bit at the end",
        fix="write it out in known gates, measured at the end",
    )


def _angle(param: Param) -> Any:
    from braket.circuits import FreeParameter, FreeParameterExpression

    from interlock.circuits.expression import symbols
    from interlock.circuits.sympy_text import to_sympy

    if not isinstance(param, str):
        return param
    if not symbols(param):
        return float(param)
    expression = to_sympy(param)
    plain = expression.is_Symbol
    return FreeParameter(expression.name) if plain else FreeParameterExpression(expression)


#: Canonical name -> Braket's class, and how many of the qubits are controls.
_WRITTEN: Mapping[str, tuple[str, int]] = {
    **{name: (kind, 0) for kind, name in NAMES.items()},
    "crx": ("Rx", 1), "cry": ("Ry", 1), "crz": ("Rz", 1), "ch": ("H", 1), "cs": ("S", 1),
    "csdg": ("Si", 1), "ccz": ("Z", 2), "c3x": ("X", 3), "c4x": ("X", 4),
}  # fmt: skip


def _write(module: Any, op: Operation) -> Any:
    gates, wires = module.gates, list(op.qubits)
    if op.name == "barrier":
        return (
            module.Instruction(module.compiler_directives.Barrier(wires), wires) if wires else None
        )
    if op.name == "gphase":
        return module.Instruction(gates.GPhase(_angle(op.params[0])), [])
    if op.name in _WRITTEN:
        kind, controls = _WRITTEN[op.name]
        gate = getattr(gates, kind)(*(_angle(p) for p in op.params))
        return module.Instruction(gate, wires[controls:], control=wires[:controls] or None)
    if op.name == "xx_plus_yy" and isinstance(op.params[0], str):
        return module.Instruction(gates.XY(_angle(scaled(op.params[0], -1.0))), wires)
    if op.name == "unitary":
        flat = np.array([float(x) for x in op.params]).view(complex)
        size = math.isqrt(len(flat))
        return module.Instruction(gates.Unitary(flat.reshape(size, size)), wires[::-1])
    numbers = [p for p in op.params if not isinstance(p, str)]
    matrix = gate_matrix(op.name, numbers) if len(numbers) == len(op.params) else None
    if matrix is None:
        raise _no_place(f"the operation {op.name!r}")
    name = f"{op.name}({','.join(map(repr, numbers))})"
    return module.Instruction(gates.Unitary(matrix, display_name=name), wires[::-1])
