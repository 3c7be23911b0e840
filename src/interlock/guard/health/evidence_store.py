"""The e-processes of all devices of a home, shared by processes and kept across restarts."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from interlock import forks
from interlock.errors import StorageError
from interlock.guard.stats.eprocess import Evidence, update

__all__ = ["EvidenceStore", "store_of"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS evidence (stream TEXT PRIMARY KEY, state BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS path (
    stream TEXT NOT NULL, job INTEGER NOT NULL, at REAL NOT NULL, failures INTEGER NOT NULL,
    shots INTEGER NOT NULL, p0 REAL NOT NULL, log_value REAL NOT NULL, PRIMARY KEY (stream, job)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS look (
    stream TEXT PRIMARY KEY, first REAL NOT NULL, second REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS repeat (
    stream TEXT PRIMARY KEY, digest TEXT NOT NULL, log_chance REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS recent (
    stream TEXT NOT NULL, number INTEGER NOT NULL, value BLOB NOT NULL,
    PRIMARY KEY (stream, number)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS score (
    number INTEGER PRIMARY KEY, device TEXT NOT NULL, kind TEXT NOT NULL, value REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS score_device ON score (device, kind);
"""
#: Points of a stream's history that are kept.
KEPT = 5000


class EvidenceStore:
    """One SQLite file; an update is one immediate transaction, so that no two are lost.

    Args:
        home: folder of the ledger, state and keys.
    """

    def __init__(self, home: Path) -> None:
        self.path = home / "sentinels.db"
        self._connections = forks.Connections(self._connect, self._error, (msgspec.MsgspecError,))

    def _connect(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        db = sqlite3.connect(self.path, timeout=10.0, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA journal_mode=WAL")
        db.executescript(_SCHEMA)
        return db

    def _error(self, error: Exception) -> StorageError:
        return StorageError(
            "the sentinels' evidence cannot be used",
            code="sentinel-store",
            got=f"{type(error).__name__}: {error}",
            expected=f"a readable and writable SQLite database at {self.path}",
            fix="free the disk or mend the file; deleting it forgets every alarm",
        )

    def read(self, stream: str) -> Evidence:
        """Return the evidence about a stream; empty when nothing is known."""
        with self._connections.transaction(begin=False) as db:
            return _read(db, stream)

    def add(self, stream: str, *, failures: int, shots: int, p0: float, now: float) -> Evidence:
        """Take one job's sentinels into account and return the evidence after them."""
        with self._connections.transaction() as db:
            made = update(_read(db, stream), failures=failures, shots=shots, p0=p0)
            db.execute(
                "INSERT INTO evidence VALUES (?, ?) ON CONFLICT (stream) DO UPDATE SET state = "
                "excluded.state",
                (stream, msgspec.json.encode(made)),
            )
            db.execute(
                "INSERT OR REPLACE INTO path VALUES (?,?,?,?,?,?,?)",
                (stream, made.jobs, now, failures, shots, p0, made.log_value),
            )
            db.execute("DELETE FROM path WHERE stream = ? AND job <= ?", (stream, made.jobs - KEPT))
        return made

    def look(self, stream: str, first: float, second: float) -> tuple[float, float]:
        """Add one look at a question to its totals and return them."""
        with self._connections.transaction() as db:
            row = db.execute(
                "INSERT INTO look VALUES (?, ?, ?) ON CONFLICT (stream) DO UPDATE SET "
                "first = first + excluded.first, second = second + excluded.second "
                "RETURNING first, second",
                (stream, first, second),
            ).fetchone()
        return float(row[0]), float(row[1])

    def repeated(self, stream: str, digest: str, log_chance: float) -> float:
        """Note a result and return the log chance of the run of equal results it ends, or 0."""
        with self._connections.transaction() as db:
            row = db.execute("SELECT digest, log_chance FROM repeat WHERE stream = ?", (stream,))
            old = row.fetchone()
            total = float(old[1]) + log_chance if old is not None and old[0] == digest else 0.0
            db.execute("INSERT OR REPLACE INTO repeat VALUES (?, ?, ?)", (stream, digest, total))
        return total

    def recent(self, stream: str, value: Any, keep: int) -> list[Any]:
        """Add a plain JSON value to a stream and return its last `keep` values, oldest first."""
        with self._connections.transaction() as db:
            (last,) = db.execute(
                "SELECT COALESCE(MAX(number), 0) FROM recent WHERE stream = ?", (stream,)
            ).fetchone()
            row = (stream, last + 1, msgspec.json.encode(value))
            db.execute("INSERT INTO recent VALUES (?, ?, ?)", row)
            db.execute(
                "DELETE FROM recent WHERE stream = ? AND number <= ?", (stream, last + 1 - keep)
            )
            rows = db.execute(
                "SELECT value FROM recent WHERE stream = ? ORDER BY number", (stream,)
            ).fetchall()
        return [msgspec.json.decode(row[0]) for row in rows]

    def fold(self, stream: str, step: Callable[[Any], tuple[Any, float]]) -> float:
        """Replace a stream's plain JSON value by the first of what `step` makes of it.

        Returns:
            The second. `step` gets None when there is no value yet.
        """
        with self._connections.transaction() as db:
            row = db.execute(
                "SELECT value FROM recent WHERE stream = ? AND number = 0", (stream,)
            ).fetchone()
            value, told = step(None if row is None else msgspec.json.decode(row[0]))
            db.execute(
                "INSERT OR REPLACE INTO recent VALUES (?, 0, ?)",
                (stream, msgspec.json.encode(value)),
            )
        return told

    def add_scores(
        self, device: str, rows: Iterable[tuple[str, float]], keep: int
    ) -> dict[str, int]:
        """Add scores of figures with a known answer; return how many of each kind."""
        added: dict[str, int] = {}
        with self._connections.transaction() as db:
            for kind, value in rows:
                db.execute(
                    "INSERT INTO score (device, kind, value) VALUES (?, ?, ?)",
                    (device, kind, value),
                )
                added[kind] = added.get(kind, 0) + 1
            for kind in added:
                db.execute(
                    "DELETE FROM score WHERE device = ? AND kind = ? AND number NOT IN (SELECT "
                    "number FROM score WHERE device = ? AND kind = ? ORDER BY number DESC LIMIT ?)",
                    (device, kind, device, kind, keep),
                )
        return added

    def scores(self, device: str) -> dict[str, list[float]]:
        """Return the scores of a device by kind of figure."""
        with self._connections.transaction(begin=False) as db:
            rows = db.execute(
                "SELECT kind, value FROM score WHERE device = ? ORDER BY number", (device,)
            ).fetchall()
        found: dict[str, list[float]] = {}
        for kind, value in rows:
            found.setdefault(str(kind), []).append(float(value))
        return found

    def clear(self, stream: str) -> None:
        """Begin anew: after the device was mended or recalibrated, and someone says so."""
        with self._connections.transaction() as db:
            db.execute("DELETE FROM evidence WHERE stream = ?", (stream,))
            db.execute("DELETE FROM path WHERE stream = ?", (stream,))

    def streams(self) -> tuple[str, ...]:
        """Return the streams there are."""
        with self._connections.transaction(begin=False) as db:
            rows = db.execute("SELECT stream FROM evidence ORDER BY stream").fetchall()
        return tuple(str(row[0]) for row in rows)

    def history(self, stream: str) -> list[float]:
        """Return the log evidence after each job, oldest first."""
        with self._connections.transaction(begin=False) as db:
            rows = db.execute(
                "SELECT log_value FROM path WHERE stream = ? ORDER BY job", (stream,)
            ).fetchall()
        return [float(row[0]) for row in rows]


def _read(db: sqlite3.Connection, stream: str) -> Evidence:
    row = db.execute("SELECT state FROM evidence WHERE stream = ?", (stream,)).fetchone()
    return Evidence() if row is None else msgspec.json.decode(row[0], type=Evidence)


@lru_cache(maxsize=64)
def store_of(home: Path) -> EvidenceStore:
    """Return the store of a home, one for each process."""
    return EvidenceStore(home)
