import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from interlock.cli import main
from interlock.errors import InputError, UsageError
from interlock.ledger import Ledger
from interlock.ledger.evidence import bundle


@pytest.fixture
def recorded(home: Path) -> Path:
    with Ledger.open(home) as ledger:
        for n in range(12):
            who = "alice" if n % 3 == 0 else "bob"
            header = {"job": f"CANARY-JOB-{n}", "outcome": "RELEASE" if n % 2 else "DENY"}
            ledger.append("release", header, {"text": f"CANARY-{who}-{n}"}, subject=who).wait()
        ledger.append("release", {}, {"text": "CANARY-carol"}, subject="carol").wait()
        ledger.erase("carol")
    return home


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", str(folder / "verify.py"), str(folder), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def everything(folder: Path) -> bytes:
    return b"".join(p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file())


@pytest.mark.parametrize("audience", ["auditor", "public", "subject"])
def test_each_audience_sees_its_part_and_can_check_it(
    recorded: Path, tmp_path: Path, audience: str
) -> None:
    out = tmp_path / "out"
    args = ["export", str(out), "--for", audience, "--home", str(recorded)]
    assert main(args + (["--subject", "alice"] if audience == "subject" else [])) == 0
    keys = tmp_path / "bundle.keys"
    shutil.copy(out / "bundle.keys", keys)
    options = ["--keys", str(recorded / "ledger.vkeys"), "--bundle-keys", str(keys)]
    result = run(out, *options)
    assert result.returncode == 0, result.stdout
    assert "14 entries" in result.stdout
    text = everything(out)
    assert (b"CANARY-alice" in text) == (audience != "public")
    assert (b"CANARY-bob" in text) == (audience == "auditor")
    assert (b"CANARY-JOB-1" in text) == (audience == "auditor")
    assert b"CANARY-carol" not in text
    assert (b"carol" in text) is False
    summary = json.loads((out / "summary.json").read_text())
    assert summary["events"] == {"ledger.erased": 1, "release": 13}
    assert summary["outcomes"] == {"DENY": 6, "RELEASE": 6}


def test_each_change_to_a_bundle_is_found(recorded: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with Ledger.open(recorded) as ledger:
        bundle(ledger, out, "public")
    with Ledger.open(tmp_path / "other") as other:
        foreign = tmp_path / "foreign"
        bundle(other, foreign, "public")
    changes = {
        "summary": lambda f: (f / "summary.json").write_text("{}"),
        "readme": lambda f: (f / "README.txt").write_text("all is well"),
        "extra file": lambda f: (f / "note.txt").write_text("x"),
        "pipe in place of entries": lambda f: pipe(f / "entries.ndjson"),
        "pipe in place of a head": lambda f: pipe(next((f / "heads").iterdir())),
        "pipe in place of the list": lambda f: pipe(f / "manifest.dsse.json"),
        "extra folder link": lambda f: (f / "more").symlink_to("/etc"),
        "extra link": lambda f: (f / "link").symlink_to("/etc/passwd"),
        "missing file": lambda f: (f / "summary.json").unlink(),
        "signature": lambda f: (f / "manifest.dsse.json").write_text(
            (foreign / "manifest.dsse.json").read_text()
        ),
        "keys": lambda f: (f / "bundle.keys").write_text((foreign / "bundle.keys").read_text()),
    }
    for name, change in changes.items():
        copy = tmp_path / "copy"
        shutil.copytree(out, copy)
        change(copy)
        assert run(copy).returncode == 7, name
        shutil.rmtree(copy)


def test_a_subject_is_asked_for_and_must_be_known(recorded: Path, tmp_path: Path) -> None:
    with Ledger.open(recorded) as ledger:
        with pytest.raises(UsageError):
            bundle(ledger, tmp_path / "a", "subject")
        with pytest.raises(UsageError):
            bundle(ledger, tmp_path / "a", "public", subject="alice")
        for nobody in ("mallory", "carol"):
            with pytest.raises(InputError):
                bundle(ledger, tmp_path / "a", "subject", subject=nobody)
    assert not (tmp_path / "a").exists()
