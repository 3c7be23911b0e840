"""Reading a ledger file without writing anything, not even SQLite's own side files.

A plain `mode=ro` connection still makes `-wal` and `-shm` files, and cannot be opened on a
read-only disk. Three cases instead: no log beside the database (nobody has it open): it is read
as immutable; a log with its index: both are read as they are; a log without an index (a copy of a
killed ledger): both are copied to a temporary folder and read there.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from interlock import forks
from interlock.crypto import files
from interlock.errors import IntegrityError, StorageError
from interlock.ledger.schema import foreign_objects, planted
from interlock.ledger.sqlite import SqliteReads, database_error

__all__ = ["SqliteReader", "untouched"]

_T = TypeVar("_T")
_TRIES = 20


class Untouched:
    """A connection that writes nothing, and knows when what it reads may have moved under it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._wal = path.with_name(path.name + "-wal")
        self._shm = path.with_name(path.name + "-shm")
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        self._stamp = self._state()
        self._fixed = True
        target, how = path, "immutable=1"
        if self._logged():
            if self._shm.exists():
                self._fixed, how = False, "mode=ro&readonly_shm=1"
            else:
                target, how = self._copied(), "mode=rw"
        uri = f"{target.resolve().as_uri()}?{how}"
        self.connection = sqlite3.connect(
            uri, uri=True, timeout=5.0, isolation_level=None, check_same_thread=False
        )

    def _logged(self) -> bool:
        return self._wal.exists() and self._wal.stat().st_size > 0

    def _state(self) -> tuple[object, ...]:
        found: list[object] = []
        for path in (self._path, self._wal):
            with contextlib.suppress(FileNotFoundError):
                info = path.stat()
                if info.st_size:
                    found.append((path.name, info.st_ino, info.st_size, info.st_mtime_ns))
        return tuple(found)

    def _copied(self) -> Path:
        self._copy = tempfile.TemporaryDirectory(prefix="interlock-read-")
        target = Path(self._copy.name) / self._path.name
        try:
            shutil.copyfile(self._path, target)
            shutil.copyfile(self._wal, target.with_name(self._wal.name))
        except OSError as error:
            self._copy.cleanup()
            raise files.storage_error(target, error) from error
        return target

    @property
    def moved(self) -> bool:
        """Whether somebody wrote since this was opened, so that what was read may be mixed."""
        if self._fixed:
            return self._state() != self._stamp
        return not self._shm.exists()

    def close(self) -> None:
        """Let go of the database."""
        with contextlib.suppress(sqlite3.Error):
            self.connection.close()
        if self._copy is not None:
            self._copy.cleanup()


def untouched(path: Path, read: Callable[[sqlite3.Connection], _T]) -> _T:
    """Return what `read` makes of the database, again when somebody wrote meanwhile."""
    for _ in range(_TRIES):
        with forks.entered():
            opened = Untouched(path)
            try:
                try:
                    found = read(opened.connection)
                except sqlite3.Error:
                    if opened.moved:
                        continue
                    raise
                if not opened.moved:
                    return found
            finally:
                opened.close()
    raise _busy(path)


def _busy(path: Path) -> StorageError:
    return StorageError(
        "the ledger is opened and closed faster than it can be read",
        code="ledger-locked",
        got=f"{path} changed {_TRIES} times while it was read",
        expected="a moment without a writer, or a writer that stays",
        fix="try again",
    )


class SqliteReader(SqliteReads):
    """A ledger file, for reading only."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._opened: Untouched | None = None
        forks.watch(self.let_go)
        meta = {str(k): v for k, v in self._read("SELECT name, value FROM meta")}
        if str(meta.get("format")) != "1" or "origin" not in meta:
            raise IntegrityError(
                "the ledger is of another format version",
                code="ledger-version",
                got=f"version {meta.get('format')}",
                expected="version 1",
                fix="read it with the Interlock version that wrote it",
            )
        self._checked()
        self.origin = str(meta["origin"])

    def _checked(self) -> None:
        try:
            foreign = untouched(self._path, foreign_objects)
        except sqlite3.Error as error:
            raise database_error(self._path, error) from error
        if foreign:
            raise planted(str(self._path), foreign)

    def _read(self, sql: str, values: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
        with forks.entered():
            return self._tried(sql, values)

    def _tried(self, sql: str, values: tuple[object, ...]) -> list[tuple[object, ...]]:
        try:
            for _ in range(_TRIES):
                opened = self._opened = self._opened or Untouched(self._path)
                try:
                    rows: list[tuple[object, ...]] = opened.connection.execute(
                        sql, values
                    ).fetchall()
                except sqlite3.Error:
                    if not opened.moved:
                        raise
                else:
                    if not opened.moved:
                        return rows
                self.let_go()
        except sqlite3.Error as error:
            raise database_error(self._path, error) from error
        raise _busy(self._path)

    def let_go(self) -> None:
        """Close the connection; it is opened again when it is next used."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def close(self) -> None:
        """Let go of the database."""
        with contextlib.suppress(StorageError), forks.entered():
            self.let_go()
