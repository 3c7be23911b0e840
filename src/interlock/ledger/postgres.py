"""The shared store: PostgreSQL, several writers on several machines, one sequencer at a time.

A transaction-level advisory lock makes one connection the sequencer; when its process or machine
dies the server lets go of the lock and the next one takes over, reading what was committed. All
machines need the same signing keys (`keys/` copied once); data keys of subjects are in the
database, sealed under them.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from interlock.crypto import files
from interlock.errors import IntegrityError, InterlockError, SetupError, StorageError
from interlock.ledger.postgres_schema import ACTING, FOREIGN, TABLES
from interlock.ledger.schema import planted
from interlock.ledger.store import CheckpointRow, Row

__all__ = ["PostgresStore"]

_VERSION = "1"
_LOCK = 0x494C4B4C
_PAGE = 1000
#: Seconds between two full looks for planted objects by a writer.
_LOOK_S = 60.0


def address_of(home: Path) -> str | None:
    """Return the address in `ledger.url`, None when the home keeps its ledger in a file."""
    raw = files.read_private(home / "ledger.url")
    return None if raw is None else raw.decode().strip()


def _psycopg() -> Any:
    try:
        import psycopg
    except ImportError as error:
        raise SetupError(
            "a ledger in PostgreSQL needs the extra `postgres`",
            code="extra-missing",
            got="no psycopg",
            expected="psycopg 3",
            fix="pip install 'interlock[postgres]'",
        ) from error
    return psycopg


def _fail(error: Exception) -> NoReturn:
    psycopg = _psycopg()
    got = f"{type(error).__name__}: {str(error).strip()[:300]}"
    if isinstance(error, psycopg.errors.LockNotAvailable):
        raise StorageError(
            "another writer holds the ledger; the entry was not recorded",
            code="ledger-locked",
            got=got,
            expected="a turn to write in time",
            fix="look for a hung writer in pg_stat_activity, then try again",
        ) from error
    if isinstance(error, psycopg.errors.DiskFull):
        raise StorageError(
            "the database server's disk is full; the entry was not recorded",
            code="storage-full",
            got=got,
            expected="free space on the server",
            fix="free some space and try again; everything acknowledged is safe",
        ) from error
    if isinstance(error, psycopg.errors.UndefinedTable | psycopg.errors.DataCorrupted):
        raise IntegrityError(
            "the ledger database is damaged",
            code="ledger-corrupt",
            got=got,
            expected="the tables Interlock made",
            fix="restore the database from a copy",
        ) from error
    raise StorageError(
        "the database server cannot be used; the entry was not acknowledged",
        code="storage-io",
        got=got,
        expected="a reachable PostgreSQL server",
        fix="check the server and the address, then try again",
    ) from error


class PostgresStore:
    """A ledger in one PostgreSQL database.

    Args:
        address: connection string, like `postgresql://user@host/database`.
        origin: written when the tables are made.
        create: make the tables when they are missing.
        strict: refuse a database with triggers, rules or tables of somebody else.
    """

    def __init__(
        self, address: str, *, origin: str, create: bool = True, strict: bool = True
    ) -> None:
        self._address = address
        self._mutex = threading.Lock()
        self._looked = -_LOOK_S
        self._error: Any = _psycopg().Error
        self._writer = self._connect()
        self._reader = self._connect()
        try:
            if create:
                self._prepare(origin)
            self.origin = self._checked_origin()
            if strict and (foreign := self.foreign_objects()):
                raise self._planted(foreign)
        except self._error as error:
            self.close()
            _fail(error)
        except InterlockError:
            self.close()
            raise

    def _connect(self) -> Any:
        try:
            connection = _psycopg().connect(self._address, autocommit=True, connect_timeout=10)
            connection.execute("SET synchronous_commit = on")
            connection.execute("SET application_name = 'interlock-ledger'")
        except self._error as error:
            _fail(error)
        return connection

    def _prepare(self, origin: str) -> None:
        with self._writer.transaction():
            self._writer.execute("SET LOCAL lock_timeout = '10s'")
            self._writer.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            self._writer.execute(TABLES)
            values = [("format", _VERSION), ("origin", origin)]
            for pair in values:
                self._writer.execute(
                    "INSERT INTO interlock.meta VALUES (%s, %s) ON CONFLICT DO NOTHING", pair
                )

    def foreign_objects(self) -> list[str]:
        """Return what the ledger's schema holds that Interlock did not make, and what it lacks."""
        return [str(found) for (found,) in self._read(FOREIGN)]

    def _planted(self, foreign: list[str]) -> IntegrityError:
        info = self._reader.info
        return planted(f"{info.host}/{info.dbname}", foreign)

    def _checked_origin(self) -> str:
        meta = self.meta()
        if meta.get("format") != _VERSION:
            raise IntegrityError(
                "the ledger is of another format version",
                code="ledger-version",
                got=f"version {meta.get('format')}",
                expected=f"version {_VERSION}",
                fix="open it with the Interlock version that wrote it; nothing was changed",
            )
        return meta["origin"]

    def meta(self) -> dict[str, str]:
        """Return format and origin."""
        return {str(k): str(v) for k, v in self._read("SELECT name, value FROM interlock.meta")}

    def begin(self, deadline: float) -> None:
        """Become the one sequencer; the server ends it with the transaction or the connection."""
        if not self._mutex.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise StorageError(
                "another thread holds the ledger; the entry was not recorded",
                code="ledger-locked",
                got="no turn before the time-out",
                expected="a turn to write in time",
                fix="try again",
            )
        try:
            if self._writer.closed:
                self._writer = self._connect()
            timeout = max(1, int((deadline - time.monotonic()) * 1000))
            self._writer.execute("BEGIN")
            self._writer.execute(f"SET LOCAL lock_timeout = {timeout}")
            self._writer.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        except self._error as error:
            self.rollback()
            _fail(error)
        except BaseException:
            self._mutex.release()
            raise

    def commit(self) -> None:
        """Make everything since `begin` durable, unless something planted may have touched it.

        Looked for after the writing: its locks keep triggers and rules as they were meanwhile.
        What cannot act on the writing is looked for on open, by `verify`, and now and then here.
        """
        try:
            if foreign := self._foreign_to_commit():
                self._writer.execute("ROLLBACK")
                raise self._planted(foreign)
            self._writer.execute("COMMIT")
        except self._error as error:
            with contextlib.suppress(self._error):
                self._writer.close()
            _fail(error)
        finally:
            self._mutex.release()

    def _foreign_to_commit(self) -> list[str]:
        due = time.monotonic() - self._looked >= _LOOK_S
        if not due and self._writer.execute(ACTING).fetchone() == (False,):
            return []
        self._looked = time.monotonic()
        return [str(found) for (found,) in self._writer.execute(FOREIGN)]

    def rollback(self) -> None:
        """Forget everything since `begin`."""
        try:
            with contextlib.suppress(self._error):
                self._writer.execute("ROLLBACK")
        finally:
            self._mutex.release()

    def _write(self, sql: str, values: Sequence[object] = ()) -> list[Any]:
        try:
            cursor = self._writer.execute(sql, values, binary=True)
            rows: list[Any] = cursor.fetchall() if cursor.description else []
        except self._error as error:
            _fail(error)
        return rows

    def _read(self, sql: str, values: Sequence[object] = ()) -> list[Any]:
        for last in (False, True):
            try:
                if self._reader.closed:
                    self._reader = self._connect()
                rows: list[Any] = self._reader.execute(sql, values, binary=True).fetchall()
            except self._error as error:
                if last or not self._reader.closed:
                    _fail(error)
            else:
                return rows
        raise AssertionError("unreachable: the second attempt returns or raises")

    @contextlib.contextmanager
    def moment(self) -> Iterator[None]:
        """Let every read within see the database as it is now."""
        try:
            self._reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield
            self._reader.execute("COMMIT")
        except self._error as error:
            self._reader.close()
            _fail(error)
        except BaseException:
            self._reader.close()
            raise

    def tail(self) -> tuple[int, bytes | None]:
        """Return one more than the highest index, and the header of the last entry."""
        rows = self._write("SELECT idx, header FROM interlock.entries ORDER BY idx DESC LIMIT 1")
        return (rows[0][0] + 1, bytes(rows[0][1])) if rows else (0, None)

    def leaves_since(self, start: int) -> Sequence[tuple[int, bytes]]:
        """Return index and leaf hash of the entries from `start`, inside the transaction."""
        sql = "SELECT idx, leaf FROM interlock.entries WHERE idx >= %s ORDER BY idx"
        return [(idx, bytes(leaf)) for idx, leaf in self._write(sql, (start,))]

    def insert(self, rows: Sequence[Row]) -> None:
        """Add entries."""
        try:
            with self._writer.cursor() as cursor:
                sql = "COPY interlock.entries FROM STDIN (FORMAT BINARY)"
                with cursor.copy(sql) as copy:
                    copy.set_types(["int8", "text", "bytea", "bytea", "bytea"])
                    for row in rows:
                        copy.write_row(row)
        except self._error as error:
            _fail(error)

    def put_checkpoint(self, row: CheckpointRow) -> None:
        """Add a tree head, or replace that of the same size."""
        self._write(
            "INSERT INTO interlock.checkpoints VALUES (%s, %s, %s, %s) ON CONFLICT (size) "
            "DO UPDATE SET root = excluded.root, frontier = excluded.frontier, "
            "note = excluded.note",
            (row.size, row.root, row.frontier, row.note),
        )

    def count(self, event: str) -> int:
        """Return how many entries of an event there are, inside the transaction."""
        sql = "SELECT count(*) FROM interlock.entries WHERE event = %s"
        return int(self._write(sql, (event,))[0][0])

    def checkpoints(self) -> Sequence[CheckpointRow]:
        """Return the tree heads by size."""
        sql = "SELECT size, root, frontier, note FROM interlock.checkpoints ORDER BY size"
        return [_checkpoint(row) for row in self._read(sql)]

    def last_checkpoint(self) -> CheckpointRow | None:
        """Return the largest signed tree head."""
        rows = self._read(
            "SELECT size, root, frontier, note FROM interlock.checkpoints "
            "WHERE note IS NOT NULL ORDER BY size DESC LIMIT 1"
        )
        return _checkpoint(rows[0]) if rows else None

    def size(self) -> int:
        """Return the number of entries."""
        return int(self._read("SELECT coalesce(max(idx) + 1, 0) FROM interlock.entries")[0][0])

    def rows(self, start: int = 0, event: str | None = None) -> Iterator[Row]:
        """Yield the entries in order, a page at a time."""
        columns = "SELECT idx, event, leaf, header, payload FROM interlock.entries WHERE idx >= %s"
        tail = (
            " ORDER BY idx LIMIT %s" if event is None else " AND event = %s ORDER BY idx LIMIT %s"
        )
        while True:
            values = (start, _PAGE) if event is None else (start, event, _PAGE)
            page = self._read(columns + tail, values)
            for idx, name, leaf, header, payload in page:
                yield idx, name, bytes(leaf), bytes(header), bytes(payload)
            if len(page) < _PAGE:
                return
            start = page[-1][0] + 1

    def leaves(self, start: int = 0, end: int | None = None) -> Iterator[tuple[int, bytes]]:
        """Yield index and leaf hash of committed entries in order, a page at a time."""
        last = end if end is not None else 1 << 62
        sql = (
            "SELECT idx, leaf FROM interlock.entries WHERE idx >= %s AND idx < %s "
            "ORDER BY idx LIMIT 10000"
        )
        while page := self._read(sql, (start, last)):
            for idx, leaf in page:
                yield idx, bytes(leaf)
            start = page[-1][0] + 1

    def row(self, index: int) -> Row | None:
        """Return one entry."""
        sql = "SELECT idx, event, leaf, header, payload FROM interlock.entries WHERE idx = %s"
        for idx, name, leaf, header, payload in self._read(sql, (index,)):
            return idx, name, bytes(leaf), bytes(header), bytes(payload)
        return None

    def close(self) -> None:
        """Let go of the database."""
        for connection in (self._reader, self._writer):
            with contextlib.suppress(self._error):
                connection.close()


class PostgresShelf:
    """The sealed data keys of subjects in the database, seen by every machine.

    That a key exists is believed for a second, so erasure on one machine binds the others within
    that time. A removed row is vacuumed; base backups and archived write-ahead logs of before keep
    the sealed key until they expire.
    """

    def __init__(self, store: PostgresStore) -> None:
        self._store = store
        self._seen: dict[str, float] = {}

    def exists(self, key_id: str) -> bool:
        """Return whether the key is there."""
        now = time.monotonic()
        if now - self._seen.get(key_id, -10.0) < 1.0:
            return True
        if self.read(key_id) is None:
            self._seen.pop(key_id, None)
            return False
        self._seen[key_id] = now
        return True

    def read(self, key_id: str) -> bytes | None:
        """Return the sealed key."""
        sql = "SELECT sealed FROM interlock.subject_keys WHERE id = %s AND sealed IS NOT NULL"
        rows = self._store._read(sql, (key_id,))
        return bytes(rows[0][0]) if rows else None

    def create(self, key_id: str, sealed: bytes) -> bytes:
        """Store a key unless there is one; return the one that is there."""
        sql = (
            "INSERT INTO interlock.subject_keys VALUES (%s, %s) ON CONFLICT DO NOTHING RETURNING 1"
        )
        self._store._read(sql, (key_id, sealed))
        return self.read(key_id) or sealed

    def erased(self, key_id: str) -> bool:
        """Return whether the key has been destroyed."""
        return key_id in self.all_erased()

    def all_erased(self) -> list[str]:
        """Return the ids of destroyed keys."""
        sql = "SELECT id FROM interlock.subject_keys WHERE sealed IS NULL ORDER BY id"
        return [str(row[0]) for row in self._store._read(sql)]

    def ids(self) -> list[str]:
        """Return the ids of the keys that are there."""
        sql = "SELECT id FROM interlock.subject_keys WHERE sealed IS NOT NULL ORDER BY id"
        return [str(row[0]) for row in self._store._read(sql)]

    def destroy(self, key_id: str) -> None:
        """Destroy a key; its id is remembered."""
        sql = "UPDATE interlock.subject_keys SET sealed = NULL WHERE id = %s RETURNING 1"
        self._store._read(sql, (key_id,))
        self._seen.pop(key_id, None)

    def settle(self) -> None:
        """Have the server overwrite the space of removed keys."""
        connection = self._store._reader
        try:
            connection.execute("VACUUM (FULL) interlock.subject_keys")
            connection.execute("CHECKPOINT")
        except self._store._error as error:
            if not isinstance(error, _psycopg().errors.InsufficientPrivilege):
                _fail(error)


def _checkpoint(row: Any) -> CheckpointRow:
    size, root, frontier, note = row
    return CheckpointRow(size=size, root=bytes(root), frontier=bytes(frontier), note=note)
