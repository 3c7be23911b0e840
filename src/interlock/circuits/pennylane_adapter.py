"""PennyLane: tapes to the canonical form and back.

An operation is taken by its class. What the vocabulary lacks is written out by PennyLane's own
decomposition, and what has none by its matrix. A tape whose angles are arrays (a broadcast) is a
template with one parameter set for each entry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from interlock.circuits.canonical import Circuit, Control, Operation, Register, finite_or_text
from interlock.circuits.controlled import control, scaled, steps_of, total
from interlock.circuits.convert import from_matrix, installed, too_large, unsupported
from interlock.circuits.expression import Param
from interlock.circuits.faces import FACE_QUBITS, agree, disagree, matrix_of, of_sdk, patched
from interlock.circuits.validate import MAX_NESTING, MAX_OPERATIONS, MAX_QUBITS

if TYPE_CHECKING:
    from pennylane.tape import QuantumScript

__all__ = ["Tape", "from_pennylane", "read", "to_pennylane"]

_MATRIX_QUBITS = 6
_METHODS = (
    "matrix", "compute_matrix", "decomposition", "compute_decomposition", "sparse_matrix",
    "compute_sparse_matrix", "has_matrix", "has_decomposition", "eigvals",
)  # fmt: skip


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
        matrices: place in the tape -> the matrix that a custom operation was compared with.
    """

    circuit: Circuit
    parameters: tuple[str, ...] = ()
    values: list[list[float]] = field(default_factory=list)
    samples: bool = False
    matrices: dict[int, Any] = field(default_factory=dict)


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


def read(tape: QuantumScript, wires: Sequence[Any] | None = None) -> Tape:
    """Return the canonical form with what a guard needs besides."""
    module = sdk()
    if not of_sdk(type(tape), "pennylane"):
        raise disagree(
            type(tape).__name__, "a class of tapes that may say one thing and run another"
        )
    reader = _Reader(module, _numbers(tape, wires), tape.batch_size)
    if len(tape.operations) > MAX_OPERATIONS:
        raise too_large(f"{len(tape.operations)} operations")
    matrices = {}
    for place, op in enumerate(tape.operations):
        reader.matrix = None
        reader.operation(op, 0)
        if reader.matrix is not None:
            matrices[place] = reader.matrix
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
        matrices=matrices,
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
    def __init__(self, module: Any, numbers: dict[Any, int], batch: int | None) -> None:
        self.qml = module
        self.numbers = numbers
        self.batch = batch
        self.width = 0
        self.clbits = 0
        self.out: list[Operation] = []
        self.phase: Param = 0.0
        self.arrays: dict[str, Any] = {}
        self.mid_circuit: dict[Any, int] = {}
        self.count = 0
        self.rules = _rules(module)
        self.matrix: Any = None

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

    def operation(self, op: Any, level: int) -> None:
        """Append one operation."""
        self.count += 1
        if level > MAX_NESTING or self.count > MAX_OPERATIONS:
            raise too_large(f"over {MAX_OPERATIONS} operations, or nested over {MAX_NESTING} deep")
        # By name only among PennyLane's own: another class of the name may be any gate.
        kind = type(op).__name__ if of_sdk(type(op), "pennylane") else ""
        if kind in ("MidMeasure", "MidMeasureMP"):
            self.mid_measure(op)
        elif kind == "Conditional":
            self.conditional(op, level)
        elif kind == "Barrier":
            self.out.append(Operation("barrier", (), tuple(self.touch(op.wires))))
        elif kind != "Snapshot":
            self.gate(op, level)

    def gate(self, op: Any, level: int) -> None:
        wires = self.touch(op.wires)
        steps = self.steps(op, wires)
        if steps is not None:
            for step in steps:
                if step.name == "gphase":
                    self.phase = total(self.phase, step.params[0])
                else:
                    self.out.append(step)
            return
        if isinstance(op, self.qml.operation.Channel):
            raise unsupported(
                f"the channel {op.name}", op, "give the noise to the device, not to the circuit"
            )
        start = len(self.out)
        self.written(op, wires, level)
        matrix = self.hold(op, wires, self.out[start:])
        if level == 0:
            self.matrix = matrix

    def hold(self, op: Any, wires: list[int], steps: Sequence[Operation]) -> Any:
        """Hold a custom operation to the steps it was read as: devices take its matrix or name.

        Returns:
            The matrix it was compared with; None where it has none, or is a device plugin's own.
        """
        kind = type(op)
        if not _custom(op):
            return None
        others = [base for base in kind.__mro__[1:] if base in self.rules]
        others += [k for k in self.rules if k.__name__ == op.name and k not in others]
        batch = op.batch_size
        whole = self.whole(op, len(wires)) if op.has_matrix else None
        for row in range(batch) if batch else [0]:
            at = {n: float(v[row]) for n, v in self.arrays.items()}
            numbers = [float(self.plain(p).ravel()[row if self.plain(p).ndim else 0])
                       for p in op.data] if others else []  # fmt: skip
            if whole is not None:
                agree(op.name, steps, wires[::-1], whole[row] if batch else whole, at)
            for base in others:
                named = self.rules[base](list(numbers), wires, op) or []
                agree(op.name, steps, wires[::-1], matrix_of(op.name, named, wires[::-1]), at)
        root = kind.__module__.partition(".")[0]
        return None if root.startswith("pennylane_") and of_sdk(kind, root) else whole

    def whole(self, op: Any, width: int) -> Any:
        if width > FACE_QUBITS:
            raise disagree(op.name, f"{width} qubits")
        try:
            return self.qml.math.toarray(self.qml.math.detach(op.matrix(op.wires)))
        except Exception as error:
            raise disagree(op.name, f"{type(error).__name__}: {error}") from error

    def written(self, op: Any, wires: list[int], level: int) -> None:
        """Append what an operation decomposes into, or its matrix."""
        if op.has_decomposition:
            for part in op.decomposition():
                self.operation(part, level + 1)
            return
        small = op.has_matrix and len(wires) <= _MATRIX_QUBITS
        matrix = self.qml.math.toarray(self.qml.math.detach(op.matrix())) if small else None
        if matrix is None or matrix.ndim != 2:
            raise unsupported(f"the operation {op.name}", op, "write it out in known gates")
        self.out.append(from_matrix(matrix, wires))

    def steps(self, op: Any, wires: list[int]) -> list[Operation] | None:
        """Return an operation in gates of the vocabulary, or None when it has to be written out."""
        kind = type(op)
        refuse_patched(op)
        if kind.__name__ == "VocabularyGate" and kind is vocabulary_gate():
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
            return None if body is None else _inverse(body)
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

    def conditional(self, op: Any, level: int) -> None:
        outer, self.out = self.out, []
        phase = self.phase
        self.operation(op.base, level + 1)
        body, self.out, self.phase = self.out, outer, phase
        value = op.meas_val
        try:
            bits = [self.mid_circuit[m] for m in value.measurements]
        except KeyError as error:
            raise unsupported("a condition on a later measurement", op, "measure first") from error
        # PennyLane orders measurements by ids drawn at random; here they are in the order of bits.
        holds = sorted(
            sorted(zip(bits, outcome, strict=True)) for outcome, result in value.items() if result
        )
        terms: Any = None
        for outcome in holds:
            term: Any = None
            for bit, wanted in outcome:
                one = ["bit", bit] if wanted else ["!", ["bit", bit]]
                term = one if term is None else ["&&", term, one]
            terms = term if terms is None else ["||", terms, term]
        if terms is None:
            return  # it never holds
        wires = tuple(dict.fromkeys(q for step in body for q in step.qubits))
        self.out.append(
            Operation("if_else", (), wires, tuple(sorted(bits)), Control(terms, (tuple(body),)))
        )


def _custom(op: Any) -> bool:
    """Whether an operation is, or is made from, one that is none of PennyLane's."""
    inner = (getattr(op, "base", None), *getattr(op, "operands", ()))
    return not of_sdk(type(op), "pennylane") or any(_custom(i) for i in inner if i is not None)


def refuse_patched(op: Any) -> None:
    """Refuse an operation with methods of its own over those of its class."""
    method = patched(op, _METHODS)
    if method is not None:
        raise disagree(op.name, f"{method} of its own")


def _inverse(steps: Sequence[Operation]) -> list[Operation] | None:
    """Return the steps backwards, each inverted, or None where one has no inverse by name."""
    pairs = {"s": "sdg", "t": "tdg", "sx": "sxdg", "cs": "csdg"}
    pairs |= {b: a for a, b in pairs.items()}
    same = {"id", "x", "y", "z", "h", "cx", "cy", "cz", "ch", "swap", "ccx", "ccz", "cswap", "c3x",
            "c4x"}  # fmt: skip
    turned = {"p", "u1", "rx", "ry", "rz", "cp", "crx", "cry", "crz", "rxx", "ryy", "rzz", "gphase"}
    out: list[Operation] = []
    for op in reversed(steps):
        if op.name in turned:
            out.append(Operation(op.name, (scaled(op.params[0], -1.0),), op.qubits))
        elif op.name in pairs or op.name in same:
            out.append(Operation(pairs.get(op.name, op.name), (), op.qubits))
        else:
            return None
    return out


Rule = Callable[[list[Param], list[int], Any], "list[Operation] | None"]
#: PennyLane's class -> canonical name, where parameters and wires are the same.
NAMES: Mapping[str, str] = {
    "PauliX": "x", "PauliY": "y", "PauliZ": "z", "Hadamard": "h", "S": "s", "T": "t", "SX": "sx",
    "RX": "rx", "RY": "ry", "RZ": "rz", "PhaseShift": "p", "U1": "u1", "U2": "u2", "U3": "u3",
    "CNOT": "cx", "CY": "cy", "CZ": "cz", "CH": "ch", "SWAP": "swap", "ISWAP": "iswap",
    "CSWAP": "cswap", "Toffoli": "ccx", "CCZ": "ccz", "CRX": "crx", "CRY": "cry", "CRZ": "crz",
    "ControlledPhaseShift": "cp", "IsingXX": "rxx", "IsingYY": "ryy", "IsingZZ": "rzz",
}  # fmt: skip


def _rules(module: Any) -> dict[type, Rule]:
    """Return the rule of each class. A subclass has none: it may be another gate."""

    def named(name: str) -> Rule:
        return lambda params, wires, _op: steps_of((name, params, wires))

    def parity(params: list[Param], wires: list[int], _op: Any) -> list[Operation] | None:
        name = {1: "rz", 2: "rzz"}.get(len(wires))
        return None if name is None else steps_of((name, params, wires))

    rules = {getattr(module, kind): named(name) for kind, name in NAMES.items()}
    rules |= {
        module.Identity: lambda _p, wires, _op: steps_of(*(("id", (), (w,)) for w in wires)),
        module.MultiRZ: parity,
        module.Rot: lambda p, w, _op: steps_of(
            ("rz", p[:1], w), ("ry", p[1:2], w), ("rz", p[2:], w)
        ),
        module.IsingXY: lambda p, w, _op: steps_of(("xx_plus_yy", (scaled(p[0], -1.0), 0.0), w)),
        module.GlobalPhase: lambda p, _w, _op: steps_of(("gphase", (scaled(p[0], -1.0),), ())),
    }
    return rules


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
