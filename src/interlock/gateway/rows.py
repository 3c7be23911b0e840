"""The gateway's tables, their rows, and the tenants."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from interlock.access.schema import Schema, prepare
from interlock.access.transactions import transaction
from interlock.errors import InputError, IntegrityError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

__all__ = [
    "COLUMNS",
    "FINAL",
    "NOW",
    "SCHEMA",
    "JobRow",
    "NewJob",
    "Rows",
    "Tenant",
    "Vault",
]

_FIRST = (  # one statement a string
    (
        "CREATE TABLE gateway_job ("
        "id VARCHAR(64) PRIMARY KEY, tenant VARCHAR(200) NOT NULL, owner VARCHAR(200) NOT NULL,"
        " principal TEXT NOT NULL, credential TEXT NOT NULL, kind VARCHAR(20) NOT NULL,"
        " backend VARCHAR(200) NOT NULL, state VARCHAR(12) NOT NULL, priority INTEGER NOT NULL,"
        " cost DOUBLE PRECISION NOT NULL, created DOUBLE PRECISION NOT NULL,"
        " updated DOUBLE PRECISION NOT NULL, attempt INTEGER NOT NULL,"
        " worker VARCHAR(100) NOT NULL,"
        " lease DOUBLE PRECISION NOT NULL, idem VARCHAR(200) NOT NULL, digest VARCHAR(64) NOT NULL,"
        " body TEXT NOT NULL, outcome TEXT, UNIQUE (tenant, owner, idem))"
    ),
    ("CREATE INDEX gateway_job_queue ON gateway_job (state, tenant, priority, created)"),
    "CREATE INDEX gateway_job_list ON gateway_job (tenant, created, id)",
    (
        "CREATE TABLE gateway_tenant (name VARCHAR(200) PRIMARY KEY,"
        " weight DOUBLE PRECISION NOT NULL, vtime DOUBLE PRECISION NOT NULL,"
        " settings TEXT NOT NULL)"
    ),
    (
        "CREATE TABLE gateway_bucket (scope VARCHAR(400) PRIMARY KEY,"
        " tokens DOUBLE PRECISION NOT NULL, at DOUBLE PRECISION NOT NULL)"
    ),
    (
        "CREATE TABLE gateway_intent (job VARCHAR(64) PRIMARY KEY,"
        " attempt INTEGER NOT NULL, state VARCHAR(12) NOT NULL, at DOUBLE PRECISION NOT NULL,"
        " result TEXT)"
    ),
)
SCHEMA = Schema(
    part="gateway",
    first="gateway_job",
    versions=(
        _FIRST,
        ("ALTER TABLE gateway_job ADD COLUMN trace VARCHAR(55) NOT NULL DEFAULT ''",),
        ("ALTER TABLE gateway_job ADD COLUMN run VARCHAR(100) NOT NULL DEFAULT ''",),
    ),
)
#: The row that keeps the queue's own virtual time; no tenant can have this name.
NOW = "\n"
FINAL = ("done", "failed", "cancelled")
COLUMNS = (
    "id, tenant, owner, principal, credential, kind, backend, state, priority, created, updated,"
    " attempt, worker, trace, run, body, outcome"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A job that was admitted to the queue."""

    id: str
    tenant: str
    owner: str
    principal: str
    credential: str
    kind: str
    backend: str
    priority: int
    cost: float
    idem: str
    digest: str
    body: str
    subject: str
    label: str
    bucket: str
    rate: float
    burst: float
    keyed: bool = True
    method: str = ""
    max_queued: int | None = None
    #: W3C `traceparent` of the client, or empty.
    trace: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """A job as the gateway keeps it."""

    id: str
    tenant: str
    owner: str
    principal: str
    credential: str
    kind: str
    backend: str
    state: str
    priority: int
    created: float
    updated: float
    attempt: int
    worker: str
    #: Sealed; `Rows.opened` opens it.
    body: str
    outcome: dict[str, Any] | None
    trace: str = ""
    #: Of the program it belongs to; only that run's gateway takes it. Empty for everybody's.
    run: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """What a tenant gets.

    Attributes:
        name: also the `tenant` of its principals.
        weight: share of the workers when all want them.
        max_running: jobs at once.
        max_queued: jobs waiting; more are refused.
        rate: submissions a second, for each principal.
        burst: how many may come at once.
        windows: (start, end) in seconds since the epoch, during which nothing of it starts.
    """

    name: str
    weight: float = 1.0
    max_running: int = 100
    max_queued: int = 10_000
    rate: float = 50.0
    burst: float = 100.0
    windows: tuple[tuple[float, float], ...] = ()


class Vault(Protocol):
    """Encrypts under a key for each subject; a `Ledger` is one."""

    def encrypt(self, data: bytes, *, subject: str, label: str = "") -> bytes:
        """Return the data encrypted."""

    def scope_of(self, data: bytes) -> tuple[str, str] | None:
        """Return subject and label it was encrypted under, None once they are erased."""

    def decrypt(self, data: bytes) -> bytes | None:
        """Return what was encrypted, None once the subject is erased."""


class Rows:
    """The database, and the tenants in it.

    Circuits, results and provider answers are encrypted under the data key of the job's subjects
    and labels, and bound to the job and the column they belong to.

    Args:
        engine: from `interlock.access.store.open_database`.
        vault: holds the data keys.
        clock: seconds since the epoch.
        run: name of the one run whose jobs these are, or empty.
    """

    def __init__(
        self,
        engine: Engine,
        vault: Vault,
        clock: Callable[[], float] = time.time,
        *,
        run: str = "",
    ) -> None:
        from sqlalchemy import text

        self.engine = engine
        self.vault = vault
        self.clock = clock
        self.run = run
        self.text = lru_cache(maxsize=256)(text)
        self._postgres = engine.dialect.name == "postgresql"
        prepare(engine, SCHEMA)

    def sealed(self, what: str, text: str, *, subject: str, label: str = "") -> str:
        """Return a text encrypted, bound to what it is, for instance `outcome/<job>`."""
        data = f"{what}\n{text}".encode()
        return base64.b64encode(self.vault.encrypt(data, subject=subject, label=label)).decode()

    def sealed_like(self, body: str, owner: str, what: str, text: str) -> str:
        """Return a text encrypted as the body of its job is; as its owner's once that is erased."""
        subject, label = self.vault.scope_of(base64.b64decode(body)) or (owner, "")
        return self.sealed(what, text, subject=subject, label=label)

    def sealed_for(self, job_id: str, what: str, text: str) -> str:
        """Return a text encrypted as the body of the job in the database is."""
        rows = self.read("SELECT body, tenant, owner FROM gateway_job WHERE id = :id", id=job_id)
        if not rows:
            return ""
        body, tenant, owner = rows[0]
        return self.sealed_like(body, f"{tenant}/{owner}", f"{what}/{job_id}", text)

    def opened(self, what: str, stored: str) -> str:
        """Return the text that was sealed as `what`.

        Raises:
            InputError: its submitter has been erased.
            IntegrityError: it was changed, or is another column's or job's.
        """
        try:
            raw = self.vault.decrypt(base64.b64decode(stored, validate=True))
        except ValueError as error:
            raise _swapped(what, "a column that is not sealed") from error
        if raw is None:
            raise InputError(
                "the submitter of this job has been erased, and the job with it",
                code="job-erased",
                got=what,
                expected="a data key",
                fix="submit the job again if it is still wanted",
            )
        name, _, text = raw.decode().partition("\n")
        if name != what:
            raise _swapped(what, name)
        return text

    def read_row(self, row: Sequence[Any]) -> JobRow:
        """Return a job from the columns of `COLUMNS`."""
        *fields, stored = row
        names = [n.strip() for n in COLUMNS.split(",")][:-1]
        values = dict(zip(names, fields, strict=True))
        outcome: dict[str, Any] | None = None
        if stored:
            try:
                outcome = json.loads(self.opened(f"outcome/{values['id']}", stored))
            except InputError:
                outcome = {"outcome": "ERASED"}
        return JobRow(**values, outcome=outcome)

    def serial(self, db: Connection) -> None:
        """Let one transaction of this kind run at a time; SQLite's writers do so anyway."""
        if self._postgres:
            db.execute(self.text("SELECT pg_advisory_xact_lock(731601)"))

    def change(self, sql: str, **values: Any) -> int:
        """Run one statement in a transaction; return how many rows it changed."""
        with transaction(self.engine) as db:
            return int(db.execute(self.text(sql), values).rowcount)

    def read(self, sql: str, **values: Any) -> list[Any]:
        """Return all rows of one query."""
        with transaction(self.engine) as db:
            return list(db.execute(self.text(sql), values))

    # -- tenants

    def tenant(self, name: str, db: Connection | None = None) -> Tenant:
        """Return a tenant's settings; one that was never set has the defaults."""
        sql = self.text("SELECT weight, settings FROM gateway_tenant WHERE name = :n")
        if db is None:
            with transaction(self.engine) as own:
                row = own.execute(sql, {"n": name}).fetchone()
        else:
            row = db.execute(sql, {"n": name}).fetchone()
        if row is None:
            return Tenant(name=name)
        settings = json.loads(row[1])
        settings["windows"] = tuple(tuple(w) for w in settings.get("windows", ()))
        return Tenant(name=name, weight=float(row[0]), **settings)

    def set_tenant(self, tenant: Tenant) -> None:
        """Make or change a tenant."""
        settings = {
            "max_running": tenant.max_running,
            "max_queued": tenant.max_queued,
            "rate": tenant.rate,
            "burst": tenant.burst,
            "windows": [list(w) for w in tenant.windows],
        }
        self.change(
            "INSERT INTO gateway_tenant VALUES (:n, :w, 0, :s) ON CONFLICT (name)"
            " DO UPDATE SET weight = excluded.weight, settings = excluded.settings",
            n=tenant.name,
            w=tenant.weight,
            s=json.dumps(settings),
        )

    def tenants(self) -> list[Tenant]:
        """Return all tenants that were set or have run something."""
        sql = "SELECT name FROM gateway_tenant WHERE name <> :now ORDER BY name"
        names = [row[0] for row in self.read(sql, now=NOW)]
        return [self.tenant(n) for n in names]

    def drop_tenant(self, name: str) -> None:
        """Forget a tenant, its jobs and its counters."""
        with transaction(self.engine) as db:
            self.serial(db)
            for sql in (
                (
                    "DELETE FROM gateway_intent WHERE job IN"
                    " (SELECT id FROM gateway_job WHERE tenant = :n)"
                ),
                "DELETE FROM gateway_job WHERE tenant = :n",
                "DELETE FROM gateway_tenant WHERE name = :n",
                "DELETE FROM gateway_bucket WHERE scope LIKE :n || '/%'",
            ):
                db.execute(self.text(sql), {"n": name})


def _swapped(what: str, got: str) -> IntegrityError:
    return IntegrityError(
        "a job in the database is not what was put there",
        code="job-sealed",
        got=got[:100],
        expected=what,
        fix="find out who wrote to the database; restore it from a copy",
    )
