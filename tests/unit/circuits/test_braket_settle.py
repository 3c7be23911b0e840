"""What runs of a Braket circuit is what was read of it once."""

import numpy as np
import pytest
from braket.circuits import Circuit, FreeParameter, Gate, Instruction, Observable, ResultType, gates
from braket.devices import LocalSimulator
from braket.parametric import FreeParameterExpression
from braket.registers import Qubit

from interlock.circuits.braket_adapter import from_braket
from interlock.circuits.braket_settle import settled
from interlock.errors import InputError

X = np.array([[0, 1], [1, 0]])


class Mine(Gate):
    """A gate that has a text and a matrix of its own; both may depend on how often it was asked."""

    def __init__(self, text, matrix):
        super().__init__(1, ["M"])
        self.texts, self.text, self.matrix = 0, text, matrix

    def to_matrix(self, *_arguments, **_options):
        return self.matrix

    def _to_openqasm(self, target, properties, *, control=None, **_options):
        self.texts += 1
        text = self.text(self.texts) if callable(self.text) else self.text
        qubits = [properties.format_target(int(q)) for q in (*(control or ()), *target)]
        return f"{'ctrl @ ' * len(control or ())}{text} {', '.join(qubits)};"

    def __deepcopy__(self, _memo):
        return self


def counts(circuit):
    return LocalSimulator().run(circuit, shots=20).result().measurement_counts


def refused(circuit):
    with pytest.raises(InputError) as error:
        settled(circuit, measured=True)
    return error.value.code


@pytest.mark.parametrize("good", range(6))
def test_a_gate_that_turns_into_another_runs_as_it_was_checked_or_not_at_all(good):
    turning = Mine(lambda asked: "i" if asked <= good else "x", np.eye(2))
    circuit = Circuit([Instruction(turning, [0])])
    try:
        fixed, form = settled(circuit, measured=True)
    except InputError as error:
        assert error.code == "circuit-two-faces"  # noqa: PT017 - either is right
        return
    assert good > 1
    assert [op.name for op in form.operations] == ["id", "measure"]
    assert from_braket(fixed, measured=True) == form
    for _ in range(3):
        assert counts(fixed) == {"0": 20}


def test_a_text_that_has_another_phase_than_the_matrix_is_what_counts_under_a_control():
    mine = Mine("z", -1 * np.diag([1, -1]))
    circuit = Circuit().h(0).add_instruction(Instruction(mine, 1, control=0)).h(0)
    fixed, form = settled(circuit, measured=True)
    assert [op.name for op in form.operations[:3]] == ["h", "cz", "h"]
    assert counts(fixed) == {"00": 20}


def test_custom_gates_keep_their_place_among_gates_of_braket():
    circuit = Circuit().h(0).add_instruction(Instruction(Mine("x", X), [2]))
    circuit.rx(1, FreeParameter("t")).add_instruction(Instruction(Mine("x", X), [1], power=2))
    circuit.cnot(2, 0).measure([2, 1])
    fixed, form = settled(circuit)
    assert [op.name for op in form.operations[:-2]] == ["h", "x", "rx", "x", "x", "cx"]
    assert fixed.parameters == circuit.parameters
    same = Circuit().x(0).add_verbatim_box(Circuit([Instruction(Mine("x", X), [0])]))
    assert "#pragma braket verbatim" in settled(same)[0].to_ir().source


def test_gates_of_braket_stay():
    circuit = Circuit().h(0).rx(1, 0.1).unitary(matrix=X, targets=[1]).cnot(0, 1)
    circuit.expectation(Observable.Z() @ Observable.X(), [0, 1])
    fixed, _ = settled(circuit)
    assert fixed == circuit
    assert fixed is not circuit


def test_numbers_and_qubits_that_say_two_things_are_written_out_as_read():
    class Two(FreeParameterExpression):
        def __str__(self):
            return "3.14159265358979"

    class Power(int):
        def __format__(self, _spec):
            return "1"

    class Place(Qubit):
        def __int__(self):
            return 0

    circuit = Circuit().rx(0, 0.0)
    circuit.instructions[0].operator._parameters[0] = Two(0.0)
    assert counts(settled(circuit, measured=True)[0]) == {"0": 20}
    circuit = Circuit([Instruction(gates.X(), [0], power=Power(2))])
    assert counts(settled(circuit, measured=True)[0]) == {"0": 20}
    circuit = Circuit([Instruction(gates.X(), [Place(1)]), Instruction(gates.I(), [1])])
    try:
        fixed, form = settled(circuit, measured=True)
    except InputError as error:
        assert error.code == "circuit-two-faces"  # noqa: PT017 - either is right
    else:
        assert from_braket(fixed, measured=True).sha256 == form.sha256


def test_result_types_and_observables_with_a_text_of_their_own_are_refused():
    class Sly(ResultType.StateVector):
        def _to_openqasm(self, _properties):
            return "x q[0];\n#pragma braket result state_vector"

    class Slope(Observable.Z):
        def _to_openqasm(self, _properties, target=None):
            return f"x({target})"

    class Coefficient(float):
        def __format__(self, _spec):
            return "1000"

    plain = Circuit().h(0)
    assert refused(plain.copy().add_result_type(Sly())) == "circuit-two-faces"
    inside = Observable.Z() @ Observable.Z()
    inside._factors = (Slope(), Observable.Z())
    assert refused(plain.copy().expectation(Slope(), [0])) == "circuit-two-faces"
    assert refused(plain.copy().expectation(inside, [0, 1])) == "circuit-two-faces"
    scaled = 2 * Observable.Z()
    scaled._coef = Coefficient(2)
    assert refused(plain.copy().expectation(scaled, [0])) == "circuit-two-faces"
