"""Bringing the databases of a home to the version of this code."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from interlock.access.schema import migrate
from interlock.access.store import SCHEMA as ACCESS
from interlock.access.store import open_database
from interlock.errors import InputError, UsageError
from interlock.gateway.rows import SCHEMA as GATEWAY

__all__ = ["migrate_home"]


def migrate_home(home: Path, database: str | None) -> list[tuple[str, int, int]]:
    """Migrate the queue, and the keys and approvals; return part, version before, version now.

    The ledger and the counters have one version so far; the workflow's own tables are DBOS's,
    which migrates them when it starts.

    Args:
        home: of the gateway; nothing may run on it.
        database: URL of both, or None for the files in the home.

    Raises:
        InputError: there is no such home.
        UsageError: a gateway runs on it.
        StorageError: a database is newer than this code, or refused.
    """
    if not home.is_dir():
        raise InputError(
            "there is no home",
            code="migrate-home",
            got=str(home),
            expected="the folder that `interlock serve --home` has",
            fix="check the path",
        )
    out = []
    with _still(home):
        for file, schema in (("access.db", ACCESS), ("gateway.db", GATEWAY)):
            if database is None and not (home / file).exists():
                continue
            engine = open_database(database or f"sqlite:///{home / file}")
            try:
                out.append((schema.part, migrate(engine, schema), schema.newest))
            finally:
                engine.dispose()
    return out


@contextlib.contextmanager
def _still(home: Path) -> Iterator[None]:
    """Hold the locks of all gateways that have run on a home: none runs, none begins."""
    with contextlib.ExitStack() as stack:
        for path in sorted(home.glob("gateway-*.lock")):
            lock = os.open(path, os.O_RDWR)
            stack.callback(os.close, lock)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise UsageError(
                    "a gateway runs on this home",
                    code="gateway-runs",
                    got=path.name,
                    expected="none while its databases are migrated",
                    fix="stop it, on every machine that shares the database",
                ) from error
        yield
