"""Counters that all processes of one home share: budgets, releases, and the stop file.

SQLite in WAL mode; every reservation is one immediate transaction, so that two processes cannot
both take the last of a budget. A reservation whose process died goes on counting until its window
has passed: the device may have charged for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from interlock import forks
from interlock.crypto import files
from interlock.errors import InternalError, StorageError

__all__ = ["STOP_FILE", "Cap", "State", "Tried", "Window", "fits", "resume", "stop"]

STOP_FILE = "STOP"

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS total ("
    "scope TEXT NOT NULL, unit TEXT NOT NULL, start REAL NOT NULL, amount REAL NOT NULL,"
    " PRIMARY KEY (scope, unit, start)) WITHOUT ROWID"
)

VERSION = 1
#: A window is kept in this many slices; use leaves it slice by slice, at most 1/64 of it late.
SLICES = 64
#: Seconds to wait for another process's transaction.
BUSY_S = 10.0


class Cap(msgspec.Struct, frozen=True, gc=False):
    """A limit on one unit within a window.

    Attributes:
        unit: what it counts: `shots`, `jobs`, `cost_usd`.
        amount: what this job wants.
        limit: the most the window may hold, or None to count without a limit.
    """

    unit: str
    amount: float
    limit: float | None = None


class Window(msgspec.Struct, frozen=True, gc=False):
    """A rolling window in which somebody's use is counted.

    Attributes:
        scope: who it counts for, for instance `budget/local/alice`.
        seconds: its length.
    """

    scope: str
    seconds: float


class Tried(NamedTuple):
    """What a reservation found.

    Attributes:
        taken: whether every cap fitted, so that all were taken.
        used: what the window held of each cap's unit before.
    """

    taken: bool
    used: tuple[float, ...]

    def usage(self, caps: Sequence[Cap]) -> list[dict[str, Any]]:
        """Return the first caps of the reservation as evidence: unit, used before, amount."""
        return [
            {"unit": cap.unit, "used": before, "amount": cap.amount}
            for cap, before in zip(caps, self.used, strict=False)
        ]


def fits(used: float, amount: float, limit: float | None) -> bool:
    """Whether an amount still fits under a limit; sums of floats may miss it by a hair."""
    return limit is None or used + amount <= limit * (1 + 1e-12)


class State:
    """The shared counters of one home.

    Raises:
        StorageError: the database cannot be opened, read or written.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.path = home / "state.db"
        self._stop = str(home / STOP_FILE)
        self._connections = forks.Connections(self._connect, lambda e: _storage(self.path, e))
        try:
            home.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise _storage(self.path, error) from error
        with self._connections.transaction() as db:
            self._prepare(db)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        return connection

    def _prepare(self, db: sqlite3.Connection) -> None:
        found = int(db.execute("PRAGMA user_version").fetchone()[0])
        if found > VERSION:
            raise StorageError(
                "the counters of this home are of a newer version",
                code="state-newer",
                got=f"{self.path}: version {found}",
                expected=f"version {VERSION}, or older",
                fix="run the Interlock that wrote them",
            )
        if found < VERSION:
            db.execute(_SCHEMA)
            db.execute(f"PRAGMA user_version = {VERSION}")

    def reserve(
        self, window: Window, caps: Sequence[Cap], now: float, *, durable: bool = False
    ) -> Tried:
        """Take all caps at once if every one fits, else none of them.

        Args:
            window: in which they are counted.
            caps: what to take.
            now: seconds since the epoch.
            durable: wait until the reservation is on disk; for jobs that cost money.
        """
        for cap in caps:
            if not cap.amount >= 0:
                raise InternalError(
                    "a reservation cannot be negative",
                    code="state-negative",
                    got=f"{cap.unit} {cap.amount!r}",
                    expected="an amount >= 0",
                    fix="this is a fault of the control that asked for it",
                )

        with self._connections.transaction(durable=durable) as db:
            held = _held(db, window, now)
            used = tuple([held.get(cap.unit, 0.0) for cap in caps])
            for cap, before in zip(caps, used, strict=True):
                if not fits(before, cap.amount, cap.limit):
                    return Tried(False, used)
            _add(db, window, caps, now, 1.0)
        return Tried(True, used)

    def release(self, window: Window, caps: Sequence[Cap], now: float) -> None:
        """Give back what `reserve` took in the same window at the same `now`."""
        with self._connections.transaction() as db:
            _add(db, window, caps, now, -1.0)

    def totals(self, prefix: str, window_s: float, now: float) -> dict[str, dict[str, float]]:
        """Return scope -> unit -> what the window holds, of a scope and all beneath it."""
        values = now - window_s * (1 + 1 / SLICES), prefix, len(prefix) + 1, f"{prefix}/"
        with self._connections.transaction(begin=False) as db:
            rows = db.execute(
                "SELECT scope, unit, sum(amount) FROM total WHERE start > ?"
                " AND (scope = ? OR substr(scope, 1, ?) = ?) GROUP BY scope, unit",
                values,
            ).fetchall()
        found: dict[str, dict[str, float]] = {}
        for scope, unit, amount in rows:
            found.setdefault(str(scope), {})[str(unit)] = float(amount)
        return found

    @property
    def stop_file(self) -> Path:
        """The file that stops everything while it exists."""
        return self.home / STOP_FILE

    def stopped(self) -> str | None:
        """Return the reason given when everything was stopped, or None.

        An unreadable stop file still stops.
        """
        try:
            os.stat(self._stop)  # noqa: PTH116 - asked twice a job; a Path costs ten times as much
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


def _held(db: sqlite3.Connection, window: Window, now: float) -> dict[str, float]:
    # A clock set back must not free anything: slices "in the future" count too.
    oldest = now - window.seconds * (1 + 1 / SLICES)
    rows = db.execute(
        "SELECT unit, sum(amount) FROM total WHERE scope = ? AND start > ? GROUP BY unit",
        (window.scope, oldest),
    )
    return dict(rows.fetchall())


def _add(
    db: sqlite3.Connection, window: Window, caps: Sequence[Cap], now: float, sign: float
) -> None:
    scope, width = window.scope, window.seconds / SLICES
    piece = now // width
    rows = [(scope, cap.unit, piece * width, sign * cap.amount) for cap in caps if cap.amount]
    db.executemany(
        "INSERT INTO total VALUES (?, ?, ?, ?) ON CONFLICT (scope, unit, start)"
        " DO UPDATE SET amount = amount + excluded.amount",
        rows,
    )
    if _forgotten.get(scope) != piece:
        _forgotten[scope] = piece
        db.execute(
            "DELETE FROM total WHERE scope = ? AND start < ?", (scope, now - 2 * window.seconds)
        )


#: scope -> the slice in which old slices were last removed; a process looks once a slice.
_forgotten: dict[str, float] = {}


def _storage(path: Path, error: Exception) -> StorageError:
    text = str(error)
    low = text.lower()
    if "full" in low or "no space" in low or ("i/o error" in low and files.no_room(path)):
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


def _stop_file(path: Path, error: OSError, doing: str) -> StorageError:
    return StorageError(
        f"the stop file cannot be {doing}",
        code="stop-unwritable",
        got=f"{type(error).__name__}: {error}",
        expected=f"a file {path} in a folder that can be written",
        fix="while it exists, whatever it holds, everything is stopped; see the folder's owner,"
        " its mode and the disk",
    )


def stop(home: Path, reason: str) -> Path:
    """Stop everything in this home. Needs no database, so it works when nothing else does.

    Raises:
        StorageError: the stop file cannot be written.
    """
    path = home / STOP_FILE
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch()  # an empty file stops as well: a full disk keeps only the reason out
    except OSError as error:
        raise _stop_file(path, error, "made") from error
    with contextlib.suppress(OSError):
        path.write_text(json.dumps({"reason": reason}), "utf-8")
    return path


def resume(home: Path) -> bool:
    """Lift the stop; return whether there was one.

    Raises:
        StorageError: the stop file cannot be removed.
    """
    try:
        (home / STOP_FILE).unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _stop_file(home / STOP_FILE, error, "removed") from error
    return True
