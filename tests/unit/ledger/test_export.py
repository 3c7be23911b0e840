"""Exports are checked by the shipped verifier alone: a second reader of every format."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from interlock.cli import main
from interlock.errors import UsageError
from interlock.ledger import Ledger
from interlock.ledger.export import export
from interlock.ledger.offline import verify as offline


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", str(folder / "verify.py"), str(folder), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_verifier_is_short_and_needs_no_interlock() -> None:
    text = Path(offline.__file__).read_text()
    assert text.count("\n") < 300
    assert "import interlock" not in text
    assert "from interlock" not in text


def test_an_export_verifies_alone(filled: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with Ledger.open(filled) as ledger:
        ledger.rotate()
        ledger.append("after", {}, {"x": 1}).wait()
        show = {0: "payload", 1: "hidden"}
        counts = export(ledger, out, lambda e: show.get(e.index, "header"))  # type: ignore[arg-type,return-value]
    assert counts == {"payload": 1, "header": 20, "hidden": 1}
    result = run(out, "--keys", str(filled / "ledger.vkeys"))
    assert result.returncode == 0, result.stdout
    assert "22 entries (20 header only, 1 hidden, 1 payload)" in result.stdout


@pytest.fixture
def exported(filled: Path, tmp_path: Path) -> Path:
    out = tmp_path / "out"
    with Ledger.open(filled) as ledger:
        export(ledger, out, lambda _e: "payload")
    return out


def edit(folder: Path, index: int, **changes: object) -> None:
    path = folder / "entries.ndjson"
    lines = path.read_text().splitlines()
    lines[index] = json.dumps(json.loads(lines[index]) | changes)
    path.write_text("\n".join(lines) + "\n")


def drop(folder: Path, *indices: int) -> None:
    path = folder / "entries.ndjson"
    lines = [x for n, x in enumerate(path.read_text().splitlines()) if n not in indices]
    path.write_text("\n".join(lines) + "\n")


def test_each_change_to_an_export_is_found(exported: Path, tmp_path: Path) -> None:
    def swap(folder: Path) -> None:
        path = folder / "entries.ndjson"
        lines = path.read_text().splitlines()
        lines[3], lines[4] = lines[4], lines[3]
        path.write_text("\n".join(lines) + "\n")

    def other_keys(folder: Path) -> None:
        with Ledger.open(tmp_path / "other") as other:
            (folder / "ledger.vkeys").write_text("".join(f"{k}\n" for k in other.public_keys))

    newest = max((exported / "heads").glob("*.note")).name
    changes = {
        "payload shown": lambda f: edit(f, 5, payload={"n": 99}),
        "ciphertext": lambda f: edit(f, 5, stored="AAAA"),
        "key": lambda f: edit(f, 5, key="00" * 32),
        "header": lambda f: edit(f, 5, header='{"index":5,"event":"x","header":{}}'),
        "entry missing": lambda f: drop(f, 5),
        "newest missing": lambda f: drop(f, 19),
        "order": swap,
        "keys": other_keys,
        "head missing": lambda f: (f / "heads" / newest).unlink(),
        "no entries": lambda f: (f / "entries.ndjson").write_text(""),
        "not JSON": lambda f: (f / "entries.ndjson").write_text("{"),
        "no keys": lambda f: (f / "ledger.vkeys").write_text(""),
    }
    for name, change in changes.items():
        copy = tmp_path / "copy"
        shutil.copytree(exported, copy)
        change(copy)
        result = run(copy)
        assert result.returncode == 7, name
        assert "CHANGED" in result.stdout
        assert "Traceback" not in result.stderr
        shutil.rmtree(copy)
    assert run(exported).returncode == 0


def test_a_rotation_that_was_not_endorsed_is_found(filled: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with Ledger.open(filled) as ledger:
        ledger.rotate()
        export(ledger, out)
    line = json.loads((out / "entries.ndjson").read_text().splitlines()[20])
    fields = json.loads(line["header"])
    fields["header"]["endorsed.ed25519"] = fields["header"]["endorsed.ed25519"][::-1]
    edit(out, 20, header=json.dumps(fields))
    assert run(out).returncode == 7


def test_a_proof_from_the_command_is_checked_by_both_readers(
    filled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Ledger.open(filled) as ledger:
        receipts = [entry.id for entry in ledger.entries()]
        export(ledger, tmp_path / "out")
    keys = str(filled / "ledger.vkeys")
    for receipt in receipts[::7]:
        assert main(["ledger", "prove", receipt, "--home", str(filled)]) == 0
        proof = tmp_path / "one.tlog-proof"
        proof.write_text(capsys.readouterr().out)
        assert main(["ledger", "verify", str(proof), "--keys", keys]) == 0
        capsys.readouterr()
        result = run(tmp_path / "out", "--proof", str(proof), "--keys", keys)
        assert result.returncode == 0, result.stdout
        lines = proof.read_text().split("\n")
        lines[3] = lines[4]
        proof.write_text("\n".join(lines))
        assert main(["ledger", "verify", str(proof), "--keys", keys]) == 7
        capsys.readouterr()
        assert run(tmp_path / "out", "--proof", str(proof), "--keys", keys).returncode == 7


def test_an_export_overwrites_nothing(filled: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").write_text("kept")
    with Ledger.open(filled) as ledger, pytest.raises(UsageError):
        export(ledger, tmp_path / "out")
    assert (tmp_path / "out" / "file").read_text() == "kept"


def test_commands_do_not_make_a_ledger_by_mistake(tmp_path: Path) -> None:
    for words in (
        ["head"],
        ["export", str(tmp_path / "out")],
        ["rotate"],
        ["prove", "0-aaaaaaaaaa"],
    ):
        assert main(["ledger", *words, "--home", str(tmp_path / "none")]) == 4
    assert not (tmp_path / "none").exists()
