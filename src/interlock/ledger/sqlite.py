"""The embedded store: one SQLite file, write-ahead log, full synchronisation on every commit."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path

from interlock import forks
from interlock.crypto import files
from interlock.errors import IntegrityError, InterlockError, StorageError
from interlock.ledger.schema import TABLES, foreign_objects, planted
from interlock.ledger.store import CheckpointRow, Row

__all__ = ["SqliteReads", "SqliteStore", "database_error"]

_VERSION = 1
_COLUMNS = "idx, event, leaf, header, payload"
_PAGE = 500
#: Bytes up to which the whole database is looked at when it is opened for writing.
_WHOLE = 32 << 20

#: One lock file descriptor a path for the whole process, never closed: closing any descriptor of
#: a file drops the process's POSIX locks on it.
_turns: dict[str, tuple[int, threading.Lock]] = {}
_turns_guard = threading.Lock()


def _renew() -> None:
    """Give a forked child turns of its own: what its parent's threads held, it can never get."""
    global _turns, _turns_guard
    _turns, _turns_guard = {}, threading.Lock()


os.register_at_fork(after_in_child=_renew)


def database_error(path: Path, error: sqlite3.Error) -> InterlockError:
    """Return what SQLite raised as one of our errors."""
    code = getattr(error, "sqlite_errorcode", 0) or 0
    got = f"{getattr(error, 'sqlite_errorname', type(error).__name__)}: {error}"
    primary = code & 0xFF
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return _damaged(path, got)
    if primary == sqlite3.SQLITE_ERROR and "no such" in str(error):
        return IntegrityError(
            "the ledger database lacks its tables",
            code="ledger-corrupt",
            got=got,
            expected=f"the tables Interlock made in {path}",
            fix="copy the folder aside, restore it from a copy",
        )
    full = primary == sqlite3.SQLITE_IOERR and files.no_room(path)
    if primary == sqlite3.SQLITE_FULL or full:
        return StorageError(
            "the disk is full; the entry was not recorded",
            code="storage-full",
            got=got,
            expected=f"free space beside {path}",
            fix="free some space and try again; everything acknowledged is safe",
        )
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return _busy(path, got)
    return StorageError(
        "the ledger database cannot be used; the entry was not acknowledged",
        code="storage-io",
        got=got,
        expected=f"a readable and writable {path}",
        fix="check the disk, the path and its owner, then open the ledger again",
    )


def _damaged(path: Path, got: str) -> IntegrityError:
    return IntegrityError(
        "the ledger database is damaged; nothing is added to it",
        code="ledger-corrupt",
        got=got,
        expected=f"an intact {path}",
        fix="copy the folder aside, run `interlock verify`, restore from a copy",
    )


def _busy(path: Path, got: str) -> StorageError:
    return StorageError(
        "another program holds the ledger; the entry was not recorded",
        code="ledger-locked",
        got=got,
        expected=f"a turn to write to {path} in time",
        fix="look for a stopped or hung program that has the ledger open, then try again",
    )


class SqliteReads(ABC):
    """The questions a ledger file answers, whichever way it was opened."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @abstractmethod
    def _read(self, sql: str, values: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
        """Return the rows a query finds."""

    def checkpoints(self) -> Sequence[CheckpointRow]:
        """Return the tree heads by size."""
        rows = self._read("SELECT size, root, frontier, note FROM checkpoints ORDER BY size")
        return [_checkpoint(row) for row in rows]

    def last_checkpoint(self) -> CheckpointRow | None:
        """Return the largest signed tree head."""
        rows = self._read(
            "SELECT size, root, frontier, note FROM checkpoints WHERE note IS NOT NULL "
            "ORDER BY size DESC LIMIT 1"
        )
        return _checkpoint(rows[0]) if rows else None

    def size(self) -> int:
        """Return the number of entries."""
        value = self._read("SELECT coalesce(max(idx) + 1, 0) FROM entries")[0][0]
        return int(str(value))

    def rows(self, start: int = 0, event: str | None = None) -> Iterator[Row]:
        """Yield the entries in order, a page at a time."""
        where = "idx >= ?" if event is None else "event = ? AND idx >= ?"
        sql = f"SELECT {_COLUMNS} FROM entries WHERE {where} ORDER BY idx LIMIT {_PAGE}"  # noqa: S608 (constants only)
        while True:
            values = (start,) if event is None else (event, start)
            page = self._read(sql, values)
            yield from page  # type: ignore[misc]
            if len(page) < _PAGE:
                return
            start = int(str(page[-1][0])) + 1

    def leaves(self, start: int = 0, end: int | None = None) -> Iterator[tuple[int, bytes]]:
        """Yield index and leaf hash of committed entries in order, a page at a time."""
        last = end if end is not None else 1 << 62
        sql = "SELECT idx, leaf FROM entries WHERE idx >= ? AND idx < ? ORDER BY idx LIMIT 10000"
        while page := self._read(sql, (start, last)):
            yield from page  # type: ignore[misc]
            start = int(str(page[-1][0])) + 1

    def row(self, index: int) -> Row | None:
        """Return one entry."""
        rows = self._read(f"SELECT {_COLUMNS} FROM entries WHERE idx = ?", (index,))  # noqa: S608 (constants only)
        return rows[0] if rows else None  # type: ignore[return-value]


class SqliteStore(SqliteReads):
    """A ledger in one file. Safe for many threads and many processes."""

    def __init__(self, path: Path, *, origin: str | None = None) -> None:
        super().__init__(path)
        self._name = str(path.resolve())
        self._pid = os.getpid()
        self._readers = forks.Connections(self._reader)
        self._open: sqlite3.Connection | None = None
        self._closed = False
        self._made = False
        self._schema: object = None
        forks.watch(self.let_go)
        try:
            with forks.entered():
                self.origin = self._prepare(origin)
                self._made = True
        except sqlite3.Error as error:
            self.close()
            raise database_error(path, error) from error
        except InterlockError:
            self.close()
            raise

    @property
    def _writer(self) -> sqlite3.Connection:
        if self._open is None:
            self._open = self._connect()
        return self._open

    def let_go(self) -> None:
        """Close the writing connection; it is opened again when it is next used."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def _connect(self) -> sqlite3.Connection:
        if self._closed:
            raise StorageError(
                "the ledger is closed",
                code="ledger-closed",
                got=f"a use of {self._path} after `close`",
                expected="an open ledger",
                fix="open it again",
            )
        try:
            # One that was deleted since is not made anew, empty, in its place.
            place = f"{self._path.resolve().as_uri()}?mode={'rw' if self._made else 'rwc'}"
            connection = sqlite3.connect(
                place, uri=True, timeout=5.0, isolation_level=None, check_same_thread=False
            )
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA secure_delete=ON")
        except sqlite3.Error as error:
            raise database_error(self._path, error) from error
        return connection

    def _reader(self) -> sqlite3.Connection:
        connection = self._connect()
        connection.execute("PRAGMA query_only=ON")
        return connection

    def _prepare(self, origin: str | None) -> str:
        writer = self._writer
        writer.execute("BEGIN IMMEDIATE")
        tables = writer.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        if not tables:
            if origin is None:
                writer.execute("ROLLBACK")
                raise IntegrityError(
                    "the ledger database is empty",
                    code="ledger-corrupt",
                    got=f"{self._path} without tables",
                    expected="a ledger",
                    fix="restore it from a copy",
                )
            for statement in TABLES.strip().split(";\n"):
                writer.execute(statement)
            values = {"format": str(_VERSION), "origin": origin}
            writer.executemany("INSERT INTO meta VALUES (?, ?)", values.items())
        writer.execute("COMMIT")
        meta = dict(writer.execute("SELECT name, value FROM meta").fetchall())
        if meta.get("format") != str(_VERSION) or "origin" not in meta:
            raise IntegrityError(
                "the ledger is of another format version",
                code="ledger-version",
                got=f"version {meta.get('format')}",
                expected=f"version {_VERSION}",
                fix="open it with the Interlock version that wrote it; nothing was changed",
            )
        self._check_schema()
        self._check_pages()
        found: str = meta["origin"]
        return found

    def _check_pages(self) -> None:
        """Refuse a database with damaged pages, so that nothing is added to one.

        A page takes SQLite some microseconds; a database beyond `_WHOLE` is left to
        `interlock verify`.
        """
        if self._path.stat().st_size > _WHOLE:
            return
        (line,) = self._writer.execute("PRAGMA quick_check(1)").fetchone()
        if line != "ok":
            raise _damaged(self._path, str(line))

    def _check_schema(self) -> None:
        """Refuse a database with foreign triggers or tables; looks again whenever they change."""
        version = self._writer.execute("PRAGMA schema_version").fetchone()
        if version != self._schema:
            if foreign := foreign_objects(self._writer):
                raise planted(str(self._path), foreign)
            self._schema = version

    def begin(self, deadline: float) -> None:
        """Become the one writer: first by a fair turn among our own, then in SQLite."""
        if os.getpid() != self._pid:
            raise StorageError(
                "a ledger cannot be used across a fork",
                code="ledger-forked",
                got=f"opened by process {self._pid}, used in {os.getpid()}",
                expected="each process to open its own",
                fix="call Ledger.open again in the child process",
            )
        self._turn(deadline)
        try:
            forks.enter()
        except InterlockError:
            self._give_turn()
            raise
        try:
            self._writer.execute("BEGIN IMMEDIATE")
        except InterlockError:
            self._release()
            raise
        except sqlite3.Error as error:
            self._release()
            raise database_error(self._path, error) from error
        try:
            self._check_schema()
        except BaseException as error:
            self.rollback()
            if isinstance(error, sqlite3.Error):
                raise database_error(self._path, error) from error
            raise

    def _turn(self, deadline: float) -> None:
        name = self._name
        with _turns_guard:
            if name not in _turns:
                fd = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
                _turns[name] = (fd, threading.Lock())
        fd, mutex = _turns[name]
        if not mutex.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise _busy(self._path, "no turn before the time-out")
        self._held = (fd, mutex)
        pause = 0.0002
        while True:
            try:
                fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if time.monotonic() > deadline:
                    mutex.release()
                    raise _busy(self._path, "no turn before the time-out") from error
                try:
                    time.sleep(pause)
                except BaseException:  # Ctrl-C
                    mutex.release()
                    raise
                pause = min(pause * 1.3, 0.002)
            else:
                return

    def _release(self) -> None:
        forks.leave()
        self._give_turn()

    def _give_turn(self) -> None:
        fd, mutex = self._held
        fcntl.lockf(fd, fcntl.LOCK_UN)
        mutex.release()

    def commit(self) -> None:
        """Make everything since `begin` durable."""
        try:
            self._writer.execute("COMMIT")
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                self._writer.execute("ROLLBACK")
            raise database_error(self._path, error) from error
        finally:
            self._release()

    def rollback(self) -> None:
        """Forget everything since `begin`."""
        try:
            with contextlib.suppress(sqlite3.Error):
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
        finally:
            self._release()

    def tail(self) -> tuple[int, bytes | None]:
        """Return one more than the highest index, and the header of the last entry."""
        row = self._write_query("SELECT idx, header FROM entries ORDER BY idx DESC LIMIT 1")
        return (row[0][0] + 1, row[0][1]) if row else (0, None)

    def leaves_since(self, start: int) -> Sequence[tuple[int, bytes]]:
        """Return index and leaf hash of the entries from `start`, inside the transaction."""
        return self._write_query(
            "SELECT idx, leaf FROM entries WHERE idx >= ? ORDER BY idx", (start,)
        )

    def count(self, event: str) -> int:
        """Return how many entries of an event there are, inside the transaction."""
        try:
            sql = "SELECT count(*) FROM entries WHERE event = ?"
            return int(self._writer.execute(sql, (event,)).fetchone()[0])
        except sqlite3.Error as error:
            raise database_error(self._path, error) from error

    def _write_query(self, sql: str, values: tuple[object, ...] = ()) -> list[tuple[int, bytes]]:
        try:
            return self._writer.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise database_error(self._path, error) from error

    def insert(self, rows: Sequence[Row]) -> None:
        """Add entries."""
        try:
            self._writer.executemany("INSERT INTO entries VALUES (?, ?, ?, ?, ?)", rows)
        except sqlite3.Error as error:
            raise database_error(self._path, error) from error

    def put_checkpoint(self, row: CheckpointRow) -> None:
        """Add a tree head, or replace that of the same size."""
        try:
            self._writer.execute(
                "INSERT OR REPLACE INTO checkpoints VALUES (?, ?, ?, ?)",
                (row.size, row.root, row.frontier, row.note),
            )
        except sqlite3.Error as error:
            raise database_error(self._path, error) from error

    def _read(self, sql: str, values: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
        try:
            with self._readers.transaction(begin=False) as connection:
                rows: list[tuple[object, ...]] = connection.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise database_error(self._path, error) from error
        return rows

    def close(self) -> None:
        """Let go of the database."""
        with contextlib.suppress(InterlockError, sqlite3.Error), forks.entered():
            self._closed = True
            self._readers.let_go()
            self.let_go()


def _checkpoint(row: tuple[object, ...]) -> CheckpointRow:
    size, root, frontier, note = row
    return CheckpointRow(
        size=int(str(size)),
        root=bytes(root),  # type: ignore[call-overload]
        frontier=bytes(frontier),  # type: ignore[call-overload]
        note=None if note is None else str(note),
    )
