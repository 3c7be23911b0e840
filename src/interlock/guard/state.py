"""Counters that all processes of one home share: budgets, releases, and the stop file.

SQLite in WAL mode; every reservation is one immediate transaction, so that two processes cannot
both take the last of a budget. A reservation that is never settled (its process died) goes on
counting until its window has passed: the device may have charged for it.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from interlock.errors import StorageError

__all__ = ["Cap", "State", "Usage"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS use (
  job TEXT NOT NULL, scope TEXT NOT NULL, unit TEXT NOT NULL, at REAL NOT NULL,
  amount REAL NOT NULL, settled INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (job, scope, unit)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS use_at ON use (scope, unit, at, amount);
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cap:
    """A limit on one unit within a rolling window.

    Attributes:
        scope: who it counts for, for instance `budget/local/alice`.
        unit: what it counts: `shots`, `jobs`, `cost_usd`.
        amount: what this job wants.
        limit: the most the window may hold, or None to count without a limit.
        window_s: length of the rolling window in seconds.
    """

    scope: str
    unit: str
    amount: float
    limit: float | None
    window_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What one cap looked like when it was tried."""

    unit: str
    used: float
    amount: float
    limit: float | None

    @property
    def fits(self) -> bool:
        """Whether the amount still fits under the limit."""
        return self.limit is None or self.used + self.amount <= self.limit * (1 + 1e-12)


class State:
    """The shared counters of one home.

    Raises:
        StorageError: the database cannot be opened, read or written.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.path = home / "state.db"
        self._local = threading.local()
        try:
            home.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise _storage(self.path, error) from error
        with self._transaction() as db:
            db.executescript("COMMIT;" + _SCHEMA + "BEGIN;")

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(self.path, timeout=10.0, isolation_level=None)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            self._local.connection = connection
        return connection

    @contextmanager
    def _transaction(self, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
        try:
            db = self._connection()
            if durable:
                db.execute("PRAGMA synchronous=FULL")
            try:
                db.execute("BEGIN IMMEDIATE")
                try:
                    yield db
                except BaseException:
                    if db.in_transaction:
                        db.execute("ROLLBACK")
                    raise
                db.execute("COMMIT")
            finally:
                if durable:
                    db.execute("PRAGMA synchronous=NORMAL")
        except (sqlite3.Error, OSError) as error:
            self._local.connection = None
            raise _storage(self.path, error) from error

    def reserve(
        self, job: str, caps: tuple[Cap, ...], now: float, *, durable: bool = False
    ) -> tuple[Usage, ...]:
        """Take all caps at once if every one fits, else none of them.

        Args:
            job: id of the job; reserving the same job again replaces its amounts.
            caps: what to take.
            now: seconds since the epoch.
            durable: wait until the reservation is on disk; for jobs that cost money.
        """
        with self._transaction(durable=durable) as db:
            usage = tuple(self._usage(db, job, cap, now) for cap in caps)
            if all(u.fits for u in usage):
                db.executemany(
                    "INSERT OR REPLACE INTO use (job, scope, unit, at, amount) VALUES (?,?,?,?,?)",
                    [(job, c.scope, c.unit, now, c.amount) for c in caps],
                )
        return usage

    @staticmethod
    def _usage(db: sqlite3.Connection, job: str, cap: Cap, now: float) -> Usage:
        # A clock set back must not free anything: rows "in the future" count too.
        (used,) = db.execute(
            "SELECT coalesce(sum(amount), 0) FROM use"
            " WHERE scope = ? AND unit = ? AND at > ? AND job <> ?",
            (cap.scope, cap.unit, now - cap.window_s, job),
        ).fetchone()
        return Usage(unit=cap.unit, used=float(used), amount=cap.amount, limit=cap.limit)

    def settle(self, job: str, scope: str, actual: Mapping[str, float]) -> None:
        """Replace what was reserved by what was used; units left out keep the reservation."""
        with self._transaction() as db:
            db.executemany(
                "UPDATE use SET amount = ?, settled = 1 WHERE job = ? AND scope = ? AND unit = ?",
                [(amount, job, scope, unit) for unit, amount in actual.items()],
            )

    def used(self, scope: str, unit: str, now: float, window_s: float) -> float:
        """Return what the rolling window holds."""
        cap = Cap(scope=scope, unit=unit, amount=0.0, limit=None, window_s=window_s)
        with self._transaction() as db:
            return self._usage(db, "", cap, now).used

    @property
    def stop_file(self) -> Path:
        """The file that stops everything while it exists."""
        return self.home / "STOP"

    def stopped(self) -> str | None:
        """Return the reason given when everything was stopped, or None.

        An unreadable stop file still stops.
        """
        try:
            text = self.stop_file.read_text("utf-8", errors="replace")
        except FileNotFoundError:
            return None
        except OSError as error:
            return f"the stop file cannot be read ({type(error).__name__})"
        try:
            reason = json.loads(text)["reason"]
        except (ValueError, KeyError, TypeError):
            return text.strip() or "no reason given"
        return str(reason)


def _storage(path: Path, error: Exception) -> StorageError:
    text = str(error)
    low = text.lower()
    if "full" in low or "no space" in low:
        code, fix = "storage-full", "free some space on the disk; nothing was recorded"
    elif "locked" in low or "busy" in low:
        code, fix = "storage-locked", "end the process that holds the database, then try again"
    elif "malformed" in low or "not a database" in low:
        code, fix = "storage-corrupt", "move the file away; counters start anew, the ledger stays"
    else:
        code, fix = "storage-unusable", "check that the folder exists and is writable"
    return StorageError(
        f"the state database {path.name} cannot be used",
        code=code,
        got=f"{type(error).__name__}: {text}",
        expected=f"a readable and writable SQLite database at {path}",
        fix=fix,
    )
