"""Hostile devices of every SDK: nothing they put into a result leaves without having been checked.

No path returns a quantum result that skipped filter, govern and ledger: what is handed over is
made from what the filter saw, and its record is on disk.
"""

from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import cirq
import numpy as np
import pennylane as qml
import pytest
from braket.circuits import Circuit, Observable
from braket.devices import LocalSimulator
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.primitives import (
    BaseEstimatorV2,
    BaseSamplerV2,
    BitArray,
    DataBin,
    PrimitiveResult,
    PubResult,
)
from qiskit.quantum_info import SparsePauliOp
from qiskit.result import Result as QiskitResult
from qiskit_aer import AerSimulator

import interlock
from interlock.errors import DeniedError, InputError
from interlock.guard.explain import explain
from interlock.guard.record import recorded
from interlock.guard.replay import replay

IDEAL = {"health": {"calibration": {"on_missing": "allow"}, "fidelity": {"on_unknown": "allow"}}}


def recorded_stages(home: Any, receipt: str) -> set[str]:
    with recorded(home) as ledger:
        story = explain(ledger, receipt)
        assert not any(r.differences for r in replay(ledger.entries()))
    return {s["stage"] for s in story["stages"]}


def flipping(parameters: bool = False) -> Any:
    theta = Parameter("t")
    circuit = QuantumCircuit(1, 1, name="flip")
    circuit.rx(theta if parameters else 0.1, 0)
    circuit.measure(0, 0)
    return circuit, theta


# Qiskit: backends


def test_parameter_binds_are_circuits_that_every_control_sees(policy: Any, home: Any) -> None:
    circuit, theta = flipping(parameters=True)
    guarded = interlock.guard(AerSimulator(seed_simulator=1), policy=policy, home=home)
    result = guarded.run(circuit, shots=50, parameter_binds=[{theta: [0.0, np.pi]}]).result()
    assert [result.get_counts(i) for i in range(2)] == [{"0": 50}, {"1": 50}]
    with recorded(home) as ledger:
        job = explain(ledger, result.interlock["id"])["job"]
    assert [(c["shots"], c["bindings"]) for c in job["circuits"]] == [(50, 1)] * 2


def test_parameter_binds_do_not_get_past_the_budget_or_the_filter(policy: Any, home: Any) -> None:
    circuit, theta = flipping(parameters=True)
    binds = [{theta: [0.0] * 10 + [np.pi]}]
    policy["admit"] = {"budget": {"max_shots_per_job": 500}}
    guarded = interlock.guard(AerSimulator(), policy=policy, home=home)
    with pytest.raises(DeniedError) as caught:
        guarded.run(circuit, shots=100, parameter_binds=binds).result()
    assert caught.value.receipt.rule == "admit.budget.shots-per-job"
    policy["admit"] = {"budget": {}}
    policy["filter"] = {"constraints": {"rules": [{"id": "dose", "field": "dose", "max": 0.5}]}}

    def worst(result: Any) -> dict[str, float]:
        shares = [result.get_counts(i).get("1", 0) / 100 for i in range(len(result.results))]
        return {"dose": max(shares)}

    guarded = interlock.guard(AerSimulator(), policy=policy, home=home, decode=worst)
    with pytest.raises(DeniedError) as caught:
        guarded.run(circuit, shots=100, parameter_binds=binds).result()
    assert caught.value.receipt.rule == "filter.constraints.dose"


@pytest.mark.parametrize(
    "options",
    [
        {"parameterizations": [[[[0, 0], [0.1, 0.2]]]]},
        {"parameter_binds": [{}, {}]},
        {"parameter_binds": "t"},
        {"parameter_binds": [{Parameter("t"): 3}]},
        {"parameter_binds": [{Parameter("t"): [0.1] * 20_000}]},
        {"parameter_binds": [{Parameter("t"): [0.1], Parameter("u"): [0.1, 0.2]}]},
        {"parameter_binds": [{Parameter("t"): ["x"]}]},
    ],
)
def test_options_that_multiply_what_runs_are_refused(policy: Any, home: Any, options: Any) -> None:
    circuit, _ = flipping()
    guarded = interlock.guard(AerSimulator(), policy=policy, home=home)
    with pytest.raises(InputError) as caught:
        guarded.run(circuit, shots=10, **options).result()
    assert caught.value.code == "job-options"


def test_run_options_are_on_record(policy: Any, home: Any) -> None:
    circuit, _ = flipping()
    guarded = interlock.guard(AerSimulator(), policy=policy, home=home)
    result = guarded.run(circuit, shots=10, memory=True, seed_simulator=3).result()
    assert Counter(result.get_memory()) == result.get_counts(circuit)
    with recorded(home) as ledger:
        job = explain(ledger, result.interlock["id"])["job"]
    assert job["options"] == {"memory": True, "seed_simulator": 3, "shots": 10}


class Tampering(AerSimulator):
    """A backend that adds to its honest result what nobody asked for."""

    change: Callable[[dict[str, Any]], None]

    def run(self, circuits: Any, parameter_binds: Any = None, **options: Any) -> Any:
        honest = super().run(circuits, parameter_binds, **options).result().to_dict()
        type(self).change(honest)
        return SimpleNamespace(result=lambda: QiskitResult.from_dict(honest))


def _more(result: dict[str, Any]) -> None:
    result["results"] += result["results"]


def _failed(result: dict[str, Any]) -> None:
    result["results"][0]["success"] = False


def _other_memory(result: dict[str, Any]) -> None:
    result["results"][0]["data"]["memory"] = ["0x1"] * 10


def _rider(result: dict[str, Any]) -> None:
    result["results"][0]["data"]["statevector"] = [float("nan"), 1e9]
    result["results"][0]["header"]["dose"] = 1e9
    result["dose"] = 1e9


@pytest.mark.parametrize("change", [_more, _failed, _other_memory])
def test_a_backend_result_of_other_experiments_is_refused(
    policy: Any, home: Any, change: Any
) -> None:
    circuit = QuantumCircuit(1, 1)
    circuit.id(0)
    circuit.measure(0, 0)
    kind = type("Changed", (Tampering,), {"change": staticmethod(change)})
    guarded = interlock.guard(kind(), policy=policy | IDEAL, home=home)
    with pytest.raises(DeniedError, match=r"execute\.run\.result-format"):
        guarded.run(circuit, shots=10).result()


def test_what_rides_along_in_a_backend_result_stays_behind(policy: Any, home: Any) -> None:
    circuit, _ = flipping()
    kind = type("Riding", (Tampering,), {"change": staticmethod(_rider)})
    guarded = interlock.guard(kind(), policy=policy | IDEAL, home=home)
    result = guarded.run(circuit, shots=10).result()
    assert sum(result.get_counts(circuit).values()) == 10
    assert "statevector" not in result.to_dict()["results"][0]["data"]
    assert "dose" not in str(result.to_dict())
    assert "0.data.statevector" in result.interlock["stripped"]
    assert {"filter", "govern", "release"} <= recorded_stages(home, result.interlock["id"])


# Qiskit: primitives


class Saying(BaseSamplerV2):
    """A sampler that answers what it was told to."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def run(self, pubs: Any, *, shots: Any = None) -> Any:
        return SimpleNamespace(result=lambda: self.answer)


class Valuing(BaseEstimatorV2):
    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def run(self, pubs: Any, *, precision: Any = None) -> Any:
        return SimpleNamespace(result=lambda: self.answer)


def test_what_rides_along_in_a_sampler_result_stays_behind(policy: Any, home: Any) -> None:
    circuit = QuantumCircuit(1)
    circuit.measure_all()
    bits = np.array([[0], [1]] * 5, dtype=np.uint8)
    data = DataBin(meas=BitArray(bits, 1), secret=np.array([np.nan, 1e9]))
    answer = PrimitiveResult([PubResult(data, metadata={"dose": np.inf})], metadata={"leak": 1})
    guarded = interlock.guard(Saying(answer), policy=policy | IDEAL, home=home)
    result = guarded.run([circuit], shots=10).result()
    bits[:] = 1  # what the device does to its own arrays later changes nothing
    assert list(result[0].data) == ["meas"]
    assert result[0].data.meas.get_counts() == {"0": 5, "1": 5}
    assert "dose" not in result[0].metadata
    assert "leak" not in result.metadata
    receipt = result.metadata["interlock"]
    assert receipt["stripped"] == ["0.data.secret", "0.metadata.dose", "metadata.leak"]
    assert {"filter", "govern", "release"} <= recorded_stages(home, receipt["id"])


def estimated(policy: Any, home: Any, **data: Any) -> Any:
    circuit = QuantumCircuit(1)
    circuit.h(0)
    answer = PrimitiveResult([PubResult(DataBin(**data))])
    guarded = interlock.guard(Valuing(answer), policy=policy | IDEAL, home=home)
    return guarded.run([(circuit, SparsePauliOp("Z"))], precision=0.1).result()


def test_what_rides_along_in_an_estimate_stays_behind(policy: Any, home: Any) -> None:
    more = np.array([1e9, np.nan])
    result = estimated(policy, home, evs=np.array(0.5), stds=np.array(0.01), evs_extrapolated=more)
    assert sorted(result[0].data) == ["evs", "stds"]
    assert result.metadata["interlock"]["stripped"] == ["0.data.evs_extrapolated"]


@pytest.mark.parametrize(
    ("value", "error", "rule"),
    [
        (0.5 + 0.1j, 0.01, "execute.run.result-format"),
        (complex(0.5, np.nan), 0.01, "execute.run.result-format"),
        (1.5, 0.01, "validate.counts.bound"),
        (np.nan, 0.01, "validate.counts.finite"),
    ],
)
def test_estimates_that_cannot_be_right_are_refused(
    policy: Any, home: Any, value: Any, error: Any, rule: str
) -> None:
    with pytest.raises(DeniedError, match=rule.replace(".", r"\.")):
        estimated(policy, home, evs=np.array(value), stds=np.array(error))


def test_an_estimate_past_its_bound_by_its_own_error_is_released(policy: Any, home: Any) -> None:
    result = estimated(policy, home, evs=np.array(1.02 + 0j), stds=np.array(0.01))
    assert (result[0].data.evs.dtype, float(result[0].data.evs)) == (float, 1.02)


# Cirq


class CirqLiar(cirq.Sampler):
    """Samples zeros; `change` makes it another answer."""

    def __init__(self, change: Callable[[list[Any]], list[Any]]) -> None:
        self.change = change

    def run_sweep(self, program: Any, params: Any, repetitions: int = 1) -> Any:
        rows = [
            cirq.ResultDict(params=r, measurements={"m": np.zeros((repetitions, 1), np.uint8)})
            for r in cirq.to_resolvers(params)
        ]
        return self.change(rows)


def _extra_key(rows: list[Any]) -> list[Any]:
    for row in rows:
        row.measurements["leak"] = np.full((3, 1), 7)
    return rows


CIRQ = cirq.Circuit(cirq.X(cirq.LineQubit(0)) ** 0.5, cirq.measure(cirq.LineQubit(0), key="m"))


def test_extra_keys_of_a_cirq_result_stay_behind(policy: Any, home: Any) -> None:
    guarded = interlock.guard(CirqLiar(_extra_key), policy=policy | IDEAL, home=home)
    result = guarded.run(CIRQ, repetitions=20)
    assert list(result.measurements) == ["m"]
    assert result.interlock["stripped"] == ["measurements.leak"]
    assert {"filter", "govern", "release"} <= recorded_stages(home, result.interlock["id"])


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows * 2,
        lambda rows: [],
        lambda rows: [cirq.ResultDict(params=None, measurements={"m": np.full((20, 1), 2)})],
        lambda rows: [cirq.ResultDict(params=None, measurements={"m": np.zeros((40, 1))})],
    ],
)
def test_a_cirq_sweep_of_other_results_is_refused(policy: Any, home: Any, change: Any) -> None:
    guarded = interlock.guard(CirqLiar(change), policy=policy | IDEAL, home=home)
    with pytest.raises(DeniedError, match="result-format"):
        guarded.run(CIRQ, repetitions=20)


def test_a_cirq_sweep_counts_every_parameter_set(policy: Any, home: Any) -> None:
    import sympy

    qubit = cirq.LineQubit(0)
    circuit = cirq.Circuit(cirq.X(qubit) ** sympy.Symbol("t"), cirq.measure(qubit, key="m"))
    policy["admit"] = {"budget": {"max_shots_per_job": 500}}
    guarded = interlock.guard(cirq.Simulator(), policy=policy, home=home)
    with pytest.raises(DeniedError, match="shots-per-job"):
        guarded.run_sweep(circuit, cirq.Linspace("t", 0, 1, 6), repetitions=100)


# Braket


class BraketLiar(LocalSimulator):
    """Answers honestly, but for what `change` does to the result."""

    change: Callable[[Any], None]

    def run(self, *given: Any, **options: Any) -> Any:
        result = super().run(*given, **options).result()
        type(self).change(result)
        return SimpleNamespace(result=lambda: result)


def braket(change: Any, policy: Any, home: Any) -> Any:
    kind = type("Changed", (BraketLiar,), {"change": staticmethod(change)})
    return interlock.guard(kind(), policy=policy | IDEAL, home=home)


def _lying_counts(result: Any) -> None:
    result.measurement_counts = {"1": 10**9}
    result.measurement_probabilities = {"1": float("nan")}
    result.outputs = [{"dose": 1e9}]
    result.values = [1e9]


def test_what_a_braket_result_says_besides_is_computed_again(policy: Any, home: Any) -> None:
    circuit = Circuit().i(0).expectation(Observable.Z(), target=0)
    result = braket(_lying_counts, policy, home).run(circuit, shots=20).result()
    assert dict(result.measurement_counts) == {"0": 20}
    assert result.measurement_probabilities == {"0": 1.0}
    assert (result.values, result.outputs) == ([1.0], None)
    assert result.get_value_by_result_type(circuit.result_types[0]) == 1.0
    assert result.interlock["stripped"] == ["outputs"]
    assert {"filter", "govern", "release"} <= recorded_stages(home, result.interlock["id"])


def test_a_braket_value_is_the_one_that_was_checked(policy: Any, home: Any) -> None:
    circuit = Circuit().i(0).expectation(Observable.Z(), target=0)

    def complex_value(result: Any) -> None:
        result.values = [1.0 + 0.5j]

    def one_more(result: Any) -> None:
        result.values = [1.0, 5.0]

    for change in (complex_value, one_more):
        with pytest.raises(DeniedError, match="result-format"):
            braket(change, policy, home).run(circuit, shots=0).result()

    def other_type_value(result: Any) -> None:
        result.result_types[0].value = 1e9

    exact = braket(other_type_value, policy, home).run(circuit, shots=0).result()
    assert (exact.values, exact.result_types[0].value) == ([1.0], 1.0)


def test_a_braket_batch_counts_every_circuit(policy: Any, home: Any) -> None:
    policy["admit"] = {"budget": {"max_shots_per_job": 50}}
    guarded = interlock.guard(LocalSimulator(), policy=policy, home=home)
    with pytest.raises(DeniedError, match="shots-per-job"):
        guarded.run_batch([Circuit().h(0)] * 3, shots=20).results()


# PennyLane


class PennyLaneLiar(qml.devices.DefaultQubit):
    """Answers honestly, but for what `change` does to values and derivatives."""

    change: Callable[[Any], Any]

    def execute(self, circuits: Any, execution_config: Any = None) -> Any:
        return type(self).change(super().execute(circuits, execution_config))

    def execute_and_compute_derivatives(self, circuits: Any, execution_config: Any = None) -> Any:
        honest = super().execute_and_compute_derivatives(circuits, execution_config)
        return type(self).change(honest)


def pennylane(change: Any, policy: Any, home: Any) -> Any:
    kind = type("Changed", (PennyLaneLiar,), {"change": staticmethod(change)})
    return interlock.guard(kind(wires=1), policy=policy | IDEAL, home=home)


@pytest.mark.parametrize(
    "change", [lambda r: r * 2, lambda r: (0.5 + 0.5j,), lambda r: ((0.5, 1e9),), lambda r: ()]
)
def test_a_pennylane_result_of_other_values_is_refused(policy: Any, home: Any, change: Any) -> None:
    tape = qml.tape.QuantumScript([qml.RX(0.1, 0)], [qml.expval(qml.Z(0))])
    with pytest.raises(DeniedError):
        pennylane(change, policy, home).execute([tape])


def test_derivatives_are_checked_too(policy: Any, home: Any) -> None:
    tape = qml.tape.QuantumScript([qml.RX(0.1, 0)], [qml.expval(qml.Z(0))], trainable_params=[0])
    config = qml.devices.ExecutionConfig(
        gradient_method="adjoint", use_device_gradient=True, use_device_jacobian_product=False
    )
    honest = pennylane(lambda r: r, policy, home)
    values, _ = honest.execute_and_compute_derivatives([tape], config)
    assert float(values[0]) == pytest.approx(np.cos(0.1))
    assert {"filter", "govern", "release"} <= recorded_stages(home, honest.receipts[-1]["id"])
    for lie in (lambda r: (r[0], (np.array(np.nan),)), lambda r: (*r, 1e9)):
        with pytest.raises(DeniedError, match="result-format"):
            pennylane(lie, policy, home).execute_and_compute_derivatives([tape], config)
