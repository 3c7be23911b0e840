"""What access must remember: keys, revocations, approvals, used proofs. SQLite or PostgreSQL."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interlock import forks
from interlock.access.schema import Schema, prepare
from interlock.access.transactions import transaction
from interlock.errors import SetupError
from interlock.types import Principal

if TYPE_CHECKING:
    from sqlalchemy import Engine

__all__ = ["SCHEMA", "AccessStore", "KeyRow", "kept_in", "open_database", "store_of"]

#: How long a revocation may stay unseen by a process: well under the five seconds promised.
REFRESH_S = 0.5

_TABLES = {
    "access_key": (
        "id VARCHAR(64) PRIMARY KEY, digest VARCHAR(64) NOT NULL, tenant VARCHAR(200) NOT NULL,"
        " principal TEXT NOT NULL, scopes TEXT NOT NULL, expires DOUBLE PRECISION NOT NULL"
    ),
    "access_revoked": (
        "kind VARCHAR(16) NOT NULL, tenant VARCHAR(200) NOT NULL, value VARCHAR(400) NOT NULL,"
        " at DOUBLE PRECISION NOT NULL, reason TEXT NOT NULL, PRIMARY KEY (kind, tenant, value)"
    ),
    "access_approval": (
        "subject VARCHAR(64) NOT NULL, tenant VARCHAR(200) NOT NULL, gate VARCHAR(100) NOT NULL,"
        " approver VARCHAR(200) NOT NULL, body TEXT NOT NULL,"
        " PRIMARY KEY (subject, tenant, gate, approver)"
    ),
    "access_waiting": (
        "subject VARCHAR(64) NOT NULL, tenant VARCHAR(200) NOT NULL, body TEXT NOT NULL,"
        " at DOUBLE PRECISION NOT NULL, PRIMARY KEY (subject, tenant)"
    ),
    "access_proof": "jti VARCHAR(300) PRIMARY KEY, expires DOUBLE PRECISION NOT NULL",
}
SCHEMA = Schema(
    part="access",
    first="access_key",
    versions=(tuple(f"CREATE TABLE {name} ({columns})" for name, columns in _TABLES.items()),),
)


def open_database(url: str) -> Engine:
    """Open a database; SQLite is set to WAL with every commit on disk.

    Raises:
        SetupError: SQLAlchemy or the driver is missing.
    """
    try:
        from sqlalchemy import create_engine, event
        from sqlalchemy.pool import QueuePool
    except ImportError as error:
        raise _extra(error) from error
    try:
        if not url.startswith("sqlite"):
            # Not the default path: for a user `interlock` it begins with the ledger's own schema.
            path = {"options": "-c search_path=public"}
            return create_engine(
                url, pool_size=4, max_overflow=8, pool_pre_ping=True, connect_args=path
            )
        engine = create_engine(
            url,
            poolclass=QueuePool,
            pool_use_lifo=True,  # the connection used last knows the pages
            connect_args={"timeout": 15.0, "check_same_thread": False},
        )
    except (ImportError, ValueError) as error:
        raise _extra(error) from error

    @event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")

    @event.listens_for(engine, "begin")
    def _immediate(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    event.listen(engine, "checkout", lambda *_: forks.enter())
    event.listen(engine, "checkin", lambda *_: forks.leave())
    forks.watch(engine.dispose)
    return engine


def _extra(error: Exception) -> SetupError:
    return SetupError(
        "the database cannot be opened",
        code="extra-missing",
        got=str(error),
        expected="SQLAlchemy and the driver of the database",
        fix="pip install 'interlock[gateway]'",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRow:
    """An API key as it is kept: never the key, only its SHA-256."""

    id: str
    digest: str
    principal: Principal
    scopes: tuple[str, ...]
    expires: float


class AccessStore:
    """Keys, revocations, approvals and used proofs of one home or one database.

    Args:
        engine: from `open_database`.
        clock: seconds since the epoch.
    """

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.time) -> None:
        from sqlalchemy import text

        self.engine = engine
        self.clock = clock
        self._text = lru_cache(maxsize=64)(text)
        self._lock = threading.Lock()
        self._revoked: dict[tuple[str, str, str], tuple[float, str]] = {}
        self._fresh = -1e9
        prepare(engine, SCHEMA)

    def _all(self, sql: str, **values: Any) -> list[Any]:
        with transaction(self.engine) as db:
            return list(db.execute(self._text(sql), values))

    def _do(self, sql: str, **values: Any) -> int:
        with transaction(self.engine) as db:
            return int(db.execute(self._text(sql), values).rowcount)

    # -- API keys

    def add_key(self, row: KeyRow) -> None:
        """Keep an API key's digest."""
        who = row.principal
        body = {"id": who.id, "kind": who.kind, "on_behalf_of": who.on_behalf_of}
        self._do(
            "INSERT INTO access_key VALUES (:id, :digest, :tenant, :principal, :scopes, :expires)",
            id=row.id,
            digest=row.digest,
            tenant=who.tenant,
            principal=json.dumps(body),
            scopes=" ".join(row.scopes),
            expires=row.expires,
        )

    def key(self, key_id: str) -> KeyRow | None:
        """Return the key of an id, or None."""
        rows = self._all("SELECT * FROM access_key WHERE id = :id", id=key_id)
        if not rows:
            return None
        _, digest, tenant, principal, scopes, expires = rows[0]
        return KeyRow(
            id=key_id,
            digest=digest,
            principal=Principal(tenant=tenant, **json.loads(principal)),
            scopes=tuple(scopes.split()),
            expires=float(expires),
        )

    def drop_tenant(self, tenant: str) -> None:
        """Forget all keys, approvals and waiting jobs of a tenant; its revocations stay."""
        for table in ("access_key", "access_approval", "access_waiting"):
            self._do(f"DELETE FROM {table} WHERE tenant = :tenant", tenant=tenant)  # noqa: S608

    # -- revocation

    def revoke(self, kind: str, value: str, tenant: str, reason: str) -> None:
        """Revoke a principal, a key, a token or a whole tenant from now on.

        Args:
            kind: `principal`, `key`, `token` or `tenant`.
            value: its id; of a token the `jti`.
            tenant: the tenant it belongs to.
            reason: recorded, shown to operators only.
        """
        self._do(
            "INSERT INTO access_revoked VALUES (:kind, :tenant, :value, :at, :reason)"
            " ON CONFLICT (kind, tenant, value) DO NOTHING",
            kind=kind,
            tenant=tenant,
            value=value,
            at=self.clock(),
            reason=reason,
        )
        with self._lock:
            self._fresh = -1e9

    def reinstate(self, kind: str, value: str, tenant: str) -> bool:
        """Lift a revocation; return whether there was one."""
        count = self._do(
            "DELETE FROM access_revoked WHERE kind = :kind AND tenant = :tenant AND value = :value",
            kind=kind,
            tenant=tenant,
            value=value,
        )
        with self._lock:
            self._fresh = -1e9
        return count > 0

    @property
    def fresh(self) -> bool:
        """Whether `revoked` can answer without the database."""
        with self._lock:
            return time.monotonic() - self._fresh < 0.9 * REFRESH_S

    def revoked(self, principal: Principal, *, token: str = "", key: str = "") -> str | None:
        """Return what of a principal is revoked, as `kind value`, or None.

        Read at most `REFRESH_S` ago; a database that cannot be read raises, it does not permit.
        """
        now = time.monotonic()
        with self._lock:
            stale = now - self._fresh > REFRESH_S
        if stale:
            rows = self._all("SELECT kind, tenant, value, at, reason FROM access_revoked")
            with self._lock:
                self._revoked = {(k, t, v): (float(a), r) for k, t, v, a, r in rows}
                self._fresh = now
        tenant = principal.tenant
        asked = [("principal", principal.id), ("tenant", tenant)]
        if principal.on_behalf_of:
            asked.append(("principal", principal.on_behalf_of))
        if token:
            asked.append(("token", token))
        if key:
            asked.append(("key", key))
        for kind, value in asked:
            if (kind, tenant, value) in self._revoked:
                return f"{kind} {value}"
        return None

    # -- approvals

    def wait_for(self, subject: str, tenant: str, body: dict[str, Any]) -> None:
        """Remember that a job waits for approval of this subject, for the console.

        Gates of several controls that hold the same job are kept together.
        """
        rows = self._all(
            "SELECT body FROM access_waiting WHERE subject = :subject AND tenant = :tenant",
            subject=subject,
            tenant=tenant,
        )
        kept = json.loads(rows[0][0]) if rows else {}
        gates = {**kept.get("gates", {}), **body.get("gates", {})}
        if kept and gates == kept.get("gates"):
            return
        self._do(
            "INSERT INTO access_waiting VALUES (:subject, :tenant, :body, :at)"
            " ON CONFLICT (subject, tenant) DO UPDATE SET body = excluded.body",
            subject=subject,
            tenant=tenant,
            body=json.dumps({**body, "gates": gates}),
            at=self.clock(),
        )

    def waiting(self, tenant: str) -> list[dict[str, Any]]:
        """Return what waits in a tenant, newest first."""
        rows = self._all(
            "SELECT subject, body, at FROM access_waiting WHERE tenant = :tenant ORDER BY at DESC",
            tenant=tenant,
        )
        return [{"subject": s, "at": float(a), **json.loads(b)} for s, b, a in rows]

    def add_approval(self, body: dict[str, Any]) -> None:
        """Keep a signed approval; a newer one of the same approver replaces it."""
        self._do(
            "INSERT INTO access_approval VALUES (:subject, :tenant, :gate, :approver, :body)"
            " ON CONFLICT (subject, tenant, gate, approver) DO UPDATE SET body = excluded.body",
            subject=body["statement"]["subject"],
            tenant=body["statement"]["tenant"],
            gate=body["statement"]["gate"],
            approver=body["statement"]["approver"],
            body=json.dumps(body),
        )

    def approvals(self, subject: str, tenant: str) -> list[dict[str, Any]]:
        """Return the approvals of a subject in a tenant."""
        rows = self._all(
            "SELECT body FROM access_approval WHERE subject = :subject AND tenant = :tenant"
            " ORDER BY gate, approver",
            subject=subject,
            tenant=tenant,
        )
        return [json.loads(row[0]) for row in rows]

    # -- proofs

    def first_use(self, jti: str, expires: float) -> bool:
        """Return whether a proof is used for the first time, and remember it till it expires."""
        now = self.clock()
        with transaction(self.engine) as db:
            db.execute(self._text("DELETE FROM access_proof WHERE expires < :now"), {"now": now})
            done = db.execute(
                self._text(
                    "INSERT INTO access_proof VALUES (:jti, :expires) ON CONFLICT (jti) DO NOTHING"
                ),
                {"jti": jti, "expires": expires},
            )
            return int(done.rowcount) == 1

    def close(self) -> None:
        """Let go of the database."""
        self.engine.dispose()


_stores: dict[str, AccessStore] = {}
_stores_lock = threading.Lock()


def _renew() -> None:
    """Give a forked child a lock that nobody holds."""
    global _stores_lock
    _stores_lock = threading.Lock()


os.register_at_fork(after_in_child=_renew)


_chosen: dict[Path, str] = {}


@contextmanager
def kept_in(home: Path, url: str | None) -> Iterator[AccessStore]:
    """Let every part of this process use the database at `url` for a home meanwhile."""
    before = _chosen.get(home)
    if url is not None:
        _chosen[home] = url
    try:
        yield store_of(home)
    finally:
        if before is None:
            _chosen.pop(home, None)
        else:
            _chosen[home] = before


def store_of(home: Path, url: str | None = None) -> AccessStore:
    """Return this process's store of a home, or of the database at `url`.

    Where `kept_in` says none, the environment variable `INTERLOCK_DATABASE_URL` stands in.
    """
    url = url or _chosen.get(home) or os.environ.get("INTERLOCK_DATABASE_URL")
    url = url or f"sqlite:///{home / 'access.db'}"
    key = f"{os.getpid()} {url}"
    with _stores_lock:
        if key not in _stores:
            home.mkdir(parents=True, exist_ok=True, mode=0o700)
            _stores[key] = AccessStore(open_database(url))
        return _stores[key]
