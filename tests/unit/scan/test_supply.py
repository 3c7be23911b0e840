"""Pinned dependencies against advisories on disk; nothing is fetched."""

import json
from pathlib import Path

import pytest

from interlock.errors import InputError
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
        run.scan([tmp_path], families=("secrets",), advisories=tmp_path, base=tmp_path)
    assert caught.value.code == "scan-advisories-empty"
