"""A gate changed in place is one thing to Aer and another to the circuit: it is refused."""

from collections.abc import Callable

import numpy as np
import pytest
from qiskit import QuantumCircuit
from qiskit.circuit import Delay
from qiskit.circuit.library import CRXGate, RXGate, UnitaryGate
from qiskit_aer.primitives import SamplerV2

import interlock
from interlock.errors import DeniedError, InputError


def plain() -> QuantumCircuit:
    circuit = QuantumCircuit(2, 1)
    circuit.x(1)
    circuit.append(RXGate(0.0), [0])
    circuit.append(CRXGate(0.0), [1, 0])
    circuit.append(Delay(10), [0])
    circuit.measure(0, 0)
    return circuit


def with_matrix() -> QuantumCircuit:
    circuit = QuantumCircuit(1, 1)
    circuit.append(UnitaryGate(np.eye(2)), [0])
    circuit.measure(0, 0)
    return circuit


def with_block() -> QuantumCircuit:
    circuit = QuantumCircuit(1, 1)
    circuit.measure(0, 0)
    body = QuantumCircuit(1, 1)
    body.append(RXGate(0.0), [0])
    circuit.if_test((circuit.clbits[0], 0), body, [0], [0])
    circuit.measure(0, 0)
    return circuit


def _angle(circuit: QuantumCircuit) -> None:
    circuit.data[1].operation.params[0] = np.pi


def _controlled_angle(circuit: QuantumCircuit) -> None:
    circuit.data[2].operation.params[0] = np.pi


def _name(circuit: QuantumCircuit) -> None:
    circuit.data[1].operation.name = "rz"


def _delay(circuit: QuantumCircuit) -> None:
    circuit.data[3].operation.params[0] = 10_000


def _matrix(circuit: QuantumCircuit) -> None:
    circuit.data[0].operation.params[0][:] = [[0, 1], [1, 0]]


def _block(circuit: QuantumCircuit) -> None:
    circuit.data[1].operation.blocks[0].x(0)


def _in_block(circuit: QuantumCircuit) -> None:
    circuit.data[1].operation.blocks[0].data[0].operation.params[0] = np.pi


CHANGES = [
    (plain, _angle), (plain, _controlled_angle), (plain, _name), (plain, _delay),
    (with_matrix, _matrix), (with_block, _block), (with_block, _in_block),
]  # fmt: skip


@pytest.mark.parametrize("submitted", [False, True])
@pytest.mark.parametrize(("make", "change"), CHANGES)
def test_it_is_refused_the_first_time_and_again(  # type: ignore[no-untyped-def]
    policy, home, make: Callable[[], QuantumCircuit],
    change: Callable[[QuantumCircuit], None], submitted: bool,
) -> None:  # fmt: skip
    guarded = interlock.guard(SamplerV2(seed=1), policy=policy, home=home)
    circuit = make()
    if submitted:
        for _ in range(2):
            assert guarded.run([circuit], shots=20).result()[0].data.c.get_counts() == {"0": 20}
    change(circuit)
    with pytest.raises(InputError, match="changed in place") as caught:
        guarded.run([circuit], shots=20).result()
    assert caught.value.code == "circuit-two-faces"


def test_one_assigned_anew_runs_as_it_is(policy, home) -> None:  # type: ignore[no-untyped-def]
    guarded = interlock.guard(SamplerV2(seed=1), policy=policy, home=home)
    circuit = plain()
    guarded.run([circuit], shots=20).result()
    circuit.data[1] = circuit.data[1].replace(operation=RXGate(np.pi))
    assert guarded.run([circuit], shots=20).result()[0].data.c.get_counts() == {"1": 20}


def test_nan_is_still_called_nan(policy, home) -> None:  # type: ignore[no-untyped-def]
    guarded = interlock.guard(SamplerV2(seed=1), policy=policy, home=home)
    circuit = QuantumCircuit(1, 1)
    circuit.append(RXGate(float("nan")), [0])
    circuit.measure(0, 0)
    with pytest.raises(DeniedError, match="not-finite"):
        guarded.run([circuit], shots=20).result()
