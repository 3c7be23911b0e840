import math
import random

import msgspec
import pytest
from qiskit import QuantumCircuit, transpile
from qiskit.circuit import Parameter
from qiskit.circuit.library import real_amplitudes
from qiskit.circuit.random import random_circuit
from qiskit_ibm_runtime.fake_provider import FakeGuadalupeV2, FakeManilaV2, FakeSherbrooke

from interlock.circuits.canonical import Circuit, Operation, Register
from interlock.circuits.equivalence import (
    Answer,
    Comparison,
    Placement,
    after,
    compare,
    denied,
    placement_of,
    recompiler,
)
from interlock.circuits.qiskit_adapter import from_qiskit

MANILA = FakeManilaV2()


def check(source, backend=MANILA, **options):
    compiled = transpile(source, backend, seed_transpiler=1, **options)
    return compare(from_qiskit(source), from_qiskit(compiled), placement=placement_of(compiled))


@pytest.mark.parametrize("level", [0, 1, 2, 3])
@pytest.mark.parametrize("measured", [False, True])
def test_what_the_compiler_makes_is_equivalent(level, measured):
    for seed in range(3):
        source = random_circuit(4, 5, seed=seed, max_operands=3, measure=measured)
        found = check(source, optimization_level=level)
        assert (found.answer, found.strength) == (Answer.EQUIVALENT, "proven"), found


def mutate(circuit, rng):
    ops = list(circuit.operations)
    gates = [i for i, op in enumerate(ops) if op.name not in ("measure", "barrier")]
    at = rng.choice(gates)
    kind = rng.randrange(4)
    if kind == 0:
        ops.insert(at, Operation(rng.choice(("x", "sx", "h", "t")), (), ops[at].qubits[:1]))
    elif kind == 1:
        del ops[at]
    elif kind == 2 and ops[at].params and not isinstance(ops[at].params[0], str):
        moved = (ops[at].params[0] + rng.uniform(0.05, 3), *ops[at].params[1:])
        ops[at] = msgspec.structs.replace(ops[at], params=moved)
    elif len(ops[at].qubits) == 2:
        ops[at] = msgspec.structs.replace(ops[at], qubits=ops[at].qubits[::-1])
    else:
        ops[at] = Operation("y", (), ops[at].qubits[:1])
    return msgspec.structs.replace(circuit, operations=tuple(ops))


def test_mutants_are_never_called_equivalent_unless_they_are():
    """Against an independent judge: Qiskit's own operators, on the whole unitary."""
    from qiskit.quantum_info import Operator

    from interlock.circuits.qiskit_adapter import to_qiskit

    rng = random.Random(5)
    caught = 0
    for seed in range(60):
        source = from_qiskit(random_circuit(3 + seed % 3, 4, seed=seed, max_operands=2))
        mutant = mutate(source, rng)
        same = Operator(to_qiskit(source)).equiv(Operator(to_qiskit(mutant)), atol=1e-6)
        found = compare(source, mutant)
        assert found.answer is (Answer.EQUIVALENT if same else Answer.NOT_EQUIVALENT)
        caught += not same
    assert caught > 40


def test_a_difference_comes_with_a_witness():
    source = QuantumCircuit(2)
    source.h(0)
    other = source.copy()
    other.z(1)
    found = compare(from_qiskit(source), from_qiskit(other))
    assert found.answer is Answer.NOT_EQUIVALENT
    assert found.witness["fidelity"] < 1
    wide = QuantumCircuit(10)
    wide.h(range(10))
    tampered = wide.copy()
    tampered.cz(3, 4)
    found = compare(from_qiskit(wide), from_qiskit(tampered))
    assert (found.answer, found.method) == (Answer.NOT_EQUIVALENT, "random-states")


def test_phases_alone_are_shown_by_a_superposition():
    turned = QuantumCircuit(2)
    turned.cz(0, 1)
    found = compare(from_qiskit(QuantumCircuit(2)), from_qiskit(turned))
    assert found.witness == {"input": "++", "fidelity": pytest.approx(0.25)}


def test_a_wide_difference_is_shown_where_it_is():
    source = QuantumCircuit(40)
    source.h(0)
    for q in range(39):
        source.cx(q, q + 1)
    tampered = QuantumCircuit(40)
    for number, instruction in enumerate(source.data):
        tampered.append(instruction)
        if number == 20:
            tampered.rx(0.3, 20)
    found = compare(from_qiskit(source), from_qiskit(tampered))
    assert (found.answer, found.method) == (Answer.NOT_EQUIVALENT, "qcec")
    assert found.witness["qubits"] == [20]
    assert found.witness["fidelity"] == pytest.approx(math.cos(0.15) ** 2)
    swapped = source.copy()
    swapped.swap(0, 39)
    found = compare(from_qiskit(source), from_qiskit(swapped))
    assert found.witness["qubits"] == [0, 39]
    assert found.witness["fidelity"] == pytest.approx(0)


def test_what_no_measurement_sees_is_no_difference_but_the_wrong_bit_is():
    source = QuantumCircuit(2, 2)
    source.h(0)
    source.cx(0, 1)
    phased = source.copy()
    source.measure([0, 1], [0, 1])
    phased.s(0)
    crossed = phased.copy()
    phased.measure([0, 1], [0, 1])
    assert compare(from_qiskit(source), from_qiskit(phased)).answer is Answer.EQUIVALENT
    crossed.x(0)
    crossed.measure([0, 1], [1, 0])
    assert compare(from_qiskit(source), from_qiskit(crossed)).answer is Answer.NOT_EQUIVALENT
    fewer = QuantumCircuit(2, 2)
    fewer.h(0)
    fewer.cx(0, 1)
    fewer.measure(0, 0)
    found = compare(from_qiskit(source), from_qiskit(fewer))
    assert found.witness == {"clbits": [1]}
    doubled = QuantumCircuit(2, 2)
    doubled.h(0)
    doubled.cx(0, 1)
    doubled.measure([0, 0][:1], [0])
    doubled.measure(1, 1)
    assert compare(from_qiskit(source), from_qiskit(doubled)).answer is Answer.EQUIVALENT


def test_templates_are_evidenced_and_tampering_is_found():
    source = real_amplitudes(5, reps=2)
    compiled = transpile(source, MANILA, seed_transpiler=1, optimization_level=2)
    place = placement_of(compiled)
    found = compare(from_qiskit(source), from_qiskit(compiled), placement=place)
    assert (found.answer, found.strength) == (Answer.EQUIVALENT, "evidenced")
    theta = source.parameters[0]
    tampered = compiled.copy()
    tampered.rz(4 * theta, 0)
    found = compare(from_qiskit(source), from_qiskit(tampered), placement=place)
    assert found.answer is Answer.NOT_EQUIVALENT
    assert found.witness["parameters"]
    stranger = compiled.copy()
    stranger.rz(Parameter("z"), 0)
    found = compare(from_qiskit(source), from_qiskit(stranger), placement=place)
    assert found.witness == {"parameters": ["z"]}


def template(n, *extra):
    ops = [Operation("ry", (f"a{q}",), (q,)) for q in range(n)]
    ops += [Operation("cx", (), (q, (q + 7) % n)) for q in range(n)]
    ops += [Operation("rz", (f"a{q}",), (q,)) for q in range(n)]
    return Circuit(num_qubits=n, operations=(*ops, *extra))


def canary(left, right):
    """Ask for the canaries alone, as if QCEC had given up."""
    import numpy as np

    from interlock.circuits import equivalence_child as child
    from interlock.circuits.equivalence import Question

    n = left.num_qubits
    return child._canaries(
        Question(
            num_qubits=n, left=left.operations, right=right.operations, output=tuple(range(n)),
            measured=(), symbols=left.parameters, seed=1,
        ),
        np.random.default_rng(3),
    )  # fmt: skip


def test_canaries_catch_tampering_and_refuse_what_could_hide_from_them():
    good = template(30)
    assert canary(good, good).answer is Answer.EQUIVALENT
    assert canary(good, template(30, Operation("s", (), (3,)))).answer is Answer.NOT_EQUIVALENT
    hidden = canary(good, template(30, Operation("rz", ("4*a0",), (0,))))
    assert hidden.answer is Answer.UNKNOWN
    assert "slope" in hidden.reason
    assert canary(good, template(30, Operation("rz", ("a0*a1",), (0,)))).answer is Answer.UNKNOWN
    assert canary(good, template(30, Operation("t", (), (3,)))).answer is Answer.UNKNOWN


def test_large_circuits():
    ghz = QuantumCircuit(60)
    ghz.h(0)
    for q in range(59):
        ghz.cx(q, q + 1)
    compiled = transpile(ghz, FakeSherbrooke(), seed_transpiler=1, optimization_level=1)
    place = placement_of(compiled)
    found = compare(from_qiskit(ghz), from_qiskit(compiled), placement=place)
    assert (found.answer, found.method) == (Answer.EQUIVALENT, "qcec")
    tampered = from_qiskit(compiled)
    tampered = msgspec.structs.replace(tampered, operations=tampered.operations[:-1])
    assert compare(from_qiskit(ghz), tampered, placement=place).answer is Answer.NOT_EQUIVALENT


def test_a_deadline_is_hard_and_means_unknown():
    hard = random_circuit(16, 30, seed=1, max_operands=2)
    compiled = transpile(hard, FakeGuadalupeV2(), seed_transpiler=1, optimization_level=1)
    found = compare(
        from_qiskit(hard), from_qiskit(compiled), placement=placement_of(compiled), timeout_s=0.5
    )
    assert found.answer is Answer.UNKNOWN
    assert found.seconds < 8


def test_dynamic_circuits_are_unknown_unless_identical():
    dynamic = QuantumCircuit(2, 1)
    dynamic.measure(0, 0)
    with dynamic.if_test((dynamic.clbits[0], 1)):
        dynamic.x(1)
    other = dynamic.copy()
    other.x(1)
    assert compare(from_qiskit(dynamic), from_qiskit(dynamic)).method == "identity"
    assert compare(from_qiskit(dynamic), from_qiskit(other)).answer is Answer.UNKNOWN


def test_a_placement_that_makes_no_sense_is_unknown_and_a_false_one_is_found():
    h = Circuit(num_qubits=2, operations=(Operation("h", (), (0,)),))
    for bad in (Placement((0, 0), (0, 1)), Placement((0, 5), (0, 5)), Placement((0,), (0,))):
        assert compare(h, h, placement=bad).answer is Answer.UNKNOWN
    turned = Placement((1, 0), (1, 0))
    assert compare(h, h, placement=turned).answer is Answer.NOT_EQUIVALENT


def test_answers_are_cached_and_seeds_give_the_same_answer():
    a = Circuit(num_qubits=1, operations=(Operation("rx", (0.25,), (0,)),))
    b = Circuit(num_qubits=1, operations=(Operation("rx", (0.25 + 2 * math.pi,), (0,)),))
    first = compare(a, b)
    assert first.answer is Answer.EQUIVALENT
    assert compare(a, b).seconds < 0.005
    again = [compare(a, b, seed=4) for _ in range(2)]
    assert again[0].witness == again[1].witness
    assert again[0].seed == 4


def test_a_small_rotation_above_the_tolerance_is_found():
    a = Circuit(num_qubits=1, operations=(Operation("rx", (0.25,), (0,)),))
    b = Circuit(num_qubits=1, operations=(Operation("rx", (0.25 + 1e-6,), (0,)),))
    assert compare(a, b).answer is Answer.NOT_EQUIVALENT


def dynamic():
    source = QuantumCircuit(3, 3)
    source.h(0)
    source.cx(0, 1)
    source.measure(0, 0)
    with source.if_test((source.clbits[0], 1)):
        source.x(2)
    source.measure([1, 2], [1, 2])
    return source


def test_what_the_same_compiler_makes_again_is_evidence_and_anything_else_is_unknown():
    backend = FakeSherbrooke()
    source = dynamic()
    compiled = transpile(source, backend, seed_transpiler=7, optimization_level=1)
    left, right, place = from_qiskit(source), from_qiskit(compiled), placement_of(compiled)
    assert compare(left, right, placement=place).answer is Answer.UNKNOWN
    same = recompiler(backend, level=1, seed=7)
    found = compare(left, right, placement=place, recompile=same)
    assert (found.answer, found.method, found.strength) == (
        Answer.EQUIVALENT, "re-transpile", "evidenced",
    )  # fmt: skip
    tampered = mutate(right, random.Random(3))
    assert compare(left, tampered, placement=place, recompile=same).answer is Answer.UNKNOWN
    nowhere = Placement(place.final[::-1], place.final)
    assert compare(left, right, placement=nowhere, recompile=same, seed=1).answer is Answer.UNKNOWN

    def broken(_source):
        raise RuntimeError("no compiler")

    assert compare(left, right, placement=place, recompile=broken, seed=1).answer is Answer.UNKNOWN


def test_a_template_that_another_seed_compiled_is_still_looked_at_by_canaries():
    source = real_amplitudes(20, reps=1, entanglement="linear")
    compiled = transpile(source, FakeSherbrooke(), seed_transpiler=1)
    left, right, place = from_qiskit(source), from_qiskit(compiled), placement_of(compiled)
    other = recompiler(FakeSherbrooke(), level=0, seed=5)
    found = compare(left, right, placement=place, timeout_s=2.0, recompile=other)
    assert found.answer is Answer.EQUIVALENT
    assert found.method in ("clifford-canary", "qcec")


def test_canaries_do_not_overrule_a_difference_qcec_saw():
    n, theta = 15, Parameter("theta")

    def made(extra):
        circuit = QuantumCircuit(n, n)
        circuit.rx(theta, range(n))
        for q in range(n - 1):
            circuit.cx(q, q + 1)
        circuit.rz(theta, range(n))
        circuit.h(range(n))
        for _ in range(extra):
            circuit.rx(theta, 0)
        circuit.measure(range(n), range(n))
        return from_qiskit(circuit)

    for again in (None, lambda source: (source, None)):
        found = compare(made(0), made(4), seed=1, timeout_s=30, recompile=again)
        assert (found.answer, found.method) == (Answer.UNKNOWN, "qcec"), found


@pytest.mark.parametrize("n", [7, 10, 16])
def test_the_resolution_is_said_and_kept(n):
    """QCEC by itself calls rotations up to 1e-4 equal."""
    source = real_amplitudes(n, reps=1, entanglement="linear")
    source = source.assign_parameters([0.3 + 0.1 * i for i in range(source.num_parameters)])
    made = from_qiskit(source)
    same = compare(made, msgspec.structs.replace(made, operations=(*made.operations, *TURNS)))
    assert (same.answer, same.strength) == (Answer.EQUIVALENT, "proven")
    assert f"{same.resolution:g} rad" in same.reason
    for angle in (1e-3, 1e-4, 1.1 * same.resolution):
        for at in (0, len(made.operations) // 2, len(made.operations)):
            turn = Operation("ry", (angle,), (n // 2,))
            ops = (*made.operations[:at], turn, *made.operations[at:])
            found = compare(made, msgspec.structs.replace(made, operations=ops))
            assert found.answer is not Answer.EQUIVALENT


TURNS = tuple(Operation("rz", (sign * 0.4,), (0,)) for sign in (1.0, -1.0))


def test_a_weaker_answer_names_the_stronger_one_that_failed():
    no = Comparison(answer=Answer.UNKNOWN, method="qcec", reason="QCEC says not_equivalent")
    maybe = Comparison(
        answer=Answer.UNKNOWN, method="qcec", reason="QCEC says probably_not_equivalent"
    )
    assert denied(no)
    assert denied(maybe)
    late = Comparison(answer=Answer.UNKNOWN, method="none", reason="isolation-killed: 2 s")
    assert not denied(late)
    weak = Comparison(
        answer=Answer.EQUIVALENT, method="clifford-canary", strength="evidenced", reason="canaries"
    )
    assert after(late, weak).reason == "canaries; before it: isolation-killed: 2 s"
    assert after(late, weak).method == "clifford-canary"


def test_canaries_after_a_stopped_qcec_say_so():
    theta = Parameter("t")
    clifford = QuantumCircuit(16)
    clifford.h(range(16))
    clifford.rx(theta, range(16))
    for _ in range(40):
        for q in range(15):
            clifford.cx(q, q + 1)
            clifford.rx(theta, q)
    source = from_qiskit(clifford)
    compiled = msgspec.structs.replace(source, operations=(*source.operations, *CANCEL))
    found = compare(source, compiled, timeout_s=1.0)
    if found.answer is Answer.EQUIVALENT:
        assert found.strength == "evidenced"
        if found.method == "clifford-canary":
            assert "before it: " in found.reason
    else:
        assert found.answer is Answer.UNKNOWN


CANCEL = (Operation("h", (), (0,)), Operation("h", (), (0,)))


@pytest.mark.parametrize(
    "text", ["2*asin(sin(0.5*a))", "sqrt(a^2)", "a + 1e-25*a^30", "a + 1e-12*exp(2*a)", "abs(a)"]
)
def test_expressions_that_agree_only_where_they_are_looked_at_are_never_equivalent(text):
    def made(angle):
        ops = (Operation("h", (), (0,)), Operation("rz", (angle,), (0,)))
        return Circuit(num_qubits=1, operations=ops)

    for seed in range(4):
        found = compare(made("a"), made(text), seed=seed)
        assert found.answer is not Answer.EQUIVALENT, (seed, found)
    for same in ("a", "a + 6.283185307179586"):
        assert compare(made("a"), made(same)).answer is Answer.EQUIVALENT
    reviewed = made("sin(a) + a*b")
    halves = Operation("rz", ("0.5*sin(a) + 0.5*a*b",), (0,))
    split_up = Circuit(num_qubits=1, operations=(Operation("h", (), (0,)), halves, halves))
    assert compare(reviewed, split_up).answer is Answer.EQUIVALENT


def test_a_slope_too_small_for_small_angles_is_found():
    a = Circuit(num_qubits=1, operations=(Operation("rx", ("a",), (0,)),))
    b = Circuit(num_qubits=1, operations=(Operation("rx", ("1.0000001*a",), (0,)),))
    assert compare(a, b).answer is Answer.NOT_EQUIVALENT


def test_bits_in_other_registers_are_not_the_same_bits():
    def made(*names, extra=()):
        return Circuit(
            num_qubits=2,
            num_clbits=2 + len(extra),
            operations=(
                Operation("x", (), (0,)),
                *(Operation("measure", (), (q,), (q,)) for q in (0, 1)),
            ),
            registers=(*(Register(n, (i,)) for i, n in enumerate(names)), *extra),
        )

    found = compare(made("a", "b"), made("b", "a"))
    assert (found.answer, found.method) == (Answer.NOT_EQUIVALENT, "structure")
    assert found.witness == {"clbits": [0, 1]}
    one = msgspec.structs.replace(made(), registers=(Register("c", (0, 1)),))
    assert compare(made("a", "b"), one).answer is Answer.NOT_EQUIVALENT
    other = msgspec.structs.replace(made(), registers=(Register("meas", (0, 1)),))
    assert compare(one, other).answer is Answer.EQUIVALENT
    unused = made("a", "b", extra=(Register("scratch", (2,)),))
    assert compare(made("a", "b"), unused).answer is Answer.EQUIVALENT


def test_a_parameter_that_is_no_number_is_a_difference():
    a = Circuit(num_qubits=1, operations=(Operation("h", (), (0,)),))
    b = Circuit(num_qubits=1, operations=(*a.operations, Operation("rx", ("NaN",), (0,))))
    assert compare(a, b).answer is Answer.NOT_EQUIVALENT
