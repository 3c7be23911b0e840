"""Reading writes nothing: not on a read-only disk, not in a copy, not beside a live writer."""

import contextlib
import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from interlock.cli import main
from interlock.errors import InputError, IntegrityError
from interlock.ledger import Ledger, Reader, audit


def state(folder: Path) -> dict[str, tuple[int, str]]:
    """Name, mode and content of everything in a folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path.relative_to(folder))] = (path.stat().st_mode, digest)
    return found


def without_keys(home: Path, target: Path) -> Path:
    shutil.copytree(home, target, ignore=shutil.ignore_patterns("keys"))
    return target


def killed(home: Path) -> None:
    """Leave a ledger as a kill does: its log not yet merged into the database."""
    code = (
        "import os, pathlib, sys; from interlock.ledger import Ledger\n"
        "ledger = Ledger.open(pathlib.Path(sys.argv[1]))\n"
        "[ledger.append('admit', {}, {'n': n}).wait() for n in range(3)]\n"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(home)], check=False, timeout=60)
    assert (home / "ledger.db-wal").stat().st_size > 0


def test_it_reads_what_was_written(filled: Path) -> None:
    before = state(filled)
    with Ledger.read(filled) as reader:
        assert isinstance(reader, Reader)
        found = list(reader.entries())
        assert [entry.payload for entry in found] == [{"n": n} for n in range(20)]
        assert reader.find(found[3].id) == found[3]
        assert len(reader) == 20
        assert reader.verify().ok
        assert [size for size, _ in reader.heads()] == [1, 10, 20]
    assert state(filled) == before


def test_a_copy_without_keys_is_read_and_not_touched(filled: Path, tmp_path: Path) -> None:
    copy = without_keys(filled, tmp_path / "copy")
    before = state(copy)
    with Ledger.read(copy) as reader:
        found = list(reader.entries())
    assert len(found) == 20
    assert {entry.payload for entry in found} == {None}
    assert main(["verify", "--home", str(copy)]) == 0
    assert main(["replay", "--home", str(copy)]) == 1
    assert main(["explain", found[0].id, "--home", str(copy)]) in (1, 4)
    assert state(copy) == before


@pytest.mark.parametrize("index", [True, False])
def test_a_copy_of_a_killed_ledger_is_read_and_not_touched(
    home: Path, tmp_path: Path, index: bool
) -> None:
    killed(home)
    copy = without_keys(home, tmp_path / "copy")
    if not index:
        (copy / "ledger.db-shm").unlink()
    before = state(copy)
    with Ledger.read(copy) as reader:
        assert len(list(reader.entries())) == 3
    assert audit(copy).size == 3
    assert audit(copy).ok
    assert state(copy) == before


def test_a_home_without_a_ledger_is_not_made_one(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        Ledger.read(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_key_folder_without_its_master_key_reads_as_no_keys(filled: Path) -> None:
    (filled / "keys" / "kek").unlink()
    before = state(filled)
    with Ledger.read(filled) as reader:
        assert {entry.payload for entry in reader.entries()} == {None}
    assert state(filled) == before


def test_an_erased_payload_reads_as_none(filled: Path) -> None:
    with Ledger.open(filled) as ledger:
        ledger.erase("local")
    with Ledger.read(filled) as reader:
        assert next(reader.entries()).payload is None


def test_a_cut_or_swapped_ledger_is_not_read(filled: Path, tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "other") as other:
        other.append("a", {}, {}).wait()
    copy = without_keys(filled, tmp_path / "copy")
    shutil.copy(tmp_path / "other" / "ledger.db", copy / "ledger.db")
    with pytest.raises(IntegrityError) as caught:
        Ledger.read(copy)
    assert caught.value.code == "ledger-swapped"
    connection = sqlite3.connect(filled / "ledger.db")
    connection.executescript("DELETE FROM entries WHERE idx = 19")
    connection.close()
    with pytest.raises(IntegrityError) as caught:
        Ledger.read(filled)
    assert caught.value.code == "ledger-truncated"


def test_a_reader_follows_a_writer(filled: Path) -> None:
    """Opened while nobody had the ledger open; then somebody writes, and closes."""
    with Ledger.read(filled) as reader:
        assert len(reader) == 20
        with Ledger.open(filled) as ledger:
            ledger.append("admit", {}, {"n": 20}).wait()
            assert len(reader) == 21
            assert audit(filled).size == 21
            with Ledger.read(filled) as other:
                assert [e.payload for e in other.entries(start=20)] == [{"n": 20}]
        assert [e.payload for e in reader.entries(start=20)] == [{"n": 20}]


@contextlib.contextmanager
def read_only(home: Path) -> Iterator[None]:
    """Mount a folder over itself, read-only."""

    def mount(*arguments: str) -> bool:
        return (
            subprocess.run(["mount", *arguments], check=False, capture_output=True).returncode == 0
        )

    if shutil.which("mount") is None or not mount("--bind", str(home), str(home)):
        pytest.skip("needs the right to mount")
    try:
        if not mount("-o", "remount,bind,ro", str(home)):
            pytest.skip("needs the right to mount read-only")
        with pytest.raises(OSError):
            os.open(home / "probe", os.O_CREAT | os.O_WRONLY)
        yield
    finally:
        subprocess.run(["umount", str(home)], check=True)


@pytest.mark.parametrize("died", [False, True])
def test_a_read_only_disk_is_read(home: Path, died: bool) -> None:
    if died:
        killed(home)
    else:
        with Ledger.open(home) as ledger:
            for n in range(3):
                ledger.append("admit", {}, {"n": n}).wait()
    with read_only(home):
        with Ledger.read(home) as reader:
            assert [entry.payload for entry in reader.entries()] == [{"n": n} for n in range(3)]
        assert audit(home).ok
        assert main(["verify", "--home", str(home)]) == 0


def test_nothing_is_opened_for_writing(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same without the right to mount: every way of writing fails."""

    def refuse(*arguments: object, **_more: object) -> None:
        raise AssertionError(f"a reader wrote: {arguments}")

    for name in ("mkdir", "replace", "write_bytes", "write_text", "unlink", "touch"):
        monkeypatch.setattr(Path, name, refuse)
    monkeypatch.setattr("interlock.crypto.files.write_private", refuse)
    monkeypatch.setattr("interlock.crypto.files.locked", refuse)
    with Ledger.read(filled) as reader:
        assert len(list(reader.entries())) == 20
        assert reader.verify().ok


@pytest.mark.parametrize("kind", ["pipe", "folder", "link to a device", "endless"])
@pytest.mark.parametrize("name", ["checkpoints/00000000000000000099.note", "anchors/1.note"])
def test_what_is_no_file_among_the_heads_of_a_home_from_elsewhere_is_a_fault(
    filled: Path, kind: str, name: str
) -> None:
    path = filled / name
    path.parent.mkdir(exist_ok=True)
    strange(path, kind)
    (fault,) = audit(filled).faults
    assert (fault.kind, fault.where) == ("checkpoint-forged", name)
    assert "not a plain file" in fault.got or "larger than" in fault.got
    with Reader(filled) as reader:
        assert sum(1 for _ in reader.entries()) == 20


@pytest.mark.parametrize("kind", ["pipe", "folder", "link to a device", "endless"])
def test_keys_that_are_no_file_are_refused(filled: Path, tmp_path: Path, kind: str) -> None:
    (filled / "ledger.vkeys").unlink()
    strange(filled / "ledger.vkeys", kind)
    assert main(["verify", "--home", str(filled)]) == 7
    strange(tmp_path / "given", kind)
    for option in ("--keys", "--policy", "--tsa-roots"):
        assert main(["verify", "--home", str(filled), option, str(tmp_path / "given")]) in (2, 4, 7)


def strange(path: Path, kind: str) -> None:
    """Put something where a small file is expected, for which a careless reader waits for ever."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "endless":
        path.touch()
        os.truncate(path, 1 << 42)
    else:
        path.symlink_to("/dev/zero")
