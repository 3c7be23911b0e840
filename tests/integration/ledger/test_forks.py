"""A program that forks: nothing acknowledged is lost, nobody waits for ever."""

import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from interlock import forks
from interlock.crypto import files
from interlock.errors import StorageError
from interlock.guard.state import Cap, State, Window
from interlock.ledger import Ledger, audit

# In a process of their own: threads that other tests leave behind may use SQLite by themselves.
pytestmark = pytest.mark.alone


class Child:
    """A forked process that runs `work` and says each thing it is told to say on a pipe."""

    def __init__(self, work: Callable[["Child"], None]) -> None:
        theirs, self.out = os.pipe()
        self.back, ours = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            with contextlib.suppress(BaseException):
                work(self)
                status = 0
            os._exit(status)
        os.close(self.out)
        os.close(self.back)
        self.said, self.go = theirs, ours

    def say(self, text: str) -> None:
        """In the child: say it and wait to be told to go on."""
        os.write(self.out, text.encode())
        os.read(self.back, 1)

    def hear(self) -> str:
        """In the parent: what the child says; a child that says nothing for a minute hangs."""
        assert select.select([self.said], [], [], 60)[0], "the child says nothing"
        return os.read(self.said, 4096).decode()

    def on(self) -> None:
        os.write(self.go, b".")

    def end(self) -> int:
        os.kill(self.pid, signal.SIGKILL)
        os.close(self.said)
        os.close(self.go)
        return os.waitpid(self.pid, 0)[1]


@contextlib.contextmanager
def working(work: Callable[[], None]) -> Iterator[None]:
    """Repeat `work` in three threads."""
    stop = threading.Event()

    def loop() -> None:
        while not stop.is_set():
            work()

    threads = [threading.Thread(target=loop) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_what_a_child_was_told_is_on_disk_stays_when_its_parent_closes(tmp_path: Path) -> None:
    home = tmp_path / "home"
    parent = Ledger.open(home)
    parent.append("a", {"who": "parent"}, {}).wait()
    assert [e.index for e in parent.entries()] == [0]

    def work(child: Child) -> None:
        with Ledger.open(home) as ledger:
            ledger.append("a", {"who": "child"}, {}).wait()
            child.say("open")
            indexes = [ledger.append("a", {"who": "child"}, {}).wait().index for _ in range(3)]
            child.say(str(indexes))

    child = Child(work)
    assert child.hear() == "open"
    parent.close()
    child.on()
    assert child.hear() == "[2, 3, 4]"
    child.end()
    with Ledger.open(home) as ledger:
        assert [e.header["who"] for e in ledger.entries()] == ["parent"] + ["child"] * 4
        assert ledger.append("a", {}, {}).wait().index == 5
    assert audit(home).ok


def test_the_parent_goes_on_after_a_fork(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "home") as ledger:
        ledger.append("a", {}, {"n": 1}).wait()
        Child(lambda child: None).end()
        assert ledger.append("a", {}, {"n": 2}).wait().index == 1
        assert [e.payload["n"] for e in ledger.entries()] == [1, 2]
        assert ledger.verify().ok


def test_what_a_child_spent_counts_after_its_parent_is_gone(tmp_path: Path) -> None:
    day, caps = Window("budget/a", 3600.0), (Cap("shots", 100.0, 1000.0),)
    parent = State(tmp_path)
    parent.reserve(day, caps, 1e9)

    def work(child: Child) -> None:
        state = State(tmp_path)
        child.say("open")
        state.reserve(day, caps, 1e9)
        child.say("spent")

    child = Child(work)
    assert child.hear() == "open"
    del parent  # closes its connection, the last one the file has if the child holds no lock
    child.on()
    assert child.hear() == "spent"
    child.end()
    assert State(tmp_path).reserve(day, caps, 1e9).used == (200,)


def test_children_forked_beside_writing_threads_never_wait_for_them(tmp_path: Path) -> None:
    home = tmp_path / "home"
    Ledger.open(home).close()
    with Ledger.open(tmp_path / "other") as other:

        def work() -> None:
            other.append("a", {}, {}).wait()
            next(iter(other.entries()))

        def child_work(child: Child) -> None:
            child.say(str(Ledger.open(home).append("a", {}, {}).wait().index))

        with working(work):
            for index in range(12):
                child = Child(child_work)
                assert child.hear() == str(index)
                child.end()
        assert other.verify().ok
    assert audit(home).size == 12


def test_a_fork_that_could_not_wait_makes_a_child_that_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forks, "PATIENCE_S", 0.2)
    entered, leave = threading.Event(), threading.Event()

    def stay() -> None:
        with forks.entered():
            entered.set()
            leave.wait()

    def work(child: Child) -> None:
        try:
            Ledger.open(tmp_path / "home")
        except StorageError as error:
            child.say(error.code)

    thread = threading.Thread(target=stay)
    thread.start()
    entered.wait()
    child = Child(work)
    assert child.hear() == "fork-unsafe"
    child.end()
    leave.set()
    thread.join()
    with Ledger.open(tmp_path / "home") as ledger:
        assert ledger.append("a", {}, {}).wait().index == 0


def test_a_child_whose_sqlite_is_held_by_a_strangers_thread_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hang itself is SQLite's; here it is a `connect` that never returns."""
    monkeypatch.setattr(forks, "PATIENCE_S", 0.2)

    def work(child: Child) -> None:
        monkeypatch.setattr(forks.sqlite3, "connect", lambda *_a, **_k: time.sleep(600))
        try:
            Ledger.open(tmp_path / "home")
        except StorageError as error:
            child.say(error.code)

    child = Child(work)
    assert child.hear() == "fork-unsafe"
    child.end()


def test_a_lock_held_by_a_thread_is_neither_kept_nor_waited_for_by_a_child(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with files.locked(path):
            held.set()
            release.wait()

    def work(child: Child) -> None:
        with files.locked(tmp_path / "another"):
            child.say("not waited for")
        with files.locked(path):
            child.say("mine")

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = Child(work)
    assert child.hear() == "not waited for"
    release.set()
    thread.join()
    with files.locked(path):  # free again although the child lives
        child.on()
        assert not select.select([child.said], [], [], 0.3)[0]
    assert child.hear() == "mine"
    child.end()


def test_a_ledger_deleted_meanwhile_is_not_made_anew_after_a_fork(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "home")
    ledger.append("a", {}, {"n": 1}).wait()
    for path in (tmp_path / "home").glob("ledger.db*"):
        path.unlink()
    Child(lambda child: None).end()  # every connection is opened again
    with pytest.raises(StorageError):
        ledger.append("a", {}, {"n": 2}).wait()
    assert not (tmp_path / "home" / "ledger.db").exists()
    with pytest.raises(StorageError):
        ledger.close()
