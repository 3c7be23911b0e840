import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit import QuantumCircuit, qasm2, qasm3
from qiskit.circuit import ForLoopOp, Parameter
from qiskit.circuit.random import random_circuit
from qiskit.quantum_info import Operator

from interlock.circuits.canonical import Circuit, Operation
from interlock.circuits.gates import GATES
from interlock.circuits.matrices import gate_matrix
from interlock.circuits.qasm import parse
from interlock.circuits.qasm.operations import Operations
from interlock.circuits.qasm.parser import Limits
from interlock.circuits.qiskit_adapter import from_qiskit, to_qiskit
from interlock.circuits.validate import validate
from interlock.errors import InputError

HEAD2 = 'OPENQASM 2.0; include "qelib1.inc"; qreg q[3]; creg c[3]; '
HEAD3 = 'OPENQASM 3.0; include "stdgates.inc"; qubit[3] q; bit[3] c; '


def ops(text, head=HEAD3):
    circuit = parse(head + text)
    validate(circuit)
    return [str(op) for op in circuit.operations]


@pytest.mark.parametrize("name", sorted(set(GATES) - {"gphase", "rccx", "rcccx"}))
def test_matrices_are_those_of_qiskit(name):
    params, qubits = GATES[name]
    values = tuple(0.3 + 0.4 * i for i in range(params))
    circuit = Circuit(
        num_qubits=qubits, operations=(Operation(name, values, tuple(range(qubits))),)
    )
    assert np.allclose(Operator(to_qiskit(circuit)).data, gate_matrix(name, values))


@pytest.mark.parametrize("seed", range(12))
def test_agrees_with_qiskit_on_what_qiskit_writes(seed):
    circuit = random_circuit(4, 8, seed=seed, max_operands=4)
    for dumps in (qasm2.dumps, qasm3.dumps):
        found = parse(dumps(circuit))
        assert Operator(to_qiskit(found)).equiv(Operator(circuit), atol=1e-8)


def test_same_identity_from_text_and_from_the_sdk():
    circuit = random_circuit(5, 10, seed=3, max_operands=2, measure=True)
    flat = to_qiskit(from_qiskit(circuit))
    want = from_qiskit(flat).sha256
    assert parse(qasm3.dumps(flat)).sha256 == want
    assert parse(qasm2.dumps(flat)).sha256 == want


def test_statements_of_both_versions():
    assert ops("h q; cx q[0],q[1]; measure q[0] -> c[0]; reset q[1];", HEAD2) == [
        "h q[0]", "h q[1]", "h q[2]", "cx q[0], q[1]", "measure q[0] -> c[0]", "reset q[1]",
    ]  # fmt: skip
    text = "c[0] = measure q[0]; barrier q; U(pi/2, -pi, 2**2) q[0:1]; let a = q[1:2]; x a;"
    assert ops(text) == [
        "measure q[0] -> c[0]", "barrier q[0], q[1], q[2]", "U(1.5708, -3.14159, 4) q[0]",
        "U(1.5708, -3.14159, 4) q[1]", "x q[1]", "x q[2]",
    ]  # fmt: skip
    assert ops("delay[100ns] q[0]; delay[3dt] q[1];") == ["delay(1e-07) q[0]", "delay_dt(3) q[1]"]


def test_modifiers():
    assert ops("ctrl @ x q[0], q[1]; ctrl(2) @ x q[0], q[1], q[2]; inv @ s q[0];") == [
        "cx q[0], q[1]", "ccx q[1], q[0], q[2]", "sdg q[0]",
    ]  # fmt: skip
    assert ops("pow(2) @ t q[0]; pow(-1) @ rx(0.5) q[1];") == [
        "t q[0]", "t q[0]", "rx(-0.5) q[1]",
    ]  # fmt: skip
    assert ops("negctrl @ x q[0], q[1];") == ["x q[0]", "cx q[0], q[1]", "x q[0]"]


def test_a_gate_is_what_its_body_does_not_what_it_is_called():
    true = "gate ecr a, b { rzx(pi/4) a, b; x a; rzx(-pi/4) a, b; } ecr q[0], q[1];"
    rzx = "gate rzx(t) a, b { h b; cx a, b; rz(t) b; cx a, b; h b; } "
    assert ops(rzx + true) == ["ecr q[0], q[1]"]
    false = rzx + true.replace("x a;", "y a;")
    assert ops(false) != ["ecr q[0], q[1]"]
    assert len(ops(false)) == 3


def test_inputs_and_constants():
    text = HEAD3 + "input float[64] t; const float s = 0.5; rx(2*t + s) q[0]; ry(sin(t)) q[1];"
    circuit = parse(text)
    assert circuit.parameters == ("t",)
    assert [op.params for op in circuit.operations] == [("2*t + 0.5",), ("sin(t)",)]


def test_conditions_and_loops():
    circuit = parse(
        HEAD3 + "if (c == 5) { x q[0]; } else h q[1]; while (!c[0]) { c[0] = measure q[0]; break; }"
        "for int i in [0:2] { rx(i * 0.5) q[0]; } for int i in [0:2] { x q[i]; }"
        "switch (c) { case 0, 1 { x q[0]; } default { z q[0]; } }"
    )
    validate(circuit)
    names = [op.name for op in circuit.operations]
    assert names == ["if_else", "while_loop", "for_loop", "x", "x", "x", "switch_case"]
    first = circuit.operations[0]
    assert first.control.condition == ["==", ["bits", [0, 1, 2]], ["value", 5, 3]]
    assert (first.qubits, first.clbits) == ((0, 1), (0, 1, 2))
    assert circuit.operations[2].control.symbol == "i"
    to_qiskit(circuit)


def test_lines_and_columns():
    circuit = parse('OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[2];\nh q[0];\n  cx q[0],q[1];')
    assert circuit.lines == ((4, 1), (5, 3))


@pytest.mark.parametrize(
    ("text", "code", "where"),
    [
        ("foo q[0];", "qasm-undefined", "line 1, column"),
        ("\nh q[7];", "qasm-syntax", "line 2, column 3"),
        ("h r[0];", "qasm-undefined", ""),
        ("cx q[0], q[0];", "qasm-syntax", ""),
        ("rx(1/2) q[0];", "qasm-syntax", ""),
        ("rx(1/0) q[0];", "qasm-syntax", ""),
        ("rx q[0];", "qasm-syntax", ""),
        ("h q[0]", "qasm-syntax", ""),
        ("measure q[0] -> c;", "qasm-syntax", ""),
        ("qubit[3] q;", "qasm-undefined", ""),
        ("gate x a { h a; }", "qasm-undefined", ""),
        ("gate g a { h b; }", "qasm-undefined", ""),
        ("gate g a { g a; }", "qasm-undefined", ""),
        ("gate g a { measure a; }", "qasm-undefined", ""),
        ("def f() { }", "qasm-unsupported", ""),
        ("#pragma x", "qasm-unsupported", ""),
        ("int i = 3;", "qasm-unsupported", ""),
        ("if (1) x q[0];", "qasm-syntax", ""),
        ("if (c == 9) x q[0];", "qasm-syntax", ""),
        ("break;", "qasm-syntax", ""),
        ("if (c[0]) { break; }", "qasm-syntax", ""),
        ("for int i in [0:1] { x q[i]; } box { continue; }", "qasm-syntax", ""),
        ("/* no end", "qasm-syntax", ""),
        ("ctrl @ t q[0], q[1];", "qasm-unsupported", ""),
        ("h \x01q;", "qasm-syntax", ""),
        ("let a = q[{0,0}]; x a;", "qasm-syntax", ""),
    ],
)
def test_errors_say_what_where_and_what_next(text, code, where):
    with pytest.raises(InputError) as error:
        parse(HEAD3 + text)
    assert error.value.code == code
    assert error.value.message.startswith("line ")
    assert where in error.value.message
    assert error.value.fix


@pytest.mark.parametrize(
    "text",
    [
        "rx(" + "(" * 5000 + "1" + ")" * 5000 + ") q[0];",
        "rx(" + "-" * 5000 + "1) q[0];",
        "rx(" + "sin(" * 500 + "1" + ")" * 500 + ") q[0];",
        "{" * 5000,
        "if (c[0]) " * 5000 + "x q[0];",
        "box {" * 5000,
        "qubit[999999999999] r;",
        "bit[999999999] r;",
        "h $999999999999;",
        "pow(1000000000) @ h q[0];",
        "rx(9**9**9**9) q[0];",
        "rx(1 << 100000) q[0];",
        "for int i in [0:1000000000] { x q[i % 3]; }",
        "rx(" + "9" * 5000 + ") q[0];",
        "for int i in [0:100000000000] { let a = q[i]; }",
        "input float t; rx((t+1)**40 * (t**0.5+2)**40) q[0];",
    ],
)
def test_bombs_are_refused(text):
    with pytest.raises(InputError):
        parse(HEAD3 + text, Limits(max_operations=10_000))


def test_nested_gates_cannot_explode():
    text = "gate g0 a { x a; }" + "".join(
        f"gate g{i} a {{ g{i - 1} a; g{i - 1} a; }}" for i in range(1, 40)
    )
    with pytest.raises(InputError) as error:
        parse(HEAD3 + text + "g39 q[0];", Limits(max_operations=10_000))
    assert error.value.code == "circuit-too-large"


def test_integers_that_look_octal_are_decimal():
    assert math.isclose(parse(HEAD3 + "rx(010) q[0];").operations[0].params[0], 10.0)


def test_a_controlled_global_phase_is_a_phase():
    body = "gate g a { gphase(0.5); x a; } "
    assert ops("ctrl @ gphase(0.5) q[0];") == ops("p(0.5) q[0];")
    assert ops("ctrl(2) @ gphase(0.5) q[0], q[1];") == ops("cp(0.5) q[1], q[0];")
    assert ops("negctrl @ gphase(0.5) q[0];") == ops("x q[0]; p(0.5) q[0]; x q[0];")
    assert ops("ctrl @ inv @ gphase(0.5) q[0];") == ops("p(-0.5) q[0];")
    assert ops(body + "ctrl @ g q[0], q[1];") == ops("p(0.5) q[0]; cx q[0], q[1];")
    assert ops(body + "g q[0];") == ops("x q[0];")
    assert parse(HEAD3 + "gphase(0.5); inv @ gphase(0.2);").global_phase == pytest.approx(0.3)


def test_a_loop_variable_catches_no_other_symbol():
    """A gate body or a constant may hold another symbol of the loop variable's name."""
    head = 'OPENQASM 3.0; include "stdgates.inc"; input float i; gate g q { rx(i) q; } qubit[2] q;'
    circuit = parse(
        head + "for int i in [0:2] { g q[0]; rx(i) q[1]; const float x = i;"
        " for int i in [5:6] { rz(x) q[0]; ry(i) q[0]; } }"
    )
    validate(circuit)
    assert circuit.parameters == ("i",)
    outer = circuit.operations[0].control
    first, second, inner = outer.blocks[0]
    assert first.params == ("i",)  # the input
    assert second.params == (outer.symbol,)
    assert inner.control.blocks[0][0].params == (outer.symbol,)
    assert inner.control.blocks[0][1].params == (inner.control.symbol,)
    assert len({"i", outer.symbol, inner.control.symbol}) == 3
    back = from_qiskit(to_qiskit(circuit))
    assert back.sha256 == circuit.sha256
    plain = parse('OPENQASM 3.0; include "stdgates.inc"; qubit q; for int i in [0:1] { rx(i) q; }')
    assert plain.operations[0].control.symbol == "i"


def test_a_qiskit_loop_without_its_variable_catches_no_other():
    outer, inner = Parameter("i"), Parameter("i")
    circuit = QuantumCircuit(1)
    with circuit.for_loop(range(3), outer) as symbol:
        body = QuantumCircuit(1)
        body.rx(symbol, 0)
        circuit.append(ForLoopOp(range(2), inner, body), [0])
    made = from_qiskit(circuit)
    assert made.operations[0].control.symbol == "i"
    assert made.operations[0].control.blocks[0][0].control.symbol == ""
    assert made.parameters == ()


NUMBERS = st.one_of(
    st.floats(-10, 10).map(repr),
    st.sampled_from(["0", "-0", "-0.0", ".5", "-.5e-3", "2.", "1.e5", "007", "1e-300", "1e999",
                     "pi/2", "-pi", "0x10", "1_0", "9" * 50, "- 1", "--1", "a"]),
)  # fmt: skip
CALLS = st.builds(
    lambda name, params, wires, space, end: (
        f"{name}{'(' + ', '.join(params) + ')' if params else ''}{space}"
        + ("," + space).join(wires)
        + end
    ),
    st.sampled_from(["h", "rx", "cx", "cu", "mine", "none", "gphase", "measure", "U", "id"]),
    st.lists(NUMBERS, max_size=4),
    st.lists(st.sampled_from(["q[0]", "q[1]", "q[2]", "q[3]", "q", "r[0]", "c[0]", "q[-1]"]),
             max_size=3),
    st.sampled_from([" ", "", "  ", "/* x */", "\n"]),
    st.sampled_from([";", " ;", "", ";;", "; // h q[0];"]),
)  # fmt: skip


@given(st.lists(CALLS, max_size=4), st.sampled_from([HEAD2, HEAD3 + "input float a; "]))
@settings(deadline=None, max_examples=400)
def test_plain_calls_are_read_as_all_others_are(calls, head):
    text = f"{head} gate mine(a) x {{ rx(a) x; }}\n" + "\n".join(calls)
    results = []
    for plain in (Operations._plain_call, lambda *_: False):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Operations, "_plain_call", plain)
            try:
                results.append(parse(text))
            except InputError as error:
                results.append((error.code, error.message, error.got))
    assert results[0] == results[1]


@pytest.mark.parametrize(
    "angle", ["2*arcsin(sin(a/2))", "a + 1e-4", "abs(a)", "a + 1e-5*(a-0.3)*(a+1.3)*(a-2.9)"]
)
def test_a_definition_that_is_the_gate_of_its_name_at_some_angles_only_is_another(angle):
    head = "OPENQASM 3.0; gate rx(a) q { U(%s, -pi/2, pi/2) q; } qubit q; rx(5.0) q;"
    same = parse(head % "a")
    assert [op.name for op in same.operations] == ["rx"]
    other = parse(head % angle)
    assert [op.name for op in other.operations] == ["U"]
    assert parse("OPENQASM 3.0; gate x q { U(6e-5,0,0) q; U(pi,0,pi) q; } qubit q; x q;").size == 2


@pytest.mark.parametrize(
    "text",
    [
        "gate h a { U(0, 0, 0) a; } include 'stdgates.inc'; qubit q; h q;",
        "include 'stdgates.inc'; include 'stdgates.inc'; qubit q; h q;",
        "include 'stdgates.inc'; include 'qelib1.inc'; qubit q; h q;",
        "include 'stdgates.inc'; const int g = 1; gate g a { x a; } qubit q; g q;",
        "include 'stdgates.inc'; qubit[2] q; for int q in [0:1] { h q; }",
        "qubit if; U(0, 0, 0) if;",
        "gate g(in) a { U(in, 0, 0) a; } qubit q; g(1) q;",
        "qubit q; bit[2] c; switch (c) { case 1 { U(1,0,0) q; } case 1 { U(2,0,0) q; } }",
        "qubit q; bit[2] c; switch (c) { case 1, 1 { U(1,0,0) q; } }",
        "qubit q; bit[2] c; switch (c) { default { U(1,0,0) q; } case 1 { U(2,0,0) q; } }",
        "qubit[2] q; if (true) { let a = q[0]; } U(1, 0, 0) a;",
    ],
)
def test_names_and_labels_that_stand_twice_are_refused(text):
    with pytest.raises(InputError) as error:
        parse("OPENQASM 3.0; " + text.replace("'", '"'))
    assert error.value.code in ("qasm-undefined", "qasm-syntax")
    assert str(error.value).startswith("line 1")


def test_words_of_one_version_are_names_in_the_other():
    assert parse("OPENQASM 2.0; qreg box[1]; creg let[1]; measure box -> let;").size == 1
    rounds = "for int i in [0:1] { let a = q[i]; U(1, 0, 0) a; }"
    assert parse(f"OPENQASM 3.0; qubit[2] q; {rounds}").size == 2
