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
from interlock.circuits.qiskit_adapter import from_qiskit
from interlock.errors import DeniedError
from interlock.guard.health import known
from interlock.guard.health.esp import predict
from interlock.guard.result import Result, Samples
from interlock.guard.validate.figures import Noise, figures
from interlock.ledger import Ledger

sys.path.insert(0, str(Path(__file__).parents[3]))

from benchmarks.health_fallback import policy
from benchmarks.health_uncertainty import NAMES, coverage, drawn, intervals


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
    found = coverage(("lima", "manila", "jakarta", "quito"), 40, 3)
    for family in known.FAMILIES:
        for kind in ("counts", "estimates"):
            assert found[f"{kind}, {family}"]["covered"] >= 0.7, (family, kind)


@pytest.mark.parametrize("state", [0, 1])
def test_a_single_qubit_is_covered_in_either_state(tmp_path: Path, state: int) -> None:
    """Most devices read ones worse: with widths of both states together X|0> had 77 %."""
    rng = np.random.default_rng(4)
    bounds, _ = known.bounds_for(tmp_path, "none", 0.9)
    circuit = QuantumCircuit(1)
    circuit.rx(np.pi * state, 0)
    circuit.measure_all()
    hits = []
    for name in NAMES:
        device = twin(name, now=0.0)
        for qubit in rng.choice(device.num_qubits, 2, replace=False):
            isa = transpile(circuit, device, initial_layout=[int(qubit)], seed_transpiler=1)
            success = predict(from_qiskit(isa), device.calibration).worst
            if success is None:
                continue
            counts = drawn(device.probabilities(isa), 1000, rng)
            item = Samples(registers={"m": [counts]}, widths={"m": 1}, shots=1000)
            ends = intervals(item, Noise("shipped", (success,), bounds, (), (1,)))
            hits += [low <= (bit == str(state)) <= high for bit, (low, high) in ends.items()]
    assert np.mean(hits) >= 0.82


def test_what_one_bit_leaves_of_the_other_has_the_mirrored_interval(tmp_path: Path) -> None:
    bounds, _ = known.bounds_for(tmp_path, "none", 0.9)
    rows = [{"0": 100, "1": 900}, {"0": 500, "1": 500}, {"0": 900, "1": 100}, {"1": 1000}] * 20
    item = Samples(registers={"m": rows}, widths={"m": 1}, shots=1000)
    found = figures(Result(items=(item,)), 0.9, Noise("shipped", (0.9,), bounds, (), (1,)))
    (table,) = found.tables
    columns = (table[k] for k in ("outcome", "count", "low", "high"))
    ends = {(o, c): (w, h) for o, c, w, h in zip(*columns, strict=True)}
    assert ends["1", 900] != ends["0", 900]
    for ones in (100, 500, 900):
        low, high = ends["1", ones]
        assert ends["0", 1000 - ones] == pytest.approx((1 - high, 1 - low))
    for figure in found.named:
        name, value = figure["name"], figure["value"]
        key = name.split("(")[1][0], round(value * 1000)
        assert (figure["low"], figure["high"]) == ends[key]
