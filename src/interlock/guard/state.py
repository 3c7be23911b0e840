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
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from interlock import forks
from interlock.crypto import files
from interlock.errors import InternalError, StorageError

__all__ = ["STOP_FILE", "Cap", "State", "Usage", "fits", "resume", "stop"]

STOP_FILE = "STOP"

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS total ("
    "scope TEXT NOT NULL, unit TEXT NOT NULL, start REAL NOT NULL, amount REAL NOT NULL,"
    " PRIMARY KEY (scope, unit, start)) WITHOUT ROWID"
)

T = TypeVar("T")

VERSION = 1
#: A window is kept in this many slices; use leaves it slice by slice, at most 1/64 of it late.
SLICES = 64
#: Seconds to wait for another process's transaction.
BUSY_S = 10.0


class Cap(msgspec.Struct, frozen=True, kw_only=True):
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


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What one cap looked like when it was tried."""

    unit: str
    used: float
    amount: float
    limit: float | None

    @property
    def fits(self) -> bool:
        """Whether the amount still fits under the limit."""
        return fits(self.used, self.amount, self.limit)


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
        self._connections = forks.Connections(self._connect)
        try:
            home.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise _storage(self.path, error) from error
        self._transaction(self._prepare)

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

    def _transaction(self, work: Callable[[sqlite3.Connection], T], *, durable: bool = False) -> T:
        """Do something as one transaction: all of it is kept, or nothing."""
        try:
            forks.enter()
            try:
                db = self._connections.mine()
                if durable:
                    db.execute("PRAGMA synchronous=FULL")
                try:
                    db.execute("BEGIN IMMEDIATE")
                    try:
                        found = work(db)
                    except BaseException:
                        if db.in_transaction:
                            db.execute("ROLLBACK")
                        raise
                    db.execute("COMMIT")
                finally:
                    if durable:
                        db.execute("PRAGMA synchronous=NORMAL")
            finally:
                forks.leave()
        except (sqlite3.Error, OSError) as error:
            self._connections.drop()
            raise _storage(self.path, error) from error
        return found

    def reserve(
        self, caps: tuple[Cap, ...], now: float, *, durable: bool = False
    ) -> tuple[Usage, ...]:
        """Take all caps at once if every one fits, else none of them.

        Args:
            caps: what to take.
            now: seconds since the epoch.
            durable: wait until the reservation is on disk; for jobs that cost money.
        """
        if not all(cap.amount >= 0 for cap in caps):
            raise InternalError(
                "a reservation cannot be negative",
                code="state-negative",
                got=", ".join(f"{c.unit} {c.amount!r}" for c in caps),
                expected="amounts >= 0",
                fix="this is a fault of the control that asked for it",
            )

        def take(db: sqlite3.Connection) -> tuple[Usage, ...]:
            usage = _usage(db, caps, now)
            if all(u.fits for u in usage):
                _add(db, caps, now, 1.0)
            return usage

        return self._transaction(take, durable=durable)

    def release(self, caps: tuple[Cap, ...], now: float) -> None:
        """Give back what `reserve` took with the same caps and the same `now`."""
        self._transaction(lambda db: _add(db, caps, now, -1.0))

    def used(self, cap: Cap, now: float) -> float:
        """Return what the window of a cap holds."""
        return self._transaction(lambda db: _usage(db, (cap,), now))[0].used

    def totals(self, prefix: str, window_s: float, now: float) -> dict[str, dict[str, float]]:
        """Return scope -> unit -> what the window holds, of a scope and all beneath it."""
        values = now - window_s * (1 + 1 / SLICES), prefix, len(prefix) + 1, f"{prefix}/"
        rows = self._transaction(
            lambda db: db.execute(
                "SELECT scope, unit, sum(amount) FROM total WHERE start > ?"
                " AND (scope = ? OR substr(scope, 1, ?) = ?) GROUP BY scope, unit",
                values,
            ).fetchall()
        )
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


def _usage(db: sqlite3.Connection, caps: tuple[Cap, ...], now: float) -> tuple[Usage, ...]:
    # A clock set back must not free anything: slices "in the future" count too.
    used: dict[tuple[str, str], float] = {}
    for scope, window_s in {(cap.scope, cap.window_s) for cap in caps}:
        oldest = now - window_s * (1 + 1 / SLICES)
        rows = db.execute(
            "SELECT unit, sum(amount) FROM total WHERE scope = ? AND start > ? GROUP BY unit",
            (scope, oldest),
        )
        for unit, amount in rows:
            used[scope, unit] = float(amount)
    return tuple([
        Usage(unit=c.unit, used=used.get((c.scope, c.unit), 0.0), amount=c.amount, limit=c.limit)
        for c in caps
    ])  # fmt: skip


def _add(db: sqlite3.Connection, caps: tuple[Cap, ...], now: float, sign: float) -> None:
    rows: list[float | str] = []
    count = 0
    for cap in caps:
        if cap.amount:
            width = cap.window_s / SLICES
            rows += (cap.scope, cap.unit, now // width * width, sign * cap.amount)
            count += 1
    if not count:
        return
    db.execute(
        "INSERT INTO total VALUES " + ",".join(["(?,?,?,?)"] * count) + " ON CONFLICT"  # noqa: S608
        " (scope, unit, start) DO UPDATE SET amount = amount + excluded.amount",
        rows,
    )
    _forget(db, caps, now)


#: scope -> the slice in which old slices were last removed; a process looks once a slice.
_forgotten: dict[str, float] = {}


def _forget(db: sqlite3.Connection, caps: tuple[Cap, ...], now: float) -> None:
    for scope, window_s in {cap.scope: cap.window_s for cap in caps}.items():
        piece = now // (window_s / SLICES)
        if _forgotten.get(scope) != piece:
            _forgotten[scope] = piece
            db.execute(
                "DELETE FROM total WHERE scope = ? AND start < ?", (scope, now - 2 * window_s)
            )


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
