"""Twelve circuit families as lists of (gate, angles, qubits), and how each SDK writes them."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Step = tuple[str, tuple[Any, ...], tuple[int, ...]]


def _s(name: str, *qubits: int, a: Sequence[Any] = ()) -> Step:
    return (name, tuple(a), qubits)


def _qft(n: int) -> list[Step]:
    steps = []
    for j in reversed(range(n)):
        steps.append(_s("h", j))
        steps += [_s("cp", k, j, a=[math.pi / 2 ** (j - k)]) for k in reversed(range(j))]
    return steps + [_s("swap", i, n - 1 - i) for i in range(n // 2)]


def _ansatz(n: int, layers: int, angles: Callable[[int], Any]) -> list[Step]:
    steps, used = [], 0
    for _ in range(layers):
        for q in range(n):
            steps += [_s("ry", q, a=[angles(used)]), _s("rz", q, a=[angles(used + 1)])]
            used += 2
        steps += [_s("cx", q, q + 1) for q in range(n - 1)]
    return steps


def _clifford(n: int, size: int, seed: int) -> list[Step]:
    rng = np.random.default_rng(seed)
    one, two = ("h", "s", "sdg", "x", "y", "z", "sx"), ("cx", "cz", "cy", "swap")
    steps = []
    for _ in range(size):
        if rng.random() < 0.5:
            steps.append(_s(str(rng.choice(one)), int(rng.integers(n))))
        else:
            steps.append(_s(str(rng.choice(two)), *(int(q) for q in rng.permutation(n)[:2])))
    return [*steps, *(_s("h", q) for q in range(n))]


def _drawn(seed: int) -> Callable[[int], float]:
    angles = np.random.default_rng(seed).uniform(-3, 3, 64)
    return lambda i: float(angles[i])


FAMILIES: dict[str, tuple[int, list[Step]]] = {
    "ghz": (4, [_s("h", 0), *(_s("cx", q, q + 1) for q in range(3))]),
    "w": (3, [
        _s("ry", 0, a=[2 * math.acos(1 / math.sqrt(3))]), _s("cry", 0, 1, a=[math.pi / 2]),
        _s("cx", 1, 2), _s("cx", 0, 1), _s("x", 0)]),
    "qft": (4, _qft(4)),
    "vqe": (4, _ansatz(4, 2, _drawn(1))),
    "qaoa": (4, [
        *(_s("h", q) for q in range(4)),
        *(_s("rzz", q, (q + 1) % 4, a=[0.7]) for q in range(4)),
        *(_s("rx", q, a=[1.1]) for q in range(4))]),
    "clifford": (5, _clifford(5, 40, 2)),
    "clifford-t": (3, [
        _s("h", 0), _s("t", 0), _s("cx", 0, 1), _s("tdg", 1), _s("h", 2), _s("t", 2),
        _s("cx", 1, 2), _s("sx", 1)]),
    "grover": (3, [
        *(_s("h", q) for q in range(3)), _s("h", 2), _s("ccx", 0, 1, 2), _s("h", 2),
        *(_s("h", q) for q in range(3)), *(_s("x", q) for q in range(3)), _s("h", 2),
        _s("ccx", 0, 1, 2), _s("h", 2), *(_s("x", q) for q in range(3)),
        *(_s("h", q) for q in range(3))]),
    "trotter": (4, [
        step for q in range(3) for step in (
            _s("rxx", q, q + 1, a=[0.31]), _s("ryy", q, q + 1, a=[0.47]),
            _s("rzz", q, q + 1, a=[0.59]))]),
    "phase-estimation": (4, [
        *(_s("h", q) for q in range(3)), _s("x", 3),
        *(_s("cp", q, 3, a=[2 * math.pi * 0.3 * 2**q]) for q in range(3)),
        *((n, tuple(-x for x in a), q) for n, a, q in reversed(_qft(3)))]),
    "fredkin": (3, [
        _s("h", 0), _s("x", 1), _s("cswap", 0, 1, 2), _s("h", 0), _s("iswap", 1, 2),
        _s("p", 0, a=[0.3])]),
    "adder": (4, [
        _s("x", 0), _s("h", 1), _s("ccx", 0, 1, 3), _s("cx", 0, 1), _s("ccx", 1, 2, 3),
        _s("cx", 1, 2), _s("cx", 0, 1)]),
}  # fmt: skip
#: A template: its angles are names.
TEMPLATE: tuple[int, list[Step]] = (3, _ansatz(3, 1, lambda i: f"t{i}"))


def qiskit_circuit(n: int, steps: Sequence[Step], *, measured: bool = False) -> Any:
    from qiskit import ClassicalRegister, QuantumCircuit
    from qiskit.circuit import Parameter

    circuit = QuantumCircuit(n)
    for name, angles, qubits in steps:
        values = [Parameter(a) if isinstance(a, str) else a for a in angles]
        getattr(circuit, name)(*values, *qubits)
    if measured:  # not measure_all(): that is a barrier, too
        circuit.add_register(ClassicalRegister(n, "meas"))
        circuit.measure(range(n), range(n))
    return circuit


def cirq_circuit(n: int, steps: Sequence[Step], *, measured: bool = False) -> Any:
    import cirq
    import sympy

    def pair(kind: Any) -> Callable[[float], Any]:
        return lambda t: kind(exponent=t / math.pi, global_shift=-0.5)

    gates: dict[str, Any] = {
        "h": cirq.H, "x": cirq.X, "y": cirq.Y, "z": cirq.Z, "s": cirq.S, "sdg": cirq.S**-1,
        "t": cirq.T, "tdg": cirq.T**-1, "sx": cirq.X**0.5, "cx": cirq.CNOT, "cz": cirq.CZ,
        "cy": cirq.Y.controlled(), "swap": cirq.SWAP, "iswap": cirq.ISWAP, "ccx": cirq.TOFFOLI,
        "cswap": cirq.FREDKIN, "rx": cirq.rx, "ry": cirq.ry, "rz": cirq.rz,
        "p": lambda t: cirq.Z ** (t / math.pi), "cp": lambda t: cirq.CZ ** (t / math.pi),
        "cry": lambda t: cirq.ry(t).controlled(), "rxx": pair(cirq.XXPowGate),
        "ryy": pair(cirq.YYPowGate), "rzz": pair(cirq.ZZPowGate),
    }  # fmt: skip
    wires = cirq.LineQubit.range(n)
    circuit = cirq.Circuit()
    for name, angles, qubits in steps:
        values = [sympy.Symbol(a) if isinstance(a, str) else a for a in angles]
        gate = gates[name](*values) if values else gates[name]
        circuit.append(gate(*(wires[q] for q in qubits)))
    if measured:
        circuit.append(cirq.measure(*wires, key="meas"))
    return circuit


def pennylane_tape(n: int, steps: Sequence[Step], *, measured: bool = False) -> Any:
    import pennylane as qml

    gates: dict[str, Any] = {
        "h": qml.Hadamard, "x": qml.PauliX, "y": qml.PauliY, "z": qml.PauliZ, "s": qml.S,
        "t": qml.T, "sx": qml.SX, "cx": qml.CNOT, "cz": qml.CZ, "cy": qml.CY, "swap": qml.SWAP,
        "iswap": qml.ISWAP, "ccx": qml.Toffoli, "cswap": qml.CSWAP, "rx": qml.RX, "ry": qml.RY,
        "rz": qml.RZ, "p": qml.PhaseShift, "cp": qml.ControlledPhaseShift, "cry": qml.CRY,
        "rxx": qml.IsingXX, "ryy": qml.IsingYY, "rzz": qml.IsingZZ,
        "sdg": lambda wires: qml.adjoint(qml.S(wires)),
        "tdg": lambda wires: qml.adjoint(qml.T(wires)),
    }  # fmt: skip
    ops = [gates[name](*angles, wires=list(qubits)) for name, angles, qubits in steps]
    return qml.tape.QuantumScript(ops, [qml.counts(wires=range(n))] if measured else [])


def braket_circuit(n: int, steps: Sequence[Step], *, measured: bool = False) -> Any:
    from braket.circuits import Circuit, FreeParameter

    names = {
        "cx": "cnot", "sdg": "si", "tdg": "ti", "sx": "v", "ccx": "ccnot", "p": "phaseshift",
        "cp": "cphaseshift", "rxx": "xx", "ryy": "yy", "rzz": "zz",
    }  # fmt: skip
    circuit = Circuit()
    for name, angles, qubits in steps:
        values = [FreeParameter(a) if isinstance(a, str) else a for a in angles]
        if name == "cry":
            circuit.ry(qubits[1], *values, control=qubits[0])
        else:
            getattr(circuit, names.get(name, name))(*qubits, *values)
    return circuit.measure(range(n)) if measured else circuit
