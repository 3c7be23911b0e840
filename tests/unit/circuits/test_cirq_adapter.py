import math

import cirq
import numpy as np
import pytest
import sympy
from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister

from interlock.circuits.canonical import Circuit, Operation
from interlock.circuits.cirq_adapter import from_cirq, to_cirq
from interlock.circuits.cirq_writer import Exact
from interlock.circuits.gates import GATES
from interlock.circuits.matrices import unitary
from interlock.circuits.qiskit_adapter import from_qiskit
from interlock.circuits.validate import validate
from interlock.errors import InputError

Q = cirq.LineQubit.range(6)
HARD = [
    cirq.X**0.3, cirq.Y**-0.7, cirq.Z**0.9, cirq.H**0.4, cirq.CX**0.3, cirq.CZ**0.2,
    cirq.SWAP**0.6, cirq.ISWAP**-1, cirq.ISWAP**0.3, cirq.ISWAP**3, cirq.XX**0.2, cirq.YY**0.2,
    cirq.ZZ**0.7, cirq.CCX**0.4, cirq.CCZ**0.4, cirq.X**-1, cirq.H**-1,
    cirq.PhasedXPowGate(phase_exponent=0.3, exponent=0.7),
    cirq.PhasedXZGate(x_exponent=0.3, z_exponent=0.2, axis_phase_exponent=0.4),
    cirq.FSimGate(0.3, 0.4), cirq.PhasedISwapPowGate(phase_exponent=0.3, exponent=0.2),
    cirq.ControlledGate(cirq.X**0.3), cirq.ControlledGate(cirq.Y, 2),
    cirq.ControlledGate(cirq.X, control_values=[0]), cirq.ControlledGate(cirq.rx(0.3)),
    cirq.ControlledGate(cirq.ISWAP), cirq.givens(0.3), cirq.riswap(0.2), cirq.ms(0.3),
    cirq.XPowGate(exponent=0.3, global_shift=0.2), cirq.ZPowGate(exponent=1, global_shift=0.5),
    cirq.MatrixGate(cirq.testing.random_unitary(4, random_state=1)),
    cirq.QuantumFourierTransformGate(3), cirq.DiagonalGate([0.1, 0.2, 0.3, 0.4]),
    cirq.ControlledGate(cirq.CX, 2), cirq.CCX.controlled(3),
    cirq.ControlledGate(cirq.GlobalPhaseGate(1j)),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(HARD)))
def test_every_gate_keeps_its_unitary_with_its_phase(number):
    gate = HARD[number]
    wires = Q[: cirq.num_qubits(gate)]
    circuit = cirq.Circuit(gate.on(*wires))
    made = from_cirq(circuit, wires)
    validate(made)
    phase = Operation("gphase", (made.global_phase,))
    wanted = circuit.unitary(wires[::-1], wires)
    assert np.allclose(unitary((*made.operations, phase), len(wires)), wanted, atol=1e-9)


@pytest.mark.parametrize("name", sorted(set(GATES) - {"gphase"}))
def test_every_gate_of_the_vocabulary_comes_back_as_it_was(name):
    params, qubits = GATES[name]
    order = tuple(reversed(range(qubits)))
    op = Operation(name, tuple(0.1 + 0.7 * i / 3 for i in range(params)), order)
    circuit = Circuit(num_qubits=qubits, operations=(op,))
    written = to_cirq(circuit)
    assert from_cirq(written, Q[:qubits]) == circuit
    wanted = unitary(circuit.operations, qubits)
    assert np.allclose(written.unitary(Q[:qubits][::-1]), wanted, atol=1e-9)


def test_a_tag_that_lies_is_not_believed():
    circuit = cirq.Circuit(cirq.H(Q[0]).with_tags(Exact("x", ())))
    assert [op.name for op in from_cirq(circuit).operations] == ["h"]
    turned = cirq.Circuit((cirq.Z**0.25)(Q[0]).with_tags(Exact("p", (0.5,))))
    assert [str(op) for op in from_cirq(turned).operations] == ["t q[0]"]


def test_a_gate_of_ones_own_that_passes_for_a_known_one_is_refused():
    class CNOT(cirq.CXPowGate):
        def _decompose_(self, qubits):
            yield cirq.X(qubits[1])

        def _unitary_(self):
            return np.kron(np.eye(2), [[0, 1], [1, 0]])

    with pytest.raises(InputError) as error:  # its `_apply_unitary_` is that of CX
        from_cirq(cirq.Circuit(CNOT()(*Q[:2])))
    assert error.value.code == "circuit-two-faces"


def test_measurements_are_registers_and_the_order_of_their_bits_counts():
    made = from_cirq(cirq.Circuit(cirq.H(Q[0]), cirq.measure(Q[1], Q[0], key="a"),
                                  cirq.measure(Q[2], key="b")))  # fmt: skip
    qubits = QuantumRegister(3)
    same = QuantumCircuit(qubits, ClassicalRegister(2, "a"), ClassicalRegister(1, "b"))
    same.h(0)
    same.measure([1, 0, 2], [0, 1, 2])
    assert made.sha256 == from_qiskit(same).sha256


def test_a_bitwise_register_is_one_register():
    circuit = cirq.Circuit(cirq.measure(Q[0], key="c[0]"), cirq.X(Q[0]),
                           cirq.measure(Q[0], key="c[1]"))  # fmt: skip
    (register,) = from_cirq(circuit).registers
    assert (register.name, register.clbits) == ("c", (0, 1))


def test_classical_control_is_that_of_qiskit():
    circuit = cirq.Circuit(
        cirq.H(Q[0]), cirq.measure(Q[0], key="c"), cirq.X(Q[1]).with_classical_controls("c")
    )
    same = QuantumCircuit(QuantumRegister(2), ClassicalRegister(1, "c"))
    same.h(0)
    same.measure(0, 0)
    with same.if_test((same.clbits[0], 1)):
        same.x(1)
    made = from_cirq(circuit)
    validate(made)
    assert made.sha256 == from_qiskit(same).sha256
    assert from_cirq(to_cirq(made)).sha256 == made.sha256


def test_a_key_is_read_with_its_first_qubit_most_significant():
    two = sympy.Symbol("m")
    circuit = cirq.Circuit(
        cirq.X(Q[0]), cirq.measure(Q[0], Q[1], key="m"),
        cirq.X(Q[2]).with_classical_controls(sympy.Eq(two, 2)), cirq.measure(Q[2], key="out"),
    )  # fmt: skip
    assert cirq.Simulator().run(circuit).measurements["out"].tolist() == [[1]]
    condition = from_cirq(circuit).operations[3].control.condition
    assert condition == ["==", ["bits", [1, 0]], ["value", 2, 2]]


def test_an_inverted_measurement_is_not_the_plain_one():
    plain = cirq.Circuit(cirq.measure(Q[0], key="m"))
    inverted = cirq.Circuit(cirq.measure(Q[0], key="m", invert_mask=(True,)))
    assert from_cirq(plain).sha256 != from_cirq(inverted).sha256
    assert [op.name for op in from_cirq(inverted).operations] == ["x", "measure", "x"]


def test_a_measured_pauli_product_is_written_out():
    circuit = cirq.Circuit(cirq.measure_single_paulistring(cirq.X(Q[0]) * cirq.Z(Q[1]), key="m"))
    made = from_cirq(circuit)
    assert made.num_clbits == 1
    assert [op.name for op in made.operations].count("measure") == 1


def test_templates_have_the_identity_of_other_sdks():
    a, b = sympy.symbols("a b")
    circuit = cirq.Circuit(cirq.rx(2 * a + 1)(Q[0]), (cirq.Z ** (b / sympy.pi))(Q[0]))
    from qiskit.circuit import Parameter

    same = QuantumCircuit(1)
    same.rx(2 * Parameter("a") + 1, 0)
    same.p(Parameter("b"), 0)
    assert from_cirq(circuit).sha256 == from_qiskit(same).sha256
    assert from_cirq(to_cirq(from_cirq(circuit))).sha256 == from_cirq(circuit).sha256


def test_sub_circuits_resets_waits_and_barriers():
    inner = cirq.FrozenCircuit(cirq.H(Q[0]), cirq.CNOT(Q[0], Q[1]))
    circuit = cirq.Circuit(
        cirq.CircuitOperation(inner).repeat(3), cirq.reset(Q[0]), cirq.wait(Q[1], nanos=5)
    )
    assert [op.name for op in from_cirq(circuit).operations] == ["h", "cx"] * 3 + [
        "reset", "delay"]  # fmt: skip
    steps = (("h", (0,)), ("barrier", (0, 1)), ("h", (1,)))
    barrier = Circuit(num_qubits=2, operations=tuple(Operation(n, (), q) for n, q in steps))
    assert from_cirq(to_cirq(barrier)).sha256 == barrier.sha256


@pytest.mark.parametrize(
    ("circuit", "code"),
    [
        (cirq.Circuit(cirq.depolarize(0.1)(Q[0])), "circuit-unsupported"),
        (cirq.Circuit(cirq.measure(Q[0], key="a"), cirq.measure(Q[1], key="a")),
         "circuit-unsupported"),
        (cirq.Circuit(cirq.IdentityGate(qid_shape=(3,))(cirq.LineQid(0, 3))),
         "circuit-unsupported"),
        (cirq.Circuit(cirq.CircuitOperation(cirq.FrozenCircuit(cirq.X(Q[0]))).repeat(10**9)),
         "circuit-too-large"),
        (cirq.Circuit(cirq.X(cirq.LineQubit(10**9))), "circuit-too-large"),
        (cirq.Circuit(cirq.measure(Q[0], key="a", confusion_map={(0,): np.eye(2)})),
         "circuit-unsupported"),
    ],
)  # fmt: skip
def test_what_the_form_cannot_say_is_refused_with_a_reason(circuit, code):
    with pytest.raises(InputError) as caught:
        from_cirq(circuit)
    assert caught.value.code == code
    assert caught.value.fix


def test_line_qubits_keep_their_numbers():
    assert from_cirq(cirq.Circuit(cirq.X(cirq.LineQubit(4)))).num_qubits == 5
    grid = cirq.Circuit(cirq.X(cirq.GridQubit(3, 3)), cirq.Z(cirq.GridQubit(3, 4)))
    assert [op.qubits for op in from_cirq(grid).operations] == [(0,), (1,)]


def test_an_angle_is_the_one_that_was_meant():
    for turns in (0.25, 1 / 3, 0.125, 2 / 3):
        circuit = from_cirq(cirq.Circuit(cirq.ZZPowGate(exponent=turns)(*Q[:2])))
        assert circuit.operations[0].params == (turns * math.pi,)
