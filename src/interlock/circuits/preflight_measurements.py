"""The rules of preflight about measurements: missing, overwritten, unread, out of order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from interlock.circuits.canonical import Circuit, Operation
from interlock.circuits.gates import GATES
from interlock.circuits.levels import rounds_of
from interlock.circuits.problems import Kind, Sink
from interlock.circuits.target import Target

__all__ = ["flat", "inspect_measurements"]


def flat(circuit: Circuit) -> Iterator[tuple[int, Operation]]:
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


def inspect_measurements(circuit: Circuit, target: Target, kind: Kind, sink: Sink) -> None:
    """Find what is wrong with what is measured, when, and into which bits."""
    measured = circuit.measured
    if kind == "estimate":
        if measured:
            number = next(n for n, op in flat(circuit) if op.name == "measure")
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


def _dead(circuit: Circuit, measured: set[int], sink: Sink) -> None:
    """Warn of qubits that cannot reach any measurement."""
    alive = set(measured)
    for op in reversed(circuit.operations):
        if op.name != "barrier" and alive & set(op.qubits):
            alive |= set(op.qubits)
    dead = sorted(circuit.used_qubits - alive)
    if dead:
        number = next(n for n, op in flat(circuit) if dead[0] in op.qubits)
        sink.add(
            "dead-qubit", "", "qubits are worked on that no measurement can see",
            got=", ".join(map(str, dead[:8])), expected="every used qubit reaches a measurement",
            fix="measure them, or leave them out", at=(number, circuit.operations[number]),
        )  # fmt: skip


def _order(operations: Sequence[Operation], target: Target, sink: Sink) -> None:
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


def _mid(at: tuple[int, Operation], target: Target, sink: Sink) -> None:
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
