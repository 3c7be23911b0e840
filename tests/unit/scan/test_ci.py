"""`interlock ci`: what was asked for and cannot run fails; JUnit and SARIF are written."""

import json
import random
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from interlock.cli import main
from interlock.errors import InputError
from interlock.scan import ci
from interlock.scan.secrets.synth import fill

GOOD = 'OPENQASM 3.0;\ninclude "stdgates.inc";\nqubit[2] q;\nbit[2] c;\nh q[0];\nc = measure q;\n'
SUITE = """
def test_ok(shots):
    shots.assert_distribution_close({"0": 512, "1": 512}, {"0": 0.5, "1": 0.5})
"""
WRONG = """
def test_bad(shots):
    shots.assert_distribution_close({"0": 9000, "1": 1000}, {"0": 0.5, "1": 0.5})
"""


def outcomes(**options: object) -> dict[str, str]:
    results, _ = ci.run_ci(ci.CiOptions(**options))
    return {r.name: r.outcome.value for r in results}


def test_a_clean_tree_passes_and_says_what_it_did_not_do(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.py").write_text("x = 1\n")
    assert outcomes() == {
        "scan": "passed", "preflight": "nothing to do", "policy": "nothing to do",
        "tests": "nothing to do",
    }  # fmt: skip
    assert outcomes(require=("preflight", "policy", "tests")) == {
        "scan": "passed", "preflight": "failed", "policy": "failed", "tests": "failed",
    }  # fmt: skip


def test_every_step_runs_and_each_kind_of_fault_fails(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path.parent / "step.md"))
    (tmp_path / "ok.qasm").write_text(GOOD)
    (tmp_path / "stats").mkdir()
    (tmp_path / "stats" / "test_a.py").write_text(SUITE)
    assert main(["policy", "init", "bundle", "--starter", "research-group"]) == 0
    arguments = ["ci", ".", "--policy", "bundle", "--tests", "stats", "--junit", "../ci.xml",
                 "--sarif", "../ci.sarif", "--json"]  # fmt: skip
    capsys.readouterr()
    assert main(arguments) == 0
    rows = {r["step"]: r for r in json.loads(capsys.readouterr().out)}
    assert {r["outcome"] for r in rows.values()} == {"passed"}
    assert "shot assertion(s)" in rows["tests"]["detail"]
    (tmp_path / "bad.qasm").write_text(GOOD.replace("h q[0]", "h q[7]"))
    (tmp_path / "stats" / "test_b.py").write_text(WRONG)
    (tmp_path / "a.env").write_text(fill("T=DEV-{hex:40}\n", random.Random(1)))
    tests = tmp_path / "bundle" / "tests.yaml"
    tests.write_text(tests.read_text().replace("expect: deny", "expect: allow", 1))
    assert main(arguments) == 1
    rows = {r["step"]: r for r in json.loads(capsys.readouterr().out)}
    assert {r["outcome"] for r in rows.values()} == {"failed"}
    suites = {s.get("name"): s for s in ET.parse(tmp_path.parent / "ci.xml").getroot()}
    assert all(int(s.get("failures") or 0) > 0 for s in suites.values())
    sarif = json.loads((tmp_path.parent / "ci.sarif").read_text())
    found = {r["ruleId"] for r in sarif["runs"][0]["results"]}
    assert "secret.dwave-token" in found
    assert any(rule.startswith("circuit.") for rule in found)
    assert "**FAIL**" in (tmp_path.parent / "step.md").read_text()


def test_what_cannot_run_fails(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.py").write_text("x = 1\n")
    assert outcomes(policy=Path("no-such-bundle"))["policy"] == "failed"
    assert outcomes(tests=(Path("no-tests"),))["tests"] == "failed"
    assert outcomes(circuits=(Path("no.qasm"),))["preflight"] == "failed"
    (tmp_path / "empty").mkdir()
    assert outcomes(tests=(Path("empty"),))["tests"] == "failed"
    assert outcomes(paths=(Path("empty"),))["scan"] == "failed"


def test_tests_that_are_all_skipped_fail(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "test_a.py").write_text("import pytest\n\n@pytest.mark.skip\ndef test_a(): pass\n")
    assert outcomes(tests=(Path("test_a.py"),))["tests"] == "failed"


def test_nothing_at_all_is_an_error(monkeypatch) -> None:
    def nothing(_options: ci.CiOptions, _report: object) -> ci.StepResult:
        return ci.StepResult(name="scan", outcome=ci.Outcome.NOTHING, detail="nothing")

    monkeypatch.setattr(ci, "_RUN", dict.fromkeys(ci.STEPS, nothing))
    with pytest.raises(InputError) as caught:
        ci.run_ci(ci.CiOptions(require=()))
    assert caught.value.code == "ci-nothing"


def test_what_was_not_looked_into_is_named_and_fails_only_when_strict(
    tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.py").write_text("x = 1\n")
    assert main(["ci", ".", "--strict"]) == 0
    assert "note" not in capsys.readouterr().out
    (tmp_path / "big.py").write_text("x = 1\n" * 200_000)
    (tmp_path / "wrong.py").write_text("x = = 1\n")
    (tmp_path / fill("DEV-{hex:40}", random.Random(2))).symlink_to("a.py")
    junit = tmp_path.parent / "notes.xml"
    assert main(["ci", "big.py", "wrong.py", "--junit", str(junit)]) == 0
    for said in (capsys.readouterr().out, ET.parse(junit).findtext("testsuite/system-out") or ""):
        assert "big.py: too-large-to-parse" in said
        assert "wrong.py: python-syntax" in said
    assert main(["ci", "big.py", "--strict", "--json"]) == 1
    row = json.loads(capsys.readouterr().out)[0]
    assert row["outcome"] == "failed"
    assert "too-large-to-parse" in row["failures"][0][1]
    assert "too-large-to-parse" in row["notes"][0]
    assert main(["ci", "."]) == 1  # the name of the link is a token
    said = capsys.readouterr().out
    assert "symlink" in said
    assert fill("DEV-{hex:40}", random.Random(2)) not in said


def test_a_summary_of_many_notes_says_how_many_are_left_out(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(60):
        (tmp_path / f"a{number:02}.py").write_text("x = = 1\n")
    results, _ = ci.run_ci(ci.CiOptions())
    assert len(results[0].notes) == 60
    text = ci.summary(results)
    assert text.count("python-syntax") == 50
    assert "and 10 more" in text


def test_a_gate_cannot_be_told_never_to_fail(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["ci", ".", "--fail-on", "never"]) == 2
    said = capsys.readouterr().err
    assert "ci-never" in said
    assert "interlock scan --fail-on never" in said


def test_a_scan_that_fails_says_what_to_do_next(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.py").write_text("eval(text)\n")
    assert main(["scan", "a.py"]) == 1
    said = capsys.readouterr().err
    assert "next: mend each finding" in said
    assert "revoke" not in said  # no secret there
    for quiet in (["--fail-on", "never"], ["--fail-on", "critical"], ["--format", "json"]):
        main(["scan", "a.py", *quiet])
        assert "next:" not in capsys.readouterr().err


def test_a_step_that_cannot_run_says_what_it_met(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    results, _ = ci.run_ci(ci.CiOptions(paths=(Path("no-such"),)))
    assert "no-such: missing" in results[0].detail
    assert "no-such: missing" in ci.junit(results)
