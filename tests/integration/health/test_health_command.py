import json
import sys
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
