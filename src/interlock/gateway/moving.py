"""The gateway's databases in PostgreSQL as files of a home, and back: what backups are made of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from interlock.access.schema import Schema, prepare, version
from interlock.access.store import SCHEMA as ACCESS
from interlock.access.store import open_database
from interlock.access.transactions import transaction
from interlock.errors import StorageError, UsageError
from interlock.gateway.rows import SCHEMA as GATEWAY

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

__all__ = ["queue_to_files", "queue_to_postgres"]

_FILES = (("access.db", ACCESS), ("gateway.db", GATEWAY))
_BATCH = 1000


def queue_to_files(url: str, home: Path) -> None:
    """Write keys, approvals, tenants and jobs, as they are at one moment, into files of a home.

    The workflow's own tables are left out: an attempt that was under way is void, and its job is
    taken up again by a new one, as after a crash.

    Raises:
        StorageError: the database cannot be read, or is of another version.
    """
    with _opened(url) as source, source.connect() as plain:
        reader = plain.execution_options(isolation_level="REPEATABLE READ")
        for file, schema in _FILES:
            found = version(reader, schema)
            if found != schema.newest:
                raise StorageError(
                    "the database is of another version",
                    code="schema-older" if found < schema.newest else "schema-newer",
                    got=f"{schema.part} version {found}",
                    expected=f"version {schema.newest}",
                    fix="back it up with the Interlock that made it",
                )
            for name in (file, f"{file}-wal", f"{file}-shm"):
                (home / name).unlink(missing_ok=True)
            with _opened(f"sqlite:///{home / file}") as target:
                prepare(target, schema)
                with transaction(target) as writer:
                    _copy(reader, writer, schema)
            (home / file).chmod(0o600)


def queue_to_postgres(home: Path, url: str) -> None:
    """Put the files of a home that nobody uses into an empty database, and remove them.

    Raises:
        UsageError: the database holds jobs or keys.
        StorageError: the database refused.
    """
    with _opened(url) as target:
        for _, schema in _FILES:
            prepare(target, schema)
        with transaction(target) as writer:
            for file, schema in _FILES:
                if not (home / file).exists():
                    continue
                for table in _tables(schema):
                    if writer.exec_driver_sql(f"SELECT 1 FROM {table} LIMIT 1").fetchone():  # noqa: S608
                        raise UsageError(
                            "the database is not empty",
                            code="restore-database",
                            got=f"rows in {table}",
                            expected="a database without jobs and keys",
                            fix="make a new database, and name that one",
                        )
                with _opened(f"sqlite:///{home / file}") as source:
                    prepare(source, schema)
                    with transaction(source) as reader:
                        _copy(reader, writer, schema)
    for path in home.glob("*.db*"):
        if path.name.split(".db")[0] in ("access", "gateway", "steps"):
            path.unlink()


@contextmanager
def _opened(url: str) -> Iterator[Engine]:
    engine = open_database(url)
    try:
        yield engine
    finally:
        engine.dispose()


def _tables(schema: Schema) -> list[str]:
    """Return the tables of a schema: what its statements create."""
    first = (s.split() for statements in schema.versions for s in statements)
    return [words[2] for words in first if words[:2] == ["CREATE", "TABLE"]]


def _copy(reader: Connection, writer: Connection, schema: Schema) -> None:
    from sqlalchemy import text

    for table in _tables(schema):
        with closing(reader.execute(text(f"SELECT * FROM {table}"))) as rows:  # noqa: S608
            names = list(rows.keys())
            columns = ", ".join(names)
            values = ", ".join(f":{n}" for n in names)
            into = text(f"INSERT INTO {table} ({columns}) VALUES ({values})")  # noqa: S608
            for some in rows.mappings().partitions(_BATCH):
                writer.execute(into, [dict(row) for row in some])
