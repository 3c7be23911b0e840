import math

import numpy as np
import pytest
from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister, qasm2
from qiskit.circuit import Instruction, Parameter, ParameterVector
from qiskit.circuit.classical import expr
from qiskit.circuit.library import (
    C3XGate,
    C4XGate,
    HGate,
    QFTGate,
    UnitaryGate,
    XGate,
    standard_gates,
)
from qiskit.quantum_info import Operator

from interlock.circuits.canonical import Circuit
from interlock.circuits.gates import GATES
from interlock.circuits.qiskit_adapter import from_qiskit, to_qiskit
from interlock.errors import InputError


def same(circuit):
    canonical = from_qiskit(circuit)
    back = to_qiskit(canonical)
    assert from_qiskit(back) == canonical
    assert Circuit.from_json(canonical.to_json()) == canonical
    return canonical, back


@pytest.mark.parametrize("name", sorted(set(GATES) - {"gphase"}))
def test_every_gate_of_the_vocabulary_round_trips(name):
    params, qubits = GATES[name]
    from interlock.circuits.canonical import Operation

    op = Operation(name, tuple(0.1 + 0.2 * i for i in range(params)), tuple(range(qubits)))
    circuit = Circuit(num_qubits=qubits, operations=(op,))
    assert from_qiskit(to_qiskit(circuit)) == circuit


def test_every_standard_gate_of_qiskit_keeps_its_unitary():
    for gate in standard_gates.get_standard_gate_name_mapping().values():
        if not hasattr(gate, "to_matrix") or gate.name == "delay":
            continue
        values = [0.3 + 0.1 * i for i in range(len(gate.params))]
        circuit = QuantumCircuit(gate.num_qubits)
        circuit.append(gate.base_class(*values), range(gate.num_qubits))
        _, back = same(circuit)
        assert Operator(back).equiv(Operator(circuit), atol=1e-9)


def test_depth_and_size_are_those_of_qiskit():
    from qiskit.circuit.random import random_circuit

    for seed in range(20):
        circuit = random_circuit(6, 12, seed=seed, measure=True)
        flat = to_qiskit(from_qiskit(circuit))
        canonical, _ = same(flat)
        assert canonical.depth == flat.depth()
        assert canonical.size == flat.size()


def test_a_gate_that_lies_about_its_name_is_refused():
    inner = QuantumCircuit(2)
    inner.x(1)
    lie = inner.to_gate()
    lie.name = "cx"
    liar = QuantumCircuit(2)
    liar.append(lie, [0, 1])
    with pytest.raises(InputError) as error:  # Aer would run a CX, a transpiler an X
        from_qiskit(liar)
    assert error.value.code == "circuit-two-faces"


def test_a_renamed_standard_gate_is_what_it_does():
    gate = XGate().to_mutable()
    gate.name = "z"
    circuit = QuantumCircuit(1)
    circuit.append(gate, [0])
    canonical = from_qiskit(circuit)
    assert Operator(to_qiskit(canonical)).equiv(Operator(XGate()))

    class Sly(HGate):
        def __init__(self):
            super().__init__()

        def _define(self):
            self.definition = QuantumCircuit(1)

    circuit = QuantumCircuit(1)
    circuit.append(Sly(), [0])
    assert [op.name for op in from_qiskit(circuit).operations] in ([], ["h"])


def test_open_controls_are_not_lost():
    circuit = QuantumCircuit(2)
    circuit.cx(0, 1, ctrl_state=0)
    plain = QuantumCircuit(2)
    plain.cx(0, 1)
    canonical, back = same(circuit)
    assert canonical.sha256 != from_qiskit(plain).sha256
    assert Operator(back).equiv(Operator(circuit))


def test_changing_a_circuit_changes_its_identity_at_once():
    circuit = QuantumCircuit(1)
    circuit.rx(0.1, 0)
    before = from_qiskit(circuit).sha256
    circuit.data[0] = circuit.data[0].replace(params=[0.2])
    assert from_qiskit(circuit).sha256 != before


def test_composite_gates_are_written_out():
    circuit = QuantumCircuit(3)
    circuit.append(QFTGate(3), range(3))
    circuit.append(UnitaryGate(np.array([[0, 1], [1, 0]])), [0])
    canonical, back = same(circuit)
    assert "unitary" in {op.name for op in canonical.operations}
    assert Operator(back).equiv(Operator(circuit), atol=1e-9)


def test_parameter_expressions():
    a, b = Parameter("a"), Parameter("b")
    v = ParameterVector("θ", 3)
    circuit = QuantumCircuit(1)
    products = (a * b, (a + 1) ** 2, a**0.5, 1 / (a + 1))
    calls = (a.sin() * 2, abs(a), a.exp() + v[1])
    for value in (a, -a, 2 * a + 1, v[2] - v[0] / 3, *products, *calls):
        circuit.rx(value, 0)
    canonical, back = same(circuit)
    assert canonical.parameters == ("a", "b", "θ[0]", "θ[1]", "θ[2]")
    values = {p.name: 0.3 + 0.1 * i for i, p in enumerate(circuit.parameters)}
    direct = from_qiskit(circuit.assign_parameters({p: values[p.name] for p in circuit.parameters}))
    for left, right in zip(canonical.bind(values).operations, direct.operations, strict=True):
        assert math.isclose(left.params[0], right.params[0], rel_tol=1e-12)
    assert [p.name for p in back.parameters] == [p.name for p in circuit.parameters]


def test_parameter_names_that_look_like_expressions():
    circuit = QuantumCircuit(1)
    x = Parameter("a + sin(b)")
    circuit.rx(x * x + 1, 0)
    assert from_qiskit(circuit).parameters == ("a + sin(b)",)


def test_nan_is_kept_to_be_found():
    circuit = QuantumCircuit(1)
    circuit.rx(math.nan, 0)
    circuit.rx(-math.inf, 0)
    assert [op.params for op in from_qiskit(circuit).operations] == [("NaN",), ("-Infinity",)]


def test_control_flow_round_trips():
    circuit = QuantumCircuit(
        QuantumRegister(3), ClassicalRegister(2, "a"), ClassicalRegister(1, "b")
    )
    a, b = circuit.cregs
    circuit.measure(0, a[0])
    with circuit.if_test((a, 2)) as otherwise:
        circuit.x(1)
        with circuit.if_test((b[0], 0)):
            circuit.cz(1, 2)
    with otherwise:
        circuit.h(2)
    with circuit.while_loop(expr.logic_not(expr.bit_and(a[0], b[0]))):
        circuit.x(0)
        circuit.measure(0, a[0])
        circuit.break_loop()
    with circuit.for_loop(range(5)) as i:
        circuit.rx(i * 2, 0)
    with circuit.switch(a) as case:
        with case(0, 1):
            circuit.x(0)
        with case(case.DEFAULT):
            circuit.z(0)
    canonical, _ = same(circuit)
    assert not canonical.bounded
    assert canonical.parameters == ()


def test_delays_have_one_unit():
    left, right = QuantumCircuit(1), QuantumCircuit(1)
    left.delay(2, 0, unit="us")
    right.delay(2e-6, 0, unit="s")
    assert from_qiskit(left).sha256 == from_qiskit(right).sha256
    circuit = QuantumCircuit(1)
    circuit.delay(100, 0)
    same(circuit)


def test_what_has_no_form_is_refused_with_a_reason():
    opaque = QuantumCircuit(1)
    opaque.append(Instruction("black box", 1, 0, []), [0])
    variables = QuantumCircuit(1)
    variables.add_var("x", expr.lift(5, expr.lift(5).type))
    for circuit in (opaque, variables):
        with pytest.raises(InputError) as error:
            from_qiskit(circuit)
        assert error.value.code == "circuit-unsupported"


def test_nested_definitions_cannot_explode(monkeypatch):
    monkeypatch.setattr("interlock.circuits.qiskit_adapter.MAX_OPERATIONS", 20_000)
    gates = "gate g0 a { x a; }" + "".join(
        f"gate g{i} a {{ g{i - 1} a; g{i - 1} a; }}" for i in range(1, 40)
    )
    circuit = qasm2.loads(
        f'OPENQASM 2.0; include "qelib1.inc"; {gates} qreg q[1]; g39 q[0];', include_path=()
    )
    with pytest.raises(InputError) as error:
        from_qiskit(circuit)
    assert error.value.code == "circuit-too-large"


def test_a_wide_controlled_x_is_named_only_when_it_is_that_gate():
    def read(gate):
        circuit = QuantumCircuit(gate.num_qubits)
        circuit.append(gate, range(gate.num_qubits))
        canonical, back = same(circuit)
        assert Operator(back).equiv(Operator(circuit), atol=1e-9)
        return [op.name for op in canonical.operations]

    for kind, name in ((C3XGate, "c3x"), (C4XGate, "c4x")):
        assert read(kind()) == read(kind().to_mutable()) == [name]
        assert read(kind(ctrl_state=0)) != [name]
        assert read(kind(ctrl_state=5)) != [name]
        other = QuantumCircuit(kind().num_qubits)
        other.h(0)
        changed = kind().to_mutable()
        changed.definition = other
        circuit = QuantumCircuit(changed.num_qubits)
        circuit.append(changed, range(changed.num_qubits))
        with pytest.raises(InputError) as error:
            from_qiskit(circuit)
        assert error.value.code == "circuit-two-faces"
