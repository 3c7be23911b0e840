"""Every figure of a released result carries one interval for shots, device and model."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qiskit import QuantumCircuit, transpile
from qiskit.primitives import StatevectorEstimator, StatevectorSampler
from qiskit.quantum_info import SparsePauliOp

import interlock
from interlock.backends import TwinSampler, twin
from interlock.errors import DeniedError
from interlock.guard.health import known
from interlock.guard.result import Result, Samples
from interlock.guard.validate.figures import Noise, figures
from interlock.ledger import Ledger

sys.path.insert(0, str(Path(__file__).parents[3]))

from benchmarks.health_fallback import policy
from benchmarks.health_uncertainty import NAMES, coverage


def bell(device: Any = None) -> QuantumCircuit:
    made = QuantumCircuit(2)
    made.h(0)
    made.cx(0, 1)
    made.measure_all()
    return made if device is None else transpile(made, device, seed_transpiler=1)


def evidence(home: Path, receipt: str) -> dict[str, Any]:
    with Ledger.read(home) as ledger:
        stages = (ledger.find(receipt).payload or {})["trace"]["stages"]
    (found,) = (c["evidence"] for s in stages for c in s["controls"] if c["control"] == "interval")
    return found


def run(home: Path, sampler: Any, circuit: QuantumCircuit, **options: Any) -> Any:
    return interlock.guard(sampler, home=home, **options).run([circuit], shots=1000).result()


def test_a_released_result_carries_combined_intervals(tmp_path: Path) -> None:
    device = twin("manila")
    result = run(tmp_path, TwinSampler(device, seed=1), bell(device), policy=policy())
    receipt = result.metadata["interlock"]
    found = evidence(tmp_path, receipt["id"])
    assert found["basis"] == "shipped"
    assert receipt["intervals"] == found["figures"]
    for figure in found["figures"]:
        assert 0 <= figure["low"] <= figure["high"] <= 1
        assert figure["parts"]["device"] > figure["parts"]["sampling"] / 2
    by_name = {f["name"]: f for f in found["figures"]}
    assert by_name["meas p(00)"]["low"] <= 0.5 <= by_name["meas p(00)"]["high"]
    low, high = by_name["meas p(00)"]["sampling"]
    assert high - low < by_name["meas p(00)"]["high"] - by_name["meas p(00)"]["low"]


def test_every_outcome_and_every_value_has_an_interval(tmp_path: Path) -> None:
    """Outcomes beyond the named ones have that of their count, values beyond them their own."""
    device = twin("guadalupe")
    wide = QuantumCircuit(7)
    wide.h(range(7))
    wide.measure_all()
    isa = transpile(wide, device, seed_transpiler=1)
    result = run(tmp_path, TwinSampler(device, seed=1), isa, policy=policy())
    receipt = result.metadata["interlock"]
    counts = result[0].data.meas.get_counts()
    (table,) = receipt["interval_tables"]
    assert set(table["count"]) == set(counts.values())
    by_count = dict(zip(table["count"], zip(table["low"], table["high"], strict=True), strict=True))
    assert all(low <= c / 1000 <= high or low > 0 for c, (low, high) in by_count.items())
    for figure in receipt["intervals"]:
        assert by_count[round(figure["value"] * 1000)] == (figure["low"], figure["high"])
    assert evidence(tmp_path, receipt["id"])["count"] == len(counts) > 64

    values = (
        interlock.guard(StatevectorEstimator(), home=tmp_path, policy=policy())
        .run([(QuantumCircuit(1), [[SparsePauliOp("Z", k / 100)] for k in range(1, 101)])])
        .result()
    )
    receipt = values.metadata["interlock"]
    (table,) = receipt["interval_tables"]
    assert len(receipt["intervals"]) == 64
    assert table["low"] == table["high"] == pytest.approx([k / 100 for k in range(1, 101)])


def test_an_exact_simulator_has_the_shots_interval_alone(tmp_path: Path) -> None:
    result = run(tmp_path, StatevectorSampler(seed=1), bell(), policy=policy())
    found = evidence(tmp_path, result.metadata["interlock"]["id"])
    assert found["basis"] == "exact device"
    assert all([f["low"], f["high"]] == f["sampling"] for f in found["figures"])


def test_the_models_own_error_widens_the_interval_and_must_be_there(tmp_path: Path) -> None:
    def decode(sd: Any) -> Any:
        return lambda result: {"model_sd": sd, "count": len(result)}

    rules = policy(validate={"interval": {"model_field": "model_sd"}})
    widths = []
    for sd in (0.0, 0.1):
        result = run(tmp_path, StatevectorSampler(seed=1), bell(), policy=rules, decode=decode(sd))
        first = result.metadata["interlock"]["intervals"][0]
        widths.append(first["high"] - first["low"])
    assert widths[1] > 2 * widths[0]
    with pytest.raises(DeniedError, match="model"):
        run(tmp_path, StatevectorSampler(seed=1), bell(), policy=rules, decode=decode(None))


def test_a_device_with_a_record_of_its_own_uses_it(tmp_path: Path) -> None:
    device = twin("manila")
    added = known.learn(
        TwinSampler(device, seed=1), device.calibration, device.target, tmp_path,
        circuits=4, shots=200, rng=1,
    )  # fmt: skip
    assert sum(added.values()) >= 10
    rng = np.random.default_rng(1)
    rows = [(kind, float(v)) for kind in ("p-zero/1", "p-middle/3") for v in rng.normal(0, 1, 150)]
    known.store_of(tmp_path).add_scores(device.calibration.device, rows, known.KEPT)
    _, basis = known.bounds_for(tmp_path, device.calibration.device, 0.9)
    assert basis == "device and shipped"
    assert known.bounds_for(tmp_path, "another", 0.9)[1] == "shipped"


def test_nominal_90_percent_covers_with_the_shipped_widths() -> None:
    found = coverage(("jakarta",), 24, 3)
    assert found["counts"]["all"]["figures"] >= 100
    assert found["counts"]["all"]["covered"] >= 0.84
    assert found["counts"]["all"]["covered"] > found["shots alone"]["all"]["covered"] + 0.1


def test_circuits_that_show_every_error_are_covered_too() -> None:
    """Bell pairs, GHZ states, rows of ones: with widths of random circuits alone 0 to 70 %."""
    found = coverage(("lima", "manila"), 40, 3)
    for family in known.FAMILIES:
        for kind in ("counts", "estimates"):
            assert found[f"{kind}, {family}"]["covered"] >= 0.7, (family, kind)


def test_a_single_qubit_in_state_one_is_covered_less_but_mostly(tmp_path: Path) -> None:
    """X|0>, on devices that read ones worse: the least covered of all, as the reference says."""
    rng = np.random.default_rng(4)
    bounds, _ = known.bounds_for(tmp_path, "none", 0.9)
    hits = []
    for name in NAMES:
        device = twin(name, now=0.0)
        for qubit in rng.choice(device.num_qubits, 3, replace=False):
            values = device.calibration.qubits[int(qubit)]
            p01, p10 = values.p01 or 0.0, values.p10 or 0.0
            ones = int(rng.binomial(1000, 1 - p10))
            item = Samples(
                registers={"m": [{"1": ones, "0": 1000 - ones}]}, widths={"m": 1}, shots=1000
            )
            noise = Noise("shipped", (1 - max(p01, p10),), bounds, (), (1,))
            first = figures(Result(items=(item,)), 0.9, noise).named[0]
            hits.append(first["low"] <= 1.0 <= first["high"])
    assert np.mean(hits) >= 0.7
