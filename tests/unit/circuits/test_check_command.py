"""`interlock check`: what is not looked at is said, and bounds are numbers."""

import json

import pytest
from click.testing import CliRunner

from interlock.circuits.canonical import Circuit, Operation
from interlock.circuits.check import files_of
from interlock.cli.check import command

BELL = 'OPENQASM 2.0; include "qelib1.inc"; qreg q[1]; creg c[1]; h q[0]; measure q -> c;'


def run(*arguments):
    return CliRunner().invoke(command, [str(a) for a in arguments], standalone_mode=False)


def test_folders_name_what_is_not_looked_at(tmp_path):
    (tmp_path / "A.QASM").write_text(BELL)
    (tmp_path / "notes.txt").write_text("no circuit")
    (tmp_path / "link.qasm").symlink_to(tmp_path / "A.QASM")
    done = run(tmp_path, "--format", "json")
    assert done.return_value == 0, done.output
    report = json.loads(done.stdout)
    assert [f["path"] for f in report["files"]] == [str(tmp_path / "A.QASM")]
    assert report["skipped"] == [str(tmp_path / "link.qasm"), str(tmp_path / "notes.txt")]
    assert "not looked at: 2" in done.stderr
    assert "notes.txt" in done.stderr
    (tmp_path / "A.QASM").unlink()
    assert run(tmp_path).exception.code == "check-nothing"


@pytest.mark.parametrize("option", ["--max-calibration-age-h", "--usd-per-second"])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "-1"])
def test_bounds_that_compare_with_nothing_are_refused(tmp_path, option, value):
    path = tmp_path / "a.qasm"
    path.write_text(BELL)
    assert "not a number of 0 or more" in str(run(path, option, value).exception)
    assert run(path, option, "0").return_value is not None


def test_folders_are_searched_for_json_that_starts_as_a_circuit(tmp_path):
    circuit = Circuit(num_qubits=1, operations=(Operation("h", (), (0,)),))
    (tmp_path / "bell.json").write_bytes(circuit.to_json())
    (tmp_path / "twice.json").write_text('{ "version": 1,\n "num_qubits": 1, "num_qubits": 2}')
    (tmp_path / "device.json").write_text('{"device": "lab", "version": 1, "num_qubits": 1}')
    skipped = []
    assert [p.name for p in files_of([tmp_path], skipped)] == ["bell.json", "twice.json"]
    assert [p.name for p in skipped] == ["device.json"]


def test_a_price_is_of_a_device_that_is_listed(tmp_path):
    path = tmp_path / "a.qasm"
    path.write_text(BELL)
    cost = "--provider", "braket", "--shots", "1000", "--json"

    def priced(*more):
        return json.loads(run(path, *cost, *more).stdout)["files"][0]["estimate"]["usd"]

    assert priced() is None  # the task fee alone would be a tenth of what most devices cost
    assert priced("--device", "Garnet") == pytest.approx(0.3 + 1.45)
    for wrong in (("--device", "garnet"), (*cost, "--device", "nowhere")):
        assert run(path, *wrong).exception.code == "check-pack"
    assert run(path, "--provider", "ibm", "--device", "ibm_fez").return_value == 0
