"""The gateway's jobs, tenants and counters, in SQLite or PostgreSQL. The tenant is in every key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from interlock.access.transactions import transaction
from interlock.gateway.queue import Queue
from interlock.gateway.rows import COLUMNS, FINAL, NOW, JobRow, NewJob, Tenant

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["FINAL", "GatewayStore", "JobRow", "NewJob", "Tenant"]


class GatewayStore(Queue):
    """Jobs and tenants: what comes in, and what is asked about it; see `Queue` for the rest."""

    # -- submission

    def add(
        self,
        jobs: Sequence[NewJob],
        tell: Callable[[list[tuple[str, str | float]]], None] | None = None,
    ) -> list[tuple[str, str | float]]:
        """Add jobs in one transaction, in order.

        Args:
            jobs: what was submitted.
            tell: given the answer before the transaction is committed.

        Returns:
            For each: (`new`, id); (`same`, id of the job that this idempotency key made before);
            (`other`, its id) when the key was used for another job; (`limited`, seconds to wait);
            (`full`, 0) when the tenant's queue is full.
        """
        out: list[tuple[str, str | float]] = []
        now = self.clock()
        with transaction(self.engine) as db:
            self.serial(db)
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
                    room[job.tenant] = self._room(db, job)
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
                        "trace": job.trace, "run": self.run, "body": self.sealed(
                            f"body/{job.id}", job.body, subject=job.subject, label=job.label
                        ),
                    }
                )  # fmt: skip
                out.append(("new", job.id))
            if fresh:
                db.execute(
                    self.text(
                        "INSERT INTO gateway_job VALUES (:id, :tenant, :owner, :principal,"
                        " :credential, :kind, :backend, 'queued', :priority, :cost, :now, :now, 0,"
                        " '', 0, :idem, :digest, :body, NULL, :trace, :run)"
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
            if tell is not None:
                tell(out)
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

    def _room(self, db: Connection, job: NewJob) -> int:
        """Return how many more jobs may wait; a tenant that had none arrives now."""
        tenant, limit = job.tenant, job.max_queued
        if limit is None:
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
            {"n": tenant, "now": NOW},
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
        rows = self.read(
            f"SELECT {COLUMNS} FROM gateway_job WHERE id = :id AND tenant = :tenant",  # noqa: S608
            id=job_id,
            tenant=tenant,
        )
        return self.read_row(rows[0]) if rows else None

    def jobs(
        self, tenant: str, *, owner: str | None, state: str | None, before: float, limit: int
    ) -> list[JobRow]:
        """Return jobs of a tenant, newest first; without body and outcome."""
        columns = COLUMNS.replace("body, outcome", "'' AS body, NULL AS outcome")
        rows = self.read(
            f"SELECT {columns} FROM gateway_job WHERE tenant = :tenant"  # noqa: S608
            " AND created < :before AND (:owner = '' OR owner = :owner)"
            " AND (:state = '' OR state = :state) ORDER BY created DESC, id LIMIT :limit",
            tenant=tenant,
            before=before,
            owner=owner or "",
            state=state or "",
            limit=limit,
        )
        return [self.read_row(r) for r in rows]

    def counts(self, tenant: str | None = None) -> dict[str, int]:
        """Return state -> number of jobs, of one tenant or of all."""
        rows = self.read(
            "SELECT state, count(*) FROM gateway_job WHERE (:t = '' OR tenant = :t) GROUP BY state",
            t=tenant or "",
        )
        return {state: int(count) for state, count in rows}
