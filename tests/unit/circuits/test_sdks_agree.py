"""One circuit, four SDKs: the same unitary, the same identity, and back again."""

import sys
from typing import Any

import numpy as np
import pennylane as qml
import pytest
from braket.circuits import Circuit as BraketCircuit
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit.quantum_info import Operator

from interlock.circuits.braket_adapter import from_braket, to_braket
from interlock.circuits.canonical import Circuit, Operation, Register
from interlock.circuits.cirq_adapter import from_cirq, to_cirq
from interlock.circuits.convert import canonical
from interlock.circuits.gates import GATES
from interlock.circuits.matrices import unitary
from interlock.circuits.pennylane_adapter import from_pennylane, to_pennylane
from interlock.circuits.qiskit_adapter import from_qiskit, to_qiskit
from interlock.circuits.validate import validate
from interlock.errors import InputError, SetupError
from tests.unit.circuits.families import (
    FAMILIES,
    TEMPLATE,
    braket_circuit,
    cirq_circuit,
    pennylane_tape,
    qiskit_circuit,
)

BUILDERS = {
    "braket": braket_circuit, "cirq": cirq_circuit, "pennylane": pennylane_tape,
    "qiskit": qiskit_circuit,
}  # fmt: skip


def little(matrix: Any) -> Any:
    """Turn a matrix with the first qubit most significant into one with it least significant."""
    n = len(matrix).bit_length() - 1
    order = [int(format(k, f"0{n}b")[::-1], 2) for k in range(2**n)]
    return np.asarray(matrix)[np.ix_(order, order)]


UNITARIES = {
    "braket": lambda c, _n: little(c.to_unitary()),
    "cirq": lambda c, _n: little(c.unitary()),
    "pennylane": lambda c, n: little(qml.matrix(c, wire_order=range(n))),
    "qiskit": lambda c, _n: Operator(c).data,
}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_unitary_is_the_same_to_1e_9(family):
    n, steps = FAMILIES[family]
    native = {sdk: build(n, steps) for sdk, build in BUILDERS.items()}
    wanted = UNITARIES["qiskit"](native["qiskit"], n)
    for sdk, circuit in native.items():
        assert np.abs(UNITARIES[sdk](circuit, n) - wanted).max() < 1e-9
        made = canonical(circuit)
        phase = Operation("gphase", (made.global_phase,))
        assert np.abs(unitary((*made.operations, phase), n) - wanted).max() < 1e-9


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("measured", [False, True])
def test_the_identity_is_the_same(family, measured):
    n, steps = FAMILIES[family]
    found = {
        sdk: canonical(build(n, steps, measured=measured)).sha256 for sdk, build in BUILDERS.items()
    }
    assert len(set(found.values())) == 1, found


def test_the_identity_of_a_template_is_the_same():
    n, steps = TEMPLATE
    made = {sdk: canonical(BUILDERS[sdk](n, steps)) for sdk in ("braket", "cirq", "qiskit")}
    assert len({c.sha256 for c in made.values()}) == 1
    assert made["cirq"].parameters == tuple(f"t{i}" for i in range(6))
    values = {f"t{i}": 0.1 * i for i in range(6)}
    bound = from_pennylane(to_pennylane(made["cirq"], values))
    assert bound.sha256 == made["cirq"].bind(values).sha256


def test_another_angle_gate_or_qubit_is_another_circuit():
    n, steps = FAMILIES["vqe"]
    name, (angle,), qubits = steps[0]
    others = [
        (n, [(name, (np.nextafter(angle, 9),), qubits), *steps[1:]]),
        (n, [("rx", (angle,), qubits), *steps[1:]]),
        (n, [(name, (angle,), (1,)), *steps[1:]]),
    ]
    for build in BUILDERS.values():
        plain = canonical(build(n, steps)).sha256
        assert all(canonical(build(*other)).sha256 != plain for other in others)


def test_what_is_no_circuit_is_refused():
    with pytest.raises(InputError) as caught:
        canonical("h q[0];")
    assert caught.value.code == "circuit-unsupported"


_NAMES = sorted(set(GATES) - {"gphase"})
_ANGLES = st.floats(-10, 10, allow_nan=False).map(lambda x: x + 0.0)


@st.composite
def circuits(draw: Any, *, mid: bool = False) -> Circuit:
    """Circuits over the whole vocabulary on five qubits, measured at the end."""
    operations = []
    for name in draw(st.lists(st.sampled_from([*_NAMES, "barrier"]), min_size=1, max_size=8)):
        params, qubits = GATES.get(name, (0, 2))
        wires = draw(st.permutations(range(5)))[:qubits]
        angles = tuple(draw(_ANGLES) for _ in range(params))
        operations.append(Operation(name, angles, tuple(wires)))
    order = draw(st.permutations(range(5)))
    operations += [Operation("measure", (), (q,), (c,)) for c, q in enumerate(order)]
    return Circuit(
        num_qubits=5, num_clbits=5, operations=tuple(operations),
        registers=(Register("m0", tuple(range(5))),),
    )  # fmt: skip


ROUNDS = {
    "braket": lambda c: from_braket(to_braket(c)),
    "cirq": lambda c: from_cirq(to_cirq(c)),
    "pennylane": lambda c: from_pennylane(to_pennylane(c)),
    "qiskit": lambda c: from_qiskit(to_qiskit(c)),
}


@settings(max_examples=25, deadline=None)
@given(circuits())
def test_a_circuit_comes_back_from_every_sdk_as_it_was(circuit):
    for sdk, there_and_back in ROUNDS.items():
        back = there_and_back(circuit)
        validate(back)
        assert back.sha256 == circuit.sha256, sdk


@pytest.mark.parametrize("sdk", ["braket", "cirq", "pennylane"])
def test_a_missing_sdk_is_named_with_its_extra(sdk, monkeypatch):
    write = {"braket": to_braket, "cirq": to_cirq, "pennylane": to_pennylane}[sdk]
    monkeypatch.setitem(sys.modules, "braket.circuits" if sdk == "braket" else sdk, None)
    with pytest.raises(SetupError) as caught:
        write(Circuit(num_qubits=1))
    assert caught.value.code == "extra-missing"
    assert f"interlock[{sdk}]" in caught.value.fix


def test_braket_numbers_its_qubits_as_it_was_told():
    assert isinstance(to_braket(Circuit(num_qubits=1)), BraketCircuit)
