"""Backups: whole while the home is in use, and refused when anything was changed."""

import io
import json
import os
import socket
import sqlite3
import stat
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from interlock.cli import main
from interlock.errors import InputError, IntegrityError, InterlockError, UsageError
from interlock.ledger import Ledger, audit
from interlock.ledger.backup import backup, restore
from interlock.ledger.identity import read_vkeys


@pytest.fixture
def recorded(home: Path) -> Path:
    with Ledger.open(home) as ledger:
        for n in range(5):
            ledger.append("release", {"job": f"j{n}"}, {"text": f"p{n}"}, subject="ada").wait()
    (home / "credentials").mkdir(mode=0o700)
    (home / "credentials" / "ibm").write_bytes(b"token\n")
    with sqlite3.connect(home / "gateway.db") as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("CREATE TABLE t (x)")
        db.execute("INSERT INTO t VALUES (7)")
    db.close()
    return home


def left(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


def test_a_home_comes_back_whole_and_goes_on(recorded: Path, tmp_path: Path) -> None:
    file, again = tmp_path / "b.tar", tmp_path / "again"
    digest, report = backup(recorded, file)
    assert (report.size, report.ok) == (5, True)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert restore(file, again, sha256=digest, keys=read_vkeys(recorded / "ledger.vkeys")).ok
    assert (again / "credentials" / "ibm").read_bytes() == b"token\n"
    for path in again.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)
    with sqlite3.connect(again / "gateway.db") as db:
        assert db.execute("SELECT x FROM t").fetchall() == [(7,)]
    with Ledger.open(again) as ledger:
        assert list(ledger.entries("release"))[2].payload == {"text": "p2"}
        ledger.append("release", {"job": "more"}, {"text": "new"}, subject="bob").wait()
    assert audit(again).ok
    assert {n for n in left(tmp_path) if n.startswith(".")} == set()


def test_a_home_in_use_gives_whole_backups(recorded: Path, tmp_path: Path) -> None:
    stop = threading.Event()

    def write() -> None:
        n = 0
        while not stop.is_set():
            n += 1
            name = f"s{n}"
            ledger.append("release", {"job": name}, {"text": name}, subject=name).wait()

    with Ledger.open(recorded) as ledger:
        thread = threading.Thread(target=write)
        thread.start()
        try:
            for n in range(4):
                backup(recorded, tmp_path / f"{n}.tar")
        finally:
            stop.set()
            thread.join()
    for n in range(4):
        restore(tmp_path / f"{n}.tar", tmp_path / f"h{n}")
        with Ledger.open(tmp_path / f"h{n}") as copy:  # each entry has its key with it
            texts = [e.payload for e in copy.entries("release")]
            assert all(texts)
    sizes = [audit(tmp_path / f"h{n}").size for n in range(4)]
    assert sizes == sorted(sizes)


def test_what_has_no_place_in_a_backup_is_left_out(recorded: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(recorded / "s"))
        os.mkfifo(recorded / "f")
        backup(recorded, tmp_path / "b.tar")
    with tarfile.open(tmp_path / "b.tar") as tar:
        names = tar.getnames()
    assert names[0] == "manifest.json"
    assert not [n for n in names if n in ("s", "f") or n.endswith((".lock", "-wal", "-shm"))]


def refused(kind: type[InterlockError], code: str, call: Callable[..., Any], *given: Any) -> None:
    with pytest.raises(kind) as caught:
        call(*given)
    assert caught.value.code == code


def test_nothing_is_written_over(recorded: Path, tmp_path: Path) -> None:
    file, full = tmp_path / "b.tar", tmp_path / "full"
    backup(recorded, file)
    before = file.read_bytes()
    refused(UsageError, "backup-exists", backup, recorded, file)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    refused(UsageError, "backup-exists", backup, recorded, tmp_path / "dangling")
    full.mkdir()
    (full / "x").touch()
    for taken in (full, file, tmp_path / "dangling"):
        refused(UsageError, "restore-exists", restore, file, taken)
    assert file.read_bytes() == before
    assert left(full) == {"x"}
    (tmp_path / "empty").mkdir()
    assert restore(file, tmp_path / "empty").ok


def test_homes_that_cannot_be_backed_up(recorded: Path, tmp_path: Path) -> None:
    refused(InputError, "ledger-missing", backup, tmp_path / "typo", tmp_path / "b")
    refused(UsageError, "backup-inside", backup, recorded, recorded / "b")
    (recorded / "keys" / "link").symlink_to("/etc")
    refused(UsageError, "backup-link", backup, recorded, tmp_path / "b")
    (recorded / "keys" / "link").unlink()
    (recorded / "other.db").write_bytes(b"no database at all" * 100)
    refused(IntegrityError, "backup-database", backup, recorded, tmp_path / "b")
    (recorded / "other.db").unlink()
    assert left(tmp_path) == {recorded.name}


def test_a_ledger_that_was_changed_gives_no_backup(recorded: Path, tmp_path: Path) -> None:
    with sqlite3.connect(recorded / "ledger.db") as db:
        db.execute("UPDATE entries SET event = 'deny' WHERE idx = 2")
    db.close()
    refused(IntegrityError, "backup-ledger", backup, recorded, tmp_path / "b")
    assert left(tmp_path) == {recorded.name}


def remade(file: Path, change: Callable[[list[tuple[tarfile.TarInfo, bytes]]], None]) -> Path:
    """Write a backup anew after `change` has had its way with the members."""
    with tarfile.open(file) as tar:
        found = [(m, (tar.extractfile(m) or io.BytesIO()).read()) for m in tar]
    change(found)
    out = file.with_name("changed.tar")
    with tarfile.open(out, "w") as tar:
        for member, data in found:
            member.size = len(data) if member.isreg() else 0
            tar.addfile(member, io.BytesIO(data))
    return out


def add(name: str, kind: bytes = tarfile.REGTYPE) -> Callable[[list[Any]], None]:
    """Add a member that the manifest names as well."""

    def change(found: list[Any]) -> None:
        manifest = json.loads(found[0][1])
        empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        manifest["files"].append({"path": name, "size": 0, "sha256": empty})
        found[0] = (found[0][0], json.dumps(manifest).encode())
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, "/etc/passwd"
        found.append((member, b""))

    return change


def flip(found: list[Any]) -> None:
    at = next(n for n, (m, _) in enumerate(found) if m.name == "credentials/ibm")
    found[at] = (found[at][0], b"t0ken\n")


def version(found: list[Any]) -> None:
    found[0] = (found[0][0], found[0][1].replace(b'"interlock_backup":1', b'"interlock_backup":2'))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (flip, "backup-changed"),
        (version, "backup-format"),
        (list.pop, "backup-format"),
        (list.reverse, "backup-format"),
        (lambda found: found.append((tarfile.TarInfo("extra"), b"")), "backup-format"),
        (add("../outside"), "backup-format"),
        (add("/tmp/outside"), "backup-format"),
        (add("keys/../../outside"), "backup-format"),
        (add("ledger.db"), "backup-format"),
        (add("ledger.db/x"), "backup-format"),
        (add("link", tarfile.SYMTYPE), "backup-format"),
        (add("hard", tarfile.LNKTYPE), "backup-format"),
        (add("fifo", tarfile.FIFOTYPE), "backup-format"),
    ],
)
def test_a_changed_backup_restores_nothing(
    recorded: Path, tmp_path: Path, change: Callable[[list[Any]], None], code: str
) -> None:
    file = tmp_path / "b.tar"
    backup(recorded, file)
    changed = remade(file, change)
    kind = IntegrityError if code == "backup-changed" else InputError
    refused(kind, code, restore, changed, tmp_path / "again")
    assert left(tmp_path) == {recorded.name, "b.tar", "changed.tar"}


def test_a_cut_or_foreign_file_restores_nothing(recorded: Path, tmp_path: Path) -> None:
    file = tmp_path / "b.tar"
    digest, _ = backup(recorded, file)
    whole = file.read_bytes()
    for n in (0, 100, 600, len(whole) // 2):
        file.write_bytes(whole[:n])
        with pytest.raises((InputError, IntegrityError)):
            restore(file, tmp_path / "again")
        with pytest.raises(IntegrityError, match="changed"):
            restore(file, tmp_path / "again", sha256=digest)
    assert left(tmp_path) == {recorded.name, "b.tar"}


def test_another_ledger_is_not_taken_for_ours(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Ledger.open(tmp_path / "other") as ledger:
        ledger.append("release", {"job": "x"}, {}).wait()
    file, vkeys = str(tmp_path / "b.tar"), str(recorded / "ledger.vkeys")
    assert main(["backup", str(tmp_path / "other"), file]) == 0
    digest = capsys.readouterr().out.split("sha256 ")[1].split()[0]
    target = tmp_path / "again"
    assert main(["restore", file, str(target), "--keys", vkeys]) == 7
    assert not target.exists()
    assert main(["restore", file, str(target), "--sha256", digest]) == 0
    assert (target / "ledger.db").exists()
