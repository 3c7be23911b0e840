import json
import random

import msgspec
import pytest

from interlock.circuits.canonical import Circuit, Control, Operation, Register
from interlock.errors import InputError


def bell(*extra):
    return Circuit(
        num_qubits=3,
        num_clbits=2,
        operations=(
            Operation("h", (), (0,)),
            Operation("cx", (), (0, 1)),
            *extra,
            Operation("measure", (), (0,), (0,)),
            Operation("measure", (), (1,), (1,)),
        ),
    )


_SWITCH = (
    '{"num_qubits": 1, "num_clbits": 1, "operations": '
    '[["switch_case", [], [0], [0], [["bit", 0], [[["x", [], [0]]], []], %s]]]}'
)


@pytest.mark.parametrize(
    "text",
    [
        '{"num_qubits": 1, "num_qubits": 2}',
        '{"num_qubits": 2, "operations": [["h", [], [0]]], "operations": []}',
        b'{"num_qubits": 1, "num\\u005fqubits": 2}',
        _SWITCH % "[[1], [1]]",
        _SWITCH % "[[], [1]]",
    ],
)
def test_what_stands_twice_is_refused(text):
    with pytest.raises(InputError) as error:
        Circuit.from_json(text)
    assert error.value.code in ("circuit-json", "circuit-invalid")
    assert "twice" in f"{error.value} {error.value.got}"
    once = b'{ "num_qubits": 1,\n "version": 1, "registers": [["\xc3\xa4 \\n", []]] }'
    assert Circuit.from_json(once).registers[0].name == "\u00e4 \n"


def test_facts_of_a_circuit():
    circuit = bell(Operation("barrier", (), (0, 1)))
    assert (circuit.depth, circuit.size, circuit.two_qubit_ops) == (3, 4, 1)
    assert circuit.used_qubits == {0, 1}
    assert circuit.used_edges == {(0, 1)}
    assert circuit.measured == ((0, 0), (1, 1))
    assert circuit.facts(shots=10).shots == 10


def test_order_of_independent_operations_does_not_count():
    ops = [Operation("h", (), (q,)) for q in range(3)] + [Operation("cx", (), (0, 1))]
    one = Circuit(num_qubits=3, operations=tuple(ops))
    for seed in range(20):
        mixed = ops[:3]
        random.Random(seed).shuffle(mixed)
        other = Circuit(num_qubits=3, operations=(*mixed, ops[3]))
        assert other.sha256 == one.sha256


@pytest.mark.parametrize(
    "change",
    [
        {"num_qubits": 4},
        {"num_clbits": 3},
        {"operations": bell(Operation("barrier", (), (0, 1))).operations},
        {"operations": bell().operations[::-1]},
        {"operations": bell(Operation("rz", (1e-300,), (0,))).operations},
        {"operations": bell(Operation("x", (), (2,))).operations},
        {"registers": (Register("a", (0,)), Register("b", (1,)))},
    ],
)
def test_everything_that_matters_changes_the_identity(change):
    assert msgspec.structs.replace(bell(), **change).sha256 != bell().sha256


def test_swapped_registers_have_another_identity():
    ab = msgspec.structs.replace(bell(), registers=(Register("a", (0,)), Register("b", (1,))))
    ba = msgspec.structs.replace(bell(), registers=(Register("a", (1,)), Register("b", (0,))))
    assert ab.sha256 != ba.sha256


def test_what_no_measurement_sees_does_not_count():
    assert msgspec.structs.replace(bell(), global_phase=1.0).sha256 == bell().sha256
    named = msgspec.structs.replace(bell(), registers=(Register("c", (0, 1)),))
    assert named.sha256 == bell().sha256
    with_lines = msgspec.structs.replace(bell(), lines=((1, 1),) * 4)
    assert with_lines == bell()
    assert with_lines.sha256 == bell().sha256


def test_barriers_take_a_place():
    def build(*ops):
        return Circuit(num_qubits=2, operations=ops).sha256

    x0, x1 = Operation("x", (), (0,)), Operation("x", (), (1,))
    both, turned = Operation("barrier", (), (0, 1)), Operation("barrier", (), (1, 0))
    assert build(x0, both, x1) != build(x0, x1, both)
    assert build(x0, both, x1) != build(x1, both, x0)
    assert build(x0, both, x1) == build(x0, turned, x1)


def loop(rounds):
    body = (Operation("cx", (), (0, 1)), Operation("x", (), (0,)))
    control = Control(["range", 0, rounds, 1], (body,))
    return Circuit(num_qubits=2, operations=(Operation("for_loop", (), (0, 1), (), control),))


def test_blocks_count_with_their_rounds():
    assert (loop(1000).depth, loop(1000).size, loop(1000).two_qubit_ops) == (2000, 2001, 1000)
    assert loop(10).sha256 != loop(11).sha256
    assert loop(10).bounded


@pytest.mark.parametrize(
    ("bounds", "rounds"),
    [((0, 5, 1), 5), ((0, 5, 2), 3), ((5, 0, -1), 5), ((5, 0, -2), 3), ((0, 0, 1), 0),
     ((3, 1, 1), 0), ((0, 1, -1), 0), ((-(2**62), 2**62, 1), 2**63)],
)  # fmt: skip
def test_rounds_of_a_range(bounds, rounds):
    control = Control(["range", *bounds], ((Operation("x", (), (0,)),),))
    circuit = Circuit(num_qubits=1, operations=(Operation("for_loop", (), (0,), (), control),))
    assert Circuit.from_json(circuit.to_json()).size == 1 + rounds


def test_parameters_and_binding():
    circuit = Circuit(
        num_qubits=1,
        operations=(Operation("rx", ("2*a + b",), (0,)), Operation("rz", ("a",), (0,))),
    )
    assert circuit.parameters == ("a", "b")
    bound = circuit.bind({"a": 0.5, "b": 1.0})
    assert [op.params for op in bound.operations] == [(2.0,), (0.5,)]
    assert bound.sha256 != circuit.sha256
    with pytest.raises(InputError) as error:
        circuit.bind({"a": 0.5})
    assert error.value.code == "circuit-unbound"


def test_a_loop_symbol_is_not_free_and_not_bound():
    control = Control(["range", 0, 3, 1], ((Operation("rx", ("a + i",), (0,)),),), (), "i")
    circuit = Circuit(num_qubits=1, operations=(Operation("for_loop", (), (0,), (), control),))
    assert circuit.parameters == ("a",)
    inner = circuit.bind({"a": 1.0, "i": 9.0}).operations[0].control.blocks[0][0]
    assert inner.params == ("i + 1",)


def test_json_round_trip_and_identity_survive():
    circuit = msgspec.structs.replace(loop(3), num_clbits=1, registers=(Register("c", (0,)),))
    again = Circuit.from_json(circuit.to_json())
    assert again == circuit
    assert again.sha256 == circuit.sha256


def damage(**changes):
    document = json.loads(bell().to_json())
    document.update(changes)
    return json.dumps(document)


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", "null", "\x00", '{"num_qubits": "2"}',
        damage(version=2),
        damage(num_qubits=-1),
        damage(num_qubits=10**15),
        damage(extra=1),
        damage(operations=[["h", [], [9]]]),
        damage(operations=[["cx", [], [0, 0]]]),
        damage(operations=[["h", [1.0], [0]]]),
        damage(operations=[["evil", [], [0]]]),
        damage(operations=[["measure", [], [0], []]]),
        damage(operations=[["rx", ["1 + 1"], [0]]]),
        damage(operations=[["rx", ["a+1"], [0]]]),
        damage(operations=[["rx", [-0.0], [0]]]),
        damage(operations=[["break_loop", [], [0]]]),
        damage(operations=[["if_else", [], [0], [], None]]),
        damage(operations=[["if_else", [], [0], [], [["bit", 0], [[]]]]]),
        damage(operations=[["if_else", [], [0], [0], [["bit", True], [[]]]]]),
        damage(operations=[["if_else", [], [0], [0], [["bit", 0], [[["x", [], [1]]]]]]]),
        damage(operations=[["for_loop", [], [0], [], [["range", 0, 9, 0], [[]]]]]),
        damage(operations=[["box", [], [0], [], [["bit", 0], [[]]]]]),
        damage(registers=[["a", [0]], ["a", [1]]]),
        damage(registers=[["a", [0, 7]]]),
        "[" * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_circuit_is_refused(text):
    with pytest.raises(InputError) as error:
        Circuit.from_json(text)
    assert error.value.code in ("circuit-json", "circuit-invalid", "circuit-expression")


def test_nesting_is_bounded():
    text = '["x",[],[0]]'
    for _ in range(200):
        text = f'["box",[],[0],[],[null,[[{text}]]]]'
    with pytest.raises(InputError):
        Circuit.from_json('{"num_qubits":1,"operations":[' + text + "]}")
