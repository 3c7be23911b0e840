"""Cirq: circuits to the canonical form and back.

A gate is taken by its class and exponent. What the vocabulary lacks is written out by Cirq's own
decomposition, and what has none by its matrix.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from interlock.circuits.canonical import Circuit, Control, Operation, Register
from interlock.circuits.cirq_faces import hold, refuse_patched
from interlock.circuits.cirq_rules import rules
from interlock.circuits.controlled import control, scaled, total
from interlock.circuits.convert import from_matrix, installed, too_large, unsupported
from interlock.circuits.expression import Param
from interlock.circuits.faces import disagree, of_sdk
from interlock.circuits.sympy_text import from_sympy
from interlock.circuits.validate import MAX_NESTING, MAX_OPERATIONS, MAX_QUBITS

if TYPE_CHECKING:
    import cirq

__all__ = ["BARRIER", "from_cirq", "read", "to_cirq"]

#: Tag of an identity gate that stands for a barrier, which Cirq does not have.
BARRIER = "interlock-barrier"
_MATRIX_QUBITS = 6


def sdk() -> Any:
    """Import the SDK, or say which extra is missing."""
    return installed("cirq", "Cirq", "cirq-core 1.4", "cirq")


def from_cirq(circuit: cirq.AbstractCircuit, qubits: Sequence[Any] | None = None) -> Circuit:
    """Return the canonical form of a circuit.

    A `LineQubit` keeps its number; any other qubits are numbered in Cirq's order. A measurement key
    is a register, its first qubit the least significant bit; keys `c[0]`, `c[1]`, ... are the bits
    of one register `c`. Registers are in the order of their names, wherever they are measured.

    Args:
        circuit: any circuit on qubits.
        qubits: the qubits in order, when idle ones count too or the order is another.

    Raises:
        InputError: `circuit-unsupported` for what the form cannot say, such as noise channels;
            `circuit-too-large` for a circuit that grows beyond bounds when written out.
        SetupError: Cirq is not installed.

    Example:
        >>> import cirq
        >>> a, b = cirq.LineQubit.range(2)
        >>> bell = cirq.Circuit(cirq.H(a), cirq.CNOT(a, b), cirq.measure(a, b, key="m"))
        >>> [str(op) for op in from_cirq(bell).operations][:2]
        ['h q[0]', 'cx q[0], q[1]']
    """
    return read(circuit, qubits)[0]


def read(
    circuit: cirq.AbstractCircuit, qubits: Sequence[Any] | None = None
) -> tuple[Circuit, dict[str, tuple[int, ...]]]:
    """Return the canonical form, and the classical bits each measurement key writes."""
    module = sdk()
    reader = _Reader(module, _numbers(module, circuit, qubits))
    reader.count = sum(reader.size(op, 0) for op in circuit.all_operations())
    if reader.count > MAX_OPERATIONS:
        raise too_large(f"{reader.count} operations")
    flat = list(reader.flat(circuit))
    reader.name_bits(flat)
    for op in flat:
        reader.operation(op, 0)
    made = Circuit(
        num_qubits=len(reader.qubits) if qubits is not None else reader.width,
        num_clbits=reader.clbits,
        operations=tuple(reader.out),
        registers=_registers(reader.keys),
        global_phase=reader.phase,
    )
    return made, reader.keys


def _numbers(module: Any, circuit: Any, qubits: Sequence[Any] | None) -> dict[Any, int]:
    if qubits is not None:
        return {q: i for i, q in enumerate(qubits)}
    found = sorted(circuit.all_qubits())
    if all(type(q) is module.LineQubit and q.x >= 0 for q in found):
        if found and found[-1].x >= MAX_QUBITS:
            raise too_large(f"qubit {found[-1].x}")
        return {q: q.x for q in found}
    return {q: i for i, q in enumerate(found)}


def _registers(keys: dict[str, tuple[int, ...]]) -> tuple[Register, ...]:
    """Return one register a key; bits `c[0]`, `c[1]`, ... that are all there are one register."""
    groups: dict[str, dict[int, int]] = {}
    for key, bits in keys.items():
        name, bracket, index = key.partition("[")
        if bracket and index[:-1].isdecimal() and index[-1] == "]" and len(bits) == 1:
            groups.setdefault(name, {})[int(index[:-1])] = bits[0]
    whole = {n: g for n, g in groups.items() if n not in keys and sorted(g) == [*range(len(g))]}
    merged = {f"{name}[{i}]" for name, group in whole.items() for i in group}
    made = [Register(key, bits) for key, bits in keys.items() if key not in merged]
    made += [Register(n, tuple(g[i] for i in range(len(g)))) for n, g in whole.items()]
    return tuple(sorted(made, key=lambda r: r.clbits))


class _Reader:
    def __init__(self, module: Any, qubits: dict[Any, int]) -> None:
        self.cirq = module
        self.qubits = qubits
        self.width = max(qubits.values(), default=-1) + 1
        self.clbits = 0
        self.keys: dict[str, tuple[int, ...]] = {}
        self.out: list[Operation] = []
        self.phase: Param = 0.0
        self.count = 0
        self.rules = rules(module)

    def size(self, op: Any, level: int) -> int:
        """Count operations with repetitions written out, before any of them is."""
        inner = op.untagged
        if not isinstance(inner, self.cirq.CircuitOperation):
            return 1
        if level > MAX_NESTING or inner.repeat_until is not None:
            raise unsupported("a sub-circuit repeated until a condition", inner, "write it out")
        if not isinstance(inner.repetitions, int):
            raise unsupported("a symbolic number of repetitions", inner.repetitions, "bind it")
        body = sum(self.size(o, level + 1) for o in inner.circuit.all_operations())
        return abs(inner.repetitions) * body

    def flat(self, circuit: Any) -> Iterator[Any]:
        """Yield the operations, those of sub-circuits written out."""
        for op in circuit.all_operations():
            if isinstance(op.untagged, self.cirq.CircuitOperation):
                yield from self.flat(op.untagged.mapped_circuit(deep=True))
            elif isinstance(op.gate, self.cirq.PauliMeasurementGate):
                yield from self.cirq.decompose_once(op)
            else:
                yield op

    def name_bits(self, operations: Iterable[Any]) -> None:
        """Give every measurement key its bits."""
        widths: dict[str, int] = {}
        for op in operations:
            if isinstance(op.gate, self.cirq.MeasurementGate):
                key = self.cirq.measurement_key_name(op)
                if key in widths:
                    raise unsupported("a key that is measured twice", key, "use a key for each")
                widths[key] = len(op.qubits)
        for key in sorted(widths, key=lambda k: [int(p) if p.isdecimal() else p
                                                 for p in re.split(r"([0-9]+)", k)]):  # fmt: skip
            self.keys[key] = tuple(range(self.clbits, self.clbits + widths[key]))
            self.clbits += widths[key]

    def operation(self, op: Any, level: int) -> None:
        """Append one operation."""
        tags, op = op.tags, op.untagged
        if level > MAX_NESTING:
            raise too_large(f"definitions nested over {MAX_NESTING} deep")
        if isinstance(op, self.cirq.CircuitOperation):
            for inner in self.flat(self.cirq.Circuit(op)):
                self.operation(inner, level + 1)
            return
        if isinstance(op, self.cirq.ClassicallyControlledOperation):
            self.conditional(op, level)
            return
        try:
            wires = [self.qubits[q] for q in op.qubits]
        except KeyError as error:
            raise unsupported("a qubit that is not listed", error, "list every qubit") from error
        gate = op.gate
        if any(size != 2 for size in self.cirq.qid_shape(op)):
            raise unsupported("a system of more than two levels", op, "use qubits")
        special = (
            self.cirq.MeasurementGate, self.cirq.ResetChannel, self.cirq.WaitGate,
            self.cirq.IdentityGate,
        )  # fmt: skip
        if isinstance(gate, special) and not of_sdk(type(gate), "cirq"):
            raise disagree(type(gate).__name__, "a class derived from one that is no gate")
        if isinstance(gate, self.cirq.MeasurementGate):
            self.measure(gate, wires)
        elif isinstance(gate, self.cirq.ResetChannel):
            self.out.append(Operation("reset", (), tuple(wires)))
        elif isinstance(gate, self.cirq.WaitGate):
            seconds = scaled(from_sympy(gate.duration.total_picos()), 1e-12)
            self.out += [Operation("delay", (seconds,), (w,)) for w in wires]
        elif BARRIER in tags and isinstance(gate, self.cirq.IdentityGate):
            self.out.append(Operation("barrier", (), tuple(wires)))
        else:
            self.gate(op, tags, wires, level)

    def gate(self, op: Any, tags: Sequence[Any], wires: list[int], level: int) -> None:
        from interlock.circuits.cirq_writer import Exact

        refuse_patched(op)
        for tag in tags:
            if type(tag) is Exact and tag.holds(self.cirq, op):
                self.out.append(Operation(tag.name, tag.params, tuple(wires[:: tag.direction])))
                return
        steps = self.steps(op, wires)
        if steps is not None:
            if not of_sdk(type(op), "cirq"):
                hold(self.cirq, op, wires, steps)
            for step in steps:
                if step.name == "gphase":
                    self.phase = total(self.phase, step.params[0])
                else:
                    self.out.append(step)
            return
        start = len(self.out)
        self.written(op, wires, level)
        hold(self.cirq, op, wires, self.out[start:])

    def written(self, op: Any, wires: list[int], level: int) -> None:
        """Append what an operation decomposes into, or its matrix."""
        inner = self.cirq.decompose_once(op, default=None)
        if inner is not None:
            self.count += len(inner)
            if self.count > MAX_OPERATIONS:
                raise too_large(f"over {MAX_OPERATIONS} operations")
            for part in inner:
                self.operation(part, level + 1)
            return
        matrix = self.cirq.unitary(op, None) if len(wires) <= _MATRIX_QUBITS else None
        if matrix is None:
            raise unsupported(
                f"the operation {type(op.gate or op).__name__}",
                op,
                "noise belongs in the simulator: cirq.DensityMatrixSimulator(noise=...)",
            )
        self.out.append(from_matrix(matrix, wires))

    def steps(self, op: Any, wires: list[int]) -> list[Operation] | None:
        """Return an operation in gates of the vocabulary, or None when it has to be written out."""
        gate = op.gate
        if isinstance(op, self.cirq.ControlledOperation) and gate is None:
            return None
        if type(gate) is self.cirq.ControlledGate:
            values = _plain_values(gate.control_values)
            inner = gate.sub_gate
            if values is None:
                return None
            n = gate.num_controls()
            body = self.steps(inner.on(*op.qubits[n:]), wires[n:])
            return None if body is None else control(body, wires[:n], values)
        rule = self.rules.get(type(gate))
        return None if rule is None else rule(gate, wires)

    def measure(self, gate: Any, wires: list[int]) -> None:
        key = self.cirq.measurement_key_name(gate)
        if gate.confusion_map:
            raise unsupported("a confusion map", key, "put readout errors into the simulator")
        if key not in self.keys:
            raise unsupported("a measurement within a gate or condition", key, "measure outside")
        mask = gate.full_invert_mask()
        for wire, bit, inverted in zip(wires, self.keys[key], mask, strict=True):
            around = [Operation("x", (), (wire,))] if inverted else []
            self.out += [*around, Operation("measure", (), (wire,), (bit,)), *around]

    def conditional(self, op: Any, level: int) -> None:
        conditions = [self.condition(c) for c in op.classical_controls]
        outer, self.out = self.out, []
        phase = self.phase
        self.operation(op.without_classical_controls(), level + 1)
        body, self.out = self.out, outer
        self.phase = phase
        condition = conditions[0]
        for more in conditions[1:]:
            condition = ["&&", condition, more]
        wires = tuple(dict.fromkeys(q for step in body for q in step.qubits))
        bits = tuple(sorted(_bits_in(condition)))
        self.out.append(Operation("if_else", (), wires, bits, Control(condition, (tuple(body),))))

    def condition(self, condition: Any) -> Any:
        if isinstance(condition, self.cirq.KeyCondition) and condition.index == -1:
            return self.compared(str(condition.key), "!=", 0)
        if isinstance(condition, self.cirq.SympyCondition):
            import sympy

            node = condition.expr
            if isinstance(node, sympy.Symbol):
                return self.compared(node.name, "!=", 0)
            kinds = {
                sympy.Eq: "==", sympy.Ne: "!=", sympy.Lt: "<", sympy.Le: "<=",
                sympy.Gt: ">", sympy.Ge: ">=",
            }  # fmt: skip
            if type(node) in kinds and isinstance(node.lhs, sympy.Symbol) and node.rhs.is_Integer:
                return self.compared(node.lhs.name, kinds[type(node)], int(node.rhs))
        raise unsupported("a condition", condition, "compare one measurement key with a number")

    def compared(self, key: str, relation: str, value: int) -> Any:
        bits = self.keys.get(key)
        if bits is None:
            raise unsupported("a condition on a key that is not measured", key, "measure it first")
        if value < 0 or value >> len(bits):
            raise unsupported("a value wider than its key", value, "compare within its width")
        if len(bits) == 1 and relation in ("==", "!="):
            one = ["bit", bits[0]]
            return one if (value == 1) is (relation == "==") else ["!", one]
        # Cirq reads a key with its first qubit as the most significant bit.
        return [relation, ["bits", list(bits[::-1])], ["value", value, len(bits)]]


def _bits_in(condition: Any) -> set[int]:
    kind, *rest = condition
    if kind == "bit":
        return {rest[0]}
    if kind == "bits":
        return set(rest[0])
    return set().union(*(_bits_in(part) for part in rest if isinstance(part, list)))


def _plain_values(values: Any) -> list[int] | None:
    """Return one value a control, or None when a control may have several."""
    rows = list(values.expand())
    return [int(v) for v in rows[0]] if len(rows) == 1 else None


def to_cirq(circuit: Circuit) -> cirq.Circuit:
    """Return a Cirq circuit on `LineQubit`s with the same identity.

    Gates that Cirq lacks are matrices that carry their canonical name in a tag, which is believed
    only while the matrix is that gate's. Idle qubits have no place in a Cirq circuit:
    `from_cirq(circuit, cirq.LineQubit.range(n))` counts them.

    Raises:
        InputError: `circuit-unsupported` for loops, delays in device cycles and bits written twice.
        SetupError: Cirq is not installed.

    Example:
        >>> print(to_cirq(Circuit(num_qubits=1, operations=(Operation("h", (), (0,)),))))
        0: ───H───
    """
    from interlock.circuits.cirq_writer import write

    return write(sdk(), circuit)
