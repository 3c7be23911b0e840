"""Sentinels of estimators: an observable with a known value, among the user's, same evidence."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qiskit import QuantumCircuit, transpile
from qiskit.circuit import Parameter
from qiskit.primitives import DataBin, PrimitiveResult, PubResult, StatevectorEstimator
from qiskit.quantum_info import SparsePauliOp

import interlock
from interlock.backends import TwinEstimator, TwinSampler, twin
from interlock.errors import BackendError, InputError
from interlock.guard.execute.mitigation import MitigatingEstimator
from interlock.guard.execute.sentinels import METADATA, SentinelEstimator, SentinelSampler
from interlock.guard.health.evidence_store import EvidenceStore
from interlock.guard.health.mirror import ESTIMATED, mirror_of
from interlock.guard.result import Result
from interlock.guard.validate.sentinels import SentinelControl
from interlock.types import Decision
from tests.unit.guard.doubles import a_job, a_request


def user(width: int = 4, name: str = "manila", noise: float = 1.0) -> tuple[Any, Any, Any]:
    device = twin(name, noise_scale=noise)
    circuit = QuantumCircuit(width)
    circuit.h(0)
    for qubit in range(width - 1):
        circuit.cx(qubit, qubit + 1)
        circuit.rz(0.37, qubit + 1)
    isa = transpile(circuit, device, seed_transpiler=1)
    wanted = SparsePauliOp("Z" * width).apply_layout(isa.layout)
    return device, isa, wanted


@pytest.mark.parametrize("seed", range(6))
def test_the_projector_has_the_value_one_without_noise(seed: int) -> None:
    _, isa, _ = user()
    circuit, projector = mirror_of(isa, seed, most=ESTIMATED).estimated()
    found = StatevectorEstimator().run([(circuit, projector)]).result()
    assert float(found[0].data.evs) == pytest.approx(1.0, abs=1e-9)


def test_a_wide_circuit_is_asked_for_some_of_its_qubits_each_time_others() -> None:
    _, isa, _ = user(9, "guadalupe")
    made = [mirror_of(isa, seed, most=ESTIMATED) for seed in range(8)]
    assert {len(m.qubits) for m in made} == {ESTIMATED}
    assert len({m.qubits for m in made}) > 1
    circuit, projector = made[0].estimated()
    small = StatevectorEstimator().run([(circuit, projector)]).result()
    assert float(small[0].data.evs) == pytest.approx(1.0, abs=1e-9)


def test_the_user_gets_their_values_alone_and_in_order() -> None:
    device, isa, wanted = user()
    theta = Parameter("t")
    turned = QuantumCircuit(device.num_qubits)
    turned.rz(theta, 0)
    inner = TwinEstimator(device, precision=0.1, seed=1)
    estimator = SentinelEstimator(inner, sentinels=3, rng=1)
    pubs = [(isa, [wanted, -wanted]), (isa, wanted), (turned, [["IIIIZ"]], [[0.1], [0.2], [0.3]])]
    result = estimator.run(pubs).result()
    assert [p.data.evs.shape for p in result] == [(2,), (), (1, 3)]
    assert np.allclose(result[2].data.evs, 1.0, atol=0.3)
    note = result.metadata[METADATA]
    assert len(note.rows) == 3
    assert {row["shots"] for row in note.rows} == {100}
    assert all(0 < row["allowed"] < 0.6 for row in note.rows)


def test_the_device_gets_one_job_with_sentinels_at_places_it_cannot_foretell() -> None:
    seen = []

    class Spy(TwinEstimator):
        def run(self, pubs: Any, **options: Any) -> Any:
            pubs = list(pubs)
            seen.append((len(pubs), [len(p.observables[()]) > 1 for p in pubs]))
            assert {p.precision for p in pubs} == {0.2}
            return super().run(pubs, **options)

    device, isa, wanted = user(2)
    estimator = SentinelEstimator(Spy(device, precision=0.2, seed=1), rng=3)
    for _ in range(8):
        estimator.run([(isa, wanted)] * 3).result()
    assert {count for count, _ in seen} == {4}
    assert len({tuple(places) for _, places in seen}) > 1


def rounds(home: Path, noise: float, count: int) -> list[Decision]:
    device, isa, wanted = user(noise=noise)
    estimator = SentinelEstimator(TwinEstimator(device, precision=0.1), rng=7)
    control, decisions = SentinelControl(), []
    for _ in range(count):
        native = estimator.run([(isa, wanted)]).result()
        request = a_request(
            home, programs=(), backend=estimator, result=Result(items=(), native=native)
        )
        evidence = control.gather(request, control.Settings())
        decisions.append(control.decide(a_job(), control.Settings(), evidence).decision)
    return decisions


def test_a_device_as_good_as_it_says_raises_no_alarm(tmp_path: Path) -> None:
    assert set(rounds(tmp_path, 1.0, 20)) == {Decision.ALLOW}
    assert EvidenceStore(tmp_path).read("ibm_manila").shots == 2000


def test_a_device_worse_than_it_says_is_caught(tmp_path: Path) -> None:
    decisions = rounds(tmp_path, 3.0, 8)
    assert decisions[-1] is Decision.FALLBACK
    assert decisions.index(Decision.FALLBACK) <= 4


def test_guarded_the_evidence_is_that_of_the_device(tmp_path: Path) -> None:
    device, isa, wanted = user()
    policy = Path(interlock.__file__).parent / "guard" / "starter.yaml"
    estimator = interlock.guard(
        SentinelEstimator(TwinEstimator(device, precision=0.1, seed=1), rng=7),
        policy=policy,
        home=tmp_path,
    )
    released = estimator.run([(isa, wanted)]).result()
    assert "intervals" in released.metadata["interlock"]
    state = EvidenceStore(tmp_path).read("ibm_manila")
    assert (state.jobs, state.shots) == (1, 100)


def test_sentinels_under_mitigation_are_heard(tmp_path: Path) -> None:
    device, isa, wanted = user(2)
    inner = SentinelSampler(TwinSampler(device, seed=1), shots=60, rng=3)
    made = MitigatingEstimator(inner, methods=("readout",), proxies=3, rng=1, precision=0.1)
    native = made.run([(isa, wanted)]).result()
    heard = native.metadata[METADATA]
    assert sum(row["shots"] for row in heard.rows) >= 60
    request = a_request(tmp_path, programs=(), backend=made, result=Result(items=(), native=native))
    control = SentinelControl()
    assert control.gather(request, control.Settings())["stream"] == "ibm_manila"
    plain = MitigatingEstimator(
        TwinSampler(device, seed=1), methods=("readout",), proxies=3, rng=1, precision=0.1
    )
    assert METADATA not in plain.run([(isa, wanted)]).result().metadata


class Says:
    """An estimator that returns what the test says for every pub."""

    def __init__(self, device: Any, **data: Any) -> None:
        self.backend, self.data, self.told = device, data, {}

    def run(self, pubs: Any, **_: Any) -> Any:
        made = [PubResult(DataBin(**self.data), metadata=self.told) for _ in pubs]
        return type("Job", (), {"result": lambda _self: PrimitiveResult(made)})()


@pytest.mark.parametrize("value", [np.float64(math.nan), np.ones(3)])
def test_a_sentinel_without_a_value_is_a_fault_of_the_device(value: Any) -> None:
    device, isa, wanted = user()
    estimator = SentinelEstimator(Says(device, evs=value, stds=np.float64(0.01)), rng=1)  # type: ignore[arg-type]
    with pytest.raises(BackendError) as caught:
        estimator.run([(isa, wanted)], precision=0.1).result()
    assert caught.value.code == "sentinel-missing"


@pytest.mark.parametrize(
    ("value", "error", "told", "shots", "failures"),
    [
        (0.9, 0.03, None, 100, 9),  # ten failures by the float's hair less
        (1.4, 0.03, None, 100, 0),
        (-0.7, 0.03, None, 100, 100),
        (0.5, 0.0, 40, 40, 20),
        (0.5, 0.0, 10_000, 100, 50),
        (0.5, 0.2, None, 25, 12),
        (0.5, 0.0, -3, 100, 50),
    ],
)
def test_no_more_shots_are_counted_than_were_asked_for(
    value: float, error: float, told: int | None, shots: int, failures: int
) -> None:
    device, isa, wanted = user()
    inner = Says(device, evs=np.float64(value), stds=np.float64(error))
    inner.told = {"shots": told}
    result = SentinelEstimator(inner, rng=1).run([(isa, wanted)], precision=0.1).result()  # type: ignore[arg-type]
    (row,) = result.metadata[METADATA].rows
    assert row["shots"] == shots
    assert row["failures"] in (failures, failures + 1 if value == 0.9 else failures)


def test_an_exact_estimate_is_said_to_have_no_sentinel() -> None:
    device, isa, wanted = user()
    estimator = SentinelEstimator(Says(device, evs=np.float64(0.5), stds=np.float64(0)), rng=1)  # type: ignore[arg-type]
    result = estimator.run([(isa, wanted)], precision=0.0).result()
    assert result.metadata[METADATA].rows == ()
    assert "sentinel-exact" in result.metadata[METADATA].skipped


def test_settings_that_make_no_sentinel_are_refused() -> None:
    device, _, _ = user()
    for wrong in ({"sentinels": 0}, {"sentinels": 3, "shots": 2}):
        with pytest.raises(InputError) as caught:
            SentinelEstimator(TwinEstimator(device), **wrong)
        assert caught.value.code == "sentinel-settings"
