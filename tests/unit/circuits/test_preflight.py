import math

import pytest
from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister, transpile
from qiskit.circuit import Parameter
from qiskit_aer import AerSimulator
from qiskit_ibm_runtime.fake_provider import FakeManilaV2

from interlock.circuits.canonical import Circuit, Operation
from interlock.circuits.preflight import RULES, inspect
from interlock.circuits.qiskit_adapter import from_qiskit
from interlock.circuits.target import Target, target_of

LINE = Target(
    name="line",
    num_qubits=3,
    gates={
        "sx": None, "rz": None, "measure": None, "reset": {(0,): None},
        "cx": {(0, 1): 3e-7, (1, 2): None}, "if_else": None, "for_loop": None,
    },
)  # fmt: skip
ANY = Target(name="any")


def rules(circuit, target=ANY, kind="sample"):
    return [p.rule for p in inspect(from_qiskit(circuit), target, kind=kind)]


def circuit(n=2, clbits=2):
    return QuantumCircuit(n, clbits)


def test_a_good_circuit_has_no_problem():
    qc = circuit()
    qc.sx(0)
    qc.cx(0, 1)
    qc.measure([0, 1], [0, 1])
    assert rules(qc, LINE) == []


def build_width():
    qc = circuit(9)
    qc.sx(8)
    qc.measure([0, 8], [0, 1])
    return qc


def build_gate():
    qc = circuit()
    qc.h(0)
    qc.measure([0, 1], [0, 1])
    return qc


def build_edge():
    qc = circuit(3)
    qc.cx(0, 2)
    qc.measure([0, 2], [0, 1])
    return qc


def build_direction():
    qc = circuit()
    qc.cx(1, 0)
    qc.measure([0, 1], [0, 1])
    return qc


def build_unbound():
    qc = circuit()
    qc.rz(Parameter("a"), 0)
    qc.measure([0, 1], [0, 1])
    return qc


def build_not_finite():
    qc = circuit()
    qc.rz(math.nan, 0)
    qc.measure([0, 1], [0, 1])
    return qc


def build_no_measurement():
    qc = circuit()
    qc.sx(0)
    return qc


def build_overwritten():
    qc = circuit()
    qc.sx(0)
    qc.measure(0, 0)
    qc.measure(1, 0)
    return qc


def build_unbounded():
    qc = circuit()
    qc.measure([0, 1], [0, 1])
    with qc.while_loop((qc.clbits[0], 1)):
        qc.measure(0, 0)
    return qc


def build_condition_unset():
    qc = circuit()
    with qc.if_test((qc.clbits[0], 1)):
        qc.sx(0)
    qc.measure([0, 1], [0, 1])
    return qc


def build_negative_delay():
    return Circuit(
        num_qubits=1,
        num_clbits=1,
        operations=(
            Operation("delay", (-1.0,), (0,)),
            Operation("measure", (), (0,), (0,)),
        ),
    )


def build_not_unitary():
    flat = tuple(float(x) for x in (1, 0, 1, 0, 0, 0, 1, 0))
    return Circuit(
        num_qubits=1,
        num_clbits=1,
        operations=(Operation("unitary", flat, (0,)), Operation("measure", (), (0,), (0,))),
    )


ERRORS = {
    "width": build_width,
    "gate": build_gate,
    "edge": build_edge,
    "direction": build_direction,
    "unbound": build_unbound,
    "not-finite": build_not_finite,
    "no-measurement": build_no_measurement,
    "overwritten": build_overwritten,
    "unbounded-loop": build_unbounded,
    "condition-unset": build_condition_unset,
    "delay-negative": build_negative_delay,
    "not-unitary": build_not_unitary,
    "empty": lambda: QuantumCircuit(2, 2),
}


@pytest.mark.parametrize("rule", sorted(ERRORS))
def test_errors_name_the_rule_the_fix_and_the_place(rule):
    made = ERRORS[rule]()
    made = made if isinstance(made, Circuit) else from_qiskit(made)
    found = [p for p in inspect(made, LINE) if p.rule == rule]
    assert found, inspect(made, LINE)
    assert RULES[rule] == "error"
    assert all((found[0].message, found[0].got, found[0].expected, found[0].fix))
    assert rule in ("empty", "no-measurement") or found[0].location


def test_warnings():
    qc = circuit(3, 3)
    qc.barrier(0, 1)
    qc.barrier(0, 1)
    qc.x(2)
    qc.x(0)
    qc.measure(0, 0)
    qc.x(0)
    qc.measure(1, 1)
    found = rules(qc)
    assert {"repeated-barrier", "reuse", "dead-qubit", "register-width"} <= set(found)
    assert all(RULES[r] != "error" for r in found)


def test_faults_and_devices_that_stop_at_measurement():
    sick = Target(
        name="sick", num_qubits=3, faulty_qubits=frozenset({2}),
        faulty_edges=frozenset({(0, 1), (1, 0)}), mid_circuit=False,
    )  # fmt: skip
    qc = circuit(3)
    qc.cx(0, 1)
    qc.x(2)
    qc.measure(0, 0)
    qc.x(0)
    qc.measure(1, 1)
    assert {"faulty-qubit", "faulty-edge", "mid-circuit"} <= set(rules(qc, sick))


def test_estimates_need_no_measurement():
    qc = QuantumCircuit(1)
    assert rules(qc, kind="estimate") == []
    qc.h(0)
    assert rules(qc, kind="estimate") == []
    qc.measure_all()
    assert rules(qc, kind="estimate") == ["measurement-in-estimate"]


def test_problems_inside_blocks_are_found():
    qc = circuit(3)
    qc.measure([0, 1], [0, 1])
    with qc.if_test((qc.clbits[0], 1)):
        qc.h(0)
        qc.cx(0, 2)
    found = rules(qc, LINE)
    assert {"gate", "edge"} <= set(found)


def test_a_loop_symbol_is_bound():
    qc = circuit()
    with qc.for_loop(range(3)) as i:
        qc.rz(i, 0)
    qc.measure([0, 1], [0, 1])
    assert rules(qc, LINE) == []


def test_repeat_until_success_is_no_false_stop():
    a, b = ClassicalRegister(1, "a"), ClassicalRegister(1, "b")
    qc = QuantumCircuit(QuantumRegister(2), a, b)
    with qc.for_loop(range(3)):
        qc.h(0)
        qc.measure(0, a[0])
        with qc.if_test((a[0], 1)):
            qc.break_loop()
    qc.measure(1, b[0])
    assert [r for r in rules(qc) if RULES[r] == "error"] == []


def test_a_transpiled_circuit_fits_a_real_target_and_a_raw_one_does_not():
    backend = FakeManilaV2()
    qc = QuantumCircuit(5)
    qc.h(0)
    for q in range(1, 5):
        qc.cx(0, q)
    qc.measure_all()
    target = target_of(backend)
    assert target_of(backend) is target
    assert target.calibrated_at
    assert {"gate", "edge"} <= set(rules(qc, target))
    assert rules(transpile(qc, backend, seed_transpiler=1), target) == []
    assert rules(qc, target_of(AerSimulator())) == []
    assert rules(qc, target_of(object())) == []


@pytest.mark.parametrize("phase", [float("nan"), float("inf")])
def test_a_global_phase_that_is_not_finite_is_an_error(phase):
    qc = QuantumCircuit(1, global_phase=phase)
    qc.h(0)
    qc.measure_all()
    assert rules(qc, target_of(object())) == ["not-finite"]
    assert rules(QuantumCircuit(1, global_phase=0.5), target_of(object())) == ["empty"]


def test_a_delay_that_is_no_number_is_named_as_such():
    from interlock.circuits.qiskit_adapter import from_qiskit
    from interlock.errors import InputError

    qc = QuantumCircuit(1)
    qc.delay(float("nan"), 0, unit="s")
    with pytest.raises(InputError, match="not finite"):
        from_qiskit(qc)


@pytest.mark.parametrize(
    ("rounds", "read", "found"), [(4, False, True), (4, True, False), (1, False, False)]
)
def test_a_measurement_that_each_round_overwrites(rounds, read, found):
    made = QuantumCircuit(1, 1)
    with made.for_loop(range(rounds)):
        made.h(0)
        made.measure(0, 0)
        if read:
            with made.if_test((made.clbits[0], 1)):
                made.x(0)
    assert ("overwritten" in rules(made)) is found
