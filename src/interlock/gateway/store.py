"""The gateway's jobs, tenants and counters, in SQLite or PostgreSQL. The tenant is in every key."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from interlock.access.store import transaction

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

__all__ = ["GatewayStore", "JobRow", "NewJob", "Tenant"]

_TABLES = (  # one statement a string
    (
        "CREATE TABLE IF NOT EXISTS gateway_job ("
        "id VARCHAR(64) PRIMARY KEY, tenant VARCHAR(200) NOT NULL, owner VARCHAR(200) NOT NULL,"
        " principal TEXT NOT NULL, credential TEXT NOT NULL, kind VARCHAR(20) NOT NULL,"
        " backend VARCHAR(200) NOT NULL, state VARCHAR(12) NOT NULL, priority INTEGER NOT NULL,"
        " cost DOUBLE PRECISION NOT NULL, created DOUBLE PRECISION NOT NULL,"
        " updated DOUBLE PRECISION NOT NULL, attempt INTEGER NOT NULL,"
        " worker VARCHAR(100) NOT NULL,"
        " lease DOUBLE PRECISION NOT NULL, idem VARCHAR(200) NOT NULL, digest VARCHAR(64) NOT NULL,"
        " body TEXT NOT NULL, outcome TEXT, UNIQUE (tenant, owner, idem))"
    ),
    (
        "CREATE INDEX IF NOT EXISTS gateway_job_queue"
        " ON gateway_job (state, tenant, priority, created)"
    ),
    "CREATE INDEX IF NOT EXISTS gateway_job_list ON gateway_job (tenant, created, id)",
    (
        "CREATE TABLE IF NOT EXISTS gateway_tenant (name VARCHAR(200) PRIMARY KEY,"
        " weight DOUBLE PRECISION NOT NULL, vtime DOUBLE PRECISION NOT NULL,"
        " settings TEXT NOT NULL)"
    ),
    (
        "CREATE TABLE IF NOT EXISTS gateway_bucket (scope VARCHAR(400) PRIMARY KEY,"
        " tokens DOUBLE PRECISION NOT NULL, at DOUBLE PRECISION NOT NULL)"
    ),
    (
        "CREATE TABLE IF NOT EXISTS gateway_intent (job VARCHAR(64) PRIMARY KEY,"
        " attempt INTEGER NOT NULL, state VARCHAR(12) NOT NULL, at DOUBLE PRECISION NOT NULL,"
        " result TEXT)"
    ),
)
#: The row that keeps the queue's own virtual time; no tenant can have this name.
_NOW = "\n"
FINAL = ("done", "failed", "cancelled")
_COLUMNS = (
    "id, tenant, owner, principal, credential, kind, backend, state, priority, created, updated,"
    " attempt, worker, body, outcome"
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
    bucket: str
    rate: float
    burst: float
    keyed: bool = True


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
    body: str
    outcome: dict[str, Any] | None


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


def _row(row: Sequence[Any]) -> JobRow:
    *fields, outcome = row
    names = [n.strip() for n in _COLUMNS.split(",")][:-1]
    values = dict(zip(names, fields, strict=True))
    return JobRow(**values, outcome=json.loads(outcome) if outcome else None)


class GatewayStore:
    """Jobs and tenants.

    Args:
        engine: from `interlock.access.store.open_database`.
        clock: seconds since the epoch.
    """

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.time) -> None:
        from sqlalchemy import text

        self.engine = engine
        self.clock = clock
        self.text = lru_cache(maxsize=256)(text)
        self._postgres = engine.dialect.name == "postgresql"
        with transaction(engine) as db:
            self._serial(db)
            for statement in _TABLES:
                db.execute(text(statement))

    def _serial(self, db: Connection) -> None:
        """Let one transaction of this kind run at a time; SQLite's writers do so anyway."""
        if self._postgres:
            db.execute(self.text("SELECT pg_advisory_xact_lock(731601)"))

    def _do(self, sql: str, **values: Any) -> int:
        with transaction(self.engine) as db:
            return int(db.execute(self.text(sql), values).rowcount)

    def _all(self, sql: str, **values: Any) -> list[Any]:
        with transaction(self.engine) as db:
            return list(db.execute(self.text(sql), values))

    # -- submission

    def add(self, jobs: Sequence[NewJob]) -> list[tuple[str, str | float]]:
        """Add jobs in one transaction, in order.

        Returns:
            For each: (`new`, id); (`same`, id of the job that this idempotency key made before);
            (`other`, its id) when the key was used for another job; (`limited`, seconds to wait);
            (`full`, 0) when the tenant's queue is full.
        """
        out: list[tuple[str, str | float]] = []
        now = self.clock()
        with transaction(self.engine) as db:
            self._serial(db)
            room: dict[str, int] = {}
            buckets: dict[str, tuple[float, float]] = {}
            keyed: dict[tuple[str, str, str], tuple[str, str]] = {}
            fresh: list[dict[str, Any]] = []
            for job in jobs:
                name = (job.tenant, job.owner, job.idem)
                known = keyed.get(name) or (self._keyed(db, name) if job.keyed else None)
                if known is not None:
                    out.append(("same" if known[1] == job.digest else "other", known[0]))
                    continue
                wait = self._take(db, buckets, job, now)
                if wait > 0:
                    out.append(("limited", wait))
                    continue
                if job.tenant not in room:
                    room[job.tenant] = self._room(db, job.tenant)
                if room[job.tenant] <= 0:
                    out.append(("full", 0.0))
                    continue
                room[job.tenant] -= 1
                keyed[name] = (job.id, job.digest)
                fresh.append(
                    {
                        "id": job.id, "tenant": job.tenant, "owner": job.owner,
                        "principal": job.principal, "credential": job.credential,
                        "kind": job.kind, "backend": job.backend, "priority": job.priority,
                        "cost": job.cost, "now": now, "idem": job.idem, "digest": job.digest,
                        "body": job.body,
                    }
                )  # fmt: skip
                out.append(("new", job.id))
            if fresh:
                db.execute(
                    self.text(
                        "INSERT INTO gateway_job VALUES (:id, :tenant, :owner, :principal,"
                        " :credential, :kind, :backend, 'queued', :priority, :cost, :now, :now, 0,"
                        " '', 0, :idem, :digest, :body, NULL)"
                    ),
                    fresh,
                )
            for scope, (tokens, at) in buckets.items():
                db.execute(
                    self.text(
                        "INSERT INTO gateway_bucket VALUES (:s, :tokens, :at) ON CONFLICT (scope)"
                        " DO UPDATE SET tokens = excluded.tokens, at = excluded.at"
                    ),
                    {"s": scope, "tokens": tokens, "at": at},
                )
        return out

    def _keyed(self, db: Connection, name: tuple[str, str, str]) -> tuple[str, str] | None:
        row = db.execute(
            self.text(
                "SELECT id, digest FROM gateway_job"
                " WHERE tenant = :tenant AND owner = :owner AND idem = :idem"
            ),
            {"tenant": name[0], "owner": name[1], "idem": name[2]},
        ).fetchone()
        return (str(row[0]), str(row[1])) if row else None

    def _room(self, db: Connection, tenant: str) -> int:
        """Return how many more jobs may wait; a tenant that had none arrives now."""
        limit = self.tenant(tenant, db).max_queued
        waiting = int(
            db.execute(
                self.text(
                    "SELECT count(*) FROM (SELECT 1 FROM gateway_job"
                    " WHERE state = 'queued' AND tenant = :t LIMIT :limit) AS q"
                ),
                {"t": tenant, "limit": limit},
            ).scalar_one()
        )
        if waiting == 0:
            self._arrive(db, tenant)
        return limit - waiting

    def _arrive(self, db: Connection, tenant: str) -> None:
        """Bring a tenant that had nothing waiting up to now: it does not save up its share."""
        db.execute(
            self.text(
                "INSERT INTO gateway_tenant SELECT :n, 1.0, coalesce(max(vtime), 0), '{}'"
                " FROM gateway_tenant WHERE name = :now ON CONFLICT (name) DO UPDATE SET vtime ="
                " CASE WHEN excluded.vtime > gateway_tenant.vtime THEN excluded.vtime"
                " ELSE gateway_tenant.vtime END"
            ),
            {"n": tenant, "now": _NOW},
        )

    def _take(
        self, db: Connection, buckets: dict[str, tuple[float, float]], job: NewJob, now: float
    ) -> float:
        """Take one token; return 0, or the seconds until there is one."""
        if job.bucket not in buckets:
            row = db.execute(
                self.text("SELECT tokens, at FROM gateway_bucket WHERE scope = :s"),
                {"s": job.bucket},
            ).fetchone()
            buckets[job.bucket] = (float(row[0]), float(row[1])) if row else (job.burst, now)
        tokens, at = buckets[job.bucket]
        tokens = min(job.burst, tokens + max(0.0, now - at) * job.rate)
        if tokens < 1.0:
            return (1.0 - tokens) / job.rate
        buckets[job.bucket] = (tokens - 1.0, max(now, at))
        return 0.0

    # -- reading

    def job(self, job_id: str, tenant: str) -> JobRow | None:
        """Return a job of a tenant; another tenant's is as good as none."""
        rows = self._all(
            f"SELECT {_COLUMNS} FROM gateway_job WHERE id = :id AND tenant = :tenant",  # noqa: S608
            id=job_id,
            tenant=tenant,
        )
        return _row(rows[0]) if rows else None

    def jobs(
        self, tenant: str, *, owner: str | None, state: str | None, before: float, limit: int
    ) -> list[JobRow]:
        """Return jobs of a tenant, newest first; without body and outcome."""
        columns = _COLUMNS.replace("body, outcome", "'' AS body, NULL AS outcome")
        rows = self._all(
            f"SELECT {columns} FROM gateway_job WHERE tenant = :tenant"  # noqa: S608
            " AND created < :before AND (:owner = '' OR owner = :owner)"
            " AND (:state = '' OR state = :state) ORDER BY created DESC, id LIMIT :limit",
            tenant=tenant,
            before=before,
            owner=owner or "",
            state=state or "",
            limit=limit,
        )
        return [_row(r) for r in rows]

    def counts(self, tenant: str | None = None) -> dict[str, int]:
        """Return state -> number of jobs, of one tenant or of all."""
        rows = self._all(
            "SELECT state, count(*) FROM gateway_job WHERE (:t = '' OR tenant = :t) GROUP BY state",
            t=tenant or "",
        )
        return {state: int(count) for state, count in rows}

    # -- the queue

    def claim(self, worker: str, lease_s: float) -> JobRow | None:
        """Take the next job by weighted fair share, or None.

        The tenant served least, for its weight, comes first (start-time fair queueing); within a
        tenant the higher priority, then the older job. What a worker that died had taken comes
        back when its lease has ended.
        """
        now = self.clock()
        with transaction(self.engine) as db:
            self._serial(db)
            db.execute(
                self.text(
                    "UPDATE gateway_job SET state = 'queued', updated = :now"
                    " WHERE state = 'running' AND lease < :now"
                ),
                {"now": now},
            )
            waiting = [
                r[0]
                for r in db.execute(
                    self.text("SELECT DISTINCT tenant FROM gateway_job WHERE state = 'queued'")
                )
            ]
            if not waiting:
                return None
            running = {
                t: int(n)
                for t, n in db.execute(
                    self.text(
                        "SELECT tenant, count(*) FROM gateway_job WHERE state = 'running'"
                        " GROUP BY tenant"
                    )
                )
            }
            clocks = {
                name: float(v)
                for name, v in db.execute(self.text("SELECT name, vtime FROM gateway_tenant"))
            }
            able = []
            for name in waiting:
                tenant = self.tenant(name, db)
                if running.get(name, 0) < tenant.max_running and not any(
                    start <= now < end for start, end in tenant.windows
                ):
                    able.append((clocks.get(name, 0.0), name, tenant))
            if not able:
                return None
            start, name, tenant = min(able, key=lambda a: (a[0], a[1]))
            found = db.execute(
                self.text(
                    f"SELECT {_COLUMNS}, cost FROM gateway_job"  # noqa: S608 - constant columns
                    " WHERE state = 'queued' AND tenant = :t"
                    " ORDER BY priority DESC, created, id LIMIT 1"
                ),
                {"t": name},
            ).fetchone()
            assert found is not None  # the tenant has a queued job in this transaction
            *columns, cost = found
            job = _row(columns)
            db.execute(
                self.text(
                    "UPDATE gateway_job SET state = 'running', attempt = attempt + 1,"
                    " worker = :w, lease = :lease, updated = :now WHERE id = :id"
                ),
                {"w": worker, "lease": now + lease_s, "now": now, "id": job.id},
            )
            done = start + float(cost) / tenant.weight
            now_v = max(start, clocks.get(_NOW, 0.0))
            for row, weight, vtime in ((name, tenant.weight, done), (_NOW, 1.0, now_v)):
                db.execute(
                    self.text(
                        "INSERT INTO gateway_tenant VALUES (:n, :w, :v, '{}') ON CONFLICT (name)"
                        " DO UPDATE SET vtime = excluded.vtime"
                    ),
                    {"n": row, "w": weight, "v": vtime},
                )
            return replace(job, state="running", attempt=job.attempt + 1, worker=worker)

    def renew(self, worker: str, lease_s: float) -> None:
        """Prolong the leases of a worker that lives."""
        self._do(
            "UPDATE gateway_job SET lease = :lease WHERE worker = :w AND state = 'running'",
            lease=self.clock() + lease_s,
            w=worker,
        )

    def take_back(self, worker: str) -> int:
        """Put back into the queue what a worker of this name had taken before it started anew."""
        return self._do(
            "UPDATE gateway_job SET state = 'queued', updated = :now"
            " WHERE worker = :w AND state = 'running'",
            w=worker,
            now=self.clock(),
        )

    def holds(self, job_id: str, attempt: int) -> bool:
        """Whether this attempt still is the one that may work on the job."""
        rows = self._all(
            "SELECT 1 FROM gateway_job WHERE id = :id AND attempt = :a AND state = 'running'",
            id=job_id,
            a=attempt,
        )
        return bool(rows)

    def finish(self, job_id: str, attempt: int, state: str, outcome: dict[str, Any]) -> bool:
        """Settle a job; an attempt that was superseded settles nothing."""
        return (
            self._do(
                "UPDATE gateway_job SET state = :state, outcome = :outcome, updated = :now"
                " WHERE id = :id AND attempt = :a AND state = 'running'",
                id=job_id,
                a=attempt,
                state=state,
                outcome=json.dumps(outcome),
                now=self.clock(),
            )
            == 1
        )

    def cancel(self, job_id: str, tenant: str) -> bool:
        """Cancel a job that has not started."""
        outcome = json.dumps({"outcome": "CANCELLED"})
        return (
            self._do(
                "UPDATE gateway_job SET state = 'cancelled', updated = :now, outcome = :outcome"
                " WHERE id = :id AND tenant = :tenant AND state = 'queued'",
                id=job_id,
                tenant=tenant,
                now=self.clock(),
                outcome=outcome,
            )
            == 1
        )

    # -- provider calls

    def intend(self, job_id: str, attempt: int) -> tuple[str, str | None]:
        """Record, before the provider is called, that it will be.

        Returns:
            (`first`, None); (`sent`, None) when an earlier attempt called and never heard;
            (`answered`, its result) when an earlier attempt has the answer.
        """
        now = self.clock()
        with transaction(self.engine) as db:
            self._serial(db)
            row = db.execute(
                self.text("SELECT state, result FROM gateway_intent WHERE job = :j"), {"j": job_id}
            ).fetchone()
            if row is not None:
                return str(row[0]), row[1]
            db.execute(
                self.text("INSERT INTO gateway_intent VALUES (:j, :a, 'sent', :now, NULL)"),
                {"j": job_id, "a": attempt, "now": now},
            )
            return "first", None

    def answered(self, job_id: str, result: str) -> None:
        """Record the provider's answer."""
        self._do(
            "UPDATE gateway_intent SET state = 'answered', result = :r, at = :now WHERE job = :j",
            j=job_id,
            r=result,
            now=self.clock(),
        )

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
        self._do(
            "INSERT INTO gateway_tenant VALUES (:n, :w, 0, :s) ON CONFLICT (name)"
            " DO UPDATE SET weight = excluded.weight, settings = excluded.settings",
            n=tenant.name,
            w=tenant.weight,
            s=json.dumps(settings),
        )

    def tenants(self) -> list[Tenant]:
        """Return all tenants that were set or have run something."""
        sql = "SELECT name FROM gateway_tenant WHERE name <> :now ORDER BY name"
        names = [row[0] for row in self._all(sql, now=_NOW)]
        return [self.tenant(n) for n in names]

    def drop_tenant(self, name: str) -> None:
        """Forget a tenant, its jobs and its counters."""
        with transaction(self.engine) as db:
            self._serial(db)
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
