"""Cirq: circuits to the canonical form and back.

A gate is taken by its class and exponent. What the vocabulary lacks is written out by Cirq's own
decomposition, and what has none by its matrix.

Cirq gives most angles as exponents, in half turns. The angle of an exponent is the double with the
fewest digits that has that exponent, so that `cirq.ZZPowGate(exponent=0.3 / math.pi)` is the
rotation by 0.3 that another SDK writes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from interlock.circuits.canonical import Circuit, Control, Operation, Register, finite_or_text
from interlock.circuits.cirq_faces import hold, refuse_patched
from interlock.circuits.controlled import control, scaled, steps_of, total
from interlock.circuits.expression import Param
from interlock.circuits.faces import disagree, of_sdk
from interlock.circuits.sympy_text import from_sympy
from interlock.circuits.validate import MAX_NESTING, MAX_OPERATIONS, MAX_QUBITS
from interlock.errors import InputError, SetupError

if TYPE_CHECKING:
    import cirq

__all__ = ["BARRIER", "angle", "from_cirq", "read", "to_cirq"]

#: Tag of an identity gate that stands for a barrier, which Cirq does not have.
BARRIER = "interlock-barrier"
_MATRIX_QUBITS = 6


def sdk() -> Any:
    """Import Cirq.

    Raises:
        SetupError: it is not installed; names the extra.
    """
    try:
        import cirq
    except ImportError as error:
        raise SetupError(
            "Cirq is not installed",
            code="extra-missing",
            got=str(error),
            expected="cirq-core 1.4 or later",
            fix="pip install 'interlock[cirq]'",
        ) from error
    return cirq


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
        raise _too_large(f"{reader.count} operations")
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
            raise _too_large(f"qubit {found[-1].x}")
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


def _unsupported(what: str, got: object, fix: str) -> InputError:
    return InputError(
        f"{what} has no canonical form",
        code="circuit-unsupported",
        got=f"{got!s:.120}",
        expected="gates on qubits, measurements, resets, waits and classical control",
        fix=fix,
    )


def _too_large(got: str) -> InputError:
    return InputError(
        "the circuit is too large when its gates are written out",
        code="circuit-too-large",
        got=got,
        expected=f"at most {MAX_OPERATIONS} operations on {MAX_QUBITS} qubits",
        fix="split the circuit, or repeat it less often",
    )


def angle(exponent: Any) -> Param:
    """Return the angle of an exponent in half turns.

    Example:
        >>> angle(0.5), angle(0.3 / math.pi)
        (1.5707963267948966, 0.3)
    """
    value = from_sympy(exponent)
    if isinstance(value, str):
        import sympy

        return from_sympy(sympy.pi * exponent)
    exact = value * math.pi
    if len(repr(value)) > 12:
        short = float(f"{exact:.15g}")
        if short / math.pi == value:
            return finite_or_text(short)
    return finite_or_text(exact)


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
        self.rules = _rules(module)

    def size(self, op: Any, level: int) -> int:
        """Count operations with repetitions written out, before any of them is."""
        inner = op.untagged
        if not isinstance(inner, self.cirq.CircuitOperation):
            return 1
        if level > MAX_NESTING or inner.repeat_until is not None:
            raise _unsupported("a sub-circuit repeated until a condition", inner, "write it out")
        if not isinstance(inner.repetitions, int):
            raise _unsupported("a symbolic number of repetitions", inner.repetitions, "bind it")
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
                    raise _unsupported("a key that is measured twice", key, "use a key for each")
                widths[key] = len(op.qubits)
        for key in sorted(widths, key=lambda k: [int(p) if p.isdecimal() else p
                                                 for p in re.split(r"([0-9]+)", k)]):  # fmt: skip
            self.keys[key] = tuple(range(self.clbits, self.clbits + widths[key]))
            self.clbits += widths[key]

    def operation(self, op: Any, level: int) -> None:
        """Append one operation."""
        tags, op = op.tags, op.untagged
        if level > MAX_NESTING:
            raise _too_large(f"definitions nested over {MAX_NESTING} deep")
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
            raise _unsupported("a qubit that is not listed", error, "list every qubit") from error
        gate = op.gate
        if any(size != 2 for size in self.cirq.qid_shape(op)):
            raise _unsupported("a system of more than two levels", op, "use qubits")
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

        for tag in tags:
            if isinstance(tag, Exact) and tag.holds(self.cirq, op):
                self.out.append(Operation(tag.name, tag.params, tuple(wires[:: tag.direction])))
                return
        refuse_patched(op)
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
                raise _too_large(f"over {MAX_OPERATIONS} operations")
            for part in inner:
                self.operation(part, level + 1)
            return
        matrix = self.cirq.unitary(op, None) if len(wires) <= _MATRIX_QUBITS else None
        if matrix is None:
            raise _unsupported(
                f"the operation {type(op.gate or op).__name__}",
                op,
                "noise belongs in the simulator: cirq.DensityMatrixSimulator(noise=...)",
            )
        self.out.append(_matrix(matrix, wires))

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
            raise _unsupported("a confusion map", key, "put readout errors into the simulator")
        if key not in self.keys:
            raise _unsupported("a measurement within a gate or condition", key, "measure outside")
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
        raise _unsupported("a condition", condition, "compare one measurement key with a number")

    def compared(self, key: str, relation: str, value: int) -> Any:
        bits = self.keys.get(key)
        if bits is None:
            raise _unsupported("a condition on a key that is not measured", key, "measure it first")
        if value < 0 or value >> len(bits):
            raise _unsupported("a value wider than its key", value, "compare within its width")
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


def _matrix(matrix: Any, wires: Sequence[int]) -> Operation:
    flat = [finite_or_text(float(x)) for z in matrix.ravel() for x in (z.real, z.imag)]
    # Cirq's first qubit is the most significant bit of a matrix, the canonical form's the least.
    return Operation("unitary", tuple(flat), tuple(wires[::-1]))


Rule = Callable[[Any, list[int]], "list[Operation] | None"]
_QUARTERS = {
    "Z": {1.0: "z", 0.5: "s", -0.5: "sdg", 0.25: "t", -0.25: "tdg"},
    "X": {1.0: "x", 0.5: "sx", -0.5: "sxdg"},
    "Y": {1.0: "y"},
    "H": {1.0: "h"},
    "CX": {1.0: "cx", 0.5: "csx"},
    "CY": {1.0: "cy"},
    "CZ": {1.0: "cz"},
    "SWAP": {1.0: "swap"},
    "ISWAP": {1.0: "iswap"},
    "CCX": {1.0: "ccx"},
    "CCZ": {1.0: "ccz"},
}


def _power(
    kind: str, rest: Callable[[Param, list[int]], Iterable[Any] | None], period: float = 2.0
) -> Rule:
    """Return the rule of a gate to a power: its own name where it has one, else `rest`.

    A global shift s of a gate to the power e is the phase pi s e.
    """

    def rule(gate: Any, wires: list[int]) -> list[Operation] | None:
        exponent, shift = gate.exponent, gate.global_shift
        if isinstance(exponent, (int, float)) and not shift:
            within = float(exponent) % period
            name = _QUARTERS[kind].get(within - period if within > 1.0 else within)
            if name is not None:
                return steps_of((name, (), wires))
        turned = angle(exponent)
        steps = rest(turned, wires)
        phase = [("gphase", (scaled(turned, shift),), ())] if shift else []
        return None if steps is None else steps_of(*steps, *phase)

    return rule


def _rotation(kind: str, name: str) -> Rule:
    """Return the rule of a Pauli (product) to a power: with the shift -1/2 it is the rotation."""
    tail = _power(kind, lambda t, w: ((name, (t,), w), ("gphase", (scaled(t, 0.5),), ())))

    def rule(gate: Any, wires: list[int]) -> list[Operation] | None:
        if gate.global_shift == -0.5:
            return steps_of((name, (angle(gate.exponent),), wires))
        return tail(gate, wires)

    return rule


def _rules(module: Any) -> dict[type, Rule]:
    """Return the rule of each class. A subclass has none: it may be another gate."""
    turn = math.pi / 4

    def z_power(gate: Any, wires: list[int]) -> list[Operation] | None:
        if gate.global_shift == -0.5:
            return steps_of(("rz", (angle(gate.exponent),), wires))
        return _power("Z", lambda t, w: (("p", (t,), w),))(gate, wires)

    def exact(name: str) -> Rule:
        return lambda gate, wires: steps_of((name, (from_sympy(gate._rads),), wires))

    def fixed(name: str) -> Rule:
        return lambda _gate, wires: steps_of((name, (), wires))

    def phased_x(gate: Any, wires: list[int]) -> list[Operation]:
        turned, axis = angle(gate.exponent), angle(gate.phase_exponent)
        phase = scaled(turned, gate.global_shift + 0.5)
        return steps_of(("r", (turned, axis), wires), ("gphase", (phase,), ()))

    def fsim(gate: Any, wires: list[int]) -> list[Operation]:
        theta, phi = from_sympy(gate.theta), from_sympy(gate.phi)
        return steps_of(
            ("xx_plus_yy", (scaled(theta, 2.0), 0.0), wires), ("cp", (scaled(phi, -1.0),), wires)
        )

    rules: dict[type, Rule] = {
        module.XPowGate: _rotation("X", "rx"),
        module.YPowGate: _rotation("Y", "ry"),
        module.ZPowGate: z_power,
        module.Rx: exact("rx"), module.Ry: exact("ry"), module.Rz: exact("rz"),
        module.HPowGate: _power("H", lambda t, w: (
            ("ry", (-turn,), w), ("p", (t,), w), ("ry", (turn,), w))),
        module.CXPowGate: _power("CX", lambda t, w: (
            ("crx", (t,), w), ("p", (scaled(t, 0.5),), w[:1]))),
        module.CZPowGate: _power("CZ", lambda t, w: (("cp", (t,), w),)),
        module.SwapPowGate: _power("SWAP", lambda t, w: (
            ("cx", (), w), ("crx", (t,), w[::-1]), ("p", (scaled(t, 0.5),), w[1:]),
            ("cx", (), w))),
        module.ISwapPowGate: _power("ISWAP", lambda t, w: (
            ("xx_plus_yy", (scaled(t, -1.0), 0.0), w),), period=4.0),
        module.XXPowGate: _pauli_pair("rxx"),
        module.YYPowGate: _pauli_pair("ryy"),
        module.ZZPowGate: _pauli_pair("rzz"),
        module.MSGate: _pauli_pair("rxx"),
        module.CCXPowGate: _power("CCX", lambda _t, _w: None),
        module.CCZPowGate: _power("CCZ", lambda _t, _w: None),
        module.CSwapGate: fixed("cswap"),
        module.PhasedXPowGate: phased_x,
        module.FSimGate: fsim,
        module.IdentityGate: lambda _gate, wires: steps_of(*(("id", (), (w,)) for w in wires)),
        module.GlobalPhaseGate: lambda gate, _wires: _phase(gate),
        module.MatrixGate: lambda gate, wires: [_matrix(module.unitary(gate), wires)],
    }  # fmt: skip
    if hasattr(module, "CYPowGate"):  # since Cirq 1.6
        rules[module.CYPowGate] = _power("CY", lambda t, w: (
            ("cry", (t,), w), ("p", (scaled(t, 0.5),), w[:1])))  # fmt: skip
    for pauli, name in ((module.X, "x"), (module.Y, "y"), (module.Z, "z")):
        rules[type(pauli)] = fixed(name)
    return rules


def _pauli_pair(name: str) -> Rule:
    def rule(gate: Any, wires: list[int]) -> list[Operation]:
        turned = angle(gate.exponent)
        phase = scaled(turned, gate.global_shift + 0.5)
        return steps_of((name, (turned,), wires), ("gphase", (phase,), ()))

    return rule


def _phase(gate: Any) -> list[Operation] | None:
    import cmath

    try:
        return steps_of(("gphase", (cmath.phase(complex(gate.coefficient)),), ()))
    except TypeError:
        raise _unsupported("a symbolic global phase", gate.coefficient, "bind it") from None


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
