"""The queue: who is next, who holds what, and what was sent to a provider."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from interlock.access.transactions import transaction
from interlock.errors import BackendError
from interlock.gateway.rows import COLUMNS, NOW, JobRow, Rows

__all__ = ["Queue"]


class Queue(Rows):
    """Jobs that wait and jobs that run."""

    def claim(self, worker: str, lease_s: float) -> JobRow | None:
        """Take the next job by weighted fair share, or None.

        The tenant served least, for its weight, comes first (start-time fair queueing); within a
        tenant the higher priority, then the older job. What a worker that died had taken comes
        back when its lease has ended. A run's store takes that run's jobs, any other those of none.
        """
        now = self.clock()
        with transaction(self.engine) as db:
            self.serial(db)
            db.execute(
                self.text(
                    "UPDATE gateway_job SET state = 'queued', updated = :now"
                    " WHERE state = 'running' AND run = :run AND lease < :now"
                ),
                {"now": now, "run": self.run},
            )
            waiting = [
                r[0]
                for r in db.execute(
                    self.text(
                        "SELECT DISTINCT tenant FROM gateway_job"
                        " WHERE state = 'queued' AND run = :run"
                    ),
                    {"run": self.run},
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
                    f"SELECT {COLUMNS}, cost FROM gateway_job"  # noqa: S608 - constant columns
                    " WHERE state = 'queued' AND tenant = :t AND run = :run"
                    " ORDER BY priority DESC, created, id LIMIT 1"
                ),
                {"t": name, "run": self.run},
            ).fetchone()
            assert found is not None  # the tenant has a queued job in this transaction
            *columns, cost = found
            job = self.read_row(columns)
            db.execute(
                self.text(
                    "UPDATE gateway_job SET state = 'running', attempt = attempt + 1,"
                    " worker = :w, lease = :lease, updated = :now WHERE id = :id"
                ),
                {"w": worker, "lease": now + lease_s, "now": now, "id": job.id},
            )
            done = start + float(cost) / tenant.weight
            now_v = max(start, clocks.get(NOW, 0.0))
            for row, weight, vtime in ((name, tenant.weight, done), (NOW, 1.0, now_v)):
                db.execute(
                    self.text(
                        "INSERT INTO gateway_tenant VALUES (:n, :w, :v, '{}') ON CONFLICT (name)"
                        " DO UPDATE SET vtime = excluded.vtime"
                    ),
                    {"n": row, "w": weight, "v": vtime},
                )
            return replace(job, state="running", attempt=job.attempt + 1, worker=worker)

    def renew(self, held: Iterable[tuple[str, int]], lease_s: float) -> None:
        """Prolong the leases of attempts (job, number) that go on; what was given up runs out."""
        lease = self.clock() + lease_s
        rows = [{"id": job, "a": attempt, "lease": lease} for job, attempt in held]
        if rows:
            with transaction(self.engine) as db:
                db.execute(
                    self.text(
                        "UPDATE gateway_job SET lease = :lease"
                        " WHERE id = :id AND attempt = :a AND state = 'running'"
                    ),
                    rows,
                )

    def take_back(self, worker: str) -> int:
        """Put back into the queue what a worker of this name had taken before it started anew."""
        return self.change(
            "UPDATE gateway_job SET state = 'queued', updated = :now"
            " WHERE worker = :w AND state = 'running'",
            w=worker,
            now=self.clock(),
        )

    def holds(self, job_id: str, attempt: int) -> bool:
        """Whether this attempt still is the one that may work on the job."""
        rows = self.read(
            "SELECT 1 FROM gateway_job WHERE id = :id AND attempt = :a AND state = 'running'",
            id=job_id,
            a=attempt,
        )
        return bool(rows)

    def finish(self, job_id: str, attempt: int, state: str, outcome: dict[str, Any]) -> bool:
        """Settle a job; an attempt that was superseded settles nothing."""
        sealed = self.sealed_for(job_id, "outcome", json.dumps(outcome))
        return (
            self.change(
                "UPDATE gateway_job SET state = :state, outcome = :outcome, updated = :now"
                " WHERE id = :id AND attempt = :a AND state = 'running'",
                id=job_id,
                a=attempt,
                state=state,
                outcome=sealed,
                now=self.clock(),
            )
            == 1
        )

    def cancel(self, job_id: str, tenant: str) -> bool:
        """Cancel a job that has not started."""
        outcome = self.sealed_for(job_id, "outcome", json.dumps({"outcome": "CANCELLED"}))
        return (
            self.change(
                "UPDATE gateway_job SET state = 'cancelled', updated = :now, outcome = :outcome"
                " WHERE id = :id AND tenant = :tenant AND state = 'queued'",
                id=job_id,
                tenant=tenant,
                now=self.clock(),
                outcome=outcome,
            )
            == 1
        )

    def abandon(self, run: str) -> None:
        """Settle the jobs of a run that has ended: nobody takes them any more."""
        rows = self.read(
            "SELECT id, tenant, attempt, state FROM gateway_job"
            " WHERE run = :run AND state IN ('queued', 'running')",
            run=run,
        )
        for job_id, tenant, attempt, state in rows:
            if state == "queued":
                self.cancel(job_id, tenant)
                continue
            error = BackendError(
                "the run ended while the job ran, and may have called the provider",
                code="execution-uncertain",
                got=f"job {job_id}, attempt {attempt}",
                expected="a run that lives until its jobs have ended",
                fix="look the job up at the provider; submit it again if it never ran",
            )
            outcome = {"outcome": "FAILED", "error": error.as_dict()}
            self.finish(job_id, attempt, "failed", outcome)

    # -- provider calls

    def intend(self, job_id: str, attempt: int) -> tuple[str, str | None]:
        """Record, before the provider is called, that it will be.

        Returns:
            (`first`, None); (`sent`, None) when an earlier attempt called and never heard;
            (`answered`, its result) when an earlier attempt has the answer.
        """
        now = self.clock()
        with transaction(self.engine) as db:
            self.serial(db)
            row = db.execute(
                self.text("SELECT state, result FROM gateway_intent WHERE job = :j"), {"j": job_id}
            ).fetchone()
            if row is not None:
                answer = None if row[1] is None else self.opened(f"result/{job_id}", row[1])
                return str(row[0]), answer
            db.execute(
                self.text("INSERT INTO gateway_intent VALUES (:j, :a, 'sent', :now, NULL)"),
                {"j": job_id, "a": attempt, "now": now},
            )
            return "first", None

    def answered(self, job_id: str, result: str) -> None:
        """Record the provider's answer."""
        self.change(
            "UPDATE gateway_intent SET state = 'answered', result = :r, at = :now WHERE job = :j",
            j=job_id,
            r=self.sealed_for(job_id, "result", result),
            now=self.clock(),
        )
