"""What runs of a PennyLane tape, and what is differentiated, is what was read of it once."""

import numpy as np
import pennylane as qml
import pytest
import torch

from interlock.circuits.matrices import unitary
from interlock.circuits.pennylane_adapter import from_pennylane
from interlock.circuits.pennylane_settle import settled
from interlock.errors import InputError

Script = qml.tape.QuantumScript
Z = [qml.expval(qml.Z(0))]
DEVICE = qml.device("default.qubit", wires=3)
FLIP = np.array([[0, 1], [1, 0]])


def value(tape):
    return float(DEVICE.execute(tape))


def adjoint(tape):
    config = qml.devices.ExecutionConfig(gradient_method="adjoint", use_device_gradient=True)
    return DEVICE.execute_and_compute_derivatives(tape, config)


def refused(tape, **options):
    with pytest.raises(InputError) as error:
        settled(tape, **options)
    return error.value.code


class Turn(qml.operation.Operation):
    """A rotation about X by its matrix and generator; another from the given question on."""

    num_wires = 1
    num_params = 1
    ndim_params = (0,)
    good, asked = 10**9, 0
    other = staticmethod(qml.RY.compute_matrix)
    slope = -0.5

    @classmethod
    def compute_matrix(cls, angle):
        cls.asked += 1
        return (qml.RX.compute_matrix if cls.asked <= cls.good else cls.other)(angle)

    def generator(self):
        return self.slope * qml.X(self.wires)


def turning(questions):
    return type("Turning", (Turn,), {"good": questions, "asked": 0})


def as_checked_or_not_at_all(tape, run, **options):
    """Settle a tape; return what runs beside the form that was checked, or None if refused."""
    try:
        fixed, reading = settled(tape, **options)
    except InputError as error:
        assert error.code == "circuit-two-faces"  # noqa: PT017 - either is right
        return None
    return run(fixed), reading.circuit.operations


@pytest.mark.parametrize("good", range(1, 9))
@pytest.mark.parametrize("inside", [lambda op: op, qml.adjoint, lambda op: qml.ctrl(op, 1)])
def test_a_gate_that_turns_into_another_runs_as_it_was_checked(good, inside):
    ops = [qml.X(1), inside(turning(good)(0.4, 0)), qml.RX(0.3, 0)]
    made = as_checked_or_not_at_all(
        Script(ops, [qml.probs(wires=[1, 0])]), lambda t: [DEVICE.execute(t) for _ in range(3)]
    )
    if made is not None:
        results, form = made
        assert np.allclose(results, np.abs(unitary(form, 2)[:, 0]) ** 2)


@pytest.mark.parametrize("good", range(1, 9))
def test_backpropagation_goes_through_the_matrix_that_was_checked(good):
    angle = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    tape = Script([turning(good)(angle, 0)], [qml.expval(qml.Y(0))])
    made = as_checked_or_not_at_all(tape, DEVICE.execute, graph=True)
    if made is None:
        return
    (result, form) = made
    result.backward()
    column = np.array([float(p) for p in form[0].params]).view(complex).reshape(2, 2)[:, 0]
    wanted = 2 * (np.conj(column[0]) * column[1]).imag
    assert np.isclose(float(result), wanted)
    assert np.isclose(float(angle.grad), 0 if np.isclose(wanted, 0) else -np.cos(0.4))


@pytest.mark.parametrize("good", range(1, 9))
def test_device_derivatives_are_of_the_matrix_that_was_checked(good):
    ops = [qml.RZ(0.1, 0), turning(good)(0.4, 0), qml.RX(0.2, 0)]
    tape = Script(ops, [qml.expval(qml.Y(0))], trainable_params=[1, 2])
    made = as_checked_or_not_at_all(tape, adjoint, derivatives=True)
    if made is None:
        return
    result, slopes = made[0]
    assert np.isclose(float(result), -np.sin(0.6))
    assert np.allclose([float(s) for s in slopes], -np.cos(0.6))


def test_a_gate_that_learns_nothing_is_a_matrix_under_device_derivatives():
    ops = [Turn(0.3, 0), qml.RX(0.2, 0)]
    observable = [qml.expval(qml.Hermitian(np.diag([1.0, -1.0]), 0))]
    for trainable in ([1], [0, 1], [1, 2], []):
        tape = Script(ops, observable, trainable_params=trainable)
        fixed, _ = settled(tape, derivatives=True)
        assert fixed.trainable_params == trainable
        assert len(fixed.get_parameters()) == len(trainable)
    slopes = adjoint(settled(Script(ops, Z, trainable_params=[0]), derivatives=True)[0])[1]
    assert np.isclose(float(slopes), -np.sin(0.5))


def test_a_generator_that_is_not_the_matrix_s_is_refused():
    lies = type("Lies", (Turn,), {"slope": 0.5})
    none = type("Bare", (Turn,), {"generator": qml.operation.Operation.generator})
    for kind in (lies, none):
        tape = Script([kind(0.3, 0)], Z)
        assert refused(tape, derivatives=True) == "circuit-two-faces"
        assert settled(tape)[1].circuit.size == 1
    two = type("Two", (Turn,), {"num_params": 2, "ndim_params": (0, 0)})
    two.compute_matrix = staticmethod(lambda a, b: qml.RX.compute_matrix(a + b))
    assert refused(Script([two(0.1, 0.2, 0)], Z), derivatives=True) == "circuit-two-faces"


@pytest.mark.parametrize("good", [1, 2, 3, 4])
@pytest.mark.parametrize("matrix", [False, True])
def test_a_decomposition_that_turns_into_another_runs_as_it_was_read(good, matrix):
    asked = []

    class Split(qml.operation.Operation):
        num_wires = 2

        @staticmethod
        def compute_decomposition(wires):
            asked.append(None)
            return [qml.X(wires[0])] if len(asked) <= good else []

        @property
        def has_matrix(self):
            return matrix and len(asked) > 1

        def matrix(self, wire_order=None):
            return np.eye(4)

    made = as_checked_or_not_at_all(Script([Split([0, 1])], Z), value)
    if made is not None:
        result, form = made
        assert result == (-1 if [op.name for op in form] == ["x"] else 1)


def test_a_template_of_pennylane_around_a_gate_of_the_user_s_runs_as_it_was_read():
    kind = turning(10**9)
    tape = Script([qml.ControlledSequence(kind(np.pi, 2), control=[0, 1])], [qml.probs(wires=2)])
    fixed, _ = settled(tape)
    assert all(type(op).__module__.startswith("pennylane") for op in fixed.operations)
    assert not any(isinstance(op, qml.ControlledSequence) for op in fixed.operations)
    plain = Script([qml.ControlledSequence(qml.RX(0.1, 2), control=[0, 1]), qml.QFT([0, 1])], Z)
    assert settled(plain)[0].operations == plain.operations


def test_conditions_and_what_they_guard_are_what_was_read():
    asked = []

    def twice(bit):
        asked.append(None)
        return bit if len(asked) <= 2 else 1 - bit

    with qml.queuing.AnnotatedQueue() as queue:
        first = qml.measure(0)
        kind = turning(2)
        qml.cond(first._apply(twice), kind)(np.pi, 1)
        qml.cond(first, qml.X)(2)
        probabilities = qml.probs(wires=[1, 2])
    ops = qml.tape.QuantumScript.from_queue(queue).operations
    tape = Script(ops, [probabilities], shots=10)
    fixed, reading = settled(tape)
    assert [op.name for op in reading.circuit.operations[:3]] == ["measure", "if_else", "if_else"]
    again = from_pennylane(fixed)
    assert [op.control.condition for op in again.operations[1:3]] == [["bit", 0]] * 2
    assert fixed.operations[2] is ops[2]  # a plain condition on a plain gate stays
    for _ in range(3):
        (one_shot,), finish = qml.dynamic_one_shot(fixed)
        assert np.allclose(finish(DEVICE.execute((one_shot,))), [1, 0, 0, 0])


def test_values_that_say_two_things_are_refused():
    class Two(float):
        def __mul__(self, other):
            return 3.14 * other

    class Array(np.ndarray):
        pass

    sly = np.array(0.1).view(Array)
    for op in (qml.RX(Two(0), 0), qml.RX(sly, 0), qml.QubitUnitary(np.eye(2).view(Array), 0)):
        assert refused(Script([op], Z)) == "circuit-two-faces"
    kind = type("Sly", (Turn,), {"compute_matrix": staticmethod(lambda _a: np.eye(2).view(Array))})
    assert refused(Script([kind(0.1, 0)], Z)) == "circuit-two-faces"
    for angle in (1, 0.5, np.float32(0.5), qml.numpy.array(0.5), torch.tensor(0.5)):
        assert settled(Script([qml.RX(angle, 0)], Z))[1].circuit.size == 1


def test_measurements_and_observables_with_gates_of_their_own_are_refused():
    class Sly(qml.Z):
        def diagonalizing_gates(self):
            return [qml.X(self.wires)]

    class Process(qml.measurements.ExpectationMP):
        def diagonalizing_gates(self):
            return [qml.X(0)]

    patched = qml.Z(0)
    patched.diagonalizing_gates = lambda: [qml.X(0)]
    for process in (
        qml.expval(Sly(0)), qml.expval(2 * Sly(0)), qml.expval(qml.Z(1) @ Sly(0)),
        Process(qml.Z(0)), qml.expval(patched), qml.expval(qml.Z(1) + patched),
    ):  # fmt: skip
        assert refused(Script([qml.X(0)], [process])) == "circuit-two-faces"
    fine = (qml.expval(2 * qml.Z(0) + qml.X(1) @ qml.Y(0)), qml.probs(wires=0), qml.counts())
    assert settled(Script([qml.X(0)], [*fine], shots=5))[1].circuit.size == 1
