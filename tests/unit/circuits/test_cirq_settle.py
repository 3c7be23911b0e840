"""What runs of a Cirq circuit is what was read of it once."""

import cirq
import numpy as np
import pytest
import sympy

from interlock.circuits.cirq_adapter import from_cirq
from interlock.circuits.cirq_settle import settled
from interlock.circuits.cirq_writer import Exact
from interlock.errors import InputError

A, B, C = cirq.LineQubit.range(3)
X = np.array([[0, 1], [1, 0]])


class Turning(cirq.Gate):
    """The identity the first times it is asked, then X."""

    def __init__(self, good=1, **_):
        self.left = good

    def _num_qubits_(self):
        return 1

    def _unitary_(self):
        self.left -= 1
        return np.eye(2) if self.left >= 0 else X


class Split(cirq.Gate):
    """A rotation of two qubits with a parameter."""

    def __init__(self, angle):
        self.angle = angle

    def _num_qubits_(self):
        return 2

    def _decompose_(self, qubits):
        return [cirq.ry(self.angle)(qubits[0]), cirq.CNOT(*qubits)]

    def _is_parameterized_(self):
        return cirq.is_parameterized(self.angle)

    def _parameter_names_(self):
        return cirq.parameter_names(self.angle)

    def _resolve_parameters_(self, resolver, recursive):
        return Split(cirq.resolve_parameters(self.angle, resolver, recursive))


def run(circuit, **values):
    return cirq.Simulator(seed=1).run(circuit, values, repetitions=20).measurements


@pytest.mark.parametrize("good", range(1, 30))
def test_a_gate_that_turns_into_another_runs_as_it_was_checked_or_not_at_all(good):
    circuit = cirq.Circuit(Turning(good).on(A), cirq.measure(A, key="m"))
    try:
        fixed, form, keys = settled(circuit)
    except InputError as error:
        code = error.code
    else:
        code = None
    if code is not None:
        assert code == "circuit-two-faces"
        return
    assert from_cirq(fixed).sha256 == form.sha256
    assert keys == {"m": (0,)}
    wanted = not np.allclose(np.array(form.operations[0].params).view(complex), [1, 0, 0, 1])
    assert (run(fixed)["m"] == wanted).all()


def test_custom_gates_under_controls_in_loops_and_with_parameters():
    t = sympy.Symbol("t")
    body = cirq.FrozenCircuit(Split(t).on(A, B))
    circuit = cirq.Circuit(
        cirq.X(A),
        cirq.measure(A, key="a"),
        Split(t).on(B, C).with_classical_controls("a"),
        Split(t).on(C, B).controlled_by(A),
        cirq.CircuitOperation(body, repetitions=2),
        cirq.measure(B, C, key="m"),
    )
    fixed, form, _ = settled(circuit)
    assert form.sha256 == from_cirq(circuit).sha256
    assert not any(isinstance(op.gate, Split) for op in fixed.all_operations())
    for angle in (0.0, np.pi):
        assert (run(fixed, t=angle)["m"] == run(circuit, t=angle)["m"]).all()


def test_moments_and_gates_of_cirq_stay():
    circuit = cirq.Circuit(
        cirq.Moment(cirq.X(A)), cirq.Moment(), cirq.Moment(cirq.ISWAP(A, B).with_tags("mine"))
    )
    assert settled(circuit)[0] == circuit
    assert settled(circuit.freeze())[0] == circuit


def test_a_circuit_that_tells_other_operations_than_its_moments():
    class Liar(cirq.Circuit):
        def all_operations(self):
            return iter([cirq.measure(A, key="m")])

    fixed, form, _ = settled(Liar(cirq.X(A), cirq.measure(A, key="m")))
    assert [op.name for op in form.operations] == ["x", "measure"]
    assert type(fixed) is cirq.Circuit


def test_a_tag_is_not_believed_of_a_gate_that_equals_everything():
    class Equal(Turning):
        def __eq__(self, other):
            return True

        __hash__ = cirq.Gate.__hash__

    for tag in (Exact("id", ()), Exact("c3sx", ()), Exact("U", (0.0, 0.0, 0.0))):
        made = from_cirq(cirq.Circuit(Equal(0).on(A).with_tags(tag)))
        assert made.operations[0].name == "unitary"
    patched = cirq.MatrixGate(np.eye(2))
    patched._unitary_ = lambda: X
    with pytest.raises(InputError):
        from_cirq(cirq.Circuit(patched.on(A).with_tags(Exact("id", ()))))


def test_numbers_of_the_user_s_classes_are_refused():
    class Two(float):
        def __mul__(self, other):
            return 3.0 * other

    class Name(sympy.Symbol):
        pass

    for exponent in (Two(0.1), Name("a"), 2 * Name("a") + 1):
        with pytest.raises(InputError) as error:
            settled(cirq.Circuit(cirq.XPowGate(exponent=exponent).on(A)))
        assert error.value.code == "circuit-expression"
    for exponent in (1, 0.5, np.float32(0.5), sympy.Rational(1, 3), sympy.Symbol("a") + 1):
        assert settled(cirq.Circuit(cirq.XPowGate(exponent=exponent).on(A)))[1].size == 1
