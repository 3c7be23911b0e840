"""Pinned dependencies against advisories on disk; nothing is fetched."""

import json
from pathlib import Path

import pytest

from interlock.errors import InputError, SetupError
from interlock.scan import run


def record(name: str, events: list[dict[str, str]]) -> dict[str, object]:
    affected = {
        "package": {"ecosystem": "PyPI", "name": name},
        "ranges": [{"type": "ECOSYSTEM", "events": events}],
    }
    return {"id": f"T-{name}", "summary": "made for a test", "affected": [affected]}


def test_a_pinned_version_in_a_range_is_found_with_its_mend(tmp_path: Path) -> None:
    known = tmp_path / "known"
    known.mkdir()
    fixed = record("Quantum_Lib", [{"introduced": "1.0"}, {"fixed": "1.4.2"}])
    (known / "a.json").write_text(json.dumps(fixed))
    (known / "b.json").write_text(json.dumps(record("other", [{"introduced": "0"}])))
    (known / "broken.json").write_text("{")
    tree = tmp_path / "tree"
    tree.mkdir()
    pins = "quantum-lib==1.4.1\nquantum.lib==1.4.2\nfree>=1\nother==0.1 ; python_version>'3'\n"
    (tree / "requirements.txt").write_text(pins)
    lock = '[[package]]\nname = "quantum-lib"\nversion = "1.0.0"\n'
    (tree / "uv.lock").write_text(lock)
    report = run.scan([tree], families=("secrets",), advisories=known, base=tree)
    found = {(f.path, f.line): f.fix for f in report.findings}
    assert found == {
        ("requirements.txt", 1): "use quantum-lib>=1.4.2",
        ("requirements.txt", 4): "no mended version is listed",
        ("uv.lock", 2): "use quantum-lib>=1.4.2",
    }
    assert "advisory-broken" in {note.reason for note in report.notes}


def test_an_empty_advisory_folder_does_not_pass(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(InputError) as caught:
        run.exit_code(
            run.scan([tmp_path], families=("secrets",), advisories=tmp_path, base=tmp_path), "low"
        )
    assert caught.value.code == "scan-advisories-empty"


def fake_pip_audit(folder: Path, dependencies: object) -> None:
    """A program that answers as pip-audit 2.10.1 does, exit code 1 when it found something."""
    report = folder / "report.json"
    report.write_text(json.dumps({"dependencies": dependencies, "fixes": []}))
    program = folder / "pip-audit"
    program.write_text(f'#!/bin/sh\necho "$@" > {folder}/told\ncat {report}\nexit 1\n')
    program.chmod(0o755)


def test_pip_audit_is_asked_and_what_it_passed_over_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "requirements.txt").write_text("six==1.16.0\nQuantum_Lib[x]==1.4.1\nown==1\n")
    known = {"id": "PYSEC-1", "fix_versions": ["1.4.2"], "aliases": [], "description": "bad"}
    rows = [
        {"name": "six", "version": "1.16.0", "vulns": []},
        {"name": "quantum-lib", "version": "1.4.1", "vulns": [known]},
        {"name": "own", "skip_reason": "Dependency not found on PyPI"},
    ]
    fake_pip_audit(tmp_path, rows)
    report = run.scan([tree], families=("secrets",), pip_audit=True, base=tree)
    (finding,) = report.findings
    assert (finding.path, finding.line, finding.fix) == (
        "requirements.txt", 2, "use quantum-lib 1.4.2",
    )  # fmt: skip
    assert "own: Dependency not found" in run.unseen(report) + str(report.notes)
    assert run.unseen(report) == "requirements.txt: audit-skipped"
    told = (tmp_path / "told").read_text()
    assert "--disable-pip" in told
    assert "--no-deps" in told


def test_pip_audit_without_a_database_does_not_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "requirements.txt").write_text("own==1\n")
    fake_pip_audit(tmp_path, [{"name": "own", "skip_reason": "Dependency not found on PyPI"}])
    for answer in (None, "no report"):
        if answer:
            (tmp_path / "report.json").write_text(answer)
        with pytest.raises(SetupError) as caught:
            run.exit_code(run.scan([tree], families=("secrets",), pip_audit=True, base=tree), "low")
        assert caught.value.code == "scan-pip-audit"
    (tmp_path / "pip-audit").unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    report = run.scan([tree], families=("secrets",), pip_audit=True, base=tree)
    with pytest.raises(SetupError, match="not installed"):
        run.exit_code(report, "low")


def test_the_docs_a_finding_names_are_there(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("other==0.1\n")
    (tmp_path / "a.py").write_text("import pickle\npickle.load(open('x', 'rb'))\n")
    (tmp_path / "m.pkl").write_bytes(b"\x80\x04N.")
    known = tmp_path.parent / f"{tmp_path.name}-known"
    known.mkdir()
    (known / "a.json").write_text(json.dumps(record("other", [{"introduced": "0"}])))
    families = ("secrets", "code", "models")
    report = run.scan([tmp_path], families=families, advisories=known, base=tmp_path)
    assert {f.family for f in report.findings} == {"supply", "code", "model"}
    root = Path(__file__).parents[3]
    for finding in report.findings:
        path, anchor = finding.docs.split("#")
        headings = [x[3:] for x in (root / path).read_text().splitlines() if x.startswith("## ")]
        assert anchor in {h.lower().replace(" ", "-") for h in headings}
