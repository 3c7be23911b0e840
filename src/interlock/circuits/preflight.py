"""The rules: every reason a device would refuse a circuit or return something meaningless.

One place for both the `target` control and `interlock check`. A problem is counted once a rule and
operation, at the first instruction that has it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

import msgspec

from interlock.circuits.canonical import Circuit, Operation
from interlock.circuits.expression import symbols
from interlock.circuits.gates import CONTROL_FLOW, GATES
from interlock.circuits.levels import rounds_of
from interlock.circuits.target import Target

__all__ = ["RULES", "Kind", "Problem", "Severity", "inspect"]

Severity: TypeAlias = Literal["error", "warning", "note"]
Kind: TypeAlias = Literal["sample", "estimate", "run"]

#: Rule -> severity by default. An error is what a device refuses or what cannot mean anything.
RULES: Final = MappingProxyType(
    {
        "width": "error",
        "gate": "error",
        "edge": "error",
        "direction": "error",
        "faulty-qubit": "error",
        "faulty-edge": "error",
        "unbound": "error",
        "not-finite": "error",
        "empty": "error",
        "no-measurement": "error",
        "measurement-in-estimate": "warning",
        "overwritten": "error",
        "unread-bit": "warning",
        "register-width": "warning",
        "mid-circuit": "error",
        "reuse": "warning",
        "dead-qubit": "warning",
        "unbounded-loop": "error",
        "condition-unset": "error",
        "delay-negative": "error",
        "not-unitary": "error",
        "repeated-barrier": "note",
    }
)


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One thing wrong with a circuit.

    Attributes:
        rule: key of `RULES`.
        message: what is wrong.
        got: what was found.
        expected: what would have been right.
        fix: what to do next.
        instruction: number of the first instruction that has it, or None for the whole circuit.
        text: that instruction.
        count: instructions that have it.
    """

    rule: str
    message: str
    got: str
    expected: str
    fix: str
    instruction: int | None = None
    text: str = ""
    count: int = 1

    @property
    def location(self) -> str | None:
        """Where, for a person."""
        if self.instruction is None:
            return None
        return f"instruction {self.instruction}: {self.text}"


_Key: TypeAlias = tuple[str, str]


class _Sink:
    """Collects problems, one a (rule, subject)."""

    def __init__(self) -> None:
        self.found: dict[_Key, Problem] = {}
        self.counts: dict[_Key, int] = {}

    def add(
        self,
        rule: str,
        subject: str,
        message: str,
        *,
        got: str,
        expected: str,
        fix: str,
        at: tuple[int, Operation] | None = None,
    ) -> _Key:
        """Keep the first problem of a rule and a subject, and count the others."""
        key = (rule, subject)
        if key in self.found:
            self.counts[key] += 1
            return key
        self.counts[key] = 1
        self.found[key] = Problem(
            rule=rule,
            message=message,
            got=got,
            expected=expected,
            fix=fix,
            instruction=at[0] if at else None,
            text=str(at[1]) if at else "",
        )
        return key

    def problems(self) -> tuple[Problem, ...]:
        return tuple(
            msgspec.structs.replace(p, count=self.counts[key]) for key, p in self.found.items()
        )


def inspect(circuit: Circuit, target: Target, *, kind: Kind = "sample") -> tuple[Problem, ...]:
    """Return what is wrong with running a circuit on a target.

    Args:
        circuit: with its parameters bound, or a template whose values are checked elsewhere by
            binding one set (see `interlock.guard.verify.target`).
        target: the device.
        kind: `sample` needs a measurement, `estimate` must have none.

    Example:
        >>> from interlock.circuits.canonical import Circuit, Operation
        >>> wide = Circuit(num_qubits=9, operations=(Operation("h", (), (8,)),))
        >>> [p.rule for p in inspect(wide, Target(name="tiny", num_qubits=5))]
        ['width', 'no-measurement']
    """
    sink = _Sink()
    _width(circuit, target, kind, sink)
    _phase(circuit, sink)
    _operations(circuit, target, sink)
    _measurements(circuit, target, kind, sink)
    return sink.problems()


def _flat(circuit: Circuit) -> Iterator[tuple[int, Operation]]:
    """Yield every operation with the number of the top-level instruction that holds it."""
    for number, op in enumerate(circuit.operations):
        yield number, op
        if op.control is not None:
            inner = Circuit(
                num_qubits=circuit.num_qubits,
                num_clbits=circuit.num_clbits,
                operations=tuple(o for block in op.control.blocks for o in block),
            )
            for nested in inner.walk():
                yield number, nested


def _width(circuit: Circuit, target: Target, kind: Kind, sink: _Sink) -> None:
    used = circuit.used_qubits
    if not used:
        if kind == "estimate":
            return
        sink.add(
            "empty", "", "the circuit does nothing",
            got="no operation on any qubit", expected="at least one operation",
            fix="check that the right circuit was sent",
        )  # fmt: skip
        return
    highest = max(used)
    if target.num_qubits is not None and max(circuit.num_qubits, highest + 1) > target.num_qubits:
        number = next((n for n, op in _flat(circuit) if highest in op.qubits), 0)
        sink.add(
            "width", "", "the circuit needs more qubits than the device has",
            got=f"{circuit.num_qubits} qubits", expected=f"at most {target.num_qubits}",
            fix=f"use fewer qubits, or a device wider than {target.name}",
            at=(number, circuit.operations[number]),
        )  # fmt: skip


def _phase(circuit: Circuit, sink: _Sink) -> None:
    phase = circuit.global_phase
    if isinstance(phase, str) and not symbols(phase):
        sink.add(
            "not-finite", "global phase", "the global phase is not a finite number",
            got=phase, expected="a finite number",
            fix="look for a division by zero or a diverged optimiser",
        )  # fmt: skip


def _operations(circuit: Circuit, target: Target, sink: _Sink) -> None:
    loops = {op.control.symbol for op in circuit.walk() if op.control and op.control.symbol}
    last_barrier: tuple[int, ...] | None = None
    said: dict[tuple[str, tuple[int, ...]], _Key | None] = {}
    for number, op in _flat(circuit):
        at = (number, op)
        name = op.name
        if name == "barrier":
            if last_barrier == op.qubits:
                sink.add(
                    "repeated-barrier", "", "a barrier directly follows the same barrier",
                    got=str(op), expected="one barrier", fix="remove the second", at=at,
                )  # fmt: skip
            last_barrier = op.qubits
            continue
        last_barrier = None
        if op.params:
            _parameters(op, at, loops, sink)
        if name == "while_loop":
            sink.add(
                "unbounded-loop", "", "a loop may never end",
                got="while_loop", expected="a loop with a fixed number of rounds",
                fix="use a for loop with a break, so that the cost is bounded", at=at,
            )  # fmt: skip
        if name == "unitary":
            _unitary(op, at, sink)
        key = (name, op.qubits)
        if key not in said:
            said[key] = _supported(op, target, at, sink)
        elif (same := said[key]) is not None:
            sink.counts[same] += 1


def _supported(
    op: Operation, target: Target, at: tuple[int, Operation], sink: _Sink
) -> _Key | None:
    """Check one operation against the device; return what was said of it."""
    name, qubits = op.name, op.qubits
    bad = [q for q in qubits if q in target.faulty_qubits]
    if bad:
        return sink.add(
            "faulty-qubit", str(bad[0]), "a qubit is reported out of order",
            got=f"qubit {bad[0]}", expected="a working qubit",
            fix="transpile again with the current target; it avoids faulty qubits", at=at,
        )  # fmt: skip
    if len(qubits) == 2 and qubits in target.faulty_edges:
        return sink.add(
            "faulty-edge", str(sorted(qubits)), "a coupling is reported out of order",
            got=f"{name} on {qubits}", expected="a working coupling",
            fix="transpile again with the current target; it avoids faulty couplings", at=at,
        )  # fmt: skip
    if name in ("break_loop", "continue_loop", "box"):
        return None
    places = target.places(name)
    if places is None or qubits in places:
        return None
    if not places:
        known = ", ".join(sorted(n for n in target.gates or () if n not in CONTROL_FLOW))
        what = "control flow" if name in CONTROL_FLOW else "operation"
        return sink.add(
            "gate", name, f"the device has no such {what}",
            got=name, expected=known,
            fix=f"transpile for {target.name}: transpile(circuit, backend)", at=at,
        )  # fmt: skip
    if target.num_qubits is not None and any(q >= target.num_qubits for q in qubits):
        return None
    if len(qubits) == 2 and qubits[::-1] in places:
        return sink.add(
            "direction", name, "the device has this gate in the other direction only",
            got=f"{name} on {qubits}", expected=f"{name} on {qubits[::-1]}",
            fix=f"transpile for {target.name}, which turns it round", at=at,
        )  # fmt: skip
    near = sorted(p for p in places if set(p) & set(qubits))[:4]
    return sink.add(
        "edge" if len(qubits) > 1 else "gate", name,
        "the device does not couple these qubits" if len(qubits) > 1
        else "the device has no such operation on this qubit",
        got=f"{name} on {qubits}",
        expected="one of " + (", ".join(map(str, near)) or "the calibrated places"),
        fix=f"transpile for {target.name}, which routes through neighbours", at=at,
    )  # fmt: skip


def _parameters(op: Operation, at: tuple[int, Operation], loops: set[str], sink: _Sink) -> None:
    for param in op.params:
        if not isinstance(param, str):
            if op.name.startswith("delay") and param < 0:
                sink.add(
                    "delay-negative", "", "a delay is negative",
                    got=str(param), expected="0 or more", fix="mend the delay", at=at,
                )  # fmt: skip
            continue
        free = symbols(param)
        if not free:
            sink.add(
                "not-finite", op.name, "a parameter is not a finite number",
                got=param, expected="a finite number",
                fix="look for a division by zero or a diverged optimiser", at=at,
            )  # fmt: skip
        elif free - loops:
            sink.add(
                "unbound", "", "a parameter has no value",
                got=", ".join(sorted(free - loops)), expected="a number for each parameter",
                fix="pass parameter values, or circuit.assign_parameters(...)", at=at,
            )  # fmt: skip


def _unitary(op: Operation, at: tuple[int, Operation], sink: _Sink) -> None:
    numbers = [p for p in op.params if not isinstance(p, str)]
    if len(numbers) != len(op.params):
        return
    size = 2 ** len(op.qubits)
    matrix = [complex(a, b) for a, b in zip(numbers[::2], numbers[1::2], strict=True)]
    rows = [matrix[i * size : (i + 1) * size] for i in range(size)]
    for i in range(size):
        for j in range(i, size):
            product = sum(a * b.conjugate() for a, b in zip(rows[i], rows[j], strict=True))
            if abs(product - (i == j)) > 1e-6:
                sink.add(
                    "not-unitary", "", "a matrix is not unitary",
                    got=f"row {i} times row {j} is {product:.3g}", expected="0 or 1",
                    fix="normalise the matrix", at=at,
                )  # fmt: skip
                return


def _measurements(circuit: Circuit, target: Target, kind: Kind, sink: _Sink) -> None:
    measured = circuit.measured
    if kind == "estimate":
        if measured:
            number = next(n for n, op in _flat(circuit) if op.name == "measure")
            sink.add(
                "measurement-in-estimate", "", "a circuit for an estimate measures by itself",
                got=f"{len(measured)} measurements", expected="none: the estimator adds its own",
                fix="circuit.remove_final_measurements()",
                at=(number, circuit.operations[number]),
            )  # fmt: skip
        return
    if not measured and circuit.operations:
        sink.add(
            "no-measurement", "", "nothing is measured",
            got="no measurement", expected="at least one", fix="circuit.measure_all()",
        )  # fmt: skip
        return
    _order(circuit.operations, target, sink)
    missing = sorted(
        (register.name, len(set(register.clbits) - circuit.measured_clbits), len(register.clbits))
        for register in circuit.registers
        if set(register.clbits) - circuit.measured_clbits
    )
    for name, absent, width in missing:
        rule = "unread-bit" if absent == width else "register-width"
        sink.add(
            rule, name, "classical bits are never written, so they always read 0",
            got=f"{absent} of {width} bits of register {name}", expected="every bit measured",
            fix=f"measure into them, or make register {name} {width - absent} wide",
        )  # fmt: skip
    seen = {q for q, _ in measured}
    if kind == "sample" and not any(op.control for op in circuit.operations):
        _dead(circuit, seen, sink)


def _dead(circuit: Circuit, measured: set[int], sink: _Sink) -> None:
    """Warn of qubits that cannot reach any measurement."""
    alive = set(measured)
    for op in reversed(circuit.operations):
        if op.name != "barrier" and alive & set(op.qubits):
            alive |= set(op.qubits)
    dead = sorted(circuit.used_qubits - alive)
    if dead:
        number = next(n for n, op in _flat(circuit) if dead[0] in op.qubits)
        sink.add(
            "dead-qubit", "", "qubits are worked on that no measurement can see",
            got=", ".join(map(str, dead[:8])), expected="every used qubit reaches a measurement",
            fix="measure them, or leave them out", at=(number, circuit.operations[number]),
        )  # fmt: skip


def _order(operations: Sequence[Operation], target: Target, sink: _Sink) -> None:
    """Follow each bit: written twice unread, read before written, worked on after measuring."""
    unread: dict[int, int] = {}
    written: set[int] = set()
    fresh: dict[int, bool] = {}
    measured_at: dict[int, int] = {}
    for number, op in enumerate(operations):
        at = (number, op)
        if op.control is not None:
            for bit in op.clbits:
                unread.pop(bit, None)
            inner = {o.clbits[0] for o in _nested(op) if o.name == "measure"}
            reads = _reads(op.control.condition)
            unset = sorted(reads) if not reads & written else []
            if unset and op.name != "while_loop":
                sink.add(
                    "condition-unset", "", "a condition reads a bit before it is measured",
                    got=f"c[{unset[0]}]", expected="a bit that was measured earlier",
                    fix="measure into it first, or drop the condition", at=at,
                )  # fmt: skip
            lost = _lost_in_rounds(op)
            if lost is not None:
                sink.add(
                    "overwritten", str(lost), "each round of a loop overwrites a measurement",
                    got=f"c[{lost}] written in {rounds_of(op)} rounds and read in none",
                    expected="a bit of its own for each measurement",
                    fix="measure after the loop, or write it out with a bit for each round", at=at,
                )  # fmt: skip
            written |= inner
            for qubit in op.qubits:
                measured_at.pop(qubit, None)
            if not target.mid_circuit:
                _mid(at, target, sink)
            continue
        if op.name == "measure":
            bit, qubit = op.clbits[0], op.qubits[0]
            if bit in unread:
                sink.add(
                    "overwritten", str(bit), "a measurement overwrites another before it is read",
                    got=f"c[{bit}] written by instruction {unread[bit]} and again",
                    expected="a bit of its own for each measurement",
                    fix="add classical bits, so that every measurement has its own", at=at,
                )  # fmt: skip
            unread[bit] = number
            written.add(bit)
            measured_at[qubit] = number
            fresh[qubit] = False
        elif op.name == "reset":
            for qubit in op.qubits:
                measured_at.pop(qubit, None)
        elif op.name in GATES or op.name == "unitary":
            again = [q for q in op.qubits if q in measured_at]
            if again:
                if not target.mid_circuit:
                    _mid(at, target, sink)
                sink.add(
                    "reuse", "", "a measured qubit is used again without a reset",
                    got=f"q[{again[0]}] measured by instruction {measured_at[again[0]]}",
                    expected="a reset in between, or a condition on the outcome",
                    fix=f"reset q[{again[0]}] first, if it should start from 0", at=at,
                )  # fmt: skip
                for qubit in again:
                    measured_at.pop(qubit)


def _lost_in_rounds(op: Operation) -> int | None:
    """Return a bit that every round of a loop writes and nothing in it reads."""
    if op.control is None or op.name != "for_loop" or rounds_of(op) < 2:
        return None
    body = op.control.blocks[0]
    read: set[int] = set()
    for inner in _nested(op):
        if inner.control is not None:
            read |= _reads(inner.control.condition)
    bits = (o.clbits[0] for o in body if o.name == "measure")
    return next((bit for bit in bits if bit not in read), None)


def _mid(at: tuple[int, Operation], target: Target, sink: _Sink) -> None:
    sink.add(
        "mid-circuit", "", "the device cannot go on after a measurement",
        got=str(at[1]), expected="measurements at the end only",
        fix=f"defer the measurements, or use a device other than {target.name}", at=at,
    )  # fmt: skip


def _nested(op: Operation) -> Iterator[Operation]:
    if op.control is not None:
        for block in op.control.blocks:
            for inner in block:
                yield inner
                yield from _nested(inner)


def _reads(condition: object) -> set[int]:
    """Return the bits a condition reads."""
    if not isinstance(condition, list) or not condition:
        return set()
    kind, *rest = condition
    if kind == "bit":
        return {rest[0]}
    if kind == "bits":
        return set(rest[0])
    if kind in ("value", "range", "set"):
        return set()
    return set().union(*[_reads(part) for part in rest])
