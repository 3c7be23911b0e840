"""A guarded sampler's results are of the class that every Qiskit sampler gives."""

from typing import Any

import pytest
from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister
from qiskit.primitives import SamplerPubResult, StatevectorSampler
from qiskit.primitives.containers.sampler_pub import SamplerPub

import interlock
from interlock.guard.hooks.qiskit_results import to_native
from interlock.guard.result import Result, Samples


def two_registers() -> QuantumCircuit:
    circuit = QuantumCircuit(
        QuantumRegister(2), ClassicalRegister(1, "a"), ClassicalRegister(1, "b")
    )
    circuit.x(0)
    circuit.measure([0, 1], [0, 1])
    return circuit


def baseline(pubs: list[Any]) -> list[Any]:
    return [{"a": {"1": pub.shots}, "b": {"0": pub.shots}} for pub in pubs]


@pytest.mark.parametrize("width", [1, 1e-9])
def test_registers_are_joined_in_released_and_in_fallback_results(  # type: ignore[no-untyped-def]
    policy, home, width
) -> None:
    policy["validate"]["interval"] = {"max_half_width": width}
    guarded = interlock.guard(StatevectorSampler(), policy=policy, home=home, fallback=baseline)
    result = guarded.run([two_registers()], shots=50).result()
    assert result.metadata["interlock"]["outcome"] == ("RELEASE" if width == 1 else "FALLBACK")
    assert type(result[0]) is SamplerPubResult
    assert result[0].join_data(["a", "b"]).get_counts() == {"01": 50}


def test_registers_are_joined_in_what_a_gateway_sends() -> None:
    item = Samples(registers={"a": [{"1": 9}], "b": [{"0": 9}]}, widths={"a": 1, "b": 1}, shots=9)
    pub = SamplerPub.coerce((two_registers(), None, 9))
    result = to_native(Result(items=(item,)), "sample", [pub])
    assert result[0].join_data(["a", "b"]).get_counts() == {"01": 9}
