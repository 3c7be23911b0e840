"""What comes back from a gateway, in the form of no SDK, becomes each SDK's own result."""

from typing import Any

import cirq
import pennylane as qml
import pytest
from braket.circuits import Circuit
from braket.devices import LocalSimulator
from msgspec.structs import replace

from interlock.errors import InputError
from interlock.guard.hooks import Options, adapter_for
from interlock.guard.service import Guard


class Elsewhere(Guard):
    """A guard whose results have lost the SDK's own object, as those of a gateway have."""

    remote = True

    def submit(self, programs: Any, **options: Any) -> Any:
        done = super().submit(programs, **options)
        return replace(done, result=replace(done.result, native=None))

    def start(self, programs: Any, **options: Any) -> Any:
        from concurrent.futures import Future

        future: Future[Any] = Future()
        future.set_result(self.submit(programs, **options))
        return future


def wrapped(target: Any, policy: Any, home: Any) -> Any:
    options = Options(guard=Elsewhere(policy=policy, home=home))  # type: ignore[arg-type]
    return adapter_for(target).wrap(target, options)


def test_counts_become_results_of_each_sdk(policy: Any, home: Any) -> None:
    a, b = cirq.LineQubit.range(2)
    circuit = cirq.Circuit(cirq.X(a), cirq.measure(a, b, key="m"))
    sampler = wrapped(cirq.Simulator(), policy, home)
    assert sampler.run(circuit, repetitions=3).measurements["m"].tolist() == [[1, 0]] * 3
    device = wrapped(LocalSimulator(), policy, home)
    result = device.run(Circuit().x(0).i(1), shots=3).result()
    assert (result.measurement_counts, result.interlock["outcome"]) == ({"10": 3}, "RELEASE")
    simulator = wrapped(qml.device("default.qubit", wires=2), policy, home)

    @qml.set_shots(3)
    @qml.qnode(simulator)
    def node() -> Any:
        qml.X(0)
        return qml.counts(wires=[0, 1]), qml.probs(wires=0)

    counts, probabilities = node()
    assert counts == {"10": 3}
    assert probabilities.tolist() == [0, 1]


def test_what_a_gateway_does_not_give_is_refused(policy: Any, home: Any) -> None:
    a, b = cirq.LineQubit.range(2)
    two = cirq.Circuit(cirq.measure(a, key="a"), cirq.measure(b, key="b"))
    exact = qml.tape.QuantumScript([qml.X(0)], [qml.expval(qml.Z(0))])
    attempts = [
        lambda: wrapped(cirq.Simulator(), policy, home).run(two, repetitions=3),
        lambda: wrapped(LocalSimulator(), policy, home).run(Circuit().x(0).probability(), shots=0),
        lambda: wrapped(qml.device("default.qubit"), policy, home).execute(exact),
    ]
    for attempt in attempts:
        with pytest.raises(InputError) as caught:
            attempt()
        assert caught.value.code == "circuit-unsupported"
