import numpy as np
import pennylane as qml
import pytest
from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister

from interlock.circuits.canonical import Circuit, Control, Operation, Register
from interlock.circuits.gates import GATES
from interlock.circuits.matrices import unitary
from interlock.circuits.pennylane_adapter import from_pennylane, read, to_pennylane
from interlock.circuits.qiskit_adapter import from_qiskit
from interlock.circuits.validate import validate
from interlock.errors import InputError

_RNG = np.random.default_rng(5)
_U = np.linalg.qr(_RNG.normal(size=(4, 4)) + 1j * _RNG.normal(size=(4, 4)))[0]
Script = qml.tape.QuantumScript


def _hard():
    matrix = qml.QubitUnitary(_U, wires=[0, 1])
    return [
        qml.Rot(0.1, 0.2, 0.3, 0), qml.U3(0.1, 0.2, 0.3, 0), qml.U2(0.1, 0.2, 0),
        qml.CRot(0.1, 0.2, 0.3, [0, 1]), qml.SISWAP([0, 1]), qml.ECR([0, 1]),
        qml.PSWAP(0.3, [0, 1]), qml.IsingXY(0.3, [0, 1]), qml.MultiRZ(0.3, [0, 1, 2]),
        qml.PauliRot(0.3, "XYZ", [0, 1, 2]), qml.SingleExcitation(0.3, [0, 1]),
        qml.DoubleExcitation(0.3, [0, 1, 2, 3]), qml.adjoint(qml.QFT([0, 1, 2])),
        qml.ctrl(qml.RX(0.3, 2), [0, 1], control_values=[0, 1]), qml.ctrl(qml.S(1), 0),
        qml.ctrl(qml.GlobalPhase(0.3), 0), qml.ctrl(qml.U3(0.1, 0.2, 0.3, 1), 0),
        qml.adjoint(qml.RX(0.3, 0)), qml.adjoint(matrix), qml.pow(qml.X(0), 0.3),
        qml.exp(qml.Z(0) @ qml.Z(1), 0.3j), qml.prod(qml.X(0), qml.S(0)), matrix,
        qml.ctrl(matrix, 2), qml.GlobalPhase(0.3), qml.FermionicSWAP(0.3, [0, 1]),
        qml.MultiControlledX([0, 1, 2, 3, 4], control_values=[0, 1, 1, 0]),
        qml.DiagonalQubitUnitary(np.exp(1j * np.arange(4)), [0, 1]), qml.CPhaseShift10(0.3, [0, 1]),
        qml.GroverOperator([0, 1, 2]), qml.OrbitalRotation(0.2, [0, 1, 2, 3]),
    ]  # fmt: skip


@pytest.mark.parametrize("number", range(31))
def test_every_operation_keeps_its_unitary_with_its_phase(number):
    op = _hard()[number]
    made = from_pennylane(Script([op]))
    validate(made)
    phase = Operation("gphase", (made.global_phase,))
    wanted = qml.matrix(op, wire_order=list(range(made.num_qubits))[::-1])
    assert np.allclose(unitary((*made.operations, phase), made.num_qubits), wanted, atol=1e-9)


@pytest.mark.parametrize("name", sorted(set(GATES) - {"gphase"}))
def test_every_gate_of_the_vocabulary_comes_back_as_it_was(name):
    params, qubits = GATES[name]
    angles = tuple(0.1 + 0.7 * i / 3 for i in range(params))
    op = Operation(name, angles, tuple(reversed(range(qubits))))
    circuit = Circuit(num_qubits=qubits, operations=(op,))
    tape = to_pennylane(circuit)
    assert from_pennylane(tape).sha256 == circuit.sha256
    wanted = unitary(circuit.operations, qubits)
    made = qml.matrix(tape, wire_order=list(range(qubits))[::-1])
    assert np.allclose(made, wanted, atol=1e-9)
    value = Script(tape.operations, [qml.expval(qml.Z(0))])
    qml.execute([value], qml.device("default.qubit", wires=qubits), None)


def test_a_gate_of_ones_own_that_passes_for_a_known_one_is_refused():
    class CNOT(qml.operation.Operation):
        num_wires = 2

        @staticmethod
        def compute_decomposition(wires):
            return [qml.PauliX(wires[1])]

    with pytest.raises(InputError) as error:  # some devices go by the name
        from_pennylane(Script([CNOT([0, 1])]))
    assert error.value.code == "circuit-two-faces"


def test_each_measurement_of_bits_is_a_register():
    tape = Script([qml.Hadamard(0)], [qml.counts(wires=[1, 0]), qml.sample(wires=2)], shots=5)
    made = read(tape)
    assert made.samples
    same = QuantumCircuit(
        QuantumRegister(3), ClassicalRegister(2, "m0"), ClassicalRegister(1, "m1")
    )
    same.h(0)
    same.measure([1, 0, 2], [0, 1, 2])
    assert made.circuit.sha256 == from_qiskit(same).sha256


def test_expectation_values_leave_the_circuit_without_measurement():
    for process in (qml.expval(qml.X(0)), qml.probs(wires=0), qml.state()):
        reading = read(Script([qml.Hadamard(0)], [process]))
        assert not reading.samples
        assert not reading.circuit.measured


def test_arrays_of_angles_are_a_template_with_a_row_each():
    tape = Script([qml.RX(np.array([0.1, 0.2]), 0), qml.RY(0.3, 0), qml.RZ([0.4, 0.5], 0)])
    reading = read(tape)
    assert reading.parameters == ("p0", "p1")
    assert reading.values == [[0.1, 0.4], [0.2, 0.5]]
    back = to_pennylane(reading.circuit, {"p0": np.array([0.1, 0.2]), "p1": np.array([0.4, 0.5])})
    assert read(back).values == reading.values
    assert read(back).circuit.sha256 == reading.circuit.sha256


def test_a_template_is_written_with_its_values():
    op = Operation("rx", ("2*a + 1",), (0,))
    circuit = Circuit(num_qubits=1, operations=(op,))
    assert to_pennylane(circuit, {"a": 0.25}).operations[0].data == (1.5,)
    with pytest.raises(InputError) as caught:
        to_pennylane(circuit)
    assert caught.value.code == "circuit-unbound"


def test_mid_circuit_measurements_and_conditions():
    def circuit():
        qml.Hadamard(0)
        first = qml.measure(0)
        second = qml.measure(1, reset=True)
        qml.cond(first, qml.X)(1)
        qml.cond(first & ~second, qml.Z)(1)

    made = from_pennylane(qml.tape.make_qscript(circuit)())
    validate(made)
    assert [op.name for op in made.operations] == [
        "h", "measure", "measure", "reset", "if_else", "if_else"]  # fmt: skip
    assert made.operations[4].control.condition == ["bit", 0]
    assert made.operations[5].control.condition == ["&&", ["bit", 0], ["!", ["bit", 1]]]
    same = Circuit(
        num_qubits=2, num_clbits=1, registers=(Register("c", (0,)),),
        operations=(
            Operation("h", (), (0,)), Operation("measure", (), (0,), (0,)),
            Operation("if_else", (), (1,), (0,), Control(
                ["bit", 0], ((Operation("x", (), (1,)),),))))
    )  # fmt: skip
    assert from_pennylane(to_pennylane(same)).sha256 == same.sha256


@pytest.mark.parametrize(
    ("build", "code"),
    [
        (lambda: Script([qml.DepolarizingChannel(0.1, 0)]), "circuit-unsupported"),
        (lambda: Script([qml.RX(0.1, 10**9)]), "circuit-too-large"),
        (lambda: qml.tape.make_qscript(lambda: qml.measure(0, postselect=1))(),
         "circuit-unsupported"),
    ],
)  # fmt: skip
def test_what_the_form_cannot_say_is_refused_with_a_reason(build, code):
    with pytest.raises(InputError) as caught:
        from_pennylane(build())
    assert caught.value.code == code
    assert caught.value.fix


def test_wires_keep_their_numbers_and_labels_their_order():
    assert from_pennylane(Script([qml.X(4)])).num_qubits == 5
    labelled = Script([qml.X("b"), qml.Z("a")])
    assert [op.qubits for op in from_pennylane(labelled, ["a", "b"]).operations] == [(1,), (0,)]


@pytest.mark.parametrize(
    ("make", "two_faced"),
    [
        (lambda: qml.pow(qml.PhaseShift(4.0, 0), 0.5), True),
        (lambda: qml.pow(qml.IsingXY(7.0, [0, 1]), 0.5), True),
        (lambda: qml.ctrl(qml.pow(qml.PhaseShift(4.0, 0), 0.5), 1), True),
        (lambda: qml.adjoint(qml.pow(qml.CRX(7.0, [0, 1]), 0.5)), True),
        (lambda: qml.pow(qml.PhaseShift(3.0, 0), 0.5), False),
        (lambda: qml.pow(qml.RX(7.0, 0), 0.5), False),
        (lambda: qml.pow(qml.PhaseShift(4.0, 0), 2), False),
        (lambda: qml.pow(qml.Hadamard(0), 1.5), False),
    ],
)
def test_a_root_that_a_device_may_take_two_ways_is_refused(make, two_faced):
    with qml.queuing.AnnotatedQueue() as queue:
        op = make()
    tape = qml.tape.QuantumScript.from_queue(queue)
    if two_faced:
        with pytest.raises(InputError) as caught:
            from_pennylane(tape)
        assert caught.value.code == "circuit-two-faces"
    else:
        made = from_pennylane(tape)
        wanted = qml.matrix(op, wire_order=[0])
        got = unitary(made.operations, 1)
        assert np.isclose(abs(np.vdot(got, wanted)), 2)
