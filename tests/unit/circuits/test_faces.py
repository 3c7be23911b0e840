"""What is checked is what runs: custom gates whose forms disagree are refused, others pass."""

import braket.circuits.gates as braket_gates
import cirq
import numpy as np
import pennylane as qml
import pytest
from braket.circuits import Circuit as BraketCircuit
from braket.circuits import Gate as BraketGate
from braket.circuits import Instruction as BraketInstruction
from pennylane.tape import QuantumScript
from qiskit import QuantumCircuit
from qiskit.circuit import Barrier, Gate, Parameter
from qiskit.circuit.library import HGate, MCXGate, QFTGate, RXGate, XGate

from interlock.circuits.braket_adapter import from_braket
from interlock.circuits.canonical import Circuit, Operation
from interlock.circuits.cirq_adapter import from_cirq
from interlock.circuits.faces import agree
from interlock.circuits.pennylane_adapter import from_pennylane, to_pennylane
from interlock.circuits.qiskit_adapter import from_qiskit
from interlock.errors import InputError

X = np.array([[0, 1], [1, 0]], complex)
Q = cirq.LineQubit.range(9)


def refused(read, *arguments):
    with pytest.raises(InputError) as error:
        read(*arguments)
    assert error.value.code == "circuit-two-faces"
    return error.value


class Custom(Gate):
    """Defined as rx(angle); says the given matrix of the angle, or none."""

    def __init__(self, angle, matrix, name="custom"):
        super().__init__(name, 1, [angle])
        self.matrix = matrix

    def _define(self):
        self.definition = QuantumCircuit(1)
        self.definition.rx(self.params[0], 0)

    def to_matrix(self):
        return self.matrix(float(self.params[0]))


def rx(angle):
    c, s = np.cos(angle / 2), -1j * np.sin(angle / 2)
    return np.array([[c, s], [s, c]])


def qiskit(gate, inside=False):
    circuit = QuantumCircuit(gate.num_qubits)
    circuit.append(gate, range(gate.num_qubits))
    if inside:
        outer = QuantumCircuit(gate.num_qubits, 1)
        with outer.if_test((0, True)):
            outer.append(circuit.to_gate(), range(gate.num_qubits))
        circuit = outer
    return from_qiskit(circuit)


@pytest.mark.parametrize("angle", [0.7, Parameter("a"), 2 * Parameter("a") + 0.1])
@pytest.mark.parametrize("inside", [False, True])
def test_qiskit_definition_and_matrix(angle, inside):
    assert qiskit(Custom(angle, rx), inside)
    assert qiskit(Custom(angle, lambda a: 1j * rx(a)), inside)  # a global phase is no difference
    refused(qiskit, Custom(angle, lambda _a: np.eye(2)), inside)
    refused(qiskit, Custom(angle, lambda _a: np.eye(4)), inside)
    refused(qiskit, Custom(angle, lambda a: rx(a) * np.nan), inside)
    refused(qiskit, Custom(angle, lambda a: rx(a) / 0 if a else 1 / 0), inside)


def test_qiskit_names():
    refused(qiskit, Custom(0.7, rx, "h"))
    assert qiskit(Custom(0.7, rx, "rx"))
    refused(qiskit, Custom(0.7, rx, "diagonal"))
    refused(qiskit, Custom(0.7, rx, "save_statevector"))


def test_qiskit_own_classes():
    for gate in (MCXGate(5), MCXGate(12), QFTGate(3), QFTGate(12), HGate().control(3)):
        assert qiskit(gate)
        assert qiskit(gate)  # the second time its definition is there already
    for gate in (MCXGate(5), MCXGate(12), QFTGate(12)):
        gate.definition = QuantumCircuit(gate.num_qubits)
        refused(qiskit, gate)


def test_qiskit_objects_that_pass_for_others():
    class Sly(XGate):
        def __array__(self, dtype=None, copy=None):
            return np.eye(2)

    assert [str(op) for op in qiskit(Sly()).operations] == ["x q[0]"]  # copied as a plain X

    class Holds(Gate):
        def _define(self):
            self.definition = QuantumCircuit(1)
            self.definition.append(Sly(), [0], copy=False)

    refused(qiskit, Holds("holds", 1, []))

    class NoBarrier(Gate):
        base_class = Barrier

    refused(qiskit, NoBarrier("barrier", 1, []))


def test_cirq():
    class Both(cirq.Gate):
        def __init__(self, matrix=X):
            self.matrix = matrix

        def _num_qubits_(self):
            return 1

        def _decompose_(self, qubits):
            yield cirq.X(qubits[0])

        def _unitary_(self):
            return self.matrix

    class Acts(Both):
        def _act_on_(self, *_arguments):
            return True

    class Applies(Both):
        def _apply_unitary_(self, args):
            return args.target_tensor

    class Waits(cirq.WaitGate):
        def _unitary_(self):
            return X

    assert from_cirq(cirq.Circuit(Both()(Q[0])))
    wait = Waits(cirq.Duration(nanos=1))
    for gate in (Both(np.eye(2)), Acts(), Applies(), wait):
        refused(from_cirq, cirq.Circuit(gate(Q[0])))
    for gate in (Both(np.eye(2)), Applies(), wait):
        refused(from_cirq, cirq.Circuit(gate(Q[0]).controlled_by(Q[1])))
    patched = cirq.XPowGate(exponent=0.3)
    patched._unitary_ = lambda: np.eye(2)
    refused(from_cirq, cirq.Circuit(patched(Q[0])))
    assert from_cirq(cirq.Circuit(cirq.QuantumFourierTransformGate(9)(*Q)))


def test_pennylane():
    class Both(qml.operation.Operation):
        num_wires = 1
        num_params = 1
        ndim_params = (0,)

        @staticmethod
        def compute_decomposition(angle, wires):
            return [qml.RX(angle, wires)]

        @staticmethod
        def compute_matrix(angle):
            return qml.RX.compute_matrix(angle)

    class Lies(Both):
        @staticmethod
        def compute_matrix(angle):
            return qml.RY.compute_matrix(angle)

    class RY(Both):
        pass

    class Known(qml.PauliX):
        @staticmethod
        def compute_decomposition(wires):
            return []

        @staticmethod
        def compute_matrix():
            return np.eye(2)

    passes = type("Barrier", (Both,), {})
    for angle in (0.3, np.array([0.1, 0.2])):
        assert from_pennylane(QuantumScript([Both(angle, 0)]))
        refused(from_pennylane, QuantumScript([Lies(angle, 0)]))
        refused(from_pennylane, QuantumScript([RY(angle, 0)]))
        refused(from_pennylane, QuantumScript([qml.adjoint(Lies(angle, 0))]))
    refused(from_pennylane, QuantumScript([Known(0)]))
    made = from_pennylane(QuantumScript([passes(0.3, 0)]))
    assert [op.name for op in made.operations] == ["rx"]


def test_braket():
    class Custom(BraketGate):
        def __init__(self, text, matrix):
            super().__init__(qubit_count=1, ascii_symbols=["C"])
            self.text, self.matrix = text, matrix

        def to_matrix(self, *_arguments, **_options):
            return self.matrix

        def _to_openqasm(self, target, _properties, **_options):
            return f"{self.text} q[{int(target[0])}];"

    def read(gate):
        return from_braket(BraketCircuit().add_instruction(BraketInstruction(gate, [3])))

    assert read(Custom("x", X)).operations[0].name == "x"
    refused(read, Custom("x", np.eye(2)))
    refused(read, Custom("no such gate", X))
    refused(read, Custom("x q[0]; x", X))
    patched = braket_gates.X()
    patched.to_matrix = lambda: np.eye(2)
    refused(read, patched)


def test_what_cannot_be_compared_is_refused():
    step = Operation("x", (), (0,))
    refused(agree, "wide", [step], range(9), np.eye(512))
    refused(agree, "bits", [Operation("measure", (), (0,), (0,))], [0], np.eye(2))
    refused(agree, "free", [Operation("rx", ("a",), (0,))], [0], np.eye(2))
    refused(agree, "out", [Operation("x", (), (1,))], [0], X)
    refused(agree, "text", [step], [0], "no matrix")


def test_qiskit_templates_with_the_name_of_a_gate():
    """Aer runs the gate of the name with the value that comes later."""
    t = Parameter("t")
    for definition in (0.371, 2 * (t / 2).sin().arcsin()):
        gate = Gate("rx", 1, [t])
        gate.definition = QuantumCircuit(1)
        gate.definition.rx(definition, 0)
        circuit = QuantumCircuit(1)
        circuit.append(gate, [0])
        with pytest.raises(InputError) as error:
            from_qiskit(circuit)
        assert error.value.code == "circuit-two-faces"
    circuit = QuantumCircuit(2)
    circuit.append(RXGate(t), [0])
    circuit.append(RXGate(t).control(1), [0, 1])
    assert from_qiskit(circuit).parameters == ("t",)


def test_classes_of_circuits_that_may_run_something_else():
    class Tape(QuantumScript):
        pass

    class Braket(BraketCircuit):
        pass

    class Step(BraketInstruction):
        pass

    refused(from_pennylane, Tape([qml.X(0)]))
    refused(from_braket, Braket().x(0))
    refused(from_braket, BraketCircuit([Step(braket_gates.X(), [0])]))
    assert from_pennylane(QuantumScript([qml.X(0)])).size == 1


def test_a_pennylane_gate_of_the_vocabulary_with_a_matrix_of_its_own():
    tape = to_pennylane(Circuit(num_qubits=2, operations=(Operation("dcx", (), (0, 1)),)))
    assert from_pennylane(tape).operations[0].name == "dcx"
    tape.operations[0].matrix = lambda *_: np.eye(4)
    refused(from_pennylane, tape)
