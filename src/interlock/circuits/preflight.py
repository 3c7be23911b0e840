"""The rules: every reason a device would refuse a circuit or return something meaningless.

One place for both the `target` control and `interlock check`. A problem is counted once a rule and
operation, at the first instruction that has it.
"""

from __future__ import annotations

from interlock.circuits.canonical import Circuit, Operation
from interlock.circuits.expression import symbols
from interlock.circuits.gates import CONTROL_FLOW
from interlock.circuits.preflight_measurements import flat, inspect_measurements
from interlock.circuits.problems import RULES, Key, Kind, Problem, Severity, Sink
from interlock.circuits.target import Target

__all__ = ["RULES", "Kind", "Problem", "Severity", "inspect"]


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
    sink = Sink()
    _width(circuit, target, kind, sink)
    _phase(circuit, sink)
    _operations(circuit, target, sink)
    inspect_measurements(circuit, target, kind, sink)
    return sink.problems()


def _width(circuit: Circuit, target: Target, kind: Kind, sink: Sink) -> None:
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
        number = next((n for n, op in flat(circuit) if highest in op.qubits), 0)
        sink.add(
            "width", "", "the circuit needs more qubits than the device has",
            got=f"{circuit.num_qubits} qubits", expected=f"at most {target.num_qubits}",
            fix=f"use fewer qubits, or a device wider than {target.name}",
            at=(number, circuit.operations[number]),
        )  # fmt: skip


def _phase(circuit: Circuit, sink: Sink) -> None:
    phase = circuit.global_phase
    if isinstance(phase, str) and not symbols(phase):
        sink.add(
            "not-finite", "global phase", "the global phase is not a finite number",
            got=phase, expected="a finite number",
            fix="look for a division by zero or a diverged optimiser",
        )  # fmt: skip


def _operations(circuit: Circuit, target: Target, sink: Sink) -> None:
    loops = {op.control.symbol for op in circuit.walk() if op.control and op.control.symbol}
    last_barrier: tuple[int, ...] | None = None
    said: dict[tuple[str, tuple[int, ...]], Key | None] = {}
    for number, op in flat(circuit):
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


def _supported(op: Operation, target: Target, at: tuple[int, Operation], sink: Sink) -> Key | None:
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


def _parameters(op: Operation, at: tuple[int, Operation], loops: set[str], sink: Sink) -> None:
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


def _unitary(op: Operation, at: tuple[int, Operation], sink: Sink) -> None:
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
