"""A settled Qiskit circuit is the same whenever it is read: what is checked is what runs."""

import copy

import numpy as np
import pytest
from qiskit import QuantumCircuit, transpile
from qiskit.circuit import Gate, Measure, Parameter
from qiskit.circuit.library import (
    C4XGate,
    CXGate,
    DiagonalGate,
    HGate,
    Initialize,
    MCXGate,
    PauliEvolutionGate,
    PermutationGate,
    QFTGate,
    RXGate,
    UnitaryGate,
    ZGate,
)
from qiskit.quantum_info import Operator, SparsePauliOp

from interlock.circuits.matrices import unitary
from interlock.circuits.qiskit_adapter import from_qiskit
from interlock.circuits.qiskit_settle import settled
from interlock.errors import InputError


def circuit_of(gate):
    circuit = QuantumCircuit(gate.num_qubits, gate.num_clbits)
    circuit.append(gate, circuit.qubits, circuit.clbits)
    return circuit


def rx(angle):
    circuit = QuantumCircuit(1)
    circuit.rx(angle, 0)
    return circuit


class Turn(Gate):
    """A gate whose next definition is the next of the given angles."""

    def __init__(self, *angles):
        super().__init__("turn", 1, [])
        self.angles = angles
        self.reads = 0

    @property
    def definition(self):
        self.reads += 1
        return rx(self.angles[min(self.reads, len(self.angles)) - 1])

    @definition.setter
    def definition(self, _value):
        pass

    def __deepcopy__(self, _memo=None):
        return self

    copy = to_mutable = __deepcopy__


def test_a_definition_that_changes_is_refused_or_run_as_it_was_checked():
    with pytest.raises(InputError) as error:
        settled(circuit_of(Turn(0.3, 0.9)))
    assert error.value.code == "circuit-two-faces"
    fixed, form, _ = settled(circuit_of(Turn(0.3, 0.3, 0.9)))  # changes only after the check
    assert form.operations[0].params == (0.3,)
    for _ in range(3):
        assert from_qiskit(fixed) == form
    assert Operator(transpile(fixed, basis_gates=["rx"])).equiv(RXGate(0.3))
    assert type(fixed.data[0].operation) is Gate


def test_a_definition_of_a_circuit_class_that_changes():
    class Shifting(QuantumCircuit):
        reads = 0

        @property
        def data(self):
            type(self).reads += 1
            return rx(0.3 if self.reads < 3 else 0.9).data

    gate = Gate("inner", 1, [])
    gate._definition = Shifting(1)
    outer = circuit_of(gate)
    Shifting.reads = 0
    with pytest.raises(InputError) as error:
        settled(outer)
    assert error.value.code == "circuit-two-faces"
    Shifting.reads = 10  # from here on it does not change
    fixed, form, _ = settled(outer)
    assert from_qiskit(fixed) == form == from_qiskit(fixed)
    assert type(fixed.data[0].operation.definition) is QuantumCircuit


def test_a_controlled_gate_is_the_control_of_its_base():
    for controls in (2, 3):
        gate = HGate().control(controls)
        assert settled(circuit_of(gate))
        gate.base_gate = ZGate()
        with pytest.raises(InputError) as error:
            settled(circuit_of(gate))
        assert error.value.code == "circuit-two-faces"
    wide = HGate().control(9)  # beyond comparing: the base is not there any more in what runs
    wide.base_gate = ZGate()
    fixed, form, _ = settled(circuit_of(wide))
    assert type(fixed.data[0].operation) is Gate
    assert from_qiskit(fixed) == form
    mcx = MCXGate(5)
    mcx.base_gate = ZGate()
    with pytest.raises(InputError):
        settled(circuit_of(mcx))
    angle = Parameter("a")
    assert settled(circuit_of(RXGate(angle).control(2, ctrl_state=1)))


@pytest.mark.parametrize(
    "gate",
    [CXGate(ctrl_state=0), MCXGate(4), C4XGate(), QFTGate(3), DiagonalGate([1, -1j]),
     HGate().control(2, ctrl_state=1), UnitaryGate(np.eye(2))],
    ids=lambda g: type(g).__name__.removeprefix("_Singleton"),
)  # fmt: skip
def test_gates_of_the_sdk_stay_what_they_are(gate):
    fixed, form, _ = settled(circuit_of(gate))
    assert Operator(fixed) == Operator(circuit_of(gate))
    assert fixed.data[0].operation.name == gate.name
    assert from_qiskit(fixed) == form


def test_evolution_runs_as_the_steps_that_were_checked():
    # its matrix is exact, its definition one Trotter step: a simulator would take the matrix
    gate = PauliEvolutionGate(SparsePauliOp(["ZZ", "XI"]), 0.3)
    fixed, _, _ = settled(circuit_of(gate))
    assert Operator(fixed).equiv(Operator(gate.definition))
    assert not Operator(fixed).equiv(Operator(circuit_of(gate)))


def test_parameters_are_bound_in_gates_that_were_settled():
    angle = Parameter("a")

    class Mine(Gate):
        def _define(self):
            self.definition = rx(self.params[0])

    for value in (angle, 2 * angle + 0.1):
        fixed, _, _ = settled(circuit_of(Mine("mine", 1, [value])))
        bound = fixed.assign_parameters({angle: 0.4})
        wanted = 0.4 if value is angle else 0.9
        assert Operator(bound).equiv(RXGate(wanted))


def test_a_matrix_changed_later_is_not_what_runs():
    matrix = np.eye(2, dtype=complex)
    gate = UnitaryGate(matrix)
    fixed, form, _ = settled(circuit_of(gate))
    gate.params[0][0, 0] = -1
    assert from_qiskit(fixed) == form


def test_control_flow_and_what_it_holds_is_settled():
    circuit = QuantumCircuit(1, 1)
    circuit.measure(0, 0)
    with circuit.if_test((0, True)):
        circuit.append(Turn(0.3, 0.3, 0.9), [0])
    fixed, form, _ = settled(circuit)
    assert from_qiskit(fixed) == form
    assert type(fixed.data[1].operation.blocks[0].data[0].operation) is Gate


def test_names_registers_labels_and_layout_are_kept():
    circuit = QuantumCircuit(2, 2, name="mine", metadata={"a": 1}, global_phase=0.5)
    circuit.append(Turn(0.3), [1])
    circuit.append(HGate(label="noisy"), [0])
    circuit.delay(100, 0, "dt")
    circuit.barrier()
    circuit.append(Measure(label="m"), [0], [1])
    circuit = transpile(circuit, coupling_map=[[0, 1]], optimization_level=0)
    fixed, _, _ = settled(circuit)
    assert fixed.qregs == circuit.qregs
    assert fixed.cregs == circuit.cregs
    assert (fixed.name, fixed.metadata, fixed.global_phase) == ("mine", {"a": 1}, 0.5)
    assert fixed.layout is circuit.layout
    assert [i.operation.label for i in fixed.data] == [i.operation.label for i in circuit.data]


def test_initialize_is_kept():
    fixed, form, _ = settled(circuit_of(Initialize([0, 1])))
    assert type(fixed.data[0].operation) is Initialize
    assert form.operations[0].name == "reset"


def test_plain_circuits_are_copied_as_they_are():
    circuit = QuantumCircuit(1, 1)
    circuit.h(0)
    circuit.measure(0, 0)
    fixed, form, _ = settled(circuit)
    circuit.x(0)
    assert from_qiskit(fixed) == form
    assert fixed == copy.copy(fixed)


def test_what_is_known_of_a_gate_holds_for_no_other():
    """Reading a library gate is remembered by what it is made from; each is still looked at."""
    for make in (C4XGate, lambda: MCXGate(4), lambda: MCXGate(5)):
        good = settled(circuit_of(make()))[1]
        assert settled(circuit_of(make()))[1] == good
        other = make().to_mutable() if hasattr(make(), "to_mutable") else make()
        other._definition = QuantumCircuit(other.num_qubits)
        with pytest.raises(InputError) as error:
            settled(circuit_of(other))
        assert error.value.code == "circuit-two-faces"
        base = make().to_mutable() if hasattr(make(), "to_mutable") else make()
        base.base_gate = ZGate()
        with pytest.raises(InputError):
            settled(circuit_of(base))
    assert settled(circuit_of(CXGate(ctrl_state=0)))[1] != settled(circuit_of(CXGate()))[1]
    first, second = (settled(circuit_of(DiagonalGate([1, v])))[1] for v in (1j, -1j))
    assert first != second


def test_a_circuit_as_a_gate_is_not_the_callers_any_more():
    inner = rx(0.3)
    gate = inner.to_gate()
    outer = QuantumCircuit(1)
    outer.append(gate, [0], copy=False)
    fixed, form, _ = settled(outer)
    gate._definition.x(0)
    assert from_qiskit(fixed) == form


def test_a_permutation_is_its_swaps_and_its_pattern_is_nobody_elses():
    pattern = np.array([2, 0, 3, 1])
    circuit = QuantumCircuit(4)
    gate = PermutationGate(pattern)
    circuit.append(gate, [3, 1, 0, 2])
    copy, form, _ = settled(circuit)
    assert np.allclose(unitary(form.operations, 4), Operator(circuit).data)
    circuit.data[0].operation.params[0][:] = [0, 1, 2, 3]
    gate.params[0][:] = [0, 1, 2, 3]
    assert np.allclose(unitary(form.operations, 4), Operator(copy).data)
    gate = PermutationGate([1, 0])
    gate.__array__ = lambda *_, **__: np.eye(4)
    patched = QuantumCircuit(2)
    patched.append(gate, [0, 1])
    with pytest.raises(InputError):
        settled(patched)
