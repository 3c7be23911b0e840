"""What is refused before the path is on record all the same; what no policy can leave out."""

from collections.abc import Callable
from typing import Any

import cirq
import numpy as np
import pennylane as qml
import pytest
from braket.circuits import Circuit
from braket.devices import LocalSimulator
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.primitives import BackendEstimatorV2, StatevectorEstimator, StatevectorSampler
from qiskit.quantum_info import SparsePauliOp
from qiskit_aer import AerSimulator
from qiskit_aer.noise import depolarizing_error

import interlock
from interlock.backends import Twin, TwinSampler, TwinSpec, twin
from interlock.backends.noise import scaled
from interlock.errors import DeniedError, InputError
from interlock.guard.explain import explain
from interlock.guard.record import recorded
from interlock.guard.replay import replay

IDEAL = {"health": {"calibration": {"on_missing": "allow"}, "fidelity": {"on_unknown": "allow"}}}


def aer(change: Callable[[QuantumCircuit], Any]) -> Callable[[Any], Any]:
    def run(guard: Any) -> Any:
        circuit = QuantumCircuit(1)
        circuit.h(0)
        change(circuit)
        circuit.measure_all()
        return guard(AerSimulator()).run(circuit, shots=10).result()

    return run


def annealing(guard: Any) -> Any:
    return guard(LocalSimulator()).run("OPENQASM", shots=10).result()


def noisy_tape(guard: Any) -> Any:
    tape = qml.tape.QuantumScript([qml.DepolarizingChannel(0.1, 0)], [qml.probs(0)], shots=10)
    return guard(qml.device("default.mixed", wires=1)).execute([tape])


def noisy_cirq(guard: Any) -> Any:
    qubit = cirq.LineQubit(0)
    circuit = cirq.Circuit(cirq.depolarize(0.1)(qubit), cirq.measure(qubit))
    return guard(cirq.Simulator()).run(circuit)


@pytest.mark.parametrize(
    ("run", "code"),
    [
        (aer(lambda c: c.save_statevector()), "circuit-unsupported"),
        (aer(lambda c: c.save_unitary()), "circuit-unsupported"),
        (aer(lambda c: c.save_expectation_value(SparsePauliOp("Z"), [0])), "circuit-unsupported"),
        (aer(lambda c: c.set_statevector(np.array([1, 0]))), "circuit-unsupported"),
        (aer(lambda c: c.append(depolarizing_error(0.1, 1), [0])), "circuit-unsupported"),
        (lambda guard: guard(AerSimulator()).run(None), "guard-unknown-object"),
        (lambda guard: guard(StatevectorSampler()).run([]), "job-empty"),
        (annealing, "circuit-unsupported"),
        (lambda guard: guard(LocalSimulator()).run_batch([Circuit().h(0)], shots=0),
         "job-shots"),
        (noisy_tape, "circuit-unsupported"),
        (noisy_cirq, "circuit-unsupported"),
    ],
)  # fmt: skip
def test_a_refusal_before_the_path_is_a_denial_on_record(
    policy: Any, home: Any, run: Any, code: str
) -> None:
    lines: list[Any] = []

    def guard(device: Any) -> Any:
        guarded = interlock.guard(device, policy=policy, home=home, labels=("a",))
        guarded.interlock.guard.observers.append(lines.append)
        return guarded

    with pytest.raises(InputError) as caught:
        run(guard)
    assert caught.value.code == code
    assert [line.receipt for line in lines] == [caught.value.receipt]
    assert caught.value.receipt.rule == f"admit.intake.{code}"
    with recorded(home) as ledger:
        story = explain(ledger, caught.value.receipt.id)
        assert [r.differences for r in replay(ledger.entries())] == [()]
    assert (story["outcome"], story["job"]["labels"], story["missing"]) == ("DENY", ["a"], [])


def test_a_client_of_a_gateway_refuses_without_asking_it() -> None:
    def guard(device: Any) -> Any:
        return interlock.guard(device, url="http://127.0.0.1:9")  # nobody is there

    with pytest.raises(InputError) as caught:
        aer(lambda c: c.save_statevector())(guard)
    assert (caught.value.code, caught.value.receipt) == ("circuit-unsupported", None)


def test_what_the_sdk_itself_refuses_is_no_job(policy: Any, home: Any) -> None:
    circuit = QuantumCircuit(1)
    circuit.rx(Parameter("t"), 0)
    circuit.measure_all()
    guarded = interlock.guard(StatevectorSampler(), policy=policy, home=home)
    for pub in (circuit, (circuit, [0.1], -3)):
        with pytest.raises(ValueError, match=r"number of values|shots"):
            guarded.run([pub])
    with recorded(home) as ledger:
        assert len(ledger) == 0


def test_a_recorded_refusal_cannot_be_turned_into_a_release(policy: Any, home: Any) -> None:
    guarded = interlock.guard(StatevectorSampler(), policy=policy, home=home)
    with pytest.raises(InputError):
        guarded.run([])
    with recorded(home) as ledger:
        (entry,) = [e for e in ledger.entries() if "outcome" in e.header]
        session = [e for e in ledger.entries() if e.event == "session"]
    assert entry.payload is not None
    entry.payload["job"]["refused"] = None
    (again,) = replay([*session, entry])
    assert again.differences


WITHOUT = {"verify": {"limits": {}}}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_denied_whatever_the_policy_names(
    policy: Any, home: Any, value: float
) -> None:
    theta = Parameter("t")
    fixed, free, phase = (QuantumCircuit(1, global_phase=g) for g in (0, 0, value))
    fixed.rx(value, 0)
    free.rx(theta, 0)
    phase.h(0)
    for circuit in (fixed, free, phase):
        circuit.measure_all()
    loose = policy | WITHOUT | IDEAL
    backend = interlock.guard(AerSimulator(), policy=loose, home=home)
    sampler = interlock.guard(StatevectorSampler(), policy=loose, home=home)
    jobs: list[Callable[[], Any]] = [
        lambda: backend.run(fixed, shots=10),
        lambda: backend.run(phase, shots=10),
        lambda: sampler.run([(free, [[0.1], [value]])], shots=10),
        lambda: sampler.run([phase], shots=10),
    ]
    for job in jobs:
        with pytest.raises(DeniedError) as caught:
            job().result()
        assert caught.value.receipt.rule == "verify.finite.not-finite"
    with pytest.raises(InputError, match="binds"):
        backend.run(free, parameter_binds=[{theta: [value]}], shots=10)
    with recorded(home) as ledger:
        assert all(r.differences == () for r in replay(ledger.entries()))


def test_a_nan_in_another_sdk_is_denied_too(policy: Any, home: Any) -> None:
    qubit = cirq.LineQubit(0)
    circuit = cirq.Circuit(cirq.rx(float("nan"))(qubit), cirq.measure(qubit))
    device = interlock.guard(cirq.Simulator(), policy=policy | WITHOUT, home=home)
    tape = qml.tape.QuantumScript([qml.RX(np.nan, 0)], [qml.expval(qml.Z(0))])
    penny = interlock.guard(qml.device("default.qubit"), policy=policy | WITHOUT, home=home)
    task = interlock.guard(LocalSimulator(), policy=policy | WITHOUT, home=home)
    for job in (
        lambda: device.run(circuit),
        lambda: penny.execute([tape]),
        lambda: task.run(Circuit().rx(0, float("nan")), shots=10).result(),
    ):
        with pytest.raises((DeniedError, InputError)) as caught:
            job()
        assert caught.value.receipt is not None


def test_without_a_fallback_the_receipt_says_why_it_fell_back(policy: Any, home: Any) -> None:
    bad = Twin(TwinSpec(reported=scaled(twin("manila").calibration, 12.0)))
    circuit = QuantumCircuit(2, 2)
    circuit.sx(0)
    circuit.cx(0, 1)
    circuit.measure([0, 1], [0, 1])
    guarded = interlock.guard(TwinSampler(bad, seed=7), policy=policy, home=home)
    with pytest.raises(DeniedError) as caught:
        guarded.run([circuit], shots=100).result()
    receipt = caught.value.receipt
    assert receipt.rule.startswith("health.")
    assert "release.baseline.none" in receipt.reason
    assert receipt.rule in caught.value.message


# What an estimate really takes


class Counting(AerSimulator):
    ran = 0

    def run(self, circuits: Any, parameter_binds: Any = None, **options: Any) -> Any:
        number = len(circuits) if isinstance(circuits, list) else 1
        type(self).ran += options["shots"] * number
        return super().run(circuits, parameter_binds, **options)


THETA = Parameter("t")
WORDS = ["ZZ", "XX", "ZI", "IX", "YZ"]


@pytest.mark.parametrize("grouping", [True, False])
@pytest.mark.parametrize(
    ("observables", "values"),
    [
        ([SparsePauliOp(w) for w in WORDS], None),
        (SparsePauliOp(WORDS), None),
        (SparsePauliOp("ZZ"), [[0.1], [0.2], [0.3]]),
        ([[SparsePauliOp(w)] for w in WORDS], [[0.1], [0.2], [0.3]]),
        ([SparsePauliOp(w) for w in WORDS[:3]], [[0.1], [0.2], [0.3]]),
    ],
)
def test_the_budget_counts_the_shots_the_estimator_takes(
    policy: Any, home: Any, observables: Any, values: Any, grouping: bool
) -> None:
    circuit = QuantumCircuit(2)
    circuit.ry(THETA if values else 0.3, 0)
    circuit.cx(0, 1)
    inner = BackendEstimatorV2(backend=Counting(), options={"abelian_grouping": grouping})
    seen: list[Any] = []
    guarded = interlock.guard(inner, policy=policy | IDEAL, home=home)
    guarded.interlock.guard.observers.append(seen.append)
    Counting.ran = 0
    guarded.run([(circuit, observables, values)], precision=0.2).result()
    (event,) = seen
    evidence = next(
        c.verdict.evidence for s in event.trace.stages for c in s.controls if c.control == "budget"
    )
    assert Counting.ran == event.job.total_shots == evidence["shots"]


def test_a_precision_too_fine_to_count_is_refused(policy: Any, home: Any) -> None:
    circuit = QuantumCircuit(1)
    guarded = interlock.guard(StatevectorEstimator(), policy=policy, home=home)
    with pytest.raises(InputError) as caught:
        guarded.run([(circuit, SparsePauliOp("Z"))], precision=1e-200)
    assert caught.value.code == "job-shots"


def test_a_pennylane_expectation_counts_every_basis(policy: Any, home: Any) -> None:
    observable = qml.X(0) @ qml.X(1) + qml.Z(0) @ qml.Z(1) + qml.Y(0)
    tape = qml.tape.QuantumScript(
        [qml.RX(0.1, 0), qml.CNOT([0, 1])], [qml.expval(observable)], shots=100
    )
    policy["admit"] = {"budget": {"max_shots_per_job": 250}}
    guarded = interlock.guard(qml.device("default.qubit", wires=2), policy=policy, home=home)
    with pytest.raises(DeniedError, match="shots-per-job"):
        guarded.execute([tape])
