"""SQLite in programs that fork: at a fork no call is in progress and no connection is open.

SQLite remembers for each process what it has locked in which file. A forked child inherits that
memory and not the locks: a connection it opens to a file its parent had open locks nothing, and
when the parent closes the file, what the child has been told is on disk is lost. The mutexes of
SQLite are inherited too: one that another thread holds at the moment of the fork stays locked in
the child for ever (https://sqlite.org/howtocorrupt.html, section 2.6).

So everything of ours that uses SQLite does it inside `entered()`, and a fork waits until nobody is
inside, has all open connections closed, forks, and lets everybody go on. Connections are opened
again when they are next used. Threads of the program that use SQLite by themselves do not wait:
a child tries SQLite once, in a thread of its own, and is refused when that does not come back.
Programs started by `subprocess` are not forks in this sense.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from interlock.errors import StorageError

__all__ = ["Connections", "enter", "entered", "leave", "watch"]

#: Seconds a fork waits for calls in progress. A child made without waiting is refused the files.
PATIENCE_S = 15.0


class _Gate:
    """Open to everybody until somebody forks."""

    def __init__(self) -> None:
        self.unsafe = False
        self._untried = False
        self.watched: set[weakref.WeakMethod[Callable[[], Any]]] = set()
        self._renew()

    def _renew(self) -> None:
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._turn = threading.Lock()
        self._local = threading.local()
        self._inside = 0
        self._forker: int | None = None
        self._torn = False

    def enter(self) -> None:
        if self._untried:
            self.unsafe, self._untried = self.unsafe or not _works(), False
        if self.unsafe:
            raise _refused()
        depth: int = getattr(self._local, "depth", 0)
        with self._lock:
            while self._forker is not None and not depth and self._forker != threading.get_ident():
                self._changed.wait()
            self._inside += 1
        self._local.depth = depth + 1

    def leave(self) -> None:
        self._local.depth = max(0, getattr(self._local, "depth", 0) - 1)
        with self._lock:
            self._inside -= 1
            if not self._inside and self._forker is not None:
                self._changed.notify_all()

    def before(self) -> None:
        self._turn.acquire()
        deadline = time.monotonic() + PATIENCE_S
        with self._changed:
            self._forker = threading.get_ident()
            # A thread that forks while it is inside itself would wait for ever.
            mine: int = getattr(self._local, "depth", 0)
            while self._inside > mine and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)
            self._torn = self._inside > 0
        if not self._torn:
            for reference in list(self.watched):
                if let_go := reference():
                    with contextlib.suppress(Exception):
                        let_go()

    def after_in_parent(self) -> None:
        with self._changed:
            self._forker = None
            self._changed.notify_all()
        self._turn.release()

    def after_in_child(self) -> None:
        self.unsafe, self._untried = self.unsafe or self._torn, True
        self._renew()


def _works() -> bool:
    """Whether SQLite can be used in this forked child: nobody's thread held it at the fork."""
    done = threading.Event()

    def attempt() -> None:
        with tempfile.TemporaryDirectory(prefix="interlock-fork-") as folder:
            db = sqlite3.connect(f"{folder}/a", isolation_level=None)
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=OFF")
            db.execute("CREATE TABLE a (b)")
            db.close()
        done.set()

    threading.Thread(target=attempt, name="interlock-fork", daemon=True).start()
    return done.wait(PATIENCE_S)


_gate = _Gate()
os.register_at_fork(
    before=_gate.before,
    after_in_parent=_gate.after_in_parent,
    after_in_child=_gate.after_in_child,
)
enter, leave = _gate.enter, _gate.leave


def _refused() -> StorageError:
    return StorageError(
        "this process was forked while a thread was using SQLite; it cannot use its databases",
        code="fork-unsafe",
        got=f"a thread that held SQLite at the fork and was not done within {PATIENCE_S:g} s",
        expected="a fork while no thread uses SQLite",
        fix="start the process with `spawn` (multiprocessing.set_start_method) or as a program",
    )


def watch(let_go: Callable[[], Any]) -> None:
    """Have a bound method called before every fork, as long as its object lives.

    Args:
        let_go: closes every connection of the object, which opens them when it next needs them.
    """
    _gate.watched.add(weakref.WeakMethod(let_go, _gate.watched.discard))


@contextlib.contextmanager
def entered() -> Iterator[None]:
    """Use SQLite: no fork happens inside.

    Raises:
        StorageError: this process is the child of a fork that did not wait.
    """
    enter()
    try:
        yield
    finally:
        leave()


class _Held:
    """One thread's connection; closed when the thread or its owner goes."""

    __slots__ = ("__weakref__", "connection")

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def __del__(self) -> None:
        with contextlib.suppress(Exception), entered():
            self.connection.close()


class Transaction:
    """One use of a database; see `Connections.transaction`."""

    __slots__ = ("_begin", "_connections", "_db", "_durable")

    def __init__(self, connections: Connections, durable: bool, begin: bool) -> None:
        self._connections = connections
        self._durable = durable
        self._begin = begin

    def __enter__(self) -> sqlite3.Connection:
        enter()
        try:
            self._db = db = self._connections.mine()
            if self._durable:
                db.execute("PRAGMA synchronous=FULL")
            if self._begin:
                db.execute("BEGIN IMMEDIATE")
        except BaseException as error:
            self._left(error)
            raise
        return db

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            if error is None:
                if self._begin:
                    self._db.execute("COMMIT")
            elif self._db.in_transaction:
                self._db.execute("ROLLBACK")
            if self._durable:
                self._db.execute("PRAGMA synchronous=NORMAL")
        except BaseException as late:
            self._left(late)
            raise
        self._left(error)

    def _left(self, error: BaseException | None) -> None:
        leave()
        if isinstance(error, self._connections.errors):
            self._connections.drop()
            if self._connections.error is not None:
                raise self._connections.error(error) from error


class Connections:
    """The connections to one database, one a thread.

    Args:
        connect: opens one, with `check_same_thread=False`.
        error: makes one of our errors of one of SQLite's, of the system's or of `errors`; without
            it they are raised as they are.
        errors: what else a transaction may fail with.

    Example:
        >>> import sqlite3
        >>> pool = Connections(lambda: sqlite3.connect(":memory:", check_same_thread=False))
        >>> with pool.transaction() as db:
        ...     db.execute("SELECT 1").fetchone()
        (1,)
    """

    def __init__(
        self,
        connect: Callable[[], sqlite3.Connection],
        error: Callable[[Exception], Exception] | None = None,
        errors: tuple[type[Exception], ...] = (),
    ) -> None:
        self._connect = connect
        self.error = error
        self.errors: tuple[type[Exception], ...] = (sqlite3.Error, OSError, *errors)
        self._local = threading.local()
        self._all: weakref.WeakSet[_Held] = weakref.WeakSet()
        watch(self.let_go)

    def mine(self) -> sqlite3.Connection:
        """Return this thread's connection, opened the first time; between `enter` and `leave`."""
        held: _Held | None = getattr(self._local, "held", None)
        if held is None:
            held = _Held(self._connect())
            self._local.held = held
            self._all.add(held)
        return held.connection

    def transaction(self, *, durable: bool = False, begin: bool = True) -> Transaction:
        """Lend this thread's connection for one immediate transaction: all of it, or nothing.

        Args:
            durable: wait until it is on the disk.
            begin: False for a single query, which is a transaction by itself.
        """
        return Transaction(self, durable, begin)

    def drop(self) -> None:
        """Forget this thread's connection."""
        self._local.held = None

    def let_go(self) -> None:
        """Close all of them."""
        held, self._all, self._local = list(self._all), weakref.WeakSet(), threading.local()
        for one in held:
            with contextlib.suppress(sqlite3.Error):
                one.connection.close()
