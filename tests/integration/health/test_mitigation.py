"""Mitigation end to end: methods change nothing they must not, and the guard sees what was done."""

import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from qiskit import QuantumCircuit, transpile
from qiskit.quantum_info import Operator, SparsePauliOp

import interlock
from interlock.backends import Twin, TwinSampler, twin
from interlock.errors import InputError
from interlock.guard.control import check_control
from interlock.guard.execute.mitigation import (
    METADATA,
    METHODS,
    MitigatingEstimator,
    decoupled,
    estimate,
    folded,
)
from interlock.guard.execute.proxies import expectation, proxies_of
from interlock.guard.health.probe import twirled
from interlock.guard.result import Result
from interlock.guard.validate.mitigation import MitigationControl
from interlock.types import Decision
from tests.unit.guard.doubles import a_job, a_request

sys.path.insert(0, str(Path(__file__).parents[3]))

from benchmarks.health_fallback import policy


def isa_of(device: Twin, layers: int = 2) -> QuantumCircuit:
    made = QuantumCircuit(3)
    for _ in range(layers):
        made.ry(0.4, range(3))
        made.cx(0, 1)
        made.cx(1, 2)
    return transpile(made, device, initial_layout=[0, 1, 2], seed_transpiler=1)


class Fresh(TwinSampler):
    def __init__(self, backend: Twin, seed: int = 1) -> None:
        super().__init__(backend)
        self.rng = np.random.default_rng(seed)

    def run(self, pubs: Any, **options: Any) -> Any:
        self._seed = int(self.rng.integers(2**31))
        return super().run(pubs, **options)

    @property
    def seed(self) -> None:
        return None


def test_folding_and_twirling_compute_the_same() -> None:
    device = twin("manila")
    isa = isa_of(device)
    assert Operator(folded(isa, 3)).equiv(isa)
    assert folded(isa, 5).count_ops()["cx"] == 5 * isa.count_ops()["cx"]
    rng = np.random.default_rng(1)
    made = [twirled(isa, device.target, rng) for _ in range(4)]
    assert all(Operator(t).equiv(isa) for t in made)
    assert any(t != isa for t in made)


def test_an_echo_undoes_a_detuning_and_is_chosen_for_it() -> None:
    device = twin("manila")
    slow = Twin(msgspec.structs.replace(device.spec, detuning_khz=150.0))
    made = QuantumCircuit(3)
    made.h(0)
    made.barrier()
    for _ in range(3):
        made.cx(1, 2)
    made.barrier()
    made.rz(0.2, 0)
    made.h(0)
    isa = transpile(made, device, initial_layout=[0, 1, 2], optimization_level=0)
    assert decoupled(isa, device.target).count_ops()["x"] == 2
    observable = SparsePauliOp("IIIIZ")
    truth = expectation(isa, observable)
    wrong, right = (
        estimate(
            Fresh(slow), [(isa, observable)], METHODS[m], device.calibration, device.target, 8000,
            np.random.default_rng(1),
        )[0][0]
        for m in ("none", "decoupling")
    )  # fmt: skip
    assert abs(right - truth) < abs(wrong - truth) - 0.1


def test_proxies_have_the_users_gates_and_known_answers() -> None:
    device = twin("manila")
    isa = isa_of(device)
    observable = SparsePauliOp("IIZZI")
    made = proxies_of(isa, observable, 6, np.random.default_rng(1))
    shape = [(i.operation.name, i.qubits) for i in isa.data]
    assert len(made) == 6
    for proxy in made:
        assert [(i.operation.name, i.qubits) for i in proxy.data] == shape
        assert -1 <= expectation(proxy, observable) <= 1
    assert len({tuple(i.params) for p in made for i in p.data}) > 1
    assert expectation(isa, SparsePauliOp("IIIII", 0.5)) == pytest.approx(0.5)
    measured = isa.copy()
    measured.measure_all()
    with pytest.raises(InputError) as caught:
        expectation(measured, observable)
    assert caught.value.code == "proxy-gate"


def test_every_method_is_unbiased_on_a_device_without_noise() -> None:
    base = twin("manila")
    quiet = msgspec.structs.replace(
        base.calibration,
        qubits=tuple(
            msgspec.structs.replace(q, t1_us=None, t2_us=None, p01=0.0, p10=0.0)
            for q in base.calibration.qubits
        ),
        gates=tuple(msgspec.structs.replace(g, error=0.0) for g in base.calibration.gates),
    )
    device = Twin(msgspec.structs.replace(base.spec, reported=quiet, idle=False))
    isa = isa_of(device)
    observable = SparsePauliOp.from_list(
        [("IIIZZ", 0.5), ("IIXIX", 0.3), ("IIIYI", 0.4), ("IIIII", 0.25)]
    )
    truth = expectation(isa, observable)
    for name, method in METHODS.items():
        ((value, variance),) = estimate(
            Fresh(device), [(isa, observable)], method, quiet, device.target, 12_000,
            np.random.default_rng(2),
        )  # fmt: skip
        assert abs(value - truth) < 4.5 * variance**0.5, name


def test_the_guard_records_the_choice_and_its_evidence(tmp_path: Path) -> None:
    device = twin("manila")
    estimator = MitigatingEstimator(Fresh(device), methods=("readout",), proxies=8, rng=1)
    guarded = interlock.guard(estimator, policy=policy(validate={"mitigation": {}}), home=tmp_path)
    isa = isa_of(device)
    observable = SparsePauliOp("IIIZZ")
    result = guarded.run([(isa, observable)], precision=0.02).result()
    assert result.metadata["interlock"]["outcome"] == "RELEASE"
    (row,) = result.metadata[METADATA].rows
    assert row["method"] == result[0].metadata["mitigation"] == "readout"
    assert row["scores"]["readout"]["rmse"] < row["scores"]["none"]["rmse"]
    assert row["choice_shots"] == 2500 * 8 * 2
    assert abs(float(result[0].data.evs) - expectation(isa, observable)) < 0.1
    again = guarded.run([(isa, observable)], precision=0.02).result()
    assert again.metadata[METADATA].rows[0]["choice_shots"] == 0


def test_values_outside_physics_are_flagged_and_far_ones_refused(tmp_path: Path) -> None:
    control = MitigationControl()
    for sigmas, decision in ((0.4, Decision.ALLOW), (5.0, Decision.FALLBACK)):
        evidence = {
            "mitigated": True,
            "circuits": [
                {
                    "method": "zne",
                    "unphysical": [{"index": 0, "value": 1.2, "bound": 1.0, "sigmas": sigmas}],
                }
            ],
        }
        check_control(control, a_job(), control.Settings(), evidence)
        verdict = control.decide(a_job(), control.Settings(), evidence)
        assert verdict.decision is decision
        assert verdict.findings[0].rule == "validate.mitigation.unphysical"

    class Claims:
        metadata = {METADATA: {"rows": []}}

    request = a_request(tmp_path, result=Result(items=(), native=Claims()))
    forged = control.gather(request, control.Settings())
    assert forged["mitigated"] is False
    strict = control.Settings(required=True)
    assert control.decide(a_job(), strict, forged).decision is Decision.FALLBACK


def test_a_device_without_calibration_and_wrong_settings_are_refused() -> None:
    from qiskit.primitives import StatevectorSampler

    with pytest.raises(InputError) as caught:
        MitigatingEstimator(TwinSampler(twin("manila")), methods=("magic",))
    assert caught.value.code == "mitigation-settings"
    plain = MitigatingEstimator(StatevectorSampler())
    with pytest.raises(InputError) as caught:
        plain.run([(QuantumCircuit(1), "Z")]).result()
    assert caught.value.code == "mitigation-device"
