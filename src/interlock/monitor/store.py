"""What the monitor knows of each source, shared by processes: for the guarded path, the console.

One SQLite file in the home. Bounded: the newest alarms and strips of each source are kept.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from interlock.errors import StorageError

__all__ = [
    "KEEP_STRIPS",
    "AlarmRow",
    "MonitorStore",
    "Position",
    "SourceState",
    "Strip",
    "monitor_store",
]

KEEP_ALARMS, KEEP_STRIPS = 2000, 600
_SCHEMA = """
CREATE TABLE IF NOT EXISTS source (
    name TEXT PRIMARY KEY, device TEXT NOT NULL, state BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS alarm (
    id INTEGER PRIMARY KEY, source TEXT NOT NULL, at REAL NOT NULL, body BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS alarm_source ON alarm (source, id);
CREATE TABLE IF NOT EXISTS strip (
    id INTEGER PRIMARY KEY, source TEXT NOT NULL, body BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS strip_source ON strip (source, id);
CREATE TABLE IF NOT EXISTS history (
    device TEXT NOT NULL, subject TEXT NOT NULL, at REAL NOT NULL, value REAL NOT NULL,
    PRIMARY KEY (device, subject, at)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS standing (
    who TEXT NOT NULL, until REAL NOT NULL, tighten INTEGER NOT NULL, field TEXT NOT NULL,
    PRIMARY KEY (who, until)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS recorded (
    digest TEXT PRIMARY KEY, source TEXT NOT NULL, at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS position (
    source TEXT PRIMARY KEY, next_seq INTEGER, last_t_ns INTEGER) WITHOUT ROWID;
"""


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """How far files of a source were recorded, by the numbers or the times they brought along."""

    next_seq: int | None = None
    last_t_ns: int | None = None


class SourceState(msgspec.Struct, frozen=True, kw_only=True):
    """How a source and its detector are.

    Attributes:
        source: its id.
        device: the device its alarms concern.
        kind: what it measures.
        origin: simulated, lab-driver or cloud-api.
        channels: names.
        rows: taken so far; so are `missing`, `duplicates`, `refused` and `alarms`.
        skew_ms: clock skew.
        health: good or degraded.
        reasons: why it is degraded.
        checks: figures of the detector's own checks.
        seen_s: when rows last came, seconds since the epoch.
    """

    source: str
    device: str
    kind: str
    origin: str
    channels: tuple[str, ...]
    rows: int = 0
    missing: int = 0
    duplicates: int = 0
    refused: int = 0
    alarms: int = 0
    skew_ms: float = 0.0
    health: str = "good"
    reasons: tuple[str, ...] = ()
    checks: dict[str, float] = {}
    seen_s: float = 0.0


class AlarmRow(msgspec.Struct, frozen=True, kw_only=True):
    """One alarm as it is kept."""

    source: str
    row: int
    kind: str
    channel: str
    evidence: float
    shares: dict[str, float]
    look: float | None
    at_s: float


class Strip(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of rows: each channel's low and high, and the e-detector's peak, log10."""

    row: int
    at_s: float
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]
    e_log10: float


class MonitorStore:
    """The store of one home.

    Args:
        home: folder of ledger, state and keys.

    Raises:
        StorageError: the database cannot be opened, read or written.
    """

    def __init__(self, home: Path) -> None:
        self.path = home / "monitor.db"
        self._local = threading.local()

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            db: sqlite3.Connection | None = getattr(self._local, "db", None)
            if db is None:
                self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                db = sqlite3.connect(self.path, timeout=10.0)
                db.execute("PRAGMA journal_mode=WAL")
                db.execute("PRAGMA synchronous=NORMAL")
                db.executescript(_SCHEMA)
                self._local.db = db
            with db:
                yield db
        except (sqlite3.Error, OSError, msgspec.MsgspecError) as error:
            self._local.db = None
            raise StorageError(
                "the monitor's store cannot be used",
                code="monitor-store",
                got=f"{type(error).__name__}: {error}",
                expected=f"a readable and writable SQLite database at {self.path}",
                fix="free the disk or mend the file; deleting it forgets alarms and health",
            ) from error

    def write(self, state: SourceState, alarms: list[AlarmRow], strips: list[Strip]) -> None:
        """Keep a source's state with what is new of it, at once."""
        encode = msgspec.json.encode
        with self._open() as db:
            db.execute(
                "INSERT OR REPLACE INTO source VALUES (?, ?, ?)",
                (state.source, state.device, encode(state)),
            )
            db.executemany(
                "INSERT INTO alarm (source, at, body) VALUES (?, ?, ?)",
                [(a.source, a.at_s, encode(a)) for a in alarms],
            )
            db.executemany(
                "INSERT INTO strip (source, body) VALUES (?, ?)",
                [(state.source, encode(s)) for s in strips],
            )
            for table, keep in (("alarm", KEEP_ALARMS), ("strip", KEEP_STRIPS)):
                db.execute(
                    f"DELETE FROM {table} WHERE source = ? AND id <= (SELECT id FROM {table}"  # noqa: S608
                    " WHERE source = ? ORDER BY id DESC LIMIT 1 OFFSET ?)",
                    (state.source, state.source, keep),
                )

    def sources(self, device: str | None = None) -> list[SourceState]:
        """Return the sources, of one device or all; none when nothing was ever watched."""
        if not self.path.exists():
            return []
        with self._open() as db:
            rows = db.execute(
                "SELECT state FROM source WHERE ?1 IS NULL OR device = ?1 ORDER BY name", (device,)
            ).fetchall()
            return [msgspec.json.decode(r[0], type=SourceState) for r in rows]

    def alarms(self, source: str, *, since_s: float = 0.0, limit: int = 100) -> list[AlarmRow]:
        """Return a source's newest alarms, newest first."""
        with self._open() as db:
            rows = db.execute(
                "SELECT body FROM alarm WHERE source = ? AND at >= ? ORDER BY id DESC LIMIT ?",
                (source, since_s, limit),
            ).fetchall()
            return [msgspec.json.decode(r[0], type=AlarmRow) for r in rows]

    def strips(self, source: str) -> list[Strip]:
        """Return a source's strips, oldest first."""
        with self._open() as db:
            rows = db.execute(
                "SELECT body FROM strip WHERE source = ? ORDER BY id", (source,)
            ).fetchall()
            return [msgspec.json.decode(r[0], type=Strip) for r in rows]

    def add_history(self, device: str, at_s: float, values: dict[str, float]) -> None:
        """Keep one calibration's values, such as T1 of each qubit, for forecasts."""
        with self._open() as db:
            db.executemany(
                "INSERT OR REPLACE INTO history VALUES (?, ?, ?, ?)",
                [(device, name, at_s, value) for name, value in values.items()],
            )

    def history(self, device: str, *, limit: int = 400) -> dict[str, list[tuple[float, float]]]:
        """Return subject -> its last (time, value) pairs, oldest first."""
        if not self.path.exists():
            return {}
        with self._open() as db:
            rows: list[Any] = db.execute(
                "SELECT subject, json_group_array(json_array(at, value)) FROM (SELECT *,"
                " row_number() OVER (PARTITION BY subject ORDER BY at DESC) AS n FROM history"
                " WHERE device = ? ORDER BY subject, at) WHERE n <= ? GROUP BY subject",
                (device, limit),
            ).fetchall()
        return {name: sorted((t, v) for t, v in json.loads(text)) for name, text in rows}

    def add_standings(self, rows: list[tuple[str, float, int, str]]) -> None:
        """Keep (pseudonym, until, step, field); a weaker one never replaces a stronger one."""
        with self._open() as db:
            db.executemany(
                "INSERT INTO standing VALUES (?, ?, ?, ?) ON CONFLICT (who, until) DO UPDATE SET"
                " tighten = excluded.tighten, field = excluded.field"
                " WHERE excluded.tighten > standing.tighten",
                rows,
            )

    def recorded(self, digest: str) -> tuple[str, float] | None:
        """Return source and time of a file that was recorded, by its digest."""
        if not self.path.exists():
            return None
        with self._open() as db:
            row = db.execute("SELECT source, at FROM recorded WHERE digest = ?", (digest,))
            found: tuple[str, float] | None = row.fetchone()
        return found

    def position(self, source: str) -> Position:
        """Return how far files of a source were recorded."""
        if not self.path.exists():
            return Position()
        with self._open() as db:
            row = db.execute(
                "SELECT next_seq, last_t_ns FROM position WHERE source = ?", (source,)
            ).fetchone()
        return Position(next_seq=row[0], last_t_ns=row[1]) if row else Position()

    def add_recorded(self, digest: str, source: str, position: Position, at_s: float) -> None:
        """Keep that a file was recorded to its end, and how far its source is now."""
        with self._open() as db:
            db.execute("INSERT OR REPLACE INTO recorded VALUES (?, ?, ?)", (digest, source, at_s))
            db.execute(
                "INSERT INTO position VALUES (?1, ?2, ?3) ON CONFLICT (source) DO UPDATE SET"
                " next_seq = coalesce(max(next_seq, ?2), next_seq, ?2),"
                " last_t_ns = coalesce(max(last_t_ns, ?3), last_t_ns, ?3)",
                (source, position.next_seq, position.last_t_ns),
            )

    def standing(self, who: str, now_s: float) -> tuple[int, str]:
        """Return the strongest step in force for a pseudonym and why; 0 when there is none."""
        if not self.path.exists():
            return 0, ""
        with self._open() as db:
            row = db.execute(
                "SELECT tighten, field FROM standing WHERE who = ? AND until > ?"
                " ORDER BY tighten DESC LIMIT 1",
                (who, now_s),
            ).fetchone()
        return (int(row[0]), str(row[1])) if row else (0, "")


@lru_cache(maxsize=16)
def monitor_store(home: Path) -> MonitorStore:
    """Return the store of a home; one a process."""
    return MonitorStore(home)
