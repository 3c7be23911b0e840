"""Jobs on a simulator in this process run in turn, and their receipts share commits."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from qiskit import QuantumCircuit
from qiskit.primitives import StatevectorEstimator, StatevectorSampler
from qiskit_aer.primitives import EstimatorV2, SamplerV2

import interlock
from interlock.backends import TwinSampler, twin
from interlock.guard import threads
from interlock.guard.hooks.qiskit_direct import lane_of, ran
from interlock.guard.hooks.qiskit_targets import backend_of
from interlock.guard.record import recorded
from interlock.guard.service import TOGETHER
from interlock.ledger.sqlite import SqliteStore


def lane(target: Any) -> threads.Lane | None:
    return lane_of(target, backend_of(target))


def test_jobs_in_flight_share_commits_and_all_are_recorded(policy, home, bell, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    guarded = interlock.guard(SamplerV2(seed=1), policy=policy, home=home)
    guarded.run([bell], shots=10).result()
    commits = []
    commit = SqliteStore.commit
    # However slow the machine: only what must not wait is committed.
    monkeypatch.setattr("interlock.ledger.sequencer.LINGER_S", 60.0)
    monkeypatch.setattr(threads, "SHARE_S", 60.0)
    gate = threading.Event()
    in_turn = lane(SamplerV2())
    assert in_turn is not None
    in_turn.run(lambda: not gate.wait(60))
    monkeypatch.setattr(SqliteStore, "commit", lambda self: (commits.append(1), commit(self))[1])
    jobs = [guarded.run([bell], shots=100 + n) for n in range(40)]
    gate.set()
    results = [job.result() for job in jobs]
    assert [r[0].data.meas.num_shots for r in results] == [100 + n for n in range(40)]
    receipts = [r.metadata["interlock"]["id"] for r in results]
    assert len(set(receipts)) == 40
    assert len(commits) <= 80 / TOGETHER + 1  # an intent and an end each
    guarded.interlock.guard.close()
    with recorded(home) as ledger:
        for receipt in receipts:
            assert ledger.find(receipt).header["outcome"] == "RELEASE"


@pytest.mark.parametrize("make", [
    lambda: SamplerV2(seed=5),
    lambda: StatevectorSampler(seed=5),
    lambda: TwinSampler(twin("manila", age_s=60.0), seed=5),
])  # fmt: skip
def test_samplers_give_what_their_own_run_gives(policy, home, bell, make) -> None:  # type: ignore[no-untyped-def]
    assert lane(make()) is not None
    alone = make().run([bell, bell], shots=300).result()
    guarded = interlock.guard(make(), policy=policy, home=home).run([bell, bell], shots=300)
    for one, other in zip(alone, guarded.result(), strict=True):
        assert one.data.meas.get_counts() == other.data.meas.get_counts()


def test_an_estimator_gives_what_its_own_run_gives(policy, home) -> None:  # type: ignore[no-untyped-def]
    circuit = QuantumCircuit(1)
    circuit.ry(0.3, 0)
    pub = (circuit, ["Z", "X"], [], 0.01)
    make = lambda: EstimatorV2(options={"run_options": {"seed_simulator": 3}})  # noqa: E731
    assert lane(make()) is not None
    alone = make().run([pub]).result()[0].data.evs
    guarded = interlock.guard(make(), policy=policy, home=home).run([pub]).result()[0].data.evs
    assert alone.tolist() == guarded.tolist()


def test_only_what_simulates_here_as_its_sdk_made_it_runs_in_turn(bell) -> None:  # type: ignore[no-untyped-def]
    class Mine(SamplerV2):
        """Somebody's own: what its `run` does is not known."""

        def run(self, *args: Any, **options: Any) -> Any:
            self.ran = True
            return super().run(*args, **options)

    plain, mine, changed = SamplerV2(), Mine(), SamplerV2()
    changed.run = lambda *args, **options: SamplerV2.run(changed, *args, **options)  # type: ignore[method-assign]
    assert lane(plain) is lane(StatevectorSampler()) is not None
    assert lane(mine) is None
    assert lane(changed) is None
    pub = plain.run([bell], shots=8)
    assert pub.result()[0].data.meas.num_shots == 8
    ran(mine, [(bell, None, 8)], {})
    assert mine.ran


def test_a_patched_class_runs_as_it_was_patched(bell, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    seen = []
    run = SamplerV2.run

    def watched(self: Any, *args: Any, **options: Any) -> Any:
        seen.append(1)
        return run(self, *args, **options)

    monkeypatch.setattr(SamplerV2, "run", watched)
    assert lane(SamplerV2()) is None
    ran(SamplerV2(), [(bell, None, 8)], {})
    assert seen == [1]


def test_aer_with_an_executor_of_its_own_may_have_several_under_way() -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(2) as pool:
        assert lane(SamplerV2(options={"backend_options": {"executor": pool}})) is None


def test_an_exact_estimator_keeps_its_own_precision(policy, home) -> None:  # type: ignore[no-untyped-def]
    bell = QuantumCircuit(2)
    bell.h(0)
    bell.cx(0, 1)
    guarded = interlock.guard(StatevectorEstimator(), policy=policy, home=home)
    result = guarded.run([(bell, "ZZ")]).result()
    assert float(result[0].data.evs) == pytest.approx(1.0, abs=1e-12)
    assert result[0].metadata == StatevectorEstimator().run([(bell, "ZZ")]).result()[0].metadata


def test_a_decoder_may_wait_for_a_job_of_another_thread(policy, home, bell) -> None:  # type: ignore[no-untyped-def]
    inner = interlock.guard(SamplerV2(), policy=policy, home=home)

    def decode(_: Any) -> dict[str, Any]:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(lambda: inner.run([bell], shots=10).result()).result()
        return {"seen": 1}

    guarded = interlock.guard(SamplerV2(), policy=policy, home=home, decode=decode)
    result = guarded.run([bell], shots=10).result()
    assert result.metadata["interlock"]["outcome"] == "RELEASE"


def test_one_that_hangs_does_not_hold_those_behind_it(policy, home, bell, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    document = policy | {"timeouts": {"control_s": 5, "execute_s": 0.5}}
    guarded = interlock.guard(SamplerV2(), policy=document, home=home)
    first = []
    simulate = SamplerV2._run

    def once(self: Any, pubs: Any) -> Any:
        if not first:
            first.append(1)
            time.sleep(3)
        return simulate(self, pubs)

    monkeypatch.setattr(SamplerV2, "_run", once)
    jobs = [guarded.run([bell], shots=10) for _ in range(3)]
    assert [j.result().metadata["interlock"]["outcome"] for j in jobs[1:]] == ["RELEASE"] * 2
    with pytest.raises(interlock.errors.DeniedError) as caught:
        jobs[0].result()
    assert "timeout" in str(caught.value) or "no result" in str(caught.value)


SCRIPT = """
import sys, yaml
from qiskit import QuantumCircuit
from qiskit_aer.primitives import EstimatorV2, SamplerV2
import interlock
bell = QuantumCircuit(2)
bell.h(0)
bell.cx(0, 1)
bell.measure_all()
guarded = interlock.guard(SamplerV2(), policy=yaml.safe_load(open(sys.argv[2])), home=sys.argv[1])
while True:
    for job in [guarded.run([bell], shots=10) for _ in range(20)]:
        print(job.result().metadata["interlock"]["id"], flush=True)
"""


def test_what_was_handed_over_is_on_the_disk_when_the_process_is_killed(  # type: ignore[no-untyped-def]
    policy, tmp_path: Path
) -> None:
    import yaml

    rules, home = tmp_path / "policy.yaml", tmp_path / "home"
    rules.write_text(yaml.safe_dump(policy))
    child = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(home), str(rules)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert child.stdout is not None
    given = [child.stdout.readline().strip() for _ in range(70)]
    child.send_signal(signal.SIGKILL)
    given += [line.strip() for line in child.stdout if line.endswith("\n")]
    child.wait()
    with recorded(home) as ledger:
        for receipt in given:
            assert ledger.find(receipt).header["outcome"] == "RELEASE"


def test_what_others_took_before_its_turn_is_no_time_of_a_job(
    policy, home, bell, monkeypatch
) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(threads, "SHARE_S", 60.0)
    guarded = interlock.guard(SamplerV2(), policy=policy, home=home)
    told: list[float] = []
    guarded.interlock.guard.observers.append(lambda event: told.append(event.seconds))
    gate = threading.Event()
    in_turn = lane(SamplerV2())
    assert in_turn is not None
    guarded.run([bell], shots=10).result()
    in_turn.run(lambda: not gate.wait(60))
    job = guarded.run([bell], shots=10)
    time.sleep(2)
    gate.set()
    job.result()
    assert len(told) == 2
    assert told[1] < 2


def test_waits_of_jobs_in_flight_for_each_other_do_not_add_up(
    policy, home, bell, monkeypatch
) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("interlock.ledger.sequencer.LINGER_S", 60.0)

    def decode(_: Any) -> dict[str, Any]:
        time.sleep(0.02)
        return {"seen": 1}

    guarded = interlock.guard(SamplerV2(), policy=policy, home=home, decode=decode)
    guarded.run([bell], shots=10).result()
    told: list[float] = []
    guarded.interlock.guard.observers.append(lambda event: told.append(event.seconds))
    began = time.perf_counter()
    for job in [guarded.run([bell], shots=10) for _ in range(16)]:
        job.result()
    passed = time.perf_counter() - began
    assert len(told) == 16
    # Submission runs beside the jobs; their waits for each other would add up to 2.7 s.
    assert 16 * 0.02 <= sum(told) <= 2 * passed


def test_a_callback_that_ends_its_thread_holds_up_nobody(policy, home, bell) -> None:  # type: ignore[no-untyped-def]
    guarded = interlock.guard(SamplerV2(), policy=policy, home=home)
    gate = threading.Event()
    in_turn = lane(SamplerV2())
    assert in_turn is not None
    in_turn.run(lambda: not gate.wait(60))
    jobs = [guarded.run([bell], shots=10) for _ in range(4)]
    for job in jobs:
        job._future.add_done_callback(lambda _: sys.exit(1))
    gate.set()
    assert [j._future.result(20).receipt.outcome for j in jobs] == ["RELEASE"] * 4


def test_a_seed_that_is_changed_before_the_job_runs_is_not_called_honoured(  # type: ignore[no-untyped-def]
    policy, home, bell
) -> None:
    inner = SamplerV2(seed=5)
    guarded = interlock.guard(inner, policy=policy, home=home)
    gate = threading.Event()
    in_turn = lane(inner)
    assert in_turn is not None
    said = []
    for seed in (5, 77):
        gate.clear()
        in_turn.run(lambda: not gate.wait(60))
        job = guarded.run([bell], shots=10)
        inner._seed = seed
        gate.set()
        trace = job._future.result(20).trace
        found = next(s for s in trace.stages if s.stage == "execute").controls
        said += [v for c in found if (v := c.verdict.evidence.get("seed_honoured"))]
    assert said == ["not known", "no"]


def test_a_forked_child_does_not_wait_for_a_job_of_its_parent(policy, home, bell) -> None:  # type: ignore[no-untyped-def]
    guarded = interlock.guard(SamplerV2(), policy=policy, home=home)
    done = guarded.run([bell], shots=10)
    done._future.result()
    gate = threading.Event()
    in_turn = lane(SamplerV2())
    assert in_turn is not None
    in_turn.run(lambda: not gate.wait(60))
    job = guarded.run([bell], shots=10)
    child = os.fork()
    if not child:
        code = 1
        try:
            assert done.result()[0].data.meas.num_shots == 10
            job.result()
        except interlock.errors.BackendError as error:
            code = 0 if error.code == "job-forked" else 2
        finally:
            os._exit(code)
    gate.set()
    assert os.waitpid(child, 0)[1] == 0
    assert job.result().metadata["interlock"]["outcome"] == "RELEASE"


def test_what_a_guard_that_nobody_keeps_has_in_flight_is_recorded(  # type: ignore[no-untyped-def]
    policy, home, bell, monkeypatch
) -> None:
    monkeypatch.setattr("interlock.ledger.sequencer.LINGER_S", 1.0)
    monkeypatch.setattr(threads, "SHARE_S", 60.0)
    monkeypatch.setattr(threads, "ROUNDS_S", 60.0)
    guarded = interlock.guard(SamplerV2(seed=1), policy=policy, home=home)
    guarded.run([bell], shots=10).result()
    gate, executed, collected = threading.Event(), threading.Event(), threading.Event()
    in_turn = lane(SamplerV2())
    assert in_turn is not None
    in_turn.run(lambda: not gate.wait(60))
    for _ in range(3):
        guarded.run([bell], shots=10)
    parts = iter(range(3))  # as many as a job has

    def another_guard() -> bool:
        if next(parts) < 2:
            return True
        executed.set()
        collected.wait(60)
        return False

    in_turn.run(another_guard)
    del guarded
    gate.set()
    assert executed.wait(60)
    gc.collect()
    collected.set()
    deadline = time.monotonic() + 20
    while True:
        with recorded(home) as ledger:
            ended = [e for e in ledger.entries() if e.header.get("outcome") == "RELEASE"]
        if len(ended) == 4:
            return
        assert time.monotonic() < deadline, f"{len(ended)} of 4 jobs are on record"
        time.sleep(0.05)


def test_a_job_given_up_between_two_parts_is_not_watched_for_ever(  # type: ignore[no-untyped-def]
    policy, home, bell, monkeypatch
) -> None:
    monkeypatch.setattr(threads, "SHARE_S", 60.0)
    monkeypatch.setattr(threads, "ROUNDS_S", 60.0)
    guarded = interlock.guard(SamplerV2(seed=1), policy=policy, home=home)
    guarded.run([bell], shots=10).result()
    gate, paused, given_up = threading.Event(), threading.Event(), threading.Event()
    in_turn = lane(SamplerV2())
    assert in_turn is not None
    in_turn.run(lambda: not gate.wait(60))
    job = guarded.run([bell], shots=10)

    def between() -> bool:
        paused.set()
        return not given_up.wait(60)

    in_turn.run(between)
    gate.set()
    assert paused.wait(60)
    assert job._future.give_up()
    given_up.set()
    after = threading.Event()
    in_turn.run(lambda: after.set())
    assert after.wait(60)
    assert [w for w in threads._pool.watched.values() if not isinstance(w, threads.Lane)] == []
