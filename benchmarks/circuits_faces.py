"""What holding each gate to one meaning costs, on circuits of 10,000 gates of every SDK.

    python benchmarks/circuits_faces.py [gates]      (10000 by default)

CPU time a gate: of standard gates, which are known by their class, and of those whose definition,
matrix or text are compared. For Qiskit also what settling the circuit takes, copy included.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import cirq
import numpy as np
import pennylane as qml
from braket.circuits import Circuit as BraketCircuit
from braket.circuits import Gate as BraketGate
from braket.circuits import Instruction
from pennylane.tape import QuantumScript
from qiskit import QuantumCircuit
from qiskit.circuit import Gate
from qiskit.circuit.library import C3XGate, CXGate, HGate, MCXGate, RXGate

from interlock.circuits.braket_adapter import from_braket
from interlock.circuits.cirq_adapter import from_cirq
from interlock.circuits.pennylane_adapter import from_pennylane
from interlock.circuits.qiskit_adapter import from_qiskit
from interlock.circuits.qiskit_settle import settled

WIDTH = 8


def turn(angle: float) -> Any:
    c, s = math.cos(angle / 2), -1j * math.sin(angle / 2)
    return np.array([[c, s], [s, c]])


class QiskitCustom(Gate):
    def __init__(self, angle: float) -> None:
        super().__init__("mine", 1, [angle])

    def _define(self) -> None:
        self.definition = QuantumCircuit(1)
        self.definition.rx(self.params[0], 0)

    def to_matrix(self) -> Any:
        return turn(float(self.params[0]))


class CirqCustom(cirq.Gate):
    def __init__(self, angle: float) -> None:
        self.angle = angle

    def _num_qubits_(self) -> int:
        return 1

    def _decompose_(self, qubits: Any) -> Iterable[Any]:
        yield cirq.rx(self.angle)(qubits[0])

    def _unitary_(self) -> Any:
        return turn(self.angle)


class PennyLaneCustom(qml.operation.Operation):
    num_wires, num_params, ndim_params = 1, 1, (0,)

    @staticmethod
    def compute_decomposition(angle: Any, wires: Any) -> list[Any]:
        return [qml.RX(angle, wires)]

    @staticmethod
    def compute_matrix(angle: Any) -> Any:
        return qml.RX.compute_matrix(angle)


class BraketCustom(BraketGate):
    def __init__(self, angle: float) -> None:
        super().__init__(qubit_count=1, ascii_symbols=["C"])
        self.angle = angle

    def to_matrix(self, *_arguments: Any, **_options: Any) -> Any:
        return turn(self.angle)

    def _to_openqasm(self, target: Any, _properties: Any, **_options: Any) -> str:
        return f"rx({self.angle}) q[{int(target[0])}];"


def show(name: str, gates: int, run: Callable[[], Any]) -> None:
    started = time.process_time()
    run()
    spent = time.process_time() - started
    print(f"  {name:<46} {spent * 1e3:9.1f} ms   {spent / gates * 1e6:7.1f} us a gate", flush=True)


def of_qiskit(make: Callable[[int], Any], gates: int) -> QuantumCircuit:
    out = QuantumCircuit(WIDTH)
    for i in range(gates):
        gate = make(i)
        out.append(gate, [(i + k) % WIDTH for k in range(gate.num_qubits)])
    return out


def main() -> int:
    gates = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    inner = QuantumCircuit(2)
    inner.h(0)
    inner.cx(0, 1)
    block, wide = inner.to_gate(), HGate().control(3)
    made: dict[str, Callable[[int], Any]] = {
        "rx": lambda i: RXGate(0.1 * i),
        "a circuit as a gate": lambda _i: block,
        "a class of the user's, with a matrix": lambda i: QiskitCustom(0.1 * (i % 7)),
        "cx with an open control": lambda _i: CXGate(ctrl_state=0),
        "c3x": lambda _i: C3XGate(),
        "mcx of 5 controls": lambda _i: MCXGate(5),
        "c3h": lambda _i: wide,
    }
    print(f"{gates} gates on {WIDTH} qubits")
    for name, make in made.items():
        circuit = of_qiskit(make, gates)
        show(f"Qiskit, {name}: copy alone", gates, circuit.copy)
        show(f"Qiskit, {name}: read", gates, lambda c=circuit: from_qiskit(c))
        show(f"Qiskit, {name}: settled", gates, lambda c=circuit: settled(c))
    places = cirq.LineQubit.range(WIDTH)
    numbers = [(0.1 * (i % 7), i % WIDTH) for i in range(gates)]
    for name, kind in (("rx", cirq.rx), ("a class of the user's", CirqCustom)):
        circuit = cirq.Circuit(kind(a)(places[q]) for a, q in numbers)
        show(f"Cirq, {name}", gates, lambda c=circuit: from_cirq(c))
    for name, kind in (("RX", qml.RX), ("a class of the user's", PennyLaneCustom)):
        tape = QuantumScript([kind(a, q) for a, q in numbers])
        show(f"PennyLane, {name}", gates, lambda t=tape: from_pennylane(t))
    for name, kind in (("rx", BraketGate.Rx), ("a class of the user's", BraketCustom)):
        task = BraketCircuit([Instruction(kind(a), [q]) for a, q in numbers])
        show(f"Braket, {name}", gates, lambda t=task: from_braket(t))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
