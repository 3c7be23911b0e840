"""Kills, torn writes and full disks: what was acknowledged is there, without a gap."""

import contextlib
import os
import random
import resource
import select
import signal
import sqlite3
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from interlock.errors import InterlockError, StorageError
from interlock.ledger import Ledger, audit

# These fork many times: in a process of their own, without the threads other tests leave behind.
pytestmark = pytest.mark.alone


def child(work: Callable[[int], None]) -> tuple[int, int]:
    """Run `work(pipe)` in a forked process; return its pid and the reading end."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        status = 1
        with contextlib.suppress(BaseException):
            work(write)
            status = 0
        os._exit(status)
    os.close(write)
    return pid, read


def drain(read: int) -> bytes:
    data = b""
    while chunk := os.read(read, 65536):
        data += chunk
    os.close(read)
    return data


def appender(home: Path, name: str) -> Callable[[int], None]:
    """Append for ever; say the index and number of each acknowledged entry."""

    def work(pipe: int) -> None:
        ledger = Ledger.open(home)
        number = 0
        while True:
            batch = [ledger.append("a", {"w": name, "n": number + k}, {"n": k}) for k in range(3)]
            for pending in batch:
                entry = pending.wait(20)
                os.write(pipe, struct.pack(">QQ", entry.index, number))
                number += 1
            if number % 60 == 0:
                ledger.checkpoint()

    return work


def acknowledged(data: bytes) -> list[tuple[int, int]]:
    whole = len(data) // 16 * 16
    return [struct.unpack(">QQ", data[i : i + 16]) for i in range(0, whole, 16)]


@pytest.mark.slow
def test_200_kills_under_load_lose_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    Ledger.open(home).close()
    rng = random.Random(7)
    kills, total = 0, 0
    promised: dict[int, tuple[str, int]] = {}
    for turn in range(100):
        names = [f"{turn}a", f"{turn}b"]
        running = [child(appender(home, name)) for name in names]
        for _, read in running:
            assert select.select([read], [], [], 60)[0], "a writer acknowledged nothing"
        time.sleep(rng.uniform(0.0, 0.06))
        for pid, _ in running:
            os.kill(pid, signal.SIGKILL)
            kills += 1
        for name, (pid, read) in zip(names, running, strict=True):
            os.waitpid(pid, 0)
            promised |= {i: (name, n) for i, n in acknowledged(drain(read))}
        if turn % 20 == 19:
            report = audit(home)
            assert report.ok, report.faults
    with Ledger.open(home) as ledger:
        found = {e.index: (e.header["w"], e.header["n"]) for e in ledger.entries()}
        total = len(ledger)
        assert sorted(found) == list(range(total))
        assert {i: found.get(i) for i in promised} == promised
        assert ledger.append("a", {}, {}).wait().index == total
        assert ledger.verify().ok
    assert kills == 200
    assert len(promised) >= 200


def test_several_processes_share_one_order(tmp_path: Path) -> None:
    home = tmp_path / "home"
    Ledger.open(home).close()

    def work(pipe: int) -> None:
        with Ledger.open(home) as ledger:
            for n in range(60):
                ledger.append("a", {"n": n}, {}).wait(20)
                if n % 20 == 0:
                    ledger.checkpoint()
        os.write(pipe, b"done")

    running = [child(work) for _ in range(4)]
    for pid, read in running:
        os.waitpid(pid, 0)
        assert drain(read) == b"done"
    with Ledger.open(home) as ledger:
        assert [entry.index for entry in ledger.entries()] == list(range(240))
        assert ledger.verify().ok


@pytest.mark.parametrize("garbage", [b"\0" * 100, os.urandom(5000), b"\xff"])
def test_a_torn_write_after_the_last_commit_is_dropped(tmp_path: Path, garbage: bytes) -> None:
    home = tmp_path / "home"

    def work(pipe: int) -> None:
        ledger = Ledger.open(home)
        for n in range(20):
            os.write(pipe, struct.pack(">QQ", ledger.append("a", {"n": n}, {}).wait().index, n))
        os.kill(os.getpid(), signal.SIGKILL)

    pid, read = child(work)
    os.waitpid(pid, 0)
    assert len(acknowledged(drain(read))) == 20
    with (home / "ledger.db-wal").open("ab") as wal:
        wal.write(garbage)
    with Ledger.open(home) as ledger:
        assert len(ledger) == 20
        assert ledger.verify().ok


def test_a_full_disk_refuses_and_loses_nothing(tmp_path: Path) -> None:
    """A real limit of the kernel on file size, in a child that ignores its signal."""
    home = tmp_path / "home"
    with Ledger.open(home) as ledger:
        for n in range(10):
            ledger.append("a", {"n": n}, {}).wait()

    def work(pipe: int) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        ledger = Ledger.open(home)
        ledger.append("a", {}, {}).wait()
        limit = (home / "ledger.db-wal").stat().st_size + 60_000
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        recorded = 0
        try:
            for _ in range(200):
                ledger.append("a", {}, {"x": "y" * 5000}).wait()
                recorded += 1
        except StorageError as error:
            os.write(pipe, f"{error.code} {recorded}\n".encode())
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        entry = ledger.append("a", {}, {"after": True}).wait()
        os.write(pipe, f"{entry.index}\n".encode())
        ledger.close()

    pid, read = child(work)
    _, status = os.waitpid(pid, 0)
    text = drain(read).decode().split()
    assert status == 0, text
    assert text[0] in ("storage-full", "storage-io")
    assert int(text[2]) == 11 + int(text[1])
    assert audit(home).ok
    assert audit(home).size == 12 + int(text[1])


def test_a_full_database_is_called_a_full_disk(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "home") as ledger:
        ledger.append("a", {}, {}).wait()
        writer: sqlite3.Connection = ledger._store._writer  # type: ignore[attr-defined]
        pages = writer.execute("PRAGMA page_count").fetchone()[0]
        writer.execute(f"PRAGMA max_page_count={pages}")
        with pytest.raises(StorageError) as caught:
            ledger.append("a", {}, {"x": "y" * 50_000}).wait()
        assert caught.value.code == "storage-full"
        writer.execute("PRAGMA max_page_count=1000000")
        assert ledger.append("a", {}, {}).wait().index == 1
        assert ledger.verify().ok


def test_a_locked_database_is_refused_in_time(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with Ledger.open(home) as ledger:
        ledger.append("a", {}, {}).wait()

        def hold(pipe: int) -> None:
            import fcntl

            fd = os.open(home / "ledger.lock", os.O_RDWR)
            fcntl.lockf(fd, fcntl.LOCK_EX)
            os.write(pipe, b"held")
            time.sleep(600)

        pid, read = child(hold)
        assert os.read(read, 10) == b"held"
        with pytest.raises(StorageError) as caught:
            ledger.append("a", {}, {}).wait(0.3)
        assert caught.value.code == "ledger-locked"
        assert os.waitpid(pid, os.WNOHANG) == (0, 0)  # refused while it was held
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(read)
        assert ledger.append("a", {}, {}).wait().index == 1


def test_a_read_only_database_is_refused(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with Ledger.open(home) as ledger:
        ledger.append("a", {}, {}).wait()
        ledger._store._writer.execute("PRAGMA query_only=ON")  # type: ignore[attr-defined]
        with pytest.raises(InterlockError) as caught:
            ledger.append("a", {}, {}).wait()
        assert caught.value.code == "storage-io"
        ledger._store._writer.execute("PRAGMA query_only=OFF")  # type: ignore[attr-defined]
        assert ledger.append("a", {}, {}).wait().index == 1
