"""Guarded Qiskit objects: ordinary results in, ordinary results out, the whole path between."""

import copy
import multiprocessing
import pickle
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qiskit import QuantumCircuit, transpile
from qiskit.circuit import Parameter
from qiskit.primitives import (
    BackendEstimatorV2,
    BackendSamplerV2,
    BaseSamplerV2,
    PrimitiveResult,
    StatevectorSampler,
)
from qiskit.quantum_info import SparsePauliOp
from qiskit_aer import AerSimulator

import interlock
from interlock.backends import TwinSampler, twin
from interlock.errors import DeniedError, InputError, SetupError, StorageError, UsageError
from interlock.guard.explain import explain
from interlock.guard.record import recorded
from interlock.guard.replay import replay
from interlock.guard.state import stop


def sampler() -> TwinSampler:
    return TwinSampler(twin("manila", age_s=60.0), seed=7)


def test_a_sampler_gives_the_counts_it_would_have_given_and_a_receipt(policy, home, bell) -> None:  # type: ignore[no-untyped-def]
    plain = sampler().run([bell], shots=500).result()
    guarded = interlock.guard(sampler(), policy=policy, home=home)
    result = guarded.run([bell], shots=500).result()
    assert isinstance(guarded, BaseSamplerV2)
    assert isinstance(result, PrimitiveResult)
    assert result[0].data.meas.get_counts() == plain[0].data.meas.get_counts()
    receipt = result.metadata["interlock"]
    assert (receipt["outcome"], receipt["mode"]) == ("RELEASE", "ADVISORY")
    with recorded(home) as ledger:
        story = explain(ledger, receipt["id"])
    assert story["missing"] == []
    assert story["circuits"]
    assert story["session"]["versions"]["qiskit"]
    executed = next(s for s in story["stages"] if s["stage"] == "execute")
    run = next(c for c in executed["controls"] if c["control"] == "run")
    counts = run["evidence"]["items"][0]["registers"]["meas"]["counts"][0]["all"]
    assert counts == plain[0].data.meas.get_counts()
    assert story["job"]["seed"] == 7


def test_an_estimator_with_parameters(policy, home) -> None:  # type: ignore[no-untyped-def]
    device = AerSimulator.from_backend(twin("manila"), seed_simulator=5)
    theta = Parameter("t")
    circuit = QuantumCircuit(1)
    circuit.ry(theta, 0)
    circuit = transpile(circuit, device, seed_transpiler=7)
    z = SparsePauliOp("Z").apply_layout(circuit.layout)
    inner = BackendEstimatorV2(backend=device, options={"seed_simulator": 5})
    guarded = interlock.guard(inner, policy=policy, home=home)
    values = np.linspace(0, np.pi, 5).reshape(5, 1)
    result = guarded.run([(circuit, z, values)], precision=0.05).result()
    assert result[0].data.evs == pytest.approx(np.cos(values.ravel()), abs=0.35)
    assert result.metadata["interlock"]["outcome"] == "RELEASE"


def test_a_backend_keeps_its_own_result(policy, home, bell) -> None:  # type: ignore[no-untyped-def]
    guarded = interlock.guard(twin("manila", age_s=60.0), policy=policy, home=home)
    job = guarded.run(bell, shots=300, seed_simulator=4)
    result = job.result()
    assert sum(result.get_counts().values()) == 300
    assert result.interlock["outcome"] == "RELEASE"
    assert guarded.target.num_qubits == 5


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"admit": {"budget": {"max_shots_per_job": 10}}}, "admit.budget.shots-per-job"),
        ({"admit": {"principal": {"allow": ["nobody-else"]}}}, "admit.principal.not-allowed"),
        ({"execute": {"isolation": {"minimum": "confined"}, "run": {}}},
         "execute.isolation.too-weak"),
        ({"filter": {"constraints": {"rules": [{"id": "x", "field": "p_top", "max": 0.1}]}}},
         "filter.constraints.x"),
    ],
)  # fmt: skip
def test_refusals_name_their_rule_and_are_recorded(policy, home, bell, change, rule) -> None:  # type: ignore[no-untyped-def]
    guarded = interlock.guard(sampler(), policy=policy | change, home=home)
    with pytest.raises(DeniedError) as caught:
        guarded.run([bell], shots=100).result()
    assert caught.value.receipt.rule == rule
    with recorded(home) as ledger:
        assert explain(ledger, caught.value.receipt.id)["outcome"] == "DENY"
        assert [r.differences for r in replay(ledger.entries())] == [()]


def test_what_is_changed_after_run_is_not_what_runs(policy, home, bell) -> None:  # type: ignore[no-untyped-def]
    circuit = bell.copy()
    guarded = interlock.guard(sampler(), policy=policy, home=home)
    job = guarded.run([circuit], shots=200)
    circuit.data.clear()
    assert sum(job.result()[0].data.meas.get_counts().values()) == 200


class Hanging(StatevectorSampler):
    """A device that does not answer before the test is over."""

    over = threading.Event()

    def run(self, pubs: Any, *, shots: int | None = None) -> Any:
        self.over.wait()


class Dying(StatevectorSampler):
    def run(self, pubs: Any, *, shots: int | None = None) -> Any:
        raise ConnectionError("queue closed")


class Lying(StatevectorSampler):
    """Returns half the shots it was asked for."""

    def run(self, pubs: Any, *, shots: int | None = None) -> Any:
        return super().run([(p.circuit, p.parameter_values, p.shots // 2) for p in pubs])


IDEAL = {"health": {"calibration": {"on_missing": "allow"}, "fidelity": {"on_unknown": "allow"}}}


@pytest.mark.parametrize(
    ("inner", "timeout", "rule"),
    [
        (Hanging(), 0.3, "execute.run.timeout"),
        (Dying(), 60.0, "execute.run.device-error"),
        (Lying(), 60.0, "validate.counts.shots"),
    ],
)
def test_a_broken_device_is_answered_by_the_baseline_labelled(
    policy, home, inner, timeout, rule, request
) -> None:  # type: ignore[no-untyped-def]
    request.addfinalizer(Hanging.over.set)
    circuit = QuantumCircuit(1)
    circuit.h(0)
    circuit.measure_all()
    timed = policy | IDEAL | {"timeouts": {"execute_s": timeout}}
    guarded = interlock.guard(
        inner, policy=timed, home=home, fallback=lambda pubs: [{"0": 50, "1": 50} for _ in pubs]
    )
    for _ in range(2):
        result = guarded.run([circuit], shots=100).result()
        receipt = result.metadata["interlock"]
        assert (receipt["outcome"], receipt["rule"]) == ("FALLBACK", rule)
        assert result[0].data.meas.get_counts() == {"0": 50, "1": 50}
    without = interlock.guard(inner, policy=timed, home=home)
    with pytest.raises(DeniedError) as caught:
        without.run([circuit], shots=100).result()
    assert caught.value.receipt.rule == rule
    assert "release.baseline.none" in caught.value.message
    with recorded(home) as ledger:
        assert [r.differences for r in replay(ledger.entries())] == [(), (), ()]


@pytest.mark.parametrize("answer", [None, [], [{"0": 1}, {"1": 1}], [{"2": 100}], [{"0": 99}], 5])
def test_a_baseline_that_answers_nonsense_is_no_answer(policy, home, answer) -> None:  # type: ignore[no-untyped-def]
    circuit = QuantumCircuit(1)
    circuit.measure_all()
    guarded = interlock.guard(Dying(), policy=policy | IDEAL, home=home, fallback=lambda _: answer)
    with pytest.raises(DeniedError):
        guarded.run([circuit], shots=100).result()


def test_a_baseline_is_filtered_like_any_answer(policy, home) -> None:  # type: ignore[no-untyped-def]
    circuit = QuantumCircuit(1)
    circuit.measure_all()
    rules = {"filter": {"constraints": {"rules": [{"id": "x", "field": "p_top", "max": 0.9}]}}}
    guarded = interlock.guard(
        Dying(), policy=policy | IDEAL | rules, home=home, fallback=lambda _: [{"0": 100}]
    )
    with pytest.raises(DeniedError) as caught:
        guarded.run([circuit], shots=100).result()
    assert caught.value.receipt.rule == "filter.constraints.x"


def test_stop_reaches_a_job_that_is_already_running(policy, home) -> None:  # type: ignore[no-untyped-def]
    begun, go = threading.Event(), threading.Event()

    class Slow(StatevectorSampler):
        def run(self, pubs: Any, *, shots: int | None = None) -> Any:
            begun.set()
            go.wait(10)
            return super().run(pubs, shots=shots)

    circuit = QuantumCircuit(1)
    circuit.measure_all()
    guarded = interlock.guard(Slow(seed=1), policy=policy | IDEAL, home=home)
    job = guarded.run([circuit], shots=10)
    assert begun.wait(10)
    stop(home, "test")
    go.set()
    with pytest.raises(DeniedError) as caught:
        job.result()
    assert caught.value.receipt.rule == "govern.kill-switch.stopped"


def test_a_ledger_that_cannot_be_written_lets_nothing_out(policy, home, bell, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    guarded = interlock.guard(sampler(), policy=policy, home=home)
    guarded.run([bell], shots=10).result()

    def full(*_: Any, **__: Any) -> Any:
        raise StorageError("the disk is full", code="storage-full")

    monkeypatch.setattr(guarded.interlock.guard.ledger, "append", full)
    with pytest.raises(StorageError):
        guarded.run([bell], shots=10).result()


def test_strange_things_cannot_be_guarded(home: Path) -> None:
    for strange in (5, QuantumCircuit(1), StatevectorSampler):
        with pytest.raises(InputError):
            interlock.guard(strange, home=home)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"policy": 3}, "guard-policy"),
        ({"policy": ["x"]}, "guard-policy"),
        ({"labels": "sensitivity:confidential"}, "data-label"),
        ({"labels": (1,)}, "data-label"),
        ({"fallback": "abc"}, "fallback-kind"),
        ({"fallback": StatevectorSampler}, "fallback-kind"),
        ({"fallback": 5}, "fallback-kind"),
    ],
)
def test_arguments_that_cannot_work_are_refused_at_once(home, options, code) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError) as caught:
        interlock.guard(sampler(), home=home, **options)
    assert caught.value.code == code


def test_too_little_isolation_names_what_isolates(policy, home, bell) -> None:  # type: ignore[no-untyped-def]
    strict = policy | {"execute": {"isolation": {"minimum": "confined"}, "run": {}}}
    guarded = interlock.guard(sampler(), policy=strict, home=home)
    with pytest.raises(DeniedError) as caught:
        guarded.run([bell], shots=10).result()
    assert "ConfinedSampler(backend)" in str(caught.value.fix)


def test_nothing_is_guarded_twice(policy, home) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SetupError):
        interlock.guard(interlock.guard(sampler(), policy=policy, home=home), home=home)


def test_many_jobs_at_once_all_get_their_own_receipt(policy, home, bell) -> None:  # type: ignore[no-untyped-def]
    guarded = interlock.guard(sampler(), policy=policy, home=home)
    jobs = [guarded.run([bell], shots=20 + i) for i in range(40)]
    receipts = set()
    for i, job in enumerate(jobs):
        result = job.result()
        assert sum(result[0].data.meas.get_counts().values()) == 20 + i
        receipts.add(result.metadata["interlock"]["id"])
    assert len(receipts) == 40
    with recorded(home) as ledger:
        replayed = list(replay(ledger.entries()))
    assert len(replayed) == 40
    assert not any(r.differences for r in replayed)


def test_backend_sampler_and_its_backend_are_one_guarded_job(policy, home, bell) -> None:  # type: ignore[no-untyped-def]
    device = twin("manila", age_s=60.0)
    guarded = interlock.guard(BackendSamplerV2(backend=device), policy=policy, home=home)
    guarded.run([bell], shots=64).result()
    with recorded(home) as ledger:
        assert sum("outcome" in e.header for e in ledger.entries()) == 1


@pytest.mark.parametrize("shots", [-5, 0, 1.5, True])
def test_shots_that_are_none_are_refused_before_anything_is_reserved(
    policy, home, bell, shots
) -> None:  # type: ignore[no-untyped-def]
    guarded = interlock.guard(twin("manila", age_s=60.0), policy=policy, home=home)
    with pytest.raises(InputError) as caught:
        guarded.run(bell, shots=shots).result()
    assert caught.value.code == "job-shots"


def test_a_job_without_circuits_is_refused(policy, home) -> None:  # type: ignore[no-untyped-def]
    guarded = interlock.guard(sampler(), policy=policy, home=home)
    with pytest.raises(InputError) as caught:
        guarded.run([]).result()
    assert caught.value.code == "job-empty"


def test_parameters_changed_after_run_are_not_what_runs(policy, home) -> None:  # type: ignore[no-untyped-def]
    theta = Parameter("t")
    circuit = QuantumCircuit(1)
    circuit.ry(theta, 0)
    circuit.measure_all()
    begun = threading.Event()

    class Late(StatevectorSampler):
        def run(self, pubs: Any, *, shots: int | None = None) -> Any:
            begun.wait(10)
            return super().run(pubs, shots=shots)

    values = np.zeros((1, 1))
    guarded = interlock.guard(Late(seed=1), policy=policy | IDEAL, home=home)
    job = guarded.run([(circuit, values)], shots=100)
    values[:] = np.pi
    begun.set()
    assert job.result()[0].data.meas.get_counts() == {"0": 100}


def test_what_a_decoder_writes_is_not_released(policy, home, bell) -> None:  # type: ignore[no-untyped-def]
    def scribble(result: Any) -> dict[str, float]:
        result[0].data.meas.array[:] = 0
        return {"x": 1.0}

    plain = sampler().run([bell], shots=100).result()
    guarded = interlock.guard(sampler(), policy=policy, home=home, decode=scribble)
    result = guarded.run([bell], shots=100).result()
    assert result[0].data.meas.get_counts() == plain[0].data.meas.get_counts()


def leaving(_: Any) -> Any:
    raise SystemExit(3)


def test_a_decoder_or_fallback_that_exits_is_a_denial_on_record(policy, home, bell) -> None:  # type: ignore[no-untyped-def]
    decoding = interlock.guard(sampler(), policy=policy, home=home, decode=leaving)
    falling = interlock.guard(Dying(), policy=policy | IDEAL, home=home, fallback=leaving)
    for guarded in (decoding, falling):
        with pytest.raises(DeniedError) as caught:
            guarded.run([bell], shots=10).result()
        with recorded(home) as ledger:
            assert ledger.find(caught.value.receipt.id).header["outcome"] == "DENY"


def test_a_device_is_no_fallback(policy, home, bell) -> None:  # type: ignore[no-untyped-def]
    guarded = interlock.guard(sampler(), policy=policy, home=home, fallback=sampler())
    with pytest.raises(InputError) as caught:
        guarded.run([bell], shots=10)
    assert caught.value.code == "fallback-quantum"


def test_what_stands_behind_a_guarded_object_comes_guarded_or_not_at_all(policy, home) -> None:  # type: ignore[no-untyped-def]
    guarded = interlock.guard(sampler(), policy=policy, home=home)
    assert guarded.backend.interlock_guarded
    with pytest.raises(AttributeError):
        _ = guarded.inner
    with pytest.raises(AttributeError):
        _ = guarded._backend


def test_an_exact_estimator_stays_exact(policy, home) -> None:  # type: ignore[no-untyped-def]
    from qiskit_aer.primitives import EstimatorV2

    circuit = QuantumCircuit(1)
    circuit.id(0)
    guarded = interlock.guard(EstimatorV2(), policy=policy, home=home)
    result = guarded.run([(circuit, SparsePauliOp("Z", 2.0))]).result()
    assert float(result[0].data.evs) == pytest.approx(2.0, abs=1e-12)


@pytest.mark.parametrize("kind", [StatevectorSampler, AerSimulator])
def test_exact_simulators_need_no_calibration(policy, home, kind) -> None:  # type: ignore[no-untyped-def]
    circuit = QuantumCircuit(1)
    circuit.measure_all()
    guarded = interlock.guard(kind(), policy=policy, home=home)
    argument: Any = circuit if kind is AerSimulator else [circuit]
    guarded.run(argument, shots=10).result()


def test_a_refusal_crosses_a_process_pool(policy, home, bell) -> None:  # type: ignore[no-untyped-def]
    import copy

    strict = policy | {"admit": {"budget": {"max_shots_per_job": 1}}}
    guarded = interlock.guard(sampler(), policy=strict, home=home)
    with pytest.raises(DeniedError) as caught:
        guarded.run([bell], shots=10).result()
    again = copy.copy(caught.value)  # the way a process pool takes, by __reduce__
    assert again.diagnostics() == caught.value.diagnostics()
    assert again.receipt == caught.value.receipt


def test_a_forked_child_goes_on_by_itself(policy, home, bell) -> None:  # type: ignore[no-untyped-def]
    import os

    guarded = interlock.guard(sampler(), policy=policy, home=home)
    guarded.run([bell], shots=10).result()
    child = os.fork()
    if child == 0:
        # Simulating in a forked child is Aer's own business; a refusal is enough to see the path.
        status = 1
        try:
            guarded.run([bell], shots=10**6).result()
        except DeniedError:
            status = 0
        finally:
            os._exit(status)
    deadline = time.monotonic() + 60
    done = 0
    while not done and time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        time.sleep(0.05)
    if not done:
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert done
    assert os.waitstatus_to_exitcode(status) == 0
    with recorded(home) as ledger:
        assert sorted(e.header["outcome"] for e in ledger.entries() if "outcome" in e.header) == [
            "DENY", "RELEASE",
        ]  # fmt: skip


@pytest.mark.parametrize(("ignores", "says"), [(False, "yes"), (True, "no")])
def test_whether_the_device_honours_its_seed_is_on_record(
    policy, home, bell, ignores, says
) -> None:  # type: ignore[no-untyped-def]
    import msgspec

    from interlock.backends import Twin

    honest = twin("manila", age_s=60.0)
    device = Twin(msgspec.structs.replace(honest.spec, ignore_seed=ignores))
    guarded = interlock.guard(TwinSampler(device, seed=7), policy=policy, home=home)
    found = []
    for _ in range(2):
        receipt = guarded.run([bell], shots=1000).result().metadata["interlock"]["id"]
        with recorded(home) as ledger:
            stages = explain(ledger, receipt)["stages"]
        (run,) = [c for s in stages for c in s["controls"] if c["control"] == "run"]
        found.append(run["evidence"]["seed_honoured"])
    assert found == ["not known", says]


def test_a_copy_of_a_guarded_object_is_guarded_and_shares_the_ledger(policy, home, bell) -> None:  # type: ignore[no-untyped-def]
    copied = copy.deepcopy(interlock.guard(StatevectorSampler(seed=1), policy=policy, home=home))
    receipt = copied.run([bell], shots=50).result().metadata["interlock"]
    with recorded(home) as ledger:
        assert explain(ledger, receipt["id"])["missing"] == []


def test_a_guarded_object_goes_to_another_process_and_stays_guarded(policy, home, bell) -> None:  # type: ignore[no-untyped-def]
    guarded = interlock.guard(StatevectorSampler(seed=1), policy=policy, home=home)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as workers:
        receipt = workers.submit(_run_elsewhere, guarded, bell).result()
    assert receipt["outcome"] == "RELEASE"
    with recorded(home) as ledger:
        assert explain(ledger, receipt["id"])["missing"] == []


def _run_elsewhere(guarded: Any, circuit: Any) -> Any:
    return guarded.run([circuit], shots=50).result().metadata["interlock"]


def test_the_token_of_a_gateway_is_not_pickled() -> None:
    guarded = interlock.guard(StatevectorSampler(), url="https://localhost:1", token="s3cret")
    with pytest.raises(UsageError) as caught:
        pickle.dumps(guarded)
    assert caught.value.code == "guard-pickle"


def test_a_guarded_object_in_a_guarded_job_carries_its_labels(policy, home, bell) -> None:  # type: ignore[no-untyped-def]
    inner = interlock.guard(StatevectorSampler(seed=1), policy=policy, home=home)

    policy["health"] = {"calibration": {"on_missing": "allow"}}

    class Relay(BaseSamplerV2):
        def run(self, pubs: Any, *, shots: Any = None) -> Any:
            return inner.run(pubs, shots=shots)

    outer = interlock.guard(Relay(), policy=policy, home=home, labels=("subject:maria",))
    outer.run([bell], shots=20).result()
    with recorded(home) as ledger:
        jobs = [e.payload["job"] for e in ledger.entries() if "outcome" in e.header and e.payload]
    assert [job["labels"] for job in jobs] == [["subject:maria"]] * 2
