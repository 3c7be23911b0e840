"""Sentinels end to end: made, run among the user's circuits, scored, shared, acted on."""

import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qiskit import QuantumCircuit, transpile

from interlock.backends import Twin, TwinSampler, TwinSpec, twin
from interlock.backends.twins import used_qubits
from interlock.errors import InputError, StorageError
from interlock.guard.control import check_control
from interlock.guard.execute.sentinels import METADATA, SentinelSampler
from interlock.guard.health.evidence_store import EvidenceStore
from interlock.guard.health.mirror import mirror_of
from interlock.guard.health.sentinels import SentinelHistoryControl
from interlock.guard.result import Result
from interlock.guard.validate.sentinels import SentinelControl
from interlock.types import Decision
from tests.unit.guard.doubles import a_job, a_request


def user_circuit(width: int = 4) -> QuantumCircuit:
    circuit = QuantumCircuit(width)
    circuit.h(0)
    for qubit in range(width - 1):
        circuit.cx(qubit, qubit + 1)
        circuit.rz(0.37, qubit + 1)
        circuit.sx(qubit)
    circuit.measure_all()
    return circuit


@pytest.mark.parametrize("name", ["manila", "sherbrooke", "fez", "melbourne"])
def test_a_noiseless_device_answers_every_sentinel_right(name: str) -> None:
    from qiskit_aer.primitives import SamplerV2

    device = twin(name)
    isa = transpile(user_circuit(), device, seed_transpiler=1)
    exact = Twin(TwinSpec(reported=device.calibration, idle=False))
    answers = set()
    for seed in range(6):
        mirror = mirror_of(isa, seed)
        small = exact.compact(mirror.circuit, used_qubits(mirror.circuit))
        counts = SamplerV2(seed=1).run([small], shots=40).result()[0].data.sentinel.get_counts()
        assert counts == {mirror.answer: 40}
        answers.add(mirror.answer)
    assert len(answers) > 1


def test_a_sentinel_uses_the_users_qubits_and_gates() -> None:
    device = twin("manila")
    isa = transpile(user_circuit(), device, seed_transpiler=1)
    mirror = mirror_of(isa, 1)
    theirs = isa.count_ops()["cx"]
    assert mirror.circuit.count_ops()["cx"] == 2 * theirs
    assert mirror.qubits == used_qubits(isa)
    odd = QuantumCircuit(3)
    odd.ccx(0, 1, 2)
    with pytest.raises(InputError) as caught:
        mirror_of(odd, 1)
    assert caught.value.code == "sentinel-gate"


def test_the_user_gets_their_results_alone_and_in_order() -> None:
    device = twin("manila")
    first = transpile(user_circuit(2), device, seed_transpiler=1)
    second = transpile(user_circuit(4), device, seed_transpiler=1)
    sampler = SentinelSampler(TwinSampler(device, seed=1), shots=64, sentinels=3, rng=1)
    result = sampler.run([first, second, (first, None, 50)], shots=100).result()
    assert [p.data.meas.num_bits for p in result] == [2, 4, 2]
    assert [p.data.meas.num_shots for p in result] == [100, 100, 50]
    note = result.metadata[METADATA]
    assert len(note.rows) == 3
    assert all(0 <= r["failures"] <= r["shots"] == 21 for r in note.rows)
    assert all(0 < r["allowed"] < 0.6 for r in note.rows)


def rounds(home: Path, noise: float, count: int) -> tuple[list[Decision], Any]:
    device = twin("manila", noise_scale=noise)
    isa = transpile(user_circuit(), device, seed_transpiler=1)
    sampler = SentinelSampler(TwinSampler(device), shots=128, rng=7)
    decisions, control = [], SentinelControl()
    request = None
    for _ in range(count):
        native = sampler.run([isa], shots=20).result()
        request = a_request(
            home, programs=(), backend=sampler, result=Result(items=(), native=native)
        )
        evidence = control.gather(request, control.Settings())
        check_control(control, a_job(), control.Settings(), evidence)
        decisions.append(control.decide(a_job(), control.Settings(), evidence).decision)
    return decisions, request


def test_a_device_as_good_as_its_calibration_raises_no_alarm(tmp_path: Path) -> None:
    decisions, request = rounds(tmp_path, 1.0, 25)
    assert set(decisions) == {Decision.ALLOW}
    history = SentinelHistoryControl()
    evidence = history.gather(request, history.Settings())
    assert evidence["jobs"] == 50
    assert history.decide(a_job(), history.Settings(), evidence).decision is Decision.ALLOW


def test_a_device_worse_than_it_says_is_caught_and_stays_caught(tmp_path: Path) -> None:
    decisions, request = rounds(tmp_path, 3.0, 10)
    assert decisions[-1] is Decision.FALLBACK
    assert decisions.index(Decision.FALLBACK) <= 5
    history = SentinelHistoryControl()
    evidence = history.gather(request, history.Settings())
    check_control(history, a_job(), history.Settings(), evidence)
    verdict = history.decide(a_job(), history.Settings(), evidence)
    assert verdict.decision is Decision.FALLBACK
    assert verdict.findings[0].rule == "health.sentinels.alarm"
    store = EvidenceStore(tmp_path)
    assert len(store.history(evidence["stream"])) == 20
    store.clear(evidence["stream"])
    assert store.read(evidence["stream"]).jobs == 0


def test_jobs_without_sentinels_are_said_or_refused(tmp_path: Path) -> None:
    control = SentinelControl()
    request = a_request(tmp_path, programs=(), backend=None, result=Result(items=()))
    evidence = control.gather(request, control.Settings())
    assert control.decide(a_job(), control.Settings(), evidence).decision is Decision.ALLOW
    strict = control.Settings(required=True)
    verdict = control.decide(a_job(), strict, evidence)
    assert verdict.findings[0].rule == "validate.sentinels.missing"


def test_a_device_cannot_claim_sentinels_of_its_own(tmp_path: Path) -> None:
    class Claims:
        metadata = {METADATA: {"rows": [{"shots": 99, "failures": 0, "allowed": 0.5}]}}

    control = SentinelControl()
    request = a_request(
        tmp_path, programs=(), backend=None, result=Result(items=(), native=Claims())
    )
    strict = control.Settings(required=True)
    evidence = control.gather(request, strict)
    assert evidence["rows"] == []
    assert control.decide(a_job(), strict, evidence).decision is Decision.FALLBACK


def _add_many(home: str) -> None:
    store = EvidenceStore(Path(home))
    for _ in range(50):
        store.add("d", failures=1, shots=10, p0=0.1, now=0.0)


def test_processes_share_the_evidence_and_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_add_many, args=(str(tmp_path),)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    state = EvidenceStore(tmp_path).read("d")
    assert (state.jobs, state.shots, state.failures) == (150, 1500, 150)
    assert len(EvidenceStore(tmp_path).history("d")) == 150


def test_a_broken_store_fails_closed(tmp_path: Path) -> None:
    (tmp_path / "sentinels.db").write_bytes(b"not a database" * 100)
    with pytest.raises(StorageError) as caught:
        EvidenceStore(tmp_path).read("d")
    assert caught.value.code == "sentinel-store"


def test_sentinel_places_cannot_be_foretold() -> None:
    places = []

    class Spy(TwinSampler):
        def run(self, pubs: Any, **options: Any) -> Any:
            pubs = list(pubs)
            places.append([p.circuit.cregs[0].name == "sentinel" for p in pubs])
            return super().run(pubs, **options)

    device = twin("manila")
    isa = transpile(user_circuit(2), device, seed_transpiler=1)
    sampler = SentinelSampler(
        Spy(device, seed=1), shots=4, sentinels=2, rng=np.random.default_rng(3)
    )
    for _ in range(6):
        sampler.run([isa, isa, isa], shots=4).result()
    assert len({tuple(p) for p in places}) > 2
