"""PennyLane: tapes to the canonical form and back.

An operation is taken by its class. What the vocabulary lacks is written out by PennyLane's own
decomposition, and what has none by its matrix. A tape whose angles are arrays (a broadcast) is a
template with one parameter set for each entry.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from interlock.circuits.canonical import Circuit, Control, Operation, Register
from interlock.circuits.controlled import control, total
from interlock.circuits.convert import from_matrix, installed, too_large, unsupported
from interlock.circuits.expression import Param
from interlock.circuits.faces import FACE_QUBITS, agree, disagree, matrix_of, of_sdk
from interlock.circuits.operation import finite_or_text
from interlock.circuits.pennylane_faces import (
    custom,
    holds_code,
    plain_value,
    refuse_patched,
    rooted,
)
from interlock.circuits.pennylane_rules import inverse, rules
from interlock.circuits.validate import MAX_NESTING, MAX_OPERATIONS, MAX_QUBITS

if TYPE_CHECKING:
    from pennylane.tape import QuantumScript

__all__ = ["Tape", "from_pennylane", "read", "to_pennylane"]

_MATRIX_QUBITS = 6


def sdk() -> Any:
    """Import the SDK, or say which extra is missing."""
    return installed("pennylane", "PennyLane", "pennylane 0.44", "pennylane")


@dataclass(slots=True, kw_only=True)
class Tape:
    """A tape in canonical form.

    Attributes:
        circuit: with one register for each measurement of bits.
        parameters: names of the angles that are arrays.
        values: one row for each entry of the arrays; empty without any.
        samples: whether all that is measured is bits at the end of the circuit.
        fixed: place in the tape -> operations of PennyLane's own that do what was read of a custom
            one.
    """

    circuit: Circuit
    parameters: tuple[str, ...] = ()
    values: list[list[float]] = field(default_factory=list)
    samples: bool = False
    fixed: dict[int, list[Any]] = field(default_factory=dict)


def from_pennylane(tape: QuantumScript, wires: Sequence[Any] | None = None) -> Circuit:
    """Return the canonical form of a tape.

    A wire that is a whole number keeps it; other labels are numbered in the order of the tape.
    Samples, counts and probabilities of wires are measurements at the end, one register each;
    expectation values and states leave the circuit without any.

    Args:
        tape: a `QuantumScript`, for instance of `qml.workflow.construct_tape(qnode)(...)`.
        wires: the labels in order, as of the device.

    Raises:
        InputError: `circuit-unsupported` for what the form cannot say, such as noise channels;
            `circuit-too-large` for a circuit that grows beyond bounds when written out.
        SetupError: PennyLane is not installed.

    Example:
        >>> import pennylane as qml
        >>> tape = qml.tape.QuantumScript([qml.Hadamard(0), qml.CNOT([0, 1])])
        >>> [str(op) for op in from_pennylane(tape).operations]
        ['h q[0]', 'cx q[0], q[1]']
    """
    return read(tape, wires).circuit


def read(
    tape: QuantumScript, wires: Sequence[Any] | None = None, *, graph: bool = False, keep: str = ""
) -> Tape:
    """Return the canonical form with what a guard needs besides.

    Args:
        tape: as for `from_pennylane`.
        wires: as for `from_pennylane`.
        graph: whether fixed operations keep the gradient graph of their parameters.
        keep: a package whose operations its device knows by class; they are not fixed.
    """
    module = sdk()
    if not of_sdk(type(tape), "pennylane"):
        raise disagree(
            type(tape).__name__, "a class of tapes that may say one thing and run another"
        )
    reader = _Reader(module, _numbers(tape, wires), tape.batch_size, graph, keep)
    if len(tape.operations) > MAX_OPERATIONS:
        raise too_large(f"{len(tape.operations)} operations")
    fixed = {}
    for place, op in enumerate(tape.operations):
        reader.own = False
        made = reader.operation(op, 0)
        if reader.own:
            fixed[place] = made
    samples = bool(tape.measurements) and all(map(is_bits, tape.measurements))
    drawn = tape.shots or any(type(m).__name__ != "ProbabilityMP" for m in tape.measurements)
    samples = bool(samples and drawn and not reader.mid_circuit)
    registers = []
    if samples:
        for index, process in enumerate(tape.measurements):
            registers.append(reader.measure(process.wires or tape.wires, f"m{index}"))
    elif reader.clbits:
        registers.append(Register("mid", tuple(range(reader.clbits))))
    reader.touch(q for m in tape.measurements for q in m.wires)
    circuit = Circuit(
        num_qubits=reader.width,
        num_clbits=reader.clbits,
        operations=tuple(reader.out),
        registers=tuple(registers),
        global_phase=reader.phase,
    )
    size = tape.batch_size or 0
    columns = [np.broadcast_to(v, (size,)).tolist() for v in reader.arrays.values()]
    values = [[column[row] for column in columns] for row in range(size)]
    return Tape(
        circuit=circuit,
        parameters=tuple(reader.arrays),
        values=values,
        samples=samples,
        fixed=fixed,
    )


def is_bits(process: Any) -> bool:
    """Whether a measurement process is of bits of wires, and of no observable."""
    kind = type(process).__name__
    return kind in ("SampleMP", "CountsMP", "ProbabilityMP") and (
        process.obs is None and process.mv is None and getattr(process, "_eigvals", None) is None
    )


def _numbers(tape: Any, wires: Sequence[Any] | None) -> dict[Any, int]:
    if wires is not None:
        return {w: i for i, w in enumerate(wires)}
    labels = list(tape.wires)
    if all(isinstance(w, int) and w >= 0 for w in labels):
        if labels and max(labels) >= MAX_QUBITS:
            raise too_large(f"wire {max(labels)}")
        return {w: w for w in labels}
    return {w: i for i, w in enumerate(labels)}


class _Reader:
    def __init__(
        self, module: Any, numbers: dict[Any, int], batch: int | None, graph: bool, keep: str
    ) -> None:
        self.qml = module
        self.graph = graph
        self.keep = keep
        self.numbers = numbers
        self.batch = batch
        self.width = 0
        self.clbits = 0
        self.out: list[Operation] = []
        self.phase: Param = 0.0
        self.arrays: dict[str, Any] = {}
        self.mid_circuit: dict[Any, int] = {}
        self.count = 0
        self.rules = rules(module)
        #: Whether a custom operation was met; what ran of it may be another the next time.
        self.own = False

    def touch(self, wires: Any) -> list[int]:
        """Return the numbers of wires; they count for the width."""
        try:
            found = [self.numbers[w] for w in wires]
        except KeyError as error:
            raise unsupported("a wire that is not listed", error, "list every wire") from error
        self.width = max([self.width, *(q + 1 for q in found)])
        return found

    def plain(self, value: Any) -> Any:
        """Return an array of NumPy from one of any library."""
        math = self.qml.math
        return np.asarray(math.toarray(math.detach(value)), dtype=float)

    def param(self, value: Any) -> Param:
        """Return a number, or the name of a new column for an array of the batch's size."""
        try:
            plain = self.plain(value)
        except Exception as error:  # a tracer of a compiler, for instance
            raise unsupported(
                "a parameter that has no value yet", f"{type(value).__name__}: {error}",
                "run the QNode outside of jit",
            ) from error  # fmt: skip
        if plain.ndim == 0:
            return finite_or_text(float(plain))
        if plain.shape != (self.batch,):
            raise unsupported("a parameter", f"an array of shape {plain.shape}", "use numbers")
        name = f"p{len(self.arrays)}"
        self.arrays[name] = plain
        return name

    def operation(self, op: Any, level: int) -> list[Any]:
        """Append one operation; return it, or what does the same and is data alone."""
        self.count += 1
        if level > MAX_NESTING or self.count > MAX_OPERATIONS:
            raise too_large(f"over {MAX_OPERATIONS} operations, or nested over {MAX_NESTING} deep")
        # By name only among PennyLane's own: another class of the name may be any gate.
        kind = type(op).__name__ if of_sdk(type(op), "pennylane") else ""
        if kind in ("MidMeasure", "MidMeasureMP"):
            self.mid_measure(op)
        elif kind == "Conditional":
            return self.conditional(op, level)
        elif kind == "Barrier":
            self.out.append(Operation("barrier", (), tuple(self.touch(op.wires))))
        elif kind != "Snapshot":
            return self.gate(op, level)
        return [op]

    def gate(self, op: Any, level: int) -> list[Any]:
        labels = list(op.wires)
        wires = self.touch(labels)
        for value in op.data:
            plain_value(op.name, value)
        steps = self.steps(op, wires)
        if steps is not None:
            for step in steps:
                if step.name == "gphase":
                    self.phase = total(self.phase, step.params[0])
                else:
                    self.out.append(step)
            return [op]
        if isinstance(op, self.qml.operation.Channel):
            raise unsupported(
                f"the channel {op.name}", op, "give the noise to the device, not to the circuit"
            )
        start = len(self.out)
        outer, self.own = self.own, False
        parts = self.written(op, wires, level)
        inside, self.own = self.own, outer
        own = custom(op)
        if own or rooted(op):
            matrix = self.hold(op, wires, self.out[start:])
        if own:
            if not self.is_kept(type(op)):
                self.own = True
                return parts if matrix is None else [self.fixed(op, matrix, labels)]
        elif inside or holds_code(op):
            self.own = True
            return parts
        return [op]

    def is_kept(self, kind: type) -> bool:
        return bool(self.keep) and of_sdk(kind, self.keep)

    def hold(self, op: Any, wires: list[int], steps: Sequence[Operation]) -> Any:
        """Hold an operation to the steps it was read as: devices take its matrix, name or steps.

        Returns:
            The matrix it was compared with; None where it has none.
        """
        kind = type(op)
        others = [base for base in kind.__mro__[1:] if base in self.rules]
        others += [k for k in self.rules if k.__name__ == op.name and k not in others]
        batch = op.batch_size
        raw = self.whole(op, len(wires)) if op.has_matrix else None
        whole = None if raw is None else self.array(op, raw)
        for row in range(batch) if batch else [0]:
            at = {n: float(v[row]) for n, v in self.arrays.items()}
            numbers = [float(self.plain(p).ravel()[row if self.plain(p).ndim else 0])
                       for p in op.data] if others else []  # fmt: skip
            if whole is not None:
                agree(op.name, steps, wires[::-1], whole[row] if batch else whole, at)
            for base in others:
                named = self.rules[base](list(numbers), wires, op) or []
                agree(op.name, steps, wires[::-1], matrix_of(op.name, named, wires[::-1]), at)
        return raw if self.graph else whole

    def whole(self, op: Any, width: int) -> Any:
        if width > FACE_QUBITS:
            raise disagree(op.name, f"{width} qubits")
        try:
            return op.matrix(op.wires)
        except Exception as error:
            raise disagree(op.name, f"{type(error).__name__}: {error}") from error

    def array(self, op: Any, raw: Any) -> Any:
        """Return a copy of a matrix that is an array of NumPy."""
        plain_value(op.name, raw)
        try:
            return np.array(self.qml.math.toarray(self.qml.math.detach(raw)), copy=True)
        except Exception as error:
            raise disagree(op.name, f"{type(error).__name__}: {error}") from error

    def fixed(self, op: Any, matrix: Any, labels: list[Any]) -> Any:
        """Return an operation of PennyLane's with a matrix."""
        math = self.qml.math
        if not self.graph and op.data:
            matrix = math.asarray(matrix, like=math.get_interface(*op.data))
        return self.qml.QubitUnitary(matrix, wires=labels)

    def written(self, op: Any, wires: list[int], level: int) -> list[Any]:
        """Append what an operation decomposes into, or its matrix; return the parts."""
        if op.has_decomposition:
            return [made for part in op.decomposition() for made in self.operation(part, level + 1)]
        small = op.has_matrix and len(wires) <= _MATRIX_QUBITS
        matrix = self.array(op, op.matrix()) if small else None
        if matrix is None or matrix.ndim != 2:
            raise unsupported(f"the operation {op.name}", op, "write it out in known gates")
        self.out.append(from_matrix(matrix, wires))
        return [op]

    def steps(self, op: Any, wires: list[int]) -> list[Operation] | None:
        """Return an operation in gates of the vocabulary, or None when it has to be written out."""
        kind = type(op)
        refuse_patched(op)
        if kind.__name__ == "VocabularyGate" and kind is vocabulary_gate():
            for angle in op.angles:
                plain_value(op.name, angle)
            return [Operation(op.canonical, tuple(op.angles), tuple(wires))]
        if not of_sdk(kind, "pennylane"):
            return None
        if kind.__name__ in ("ControlledOp", "MultiControlledX"):
            n = len(op.control_wires)
            inner = [Operation("x", (), (wires[n],))] if kind.__name__[0] == "M" else None
            body = inner or self.steps(op.base, wires[n : n + len(op.base.wires)])
            plain = len(wires) == n + (1 if inner else len(op.base.wires))
            values = [int(v) for v in op.control_values]
            return control(body, wires[:n], values) if body is not None and plain else None
        if kind.__name__ == "AdjointOperation":
            body = self.steps(op.base, wires)
            return None if body is None else inverse(body)
        if kind is self.qml.QubitUnitary and op.batch_size is None:
            return [from_matrix(self.qml.math.toarray(self.qml.math.detach(op.matrix())), wires)]
        rule = self.rules.get(kind)
        return None if rule is None else rule([self.param(p) for p in op.data], wires, op)

    def measure(self, labels: Any, name: str) -> Register:
        wires = self.touch(labels)
        bits = tuple(range(self.clbits, self.clbits + len(wires)))
        self.clbits += len(wires)
        self.out += [Operation("measure", (), (w,), (b,)) for w, b in zip(wires, bits, strict=True)]
        return Register(name, bits)

    def mid_measure(self, op: Any) -> None:
        if op.postselect is not None:
            raise unsupported("a postselected measurement", op, "select among the samples")
        (wire,) = self.touch(op.wires)
        self.mid_circuit[op] = self.clbits
        self.out.append(Operation("measure", (), (wire,), (self.clbits,)))
        if op.reset:
            self.out.append(Operation("reset", (), (wire,)))
        self.clbits += 1

    def conditional(self, op: Any, level: int) -> list[Any]:
        outer, self.out = self.out, []
        phase = self.phase
        parts = self.operation(op.base, level + 1)
        body, self.out, self.phase = self.out, outer, phase
        value = op.meas_val
        if not of_sdk(type(value), "pennylane"):
            raise disagree(op.name, "a condition of a class of its own")
        measured = list(value.measurements)
        try:
            bits = [self.mid_circuit[m] for m in measured]
        except KeyError as error:
            raise unsupported("a condition on a later measurement", op, "measure first") from error
        # PennyLane orders measurements by ids drawn at random; here they are in the order of bits.
        table = {outcome: bool(result) for outcome, result in value.items()}
        holds = sorted(
            sorted(zip(bits, outcome, strict=True)) for outcome, result in table.items() if result
        )
        if value.has_processing:  # a function, which may be the user's
            self.own = True
            value = type(value)(measured, lambda *read: table[tuple(int(bit) for bit in read)])
        made = [self.qml.ops.Conditional(value, part) for part in parts]
        terms: Any = None
        for outcome in holds:
            term: Any = None
            for bit, wanted in outcome:
                one = ["bit", bit] if wanted else ["!", ["bit", bit]]
                term = one if term is None else ["&&", term, one]
            terms = term if terms is None else ["||", terms, term]
        if terms is None:
            return made  # it never holds
        wires = tuple(dict.fromkeys(q for step in body for q in step.qubits))
        self.out.append(
            Operation("if_else", (), wires, tuple(sorted(bits)), Control(terms, (tuple(body),)))
        )
        return made


def to_pennylane(circuit: Circuit, values: Mapping[str, Any] | None = None) -> QuantumScript:
    """Return a tape with the same identity; the wires are the qubit numbers.

    Gates that PennyLane lacks are operations with the gate's matrix that keep its canonical name.
    Each register is a `qml.counts` of its wires, in the order of its bits.

    Args:
        circuit: gates, measurements, conditions on measured bits.
        values: a number or an array for each free parameter: PennyLane has no free parameters.

    Raises:
        InputError: `circuit-unsupported` for loops, delays and unmeasured bits in conditions;
            `circuit-unbound` for a parameter without a value.
        SetupError: PennyLane is not installed.

    Example:
        >>> to_pennylane(Circuit(num_qubits=1, operations=(Operation("h", (), (0,)),))).operations
        [H(0)]
    """
    from interlock.circuits.pennylane_writer import write

    return write(sdk(), circuit, values or {})


def vocabulary_gate() -> Any:
    """Return the class of the operations that stand for gates PennyLane lacks."""
    from interlock.circuits.pennylane_writer import vocabulary_gate as made

    return made()
