"""A ledger in PostgreSQL as files of a home, and back: what backups are made of."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from interlock.crypto import files
from interlock.errors import UsageError
from interlock.ledger.postgres import PostgresShelf, PostgresStore
from interlock.ledger.sqlite import SqliteStore
from interlock.ledger.store import CheckpointRow, Row, Store
from interlock.ledger.subjects import FileShelf

__all__ = ["ledger_to_file", "ledger_to_postgres"]

_BATCH = 1000
_TURN_S = 30.0


def ledger_to_file(address: str, home: Path) -> None:
    """Write a ledger in PostgreSQL, as it is at one moment, into a home that has its keys.

    Args:
        address: of the database.
        home: a copy of the ledger's home, without `ledger.db`.

    Raises:
        StorageError: the database cannot be read.
    """
    source = PostgresStore(address, origin="", create=False)
    subjects = home / "keys" / "subjects"
    shutil.rmtree(subjects, ignore_errors=True)  # that shelf is not in use
    try:
        target = SqliteStore(home / "ledger.db", origin=source.origin)
        try:
            with source.moment():
                _copy(source.rows(), source.checkpoints(), target)
                shelf, filed = PostgresShelf(source), FileShelf(subjects)
                for key_id in shelf.ids():
                    filed.create(key_id, shelf.read(key_id) or b"")
                for key_id in shelf.all_erased():
                    filed.destroy(key_id)
        finally:
            target.close()
    finally:
        source.close()
    (home / "ledger.url").unlink(missing_ok=True)


def ledger_to_postgres(home: Path, address: str) -> None:
    """Put the ledger of a home that nobody uses into an empty database, and let the home say so.

    Raises:
        UsageError: the database holds a ledger.
        StorageError: the database cannot be written.
    """
    source = SqliteStore(home / "ledger.db")
    try:
        target = PostgresStore(address, origin=source.origin)
        try:
            if target.size() or target.checkpoints() or target.origin != source.origin:
                raise UsageError(
                    "there is a ledger in this database already",
                    code="restore-database",
                    got=f"{target.origin}, {target.size()} entries",
                    expected="a database without a schema `interlock`",
                    fix="make a new database, and name that one",
                )
            filed, shelf = FileShelf(home / "keys" / "subjects"), PostgresShelf(target)
            for key_id in filed.ids():
                shelf.create(key_id, filed.read(key_id) or b"")
            for key_id in filed.all_erased():
                shelf.create(key_id, b"")
                shelf.destroy(key_id)
            _copy(source.rows(), source.checkpoints(), target)
        finally:
            target.close()
    finally:
        source.close()
    files.write_private(home / "ledger.url", address.encode())
    for name in ("ledger.db", "ledger.db-wal", "ledger.db-shm", "ledger.lock"):
        (home / name).unlink(missing_ok=True)
    shutil.rmtree(home / "keys" / "subjects")


def _copy(rows: Iterator[Row], heads: Iterable[CheckpointRow], target: Store) -> None:
    target.begin(time.monotonic() + _TURN_S)
    try:
        while batch := list(islice(rows, _BATCH)):
            target.insert(batch)
        for head in heads:
            target.put_checkpoint(head)
    except BaseException:
        target.rollback()
        raise
    target.commit()
