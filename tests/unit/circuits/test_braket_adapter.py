import numpy as np
import pytest
from braket.circuits import Circuit as BraketCircuit
from braket.circuits import FreeParameter, Instruction, Observable, gates
from braket.devices import LocalSimulator
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter

from interlock.circuits.braket_adapter import from_braket, to_braket
from interlock.circuits.canonical import Circuit, Operation
from interlock.circuits.gates import GATES
from interlock.circuits.matrices import unitary
from interlock.circuits.qiskit_adapter import from_qiskit
from interlock.circuits.validate import validate
from interlock.errors import InputError

_RNG = np.random.default_rng(5)
_U = np.linalg.qr(_RNG.normal(size=(4, 4)) + 1j * _RNG.normal(size=(4, 4)))[0]
HARD = [
    Instruction(gates.CPhaseShift00(0.3), [0, 1]), Instruction(gates.CPhaseShift01(0.3), [0, 1]),
    Instruction(gates.CPhaseShift10(0.3), [0, 1]), Instruction(gates.PSwap(0.3), [0, 1]),
    Instruction(gates.XY(0.3), [0, 1]), Instruction(gates.ECR(), [0, 1]),
    Instruction(gates.GPi(0.3), 0), Instruction(gates.GPi2(0.3), 0),
    Instruction(gates.MS(0.1, 0.2, 0.3), [0, 1]), Instruction(gates.Unitary(_U), [0, 1]),
    Instruction(gates.PRx(0.1, 0.2), 0), Instruction(gates.U(0.1, 0.2, 0.3), 0),
    Instruction(gates.X(), 2, control=[0, 1], control_state=[0, 0]),
    Instruction(gates.U(0.1, 0.2, 0.3), 1, control=0),
    Instruction(gates.Unitary(_U), [0, 1], control=2),
    Instruction(gates.GPi2(0.3), 1, control=[0]), Instruction(gates.Rx(0.3), 0, power=2.5),
    Instruction(gates.H(), 0, power=3), Instruction(gates.ISwap(), [0, 1], power=2),
    Instruction(gates.V(), 0), Instruction(gates.CV(), [0, 1]),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(HARD)))
def test_every_gate_keeps_its_unitary_with_its_phase(number):
    circuit = BraketCircuit().add_instruction(HARD[number])
    made = from_braket(circuit)
    validate(made)
    n = made.num_qubits
    phase = Operation("gphase", (made.global_phase,))
    got = unitary((*made.operations, phase), n)
    order = [int(format(k, f"0{n}b")[::-1], 2) for k in range(2**n)]
    assert np.allclose(got, circuit.to_unitary()[np.ix_(order, order)], atol=1e-9)


@pytest.mark.parametrize("name", sorted(set(GATES) - {"gphase"}))
def test_every_gate_of_the_vocabulary_comes_back_as_it_was(name):
    params, n = GATES[name]
    angles = tuple(0.1 + 0.7 * i / 3 for i in range(params))
    circuit = Circuit(
        num_qubits=n, operations=(Operation(name, angles, tuple(reversed(range(n)))),)
    )
    written = to_braket(circuit)
    assert from_braket(written) == circuit
    order = [int(format(k, f"0{n}b")[::-1], 2) for k in range(2**n)]
    wanted = unitary(circuit.operations, n)
    assert np.allclose(written.to_unitary()[np.ix_(order, order)], wanted, atol=1e-9)


def test_the_state_of_controls_is_read_as_the_simulator_runs_it():
    # Braket's own `to_unitary` takes the states of several controls in reverse.
    gate = Instruction(gates.X(), 2, control=[0, 1], control_state=[0, 1])
    circuit = BraketCircuit().i(0).x(1).add_instruction(gate)
    assert LocalSimulator().run(circuit, shots=5).result().measurement_counts == {"011": 5}
    amplitudes = unitary(from_braket(circuit).operations, 3)[:, 0]
    assert abs(amplitudes[0b110]) == 1


def test_a_matrix_with_a_name_that_lies_is_a_matrix():
    lie = BraketCircuit().unitary(matrix=np.eye(2), targets=[0], display_name="u3(0.1,0.2,0.3)")
    assert from_braket(lie).operations[0].name == "unitary"


def test_a_gate_of_ones_own_that_passes_for_a_known_one_is_refused():
    class CNot(gates.CNot):
        def to_matrix(self, *_args, **_options):
            return np.kron(np.eye(2), [[0, 1], [1, 0]])

    with pytest.raises(InputError) as error:  # a device gets `cnot`
        from_braket(BraketCircuit().add_instruction(Instruction(CNot(), [0, 1])))
    assert error.value.code == "circuit-two-faces"


def test_all_qubits_are_measured_where_none_is_and_rotated_for_their_observables():
    same = QuantumCircuit(2)
    same.h(0)
    same.cx(0, 1)
    same.measure_all()
    bell = BraketCircuit().h(0).cnot(0, 1)
    assert from_braket(bell, measured=True).num_clbits == 2
    explicit = from_braket(bell.copy().measure([0, 1]))
    plain = QuantumCircuit(2, 2)
    plain.h(0)
    plain.cx(0, 1)
    plain.measure([0, 1], [0, 1])
    assert explicit.sha256 == from_braket(bell, measured=True).sha256 == from_qiskit(plain).sha256
    rotated = BraketCircuit().h(0).expectation(Observable.X(), target=0)
    assert [op.name for op in from_braket(rotated, measured=True).operations] == [
        "h", "h", "measure"]  # fmt: skip


def test_templates_have_the_identity_of_other_sdks():
    circuit = BraketCircuit().rx(0, 2 * FreeParameter("a") + 1).phaseshift(0, FreeParameter("c"))
    same = QuantumCircuit(1)
    same.rx(2 * Parameter("a") + 1, 0)
    same.p(Parameter("c"), 0)
    assert from_braket(circuit).sha256 == from_qiskit(same).sha256
    back = to_braket(from_braket(circuit))
    assert from_braket(back).sha256 == from_braket(circuit).sha256


@pytest.mark.parametrize(
    ("circuit", "code"),
    [
        (BraketCircuit().bit_flip(0, 0.1), "circuit-unsupported"),
        (BraketCircuit().add_instruction(Instruction(gates.H(), 0, power=0.5)),
         "circuit-unsupported"),
        # devices take the principal root: phaseshift(2 - pi), not phaseshift(2)
        (BraketCircuit().phaseshift(0, 4.0, power=0.5), "circuit-unsupported"),
        (BraketCircuit().rx(1, -7.0, power=0.5, control=0), "circuit-unsupported"),
        (BraketCircuit().rx(0, FreeParameter("a"), power=0.5), "circuit-unsupported"),
        (BraketCircuit().ms(0, 1, FreeParameter("a"), 0.1, 0.2), "circuit-unsupported"),
        (BraketCircuit().x(10**9), "circuit-too-large"),
    ],
)  # fmt: skip
def test_what_the_form_cannot_say_is_refused_with_a_reason(circuit, code):
    with pytest.raises(InputError) as caught:
        from_braket(circuit)
    assert caught.value.code == code
    assert caught.value.fix


def test_qubits_keep_their_numbers_and_measurements_their_order():
    made = from_braket(BraketCircuit().x(4).measure([4]))
    assert made.num_qubits == 5
    assert from_braket(BraketCircuit().h(0).h(1).measure([1, 0])).measured == ((1, 0), (0, 1))
    assert to_braket(made).instructions[-1].target == [4]
