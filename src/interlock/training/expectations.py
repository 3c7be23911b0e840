"""Expectation values of a template on a device of any SDK, guarded or not."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec
import numpy as np

from interlock.circuits.canonical import Circuit, Operation, Register
from interlock.errors import InputError

__all__ = ["Terms", "expectations", "parse_observable"]

#: A product of Paulis: qubit -> X, Y or Z.
Terms: TypeAlias = dict[int, str]

_ROTATIONS = {"X": ("h",), "Y": ("sdg", "h"), "Z": ()}


def parse_observable(text: str, num_qubits: int) -> Terms:
    """Read a product of Paulis.

    Raises:
        InputError: code `layer-circuit`.

    Example:
        >>> parse_observable("X0 Z2", 3)
        {0: 'X', 2: 'Z'}
    """
    found = [re.fullmatch(r"([XYZ])(\d+)", part) for part in text.split()]
    terms = {int(m[2]): m[1] for m in found if m is not None}
    if not found or len(terms) != len(found) or max(terms, default=0) >= num_qubits:
        raise InputError(
            "this is no observable of the circuit",
            code="layer-circuit",
            got=repr(text),
            expected=f"Paulis with qubit numbers below {num_qubits}, such as 'Z0' or 'X0 Y1'",
            fix="write each Pauli with its qubit, once",
        )
    return terms


def expectations(
    device: Any,
    circuit: Circuit,
    names: Sequence[str],
    rows: Any,
    observables: Sequence[Terms],
    shots: int,
) -> tuple[Any, list[dict[str, Any]]]:
    """Return the values, (rows, observables), and the receipts of the jobs if it is guarded.

    Args:
        device: a Qiskit estimator, a Cirq sampler, a PennyLane device or a Braket device.
        circuit: the template, without measurements.
        names: of the columns of `rows`.
        rows: parameter sets, shape (rows, names).
        observables: products of Paulis.
        shots: for each row and group of observables; 0 for exact values.

    Raises:
        InputError: the device is of another kind, or does not give exact values.
    """
    ways = {
        "qiskit": _on_qiskit, "cirq": _on_cirq, "pennylane": _on_pennylane, "braket": _on_braket,
    }  # fmt: skip
    for cls in type(device).__mro__:
        root = cls.__module__.split(".")[0]
        if root in ways:
            values, receipts = ways[root](device, circuit, names, rows, observables, shots)
            return np.array(values, float), [r for r in receipts if r is not None]
    raise InputError(
        "a layer cannot run on this",
        code="guard-unknown-object",
        got=type(device).__qualname__,
        expected="a Qiskit estimator, a Cirq sampler, a PennyLane device or a Braket device",
        fix="pass the object that runs circuits",
    )


def _on_qiskit(
    estimator: Any, circuit: Circuit, names: Any, rows: Any, observables: Any, shots: int
) -> Any:
    from qiskit.quantum_info import SparsePauliOp

    from interlock.circuits.qiskit_adapter import to_qiskit

    operators = [
        [SparsePauliOp.from_sparse_list(
            [("".join(terms.values()), list(terms), 1.0)], num_qubits=circuit.num_qubits)]
        for terms in observables
    ]  # fmt: skip
    native = to_qiskit(circuit)
    values = {tuple(names): rows} if len(names) else None
    pub = (native, operators, values)
    precision = shots**-0.5 if shots else None
    result = estimator.run([pub], precision=precision).result()
    found = np.broadcast_to(result[0].data.evs, (len(observables), len(rows)))
    return found.T, [result.metadata.get("interlock")]


def _groups(observables: Sequence[Terms]) -> list[tuple[Terms, list[int]]]:
    """Return bases in which several observables can be measured at once, and which they are."""
    groups: list[tuple[Terms, list[int]]] = []
    for index, terms in enumerate(observables):
        for basis, members in groups:
            if all(basis.get(q, p) == p for q, p in terms.items()):
                basis.update(terms)
                members.append(index)
                break
        else:
            groups.append((dict(terms), [index]))
    return groups


def _measured(circuit: Circuit, basis: Terms) -> Circuit:
    """Return the circuit with all its qubits measured, those of the basis after rotation."""
    steps = [Operation(n, (), (q,)) for q, p in basis.items() for n in _ROTATIONS[p]]
    width = circuit.num_qubits
    steps += [Operation("measure", (), (q,), (q,)) for q in range(width)]
    return msgspec.structs.replace(
        circuit,
        num_clbits=width,
        operations=(*circuit.operations, *steps),
        registers=(Register("m", tuple(range(width))),),
    )


def _parity(bits: Any, terms: Terms) -> float:
    """Return the mean of the product of the signs, of bits of shape (shots, qubits)."""
    return float(1 - 2 * (np.asarray(bits)[:, list(terms)].sum(axis=1) % 2).mean())


def _needs_shots(shots: int, what: str) -> None:
    if not shots:
        raise InputError(
            f"{what} gives no exact values",
            code="job-shots",
            got="shots=0",
            expected="shots >= 1",
            fix="pass DeviceLayer(..., shots=1000)",
        )


def _on_cirq(
    sampler: Any, circuit: Circuit, names: Any, rows: Any, observables: Any, shots: int
) -> Any:
    from interlock.circuits.cirq_adapter import to_cirq

    _needs_shots(shots, "a sampler")
    groups = _groups(observables)
    sweep = [dict(zip(names, map(float, row), strict=True)) for row in rows]
    made = [to_cirq(_measured(circuit, basis)) for basis, _ in groups]
    results = sampler.run_batch(made, [sweep] * len(made), shots)
    out = np.zeros((len(rows), len(observables)))
    for (_, members), of_rows in zip(groups, results, strict=True):
        for number, result in enumerate(of_rows):
            for index in members:
                out[number, index] = _parity(result.measurements["m"], observables[index])
    return out, [getattr(results[0][0], "interlock", None)]


def _on_braket(
    device: Any, circuit: Circuit, names: Any, rows: Any, observables: Any, shots: int
) -> Any:
    from interlock.circuits.braket_adapter import to_braket

    _needs_shots(shots, "this way of measuring")
    groups = _groups(observables)
    inputs = [dict(zip(names, map(float, row), strict=True)) for row in rows]
    circuits = [to_braket(_measured(circuit, basis)) for basis, _ in groups for _ in rows]
    results = device.run_batch(circuits, shots=shots, inputs=inputs * len(groups)).results()
    out = np.zeros((len(rows), len(observables)))
    for position, result in enumerate(results):
        group, number = divmod(position, len(rows))
        for index in groups[group][1]:
            out[number, index] = _parity(result.measurements, observables[index])
    return out, [getattr(results[0], "interlock", None)]


def _on_pennylane(
    device: Any, circuit: Circuit, names: Any, rows: Any, observables: Any, shots: int
) -> Any:
    import pennylane as qml

    from interlock.circuits.pennylane_adapter import to_pennylane

    paulis = {"X": qml.PauliX, "Y": qml.PauliY, "Z": qml.PauliZ}
    values = {n: rows[:, i] for i, n in enumerate(names)}
    with qml.QueuingManager.stop_recording():
        tape = to_pennylane(circuit, values)
        processes = [
            qml.expval(qml.prod(*(paulis[p](q) for q, p in terms.items()))) for terms in observables
        ]
        script = qml.tape.QuantumScript(tape.operations, processes, shots=shots or None)
    before = device.receipts.total if hasattr(device, "receipts") else 0
    (found,) = qml.execute([script], device, diff_method=None)
    columns = found if isinstance(found, tuple) else (found,)
    out = np.stack([np.broadcast_to(np.asarray(c), (len(rows),)) for c in columns], axis=-1)
    return out, list(device.receipts.since(before)) if hasattr(device, "receipts") else []
