import json
import sys
import time
from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from interlock.backends import Twin, TwinSpec, snapshot
from interlock.circuits.ingest import read_circuit
from interlock.cli import cli, main
from interlock.guard.health.esp import predict
from interlock.guard.health.layout import best_place

GHZ = (
    'OPENQASM 2.0; include "qelib1.inc"; qreg q[3]; creg c[3]; h q[0]; cx q[0],q[1]; '
    "cx q[1],q[2]; measure q -> c;"
)


@pytest.fixture
def circuit(tmp_path: Path) -> Path:
    path = tmp_path / "ghz.qasm"
    path.write_text(GHZ)
    return path


def run(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["health", *words], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return int(result.return_value or 0), result.output


def test_the_best_device_and_qubits_come_first(circuit: Path, tmp_path: Path) -> None:
    picture = tmp_path / "map.svg"
    code, text = run(
        str(circuit),
        "--backend",
        "yorktown",
        "--backend",
        "nairobi",
        "--svg",
        str(picture),
        "--json",
    )
    devices = json.loads(text)["devices"]
    assert code == 0
    assert [d["device"] for d in devices] == ["ibm_nairobi", "ibm_yorktown"]
    assert len(devices[0]["circuit"]["qubits"]) == 3
    root = ET.fromstring(picture.read_text())
    assert "ibm_nairobi" in (root[0].text or "")
    assert sum(e.tag.endswith("circle") for e in root.iter()) == 7


def test_bad_qubits_are_avoided(circuit: Path) -> None:
    good = snapshot("nairobi")
    bad = {0, 1, 2}
    gates = tuple(
        msgspec.structs.replace(g, error=0.2) if len(g.qubits) == 2 and bad & {*g.qubits} else g
        for g in good.gates
    )
    device = Twin(TwinSpec(reported=msgspec.structs.replace(good, gates=gates)))
    place = best_place(read_circuit(circuit), device)
    assert place is not None
    assert not bad & {*place.qubits}
    assert place.prediction.success == pytest.approx(0.9, abs=0.08)


def test_a_device_that_is_broken_all_over_is_not_fit(circuit: Path, tmp_path: Path) -> None:
    good = snapshot("lima")
    qubits = tuple(msgspec.structs.replace(q, p01=0.4, p10=0.4) for q in good.qubits)
    path = tmp_path / "broken.json"
    path.write_bytes(msgspec.structs.replace(good, qubits=qubits).to_json())
    code, text = run(str(circuit), "--backend", str(path))
    assert code == 8
    assert "RED" in text


def test_a_circuit_too_wide_and_a_wrong_name(circuit: Path) -> None:
    code, text = run(str(circuit), "--backend", "armonk")
    assert code == 8
    assert "does not fit" in text
    assert main(["health", "--backend", "nowhere"]) == 4
    assert main(["health", "--backend", "missing.json"]) == 4


def test_the_prediction_holds_on_a_small_benchmark() -> None:
    sys.path.insert(0, str(Path(__file__).parents[3]))
    from benchmarks.health_prediction import rows, summary

    found = summary(rows(["manila", "yorktown", "nairobi"], (3,), shots=2000))
    assert found["rows"] == 27
    assert found["spearman_mixture"] >= 0.9
    assert found["spearman_mixture"] > found["spearman_esp"] + 0.2
    assert found["mae_mixture"] < 0.06
    assert np.isfinite(found["bias_mixture"])


def test_the_prediction_of_a_place_is_that_of_the_circuit_there(circuit: Path) -> None:
    device = Twin(TwinSpec(reported=snapshot("nairobi")))
    place = best_place(read_circuit(circuit), device, seeds=1)
    assert place is not None
    ideal = predict(read_circuit(circuit), device.calibration)
    assert ideal.success is None
    assert place.prediction.success == pytest.approx(
        place.prediction.gates * place.prediction.idle * place.prediction.readout
    )


def lab(tmp_path: Path, name: str, **changes: object) -> str:
    """A file of a device of two good qubits; `q0` and `cx` in `changes` go to these."""
    qubit = {"t1_us": 100, "t2_us": 80, "p01": 0.01, "p10": 0.01, "readout_us": 1, "age_s": 60}
    ones = [
        {"name": n, "qubits": [q], "error": 0.001, "duration_us": 0.03, "age_s": 60}
        for n in ("sx", "x", "rz")
        for q in (0, 1)
    ]
    cx = {"name": "cx", "qubits": [0, 1], "error": 0.01, "duration_us": 0.3, "age_s": 60}
    made = {
        "device": "lab", "kind": "device", "num_qubits": 2, "observed_at": time.time(),
        "qubits": [{**qubit, **changes.pop("q0", {})}, qubit],  # type: ignore[dict-item]
        "gates": [*ones, {**cx, **changes.pop("cx", {})}, *changes.pop("more", ())],  # type: ignore[dict-item,misc]
        **changes,
    }  # fmt: skip
    path = tmp_path / f"{name}.json"
    path.write_text(json.dumps(made))
    return str(path)


BELL = 'OPENQASM 2.0; include "qelib1.inc"; qreg q[2]; creg c[2]; cx q[0],q[1]; measure q -> c;'


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({}, 0, "GREEN"),
        ({"observed_at": 0.0}, 8, "RED: the calibration is"),
        ({"observed_at": 4e9}, 8, "RED: the calibration is -"),
        ({"observed_at": None}, 0, "AMBER: the calibration does not say how old it is"),
        ({"q0": {"t1_us": -5}}, 8, "repaired q0.t1_us: not a positive time, got -5, taken out"),
        ({"q0": {"t2_us": 0}}, 8, "RED q0: no usable calibration"),
        ({"cx": {"duration_us": -1}}, 8, "RED q0-q1: no usable calibration"),
        ({"cx": {"error": 1.0}}, 8, "does not fit: a gate it needs has no usable calibration"),
        ({"q0": {"t2_us": 500}}, 0, "repaired q0.t2_us: T2 above 2 T1, got 500, used 200"),
        ({"device": "[/] [red]"}, 0, "[/] [red]"),
    ],
)
def test_a_file_is_judged_by_its_date_and_what_was_repaired_is_said(
    tmp_path: Path, changes: dict[str, object], code: int, said: str
) -> None:
    path = tmp_path / "bell.qasm"
    path.write_text(BELL)
    found, text = run(str(path), "--backend", lab(tmp_path, "lab", **changes))
    assert (found, said in text) == (code, True), text


def test_a_device_that_is_fit_comes_before_a_better_one_that_is_not(tmp_path: Path) -> None:
    path = tmp_path / "bell.qasm"
    path.write_text(BELL)
    stale = lab(tmp_path, "stale", device="stale", observed_at=0.0)
    worse = lab(tmp_path, "worse", device="worse", cx={"error": 0.1})
    code, text = run(str(path), "--backend", stale, "--backend", worse, "--json")
    assert code == 0
    assert [d["device"] for d in json.loads(text)["devices"]] == ["worse", "stale"]


def test_a_family_without_a_rank_correlation_says_why() -> None:
    from benchmarks.health_prediction import FLAT, summary

    row = {"mixture": 1.0, "esp": 0.9, "depth": 3, "two_qubit": 1, "observed": 0.99}
    found = summary([row, {**row, "esp": 0.8, "observed": 0.98}])
    assert (found["spearman_mixture"], found["spearman_esp"]) == (FLAT, 1.0)
