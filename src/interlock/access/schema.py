"""Which version a database's tables have: an older one is migrated on demand, a newer one refused.

A version is a list of statements that lead to it from the one before; all of them and the new
number are one transaction, so that a migration that is killed midway has not begun.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from interlock.access.transactions import transaction
from interlock.errors import StorageError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

__all__ = ["Schema", "migrate", "prepare", "version"]

_TABLE = "interlock_schema"
_LOCK = 731602


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """Tables that belong together, through all their versions.

    Attributes:
        part: their name in the table of versions.
        first: a table of version 1, by which databases older than the table of versions are known.
        versions: the statements of each version, from 1 on.
    """

    part: str
    first: str
    versions: tuple[tuple[str, ...], ...]

    @property
    def newest(self) -> int:
        """The version this code works with."""
        return len(self.versions)


def version(db: Connection, schema: Schema) -> int:
    """Return the version of a schema in a database; 0 when there is none."""
    from sqlalchemy import inspect, text

    tables = inspect(db)
    if tables.has_table(_TABLE):
        sql = text(f"SELECT version FROM {_TABLE} WHERE part = :part")  # noqa: S608 - constant
        if (row := db.execute(sql, {"part": schema.part}).fetchone()) is not None:
            return int(row[0])
    return 1 if tables.has_table(schema.first) else 0


def prepare(engine: Engine, schema: Schema) -> None:
    """Make the tables in a database without them; leave those of this version as they are.

    Raises:
        StorageError: they are of another version, or the database refused.
    """
    with transaction(engine) as db:
        _alone(db)
        found = version(db, schema)
        if found > schema.newest:
            raise _newer(engine, schema, found)
        if 0 < found < schema.newest:
            raise StorageError(
                "the database is of an older version",
                code="schema-older",
                got=f"{_where(engine)}: {schema.part} version {found}",
                expected=f"version {schema.newest}",
                fix="stop every gateway on it, back it up, run `interlock migrate HOME`",
            )
        if found == 0:
            _upgrade(db, schema, found)


def migrate(engine: Engine, schema: Schema) -> int:
    """Bring a database to the newest version, all of it or nothing; return the version it had.

    Raises:
        StorageError: it is newer than this code, or the database refused.
    """
    with transaction(engine) as db:
        _alone(db)
        found = version(db, schema)
        if found > schema.newest:
            raise _newer(engine, schema, found)
        _upgrade(db, schema, found)
    return found


def _alone(db: Connection) -> None:
    """Let one process at a time look and change; SQLite's writers are alone anyway."""
    from sqlalchemy import text

    if db.dialect.name == "postgresql":
        db.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))


def _upgrade(db: Connection, schema: Schema, found: int) -> None:
    from sqlalchemy import text

    db.execute(
        text(
            f"CREATE TABLE IF NOT EXISTS {_TABLE}"
            " (part VARCHAR(20) PRIMARY KEY, version INTEGER NOT NULL)"
        )
    )
    for statements in schema.versions[found:]:
        for statement in statements:
            db.execute(text(statement))
    db.execute(
        text(
            f"INSERT INTO {_TABLE} VALUES (:part, :version) ON CONFLICT (part)"  # noqa: S608
            " DO UPDATE SET version = excluded.version"
        ),
        {"part": schema.part, "version": schema.newest},
    )


def _newer(engine: Engine, schema: Schema, found: int) -> StorageError:
    return StorageError(
        "the database is of a newer version",
        code="schema-newer",
        got=f"{_where(engine)}: {schema.part} version {found}",
        expected=f"version {schema.newest}, or older",
        fix="run the Interlock that migrated it, or restore a backup from before",
    )


def _where(engine: Engine) -> str:
    return str(engine.url.render_as_string(hide_password=True))
