"""Every SDK's own noiseless simulator draws the same each time it answers as a baseline."""

from collections.abc import Callable
from typing import Any

import pytest

from interlock.guard.hooks.reseed import repeatable


def qiskit_(simulator: Any) -> Any:
    from qiskit import QuantumCircuit

    made = QuantumCircuit(2)
    made.h([0, 1])
    made.measure_all()
    done = simulator.run([made], shots=300).result()
    return done.get_counts() if hasattr(done, "get_counts") else done[0].data.meas.get_counts()


def cirq_(simulator: Any) -> Any:
    import cirq

    qubits = cirq.LineQubit.range(2)
    circuit = cirq.Circuit(cirq.H.on_each(*qubits), cirq.measure(*qubits, key="m"))
    return simulator.run(circuit, repetitions=300).histogram(key="m")


def braket_(simulator: Any) -> Any:
    from braket.circuits import Circuit

    return simulator.run(Circuit().h(0).h(1), shots=300).result().measurement_counts


def pennylane(simulator: Any) -> Any:
    import pennylane as qml

    ops = [qml.Hadamard(0), qml.Hadamard(1)]
    tape = qml.tape.QuantumScript(ops, [qml.counts(wires=[0, 1])], shots=300)
    return simulator.execute(tape)


def made(name: str) -> tuple[Any, Callable[[Any], Any]]:
    import braket.devices
    import cirq
    import pennylane as qml
    import qiskit.primitives
    import qiskit_aer
    import qiskit_aer.primitives

    return {
        "statevector": (lambda: qiskit.primitives.StatevectorSampler(), qiskit_),
        "aer-sampler": (lambda: qiskit_aer.primitives.SamplerV2(), qiskit_),
        "aer-backend": (lambda: qiskit_aer.AerSimulator(), qiskit_),
        "cirq": (lambda: cirq.Simulator(), cirq_),
        "cirq-seeded": (lambda: cirq.Simulator(seed=3), cirq_),
        "braket": (lambda: braket.devices.LocalSimulator(), braket_),
        "pennylane": (lambda: qml.device("default.qubit"), pennylane),
    }[name]


@pytest.mark.parametrize(
    "name",
    ["statevector", "aer-sampler", "aer-backend", "cirq", "cirq-seeded", "braket", "pennylane"],
)
def test_it_answers_with_the_same_bits_and_the_users_own_goes_on_drawing(name: str) -> None:
    make, run = made(name)
    own = make()
    first, second = (run(repeatable(s)) for s in (own, own))
    assert first == second
    assert run(repeatable(make())) == first
    assert len({str(sorted(run(own).items())) for _ in range(4)}) > 1


def test_what_is_not_an_sdks_own_is_left_alone() -> None:
    class Mine:
        _seed = None

    mine = Mine()
    assert repeatable(mine) is mine
