"""A plain circuit that is submitted again has the copy it had, unless it has changed."""

from collections.abc import Callable
from typing import Any

import pytest
from qiskit import ClassicalRegister, QuantumCircuit
from qiskit.circuit import Gate
from qiskit.primitives import PrimitiveResult, StatevectorSampler
from qiskit_aer import AerSimulator

import interlock
from interlock.guard.hooks import qiskit_native
from interlock.guard.hooks.qiskit_targets import backend_of


def native(circuit: QuantumCircuit, device: Any) -> tuple[QuantumCircuit, Any]:
    return qiskit_native.native(circuit, device, backend_of(device))


def a_circuit() -> QuantumCircuit:
    circuit = QuantumCircuit(2, metadata={"run": 1})
    circuit.sx(0)
    circuit.cx(0, 1)
    circuit.measure_all()
    return circuit


def test_it_has_the_same_copy_which_nobody_else_holds() -> None:
    circuit, device = a_circuit(), StatevectorSampler()
    first, form = native(circuit, device)
    again, same = native(circuit, device)
    assert first is again is not circuit
    assert form is same
    assert native(a_circuit(), device)[0] is not first


def _more(circuit: QuantumCircuit) -> None:
    circuit.x(0)


def _register(circuit: QuantumCircuit) -> None:
    circuit.add_register(ClassicalRegister(bits=list(circuit.clbits), name="alias"))


def _phase(circuit: QuantumCircuit) -> None:
    circuit.global_phase = 0.1


def _metadata(circuit: QuantumCircuit) -> None:
    circuit.metadata["run"] = 2


def _name(circuit: QuantumCircuit) -> None:
    circuit.name = "another"


def _attribute(circuit: QuantumCircuit) -> None:
    circuit.note = "mine"  # type: ignore[attr-defined]


@pytest.mark.parametrize("change", [_more, _register, _phase, _metadata, _name, _attribute])
def test_one_that_has_changed_is_read_again(change: Callable[[QuantumCircuit], None]) -> None:
    circuit, device = a_circuit(), StatevectorSampler()
    first, _ = native(circuit, device)
    change(circuit)
    again, form = native(circuit, device)
    assert again is not first
    assert (again.name, again.metadata) == (circuit.name, circuit.metadata)
    assert [r.name for r in again.cregs] == [r.name for r in circuit.cregs]
    assert form == native(circuit.copy(), device)[1]


def test_a_custom_gate_is_read_each_time() -> None:
    circuit, device = a_circuit(), StatevectorSampler()
    mine = Gate("mine", 1, [])
    mine.definition = QuantumCircuit(1)
    mine.definition.x(0)
    circuit.append(mine, [0])
    assert native(circuit, device)[0] is not native(circuit, device)[0]


def test_a_device_of_somebody_else_gets_a_copy_of_its_own() -> None:
    class Mine(StatevectorSampler):
        pass

    patched = AerSimulator()
    patched.run = lambda *_, **__: None  # type: ignore[method-assign]
    circuit = a_circuit()
    for device in (Mine(), patched):
        assert native(circuit, device)[0] is not native(circuit, device)[0]


def test_what_a_fallback_does_to_a_circuit_stays_with_it(policy, home) -> None:  # type: ignore[no-untyped-def]
    seen: list[int] = []

    def fallback(pubs: list[Any]) -> list[dict[str, int]]:
        seen.append(len(pubs[0].circuit.data))
        pubs[0].circuit.x(0)
        return [{"00": pubs[0].shots}]

    policy["validate"]["interval"] = {"max_half_width": 1e-9}  # every job falls back
    guarded = interlock.guard(StatevectorSampler(), policy=policy, home=home, fallback=fallback)
    circuit = a_circuit()
    for _ in range(3):
        result = guarded.run([circuit], shots=100).result()
        assert isinstance(result, PrimitiveResult)
        assert result.metadata["interlock"]["outcome"] == "FALLBACK"
    assert set(seen) == {len(circuit.data)}
