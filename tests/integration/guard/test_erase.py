"""Erasure end to end: after `interlock run`, by the commands a person types."""

import json
import os
import pwd
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from interlock.cli import main
from interlock.guard.explain import explain
from interlock.guard.record import recorded
from interlock.ledger import Ledger, audit

ANGLE = "1.234567890123"
SCRIPT = """\
import interlock
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit_aer.primitives import SamplerV2

theta = Parameter("theta")
circuit = QuantumCircuit(1)
circuit.ry(theta, 0)
circuit.measure_all()
sampler = SamplerV2()
"""
PLAIN = SCRIPT + f"sampler.run([(circuit, [{ANGLE}])], shots=64).result()\n"
LABELLED = (
    SCRIPT
    + f"""\
for patient in ("CANARY-patient-1", "CANARY-patient-2"):
    labels = ("subject:" + patient, "health")
    guarded = interlock.guard(sampler, policy="policy.yaml", home="home", labels=labels)
    guarded.run([(circuit, [{ANGLE}])], shots=64).result()
"""
)


def files(folder: Path, word: str) -> list[str]:
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and word.encode() in path.read_bytes()
    )


def run(folder: Path, policy: dict[str, Any], script: str, *words: str) -> Path:
    (folder / "policy.yaml").write_text(yaml.safe_dump(policy))
    (folder / "script.py").write_text(script)
    done = subprocess.run(
        [sys.executable, *words, "script.py"],
        cwd=folder, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "home"


def receipts(home: Path) -> list[str]:
    with recorded(home) as ledger:
        return [e.id for e in ledger.entries() if e.header.get("outcome") == "RELEASE"]


def test_one_subject_is_erased_and_another_stays(tmp_path: Path, policy: dict[str, Any]) -> None:
    ran = run(tmp_path, policy, LABELLED)
    first, second = receipts(ran)
    with recorded(ran) as ledger:
        assert explain(ledger, first)["bindings"][0]["values"] == [[float(ANGLE)]]
    assert files(ran, ANGLE) == []
    assert files(ran, "CANARY") == []
    assert main(["erase", "CANARY-patient-1", "--yes", "--home", str(ran)]) == 0
    with recorded(ran) as ledger:
        gone, kept = explain(ledger, first), explain(ledger, second)
    assert gone["outcome"] == "RELEASE"
    assert gone["bindings"] == []
    assert any("erased" in what for what in gone["missing"])
    assert kept["bindings"][0]["values"] == [[float(ANGLE)]]
    assert kept["circuits"]
    assert kept["missing"] == []
    assert audit(ran).ok
    assert main(["replay", "--home", str(ran)]) in (0, 1)
    out = tmp_path / "out"
    assert main(["export", str(out), "--for", "auditor", "--home", str(ran)]) == 0
    assert files(out, "CANARY-patient-1") == []
    assert files(out, "CANARY-patient-2") == ["entries.ndjson"]


def test_who_ran_a_program_is_a_subject(tmp_path: Path, policy: dict[str, Any]) -> None:
    words = ["-m", "interlock.cli", "run", "--home", "home", "--policy", "policy.yaml"]
    home = run(tmp_path, policy, PLAIN, *words, "--no-report", "--", sys.executable)
    (receipt,) = receipts(home)
    assert main(["erase", "nobody", "--yes", "--home", str(home)]) == 0
    with recorded(home) as ledger:
        assert explain(ledger, receipt)["missing"] == []
    user = f"local/{pwd.getpwuid(os.getuid()).pw_name}"
    assert main(["erase", user, "--yes", "--home", str(home)]) == 0
    with recorded(home) as ledger:
        jobs = [e for e in ledger.entries() if "job" in e.header or "circuit" in e.header]
        assert len(jobs) == 3
        assert all(entry.erased for entry in jobs)
        assert not any(e.erased for e in ledger.entries("session"))
    assert audit(home).ok


def test_retention_of_a_label_among_others_ends(tmp_path: Path) -> None:
    now = [1_780_000_000_000_000_000]
    with Ledger.open(tmp_path / "home", clock=lambda: now[0]) as ledger:
        ledger.append("a", {}, {"x": 1}, subject="one\ntwo", label="health\nraw").wait()
        ledger.append("a", {}, {"x": 2}, subject="two", label="raw").wait()
        now[0] += 70 * 86_400 * 1_000_000_000
        assert len(ledger.expire("health", 1)) == 1
        assert [entry.erased for entry in ledger.entries("a")] == [True, False]
        assert json.dumps([e.payload for e in ledger.entries("a")]) == '[null, {"x": 2}]'
        assert len(ledger.erase("two")) == 1
