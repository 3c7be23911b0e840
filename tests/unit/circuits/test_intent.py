import numpy as np
import pytest
from qiskit import qasm2, transpile
from qiskit_ibm_runtime.fake_provider import FakeGuadalupeV2

from interlock.circuits.canonical import Circuit, Control, Operation
from interlock.circuits.ingest import read_circuit
from interlock.circuits.intent import classify
from interlock.circuits.intent.gates import named
from interlock.circuits.intent.known import Known
from interlock.circuits.intent.steady import steadied
from interlock.circuits.matrices import gate_matrix
from interlock.circuits.qiskit_adapter import from_qiskit
from tests.vectors.circuits import dual_use as made

ATTACKS = made.attacks(3)
LOOK_ALIKES = made.look_alikes(3)
#: Slow to make or to run; `benchmarks/dual_use.py` has all.
SLOW = {"shor-33 (matrix)", "shor-21-network", "shor-fourier-space", "shor-recycled",
        "cipher-search-4-rounds", "chemistry-estimation-wide", "clause-search-wide",
        "amplitude-estimation-wide", "counting", "toy-search-6"}  # fmt: skip
#: Held though they are harmless; the claims say so.
HELD = {"subset-sum", "colouring"}


@pytest.mark.parametrize("name", sorted(ATTACKS.keys() - SLOW))
def test_attacks_are_told_as_written_and_in_another_order(name):
    circuit = ATTACKS[name]()
    for change in ("as written", "reordered"):
        found = classify(from_qiskit(made.disguises(3)[change](circuit)))
        assert found.kind not in ("none", "unclear"), change
        assert found.reason
        assert found.inputs


@pytest.mark.parametrize("disguise", ["cx, rz, sx", "u, cx", "routed", "ecr", "level 3"])
def test_attacks_are_told_when_compiled(disguise):
    change = made.disguises(1)[disguise]
    period = classify(from_qiskit(change(made.shor_compiled(3))))
    assert period.kind == "period-finding", period
    search = classify(from_qiskit(change(made.attacks(1)["cipher-search"]())))
    assert search.kind == "cryptanalytic-search", search


@pytest.mark.parametrize("name", ["shor-compiled", "cipher-search"])
@pytest.mark.parametrize("disguise", ["padded", "known bits"])
def test_attacks_are_told_under_padding_and_conditions_on_known_bits(name, disguise):
    found = classify(from_qiskit(made.disguises(5)[disguise](ATTACKS[name]())))
    assert found.kind in ("period-finding", "cryptanalytic-search"), found


def test_padding_merged_by_a_compiler_is_taken_out():
    circuit = made.padded(transpile(made.shor_compiled(3), basis_gates=["u", "cx"]), 1, 0.01)
    basis = ["rz", "sx", "x", "cx"]
    compiled = transpile(circuit, basis_gates=basis, optimization_level=1)
    found = classify(from_qiskit(compiled))
    assert found.kind == "period-finding"
    assert found.reason.endswith("but for small rotations")


def test_blind_spots_that_the_docs_name():
    """Each is a miss: who mends it takes it out of docs/how-to/hold-dual-use.md."""
    shor = made.shor_compiled(3)
    large = made.padded(transpile(shor, basis_gates=["u", "cx"]), 1, 0.2)
    assert classify(from_qiskit(large)).kind == "none"
    device = FakeGuadalupeV2()
    routed = transpile(shor, device, optimization_level=3, seed_transpiler=0)
    assert classify(from_qiskit(routed)).kind == "none"


@pytest.mark.parametrize("angle", [0.0, 0.02, -0.05])
def test_nearly_round_gates_are_made_round(angle):
    turn = np.array([[1, -1j * angle / 2], [-1j * angle / 2, 1]])
    for exact in (np.eye(2), *(gate_matrix(n, ()) for n in ("h", "x", "s", "t", "sx"))):
        small = tuple((turn @ exact).reshape(-1).tolist())
        got = np.array(steadied(small)).reshape(2, 2)
        overlap = abs(np.trace(got.conj().T @ exact)) / 2
        assert overlap > 1 - 1e-9
    generic = gate_matrix("ry", (0.6,))
    assert np.allclose(np.array(steadied(tuple(generic.reshape(-1)))).reshape(2, 2), generic)


def test_known_bits_are_folded():
    known = Known(4)  # two qubits, then two bits
    known.follow("gate", (0,), named("x", ()))
    known.follow("gate", (0, 1), named("cx", ()))
    known.follow("copy", (1, 2), None)
    assert known.values == [1, 1, 1, 0]
    assert known.fold([0, 1], [False, True, False, False], base=2) == ([], [True])
    known.follow("gate", (0,), named("h", ()))
    known.follow("copy", (0, 3), None)
    assert known.values == [None, 1, 1, None]
    assert known.fold([0, 1], [False, True, False, False], base=2) == ([1], [True, False])
    known.follow("clear", (0,), None)
    assert known.values[0] == 0


def test_names_of_gates_do_not_matter():
    plain = transpile(made.shor_compiled(3), basis_gates=["cx", "u1", "u2", "u3"])
    text = qasm2.dumps(plain)
    renamed = text.replace(
        'include "qelib1.inc";',
        'include "qelib1.inc";\ngate glue a, b { cx a, b; }\ngate spin(t) a { u1(t) a; }',
    )
    renamed = renamed.replace("\ncx ", "\nglue ").replace("\nu1(", "\nspin(")
    assert "\nglue " in renamed
    assert classify(read_circuit(renamed.encode())).kind == "period-finding"


@pytest.mark.parametrize("name", sorted(LOOK_ALIKES.keys() - SLOW - HELD))
def test_look_alikes_are_not_held(name):
    assert classify(from_qiskit(LOOK_ALIKES[name]())).kind == "none"


def test_what_cannot_be_followed_is_unclear():
    body = (Operation("x", (), (0,)),)
    loop = Operation("while_loop", (), (0,), (0,), Control(["bit", 0], (body,)))
    circuit = Circuit(num_qubits=1, num_clbits=1, operations=(loop,))
    assert classify(circuit).kind == "unclear"
    long = Circuit(num_qubits=2, operations=(Operation("cx", (), (0, 1)),) * 50_002)
    assert classify(long).kind == "unclear"


def test_free_parameters_and_no_numbers():
    free = Circuit(num_qubits=1, operations=(Operation("rx", ("a",), (0,)),))
    assert classify(free).kind == "none"
    nan = Circuit(num_qubits=1, operations=(Operation("rx", ("NaN",), (0,)),))
    assert classify(nan).kind == "none"


def test_routed_at_the_highest_level():
    change = made.disguises(1)["routed, level 3"]
    assert classify(from_qiskit(change(made.shor_compiled(3)))).kind == "period-finding"
    assert classify(from_qiskit(change(LOOK_ALIKES["qaoa"]()))).kind == "none"


@pytest.mark.parametrize("seed", range(5))
def test_merging_runs_on_a_pair_changes_no_circuit(seed):
    import numpy as np
    from qiskit.circuit.random import random_circuit
    from qiskit.quantum_info import Operator

    from interlock.circuits.canonical import Operation
    from interlock.circuits.intent.blocks import merged
    from interlock.circuits.intent.normal import normalise
    from interlock.circuits.qiskit_adapter import to_qiskit

    source = random_circuit(4, 8, max_operands=3, seed=seed)
    normal = normalise(from_qiskit(source), 10_000)
    for steps in (normal.steps, merged(normal.steps)):
        ops = tuple(
            Operation("unitary", tuple(np.asarray(s.gate.matrix).reshape(-1).view(float)), s.wires)
            for s in steps
        )
        again = to_qiskit(Circuit(num_qubits=4, operations=ops))
        assert Operator(again).equiv(Operator(source), atol=1e-6)
