"""What belongs in a ledger's SQLite file, and nothing else: a planted trigger can drop entries."""

from __future__ import annotations

import contextlib
import functools
import sqlite3

from interlock.errors import IntegrityError

__all__ = ["TABLES", "foreign_objects", "planted"]

#: Makes the tables; what SQLite keeps of these statements is compared word by word.
TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE entries (
  idx INTEGER PRIMARY KEY, event TEXT NOT NULL, leaf BLOB NOT NULL,
  header BLOB NOT NULL, payload BLOB NOT NULL) STRICT;
CREATE INDEX entries_event ON entries (event, idx);
CREATE TABLE checkpoints (
  size INTEGER PRIMARY KEY, root BLOB NOT NULL, frontier BLOB NOT NULL, note TEXT) STRICT;
"""
_OBJECTS = "SELECT type, name, tbl_name, sql FROM sqlite_schema"


@functools.cache
def _expected() -> frozenset[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(TABLES)
        return frozenset(connection.execute(_OBJECTS))


def foreign_objects(connection: sqlite3.Connection) -> list[str]:
    """Return what a ledger's database holds that Interlock did not make, and what it lacks."""
    found = set(connection.execute(_OBJECTS))
    foreign = [f"{kind} {name}" for kind, name, *_ in found - _expected()]
    have = {(kind, name) for kind, name, *_ in found}
    lacking = [f"no {o[0]} {o[1]}" for o in _expected() if (o[0], o[1]) not in have]
    return sorted(foreign) + sorted(lacking)


def planted(where: str, objects: list[str]) -> IntegrityError:
    """Return the error of a database with triggers, rules or tables of somebody else."""
    return IntegrityError(
        "the ledger database holds what Interlock did not make; nothing is added to it",
        code="ledger-planted",
        got=f"{where}: {', '.join(objects)[:300]}",
        expected="only the tables and the index of a ledger, as Interlock makes them",
        fix="run `interlock verify`; keep this copy as evidence; restore another",
    )
