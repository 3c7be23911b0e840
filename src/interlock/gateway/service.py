"""What the gateway does, whatever the interface: REST, gRPC and console all call this."""

from __future__ import annotations

import asyncio
import hashlib
import re
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from interlock.access.cedar import ACTIONS, Authoriser
from interlock.access.identity import Authenticator, Credentials, Identity, Issuer
from interlock.access.store import AccessStore
from interlock.crypto.keys import KeyStore
from interlock.errors import InputError
from interlock.gateway.broker import Broker
from interlock.gateway.errors import ConflictError, ForbiddenError, LimitedError, unknown
from interlock.gateway.intake import Intake
from interlock.gateway.logs import FACTS, log
from interlock.gateway.store import FINAL, GatewayStore, JobRow, NewJob, Tenant
from interlock.gateway.traces import traceparent
from interlock.gateway.wire import parse_submission
from interlock.gateway.work import outcome_view
from interlock.guard.admit.authorisation import authoriser_of
from interlock.guard.policy import Policy
from interlock.guard.record import person, scope_of
from interlock.guard.service import Guard
from interlock.types import Principal

__all__ = ["Gateway"]

#: A longer body is read beside the event loop.
LONG = 32_768
_KEY = re.compile(r"[\x21-\x7e]{0,200}")
#: What a program in the sandbox may do.
SANDBOXED = ("submit", "read", "cancel")


class Gateway:
    """The gateway's services.

    Args:
        home: folder of ledger, state and keys.
        policy: the policy in force.
        guard: with the ledger that everything is recorded in.
        store: jobs and tenants.
        access: keys, revocations, approvals.
        broker: the backends.
        issuers: identity providers.
        local: the principal of whoever may use the Unix socket, or None. Where the store is one
            run's, that is a program in the sandbox, which may submit, and see its own jobs.
    """

    def __init__(
        self,
        *,
        home: Path,
        policy: Policy,
        guard: Guard,
        store: GatewayStore,
        access: AccessStore,
        broker: Broker,
        issuers: Sequence[Issuer] = (),
        local: Principal | None = None,
    ) -> None:
        self.home = home
        self.policy = policy
        self.guard = guard
        self.store = store
        self.access = access
        self.broker = broker
        self.local = local
        self.authenticator = Authenticator(access, tuple(issuers))
        self.keys = KeyStore(home / "keys")
        self.on_submit: list[Any] = []
        self.ready = True
        self.counters: dict[tuple[str, str], int] = {}
        self._counters_lock = threading.Lock()
        self._authoriser: Authoriser | None = None
        for bound in policy.controls("admit"):
            if bound.id == "authorisation" and bound.control is not None:
                self._authoriser = authoriser_of(bound.settings)
        self.intake = Intake(store, guard.ledger)
        self._tenants: dict[str, tuple[float, Tenant]] = {}

    # -- who and whether

    def identify(self, credentials: Credentials, *, on_socket: bool) -> Identity:
        """Return who asks; on the Unix socket of an embedded gateway, its owner."""
        if on_socket and self.local is not None and not credentials.authorization:
            scopes = SANDBOXED if self.store.run else ()
            return Identity(principal=self.local, method="socket", scopes=scopes)
        try:
            return self.authenticator.authenticate(credentials)
        except Exception:
            self.count("refused", "unauthenticated")
            raise

    def count(self, what: str, label: str) -> None:
        """Count something for the metrics."""
        with self._counters_lock:
            key = (what, label)
            self.counters[key] = self.counters.get(key, 0) + 1

    def fault(self, error: Exception, call: str) -> None:
        """Count and log a failure of the gateway itself."""
        self.count("fault", type(error).__name__)
        log.error("the gateway failed", exc_info=error, extra={FACTS: {"call": call}})

    def allowed(
        self,
        who: Identity,
        action: str,
        *,
        owner: str = "",
        tenant: str = "",
        context: Mapping[str, Any] | None = None,
    ) -> bool:
        """Ask whether a principal may do something; `context` as the action's schema has it."""
        principal = who.principal
        tenant = tenant or principal.tenant
        if who.scopes and action not in who.scopes:
            return False
        if self._authoriser is None:
            # Without rules the embedded default holds: the owner of the home may do everything,
            # others may look after their own jobs.
            own = tenant == principal.tenant and owner in (principal.id, principal.on_behalf_of)
            local = self.local is not None and principal == self.local
            return local or (own and action in ("read", "cancel"))
        if action in ("read", "cancel", "approve"):
            resource = Authoriser.job("job", tenant, owner)
        elif ACTIONS.get(action) == "Stage":
            resource = Authoriser.stage(action, tenant)
        else:
            resource = Authoriser.tenant(tenant)
        return self._authoriser.ask(principal, action, resource, context).allowed

    def require(
        self,
        who: Identity,
        action: str,
        *,
        owner: str = "",
        tenant: str = "",
        context: Mapping[str, Any] | None = None,
    ) -> None:
        """Raise unless a principal may do something; the refusal is recorded.

        Raises:
            ForbiddenError: it may not.
        """
        if self.allowed(who, action, owner=owner, tenant=tenant, context=context):
            return
        self.record("access", who, {"action": action, "outcome": "DENY"}, wait=False)
        self.count("refused", action)
        raise ForbiddenError(
            "the rules do not let you do this",
            code="forbidden",
            got=f"{action} by {who.principal.tenant}/{who.principal.id}",
            expected="a rule that permits it",
            fix="ask the owner of the policy",
        )

    def record(
        self, event: str, who: Identity, payload: Mapping[str, Any], *, wait: bool = True
    ) -> None:
        """Put an event into the ledger, with the whole principal."""
        body = {
            **payload,
            "principal": msgspec.to_builtins(who.principal),
            "method": who.method,
            "credential": who.token or who.key,
        }
        header = {"tenant": who.principal.tenant, "outcome": str(payload.get("outcome", "ALLOW"))}
        pending = self.guard.ledger.append(event, header, body, subject=person(who.principal))
        if wait:
            pending.wait(30.0)

    # -- jobs

    async def submit(
        self, who: Identity, raw: bytes, key: str, trace: str = ""
    ) -> tuple[dict[str, Any], bool]:
        """Put a job into the queue, once for each idempotency key.

        Args:
            who: who submits.
            raw: the submission's bytes.
            key: the client's idempotency key; empty makes a fresh one.
            trace: the client's `traceparent`, or empty; one that is none counts as empty.

        Returns:
            The job's view, and whether this call made it.

        Raises:
            InputError: the submission is wrong.
            LimitedError: too many, too fast.
            ConflictError: the key was used for another job.
        """
        if len(raw) > LONG or b'"qasm3"' in raw:
            job = await asyncio.to_thread(parse_submission, raw)
        else:
            job = parse_submission(raw)
        if who.scopes and "submit" not in who.scopes:
            self.require(who, "submit")
        if not _KEY.fullmatch(key):
            raise InputError(
                "the request cannot be read",
                code="request-format",
                got=f"an idempotency key of {len(key)} characters: {key[:40]!r}",
                expected="at most 200 printable characters without spaces",
                fix="send for instance a UUID",
            )
        principal = who.principal
        cached = self._tenants.get(principal.tenant)
        if cached is not None and time.monotonic() - cached[0] <= 1.0:
            tenant = cached[1]
        else:
            tenant = await asyncio.to_thread(self._tenant_settings, principal.tenant)
        job_id = f"{int(time.time() * 1000):012x}{self.intake.token()}"
        encoded = msgspec.json.encode(job)
        new = NewJob(
            id=job_id,
            tenant=principal.tenant,
            owner=principal.id,
            principal=msgspec.json.encode(principal).decode(),
            credential=msgspec.json.encode({"token": who.token, "key": who.key}).decode(),
            kind=job.kind,
            backend=job.backend,
            priority=job.priority,
            cost=1.0 + job.shots / 10_000,
            idem=self._once(key) if key else f"\n{job_id}",
            digest=hashlib.sha256(encoded).hexdigest(),
            body=encoded.decode(),
            **scope_of(principal, job.labels),
            bucket=f"{principal.tenant}/{principal.id}",
            rate=tenant.rate,
            burst=tenant.burst,
            keyed=bool(key),
            method=who.method,
            max_queued=tenant.max_queued,
            trace=traceparent(trace),
        )
        result, value = await self.intake.add(new)
        if result == "limited":
            self.count("refused", "limited")
            error = LimitedError(
                "too many jobs in too short a time",
                code="rate-limited",
                got=f"more than {tenant.burst:g} at once, {tenant.rate:g} a second",
                expected="fewer",
                fix=f"wait {float(value):.2f} s",
            )
            error.retry_after_s = float(value)
            raise error
        if result == "full":
            raise LimitedError(
                "the tenant's queue is full",
                code="queue-full",
                got=f"{tenant.max_queued} jobs waiting",
                expected="fewer",
                fix="wait until some have run",
            )
        if result == "other":
            raise ConflictError(
                "this idempotency key was used for another job",
                code="idempotency-key",
                got=key[:80],
                expected="a new key for a new job",
                fix="use a new key",
            )
        if result == "new":
            self.count("submitted", principal.tenant)
            for notify in self.on_submit:
                notify()
        return {"id": str(value), "state": "queued"}, result == "new"

    def _once(self, key: str) -> str:
        """Return an idempotency key that is this run's own: it sees no other's jobs."""
        run = self.store.run
        return hashlib.sha256(f"{run}\n{key}".encode()).hexdigest() if run else key

    def _tenant_settings(self, name: str) -> Tenant:
        found = self._tenants.get(name)
        if found is None or time.monotonic() - found[0] > 1.0:
            found = (time.monotonic(), self.store.tenant(name))
            self._tenants = {**self._tenants, name: found}
        return found[1]

    def find(self, who: Identity, job_id: str, action: str = "read") -> JobRow:
        """Return a job of the caller's tenant that it may read (or cancel).

        Raises:
            UnknownError: none, another tenant's, or not to be read: all alike.
        """
        row = self.store.job(job_id, who.principal.tenant)
        if row is None or not self._mine(row):
            raise unknown("job", job_id)
        if not self.allowed(who, action, owner=row.owner, tenant=row.tenant):
            raise unknown("job", job_id)
        return row

    def view(self, row: JobRow) -> dict[str, Any]:
        """Return what the interface shows of a job."""
        return {
            "id": row.id,
            "state": row.state,
            "owner": row.owner,
            "kind": row.kind,
            "backend": row.backend,
            "priority": row.priority,
            "created": row.created,
            "updated": row.updated,
            "attempts": row.attempt,
            "outcome": outcome_view(row.outcome),
        }

    def list_jobs(
        self, who: Identity, *, state: str | None, before: float, limit: int
    ) -> list[dict[str, Any]]:
        """Return the jobs the caller may read, newest first."""
        everything = self.allowed(who, "read", owner="(anybody)")
        if not everything:
            self.require(who, "read", owner=who.principal.id)
        rows = self.store.jobs(
            who.principal.tenant,
            owner=None if everything else who.principal.id,
            state=state,
            before=before,
            limit=limit,
        )
        return [self.view(r) for r in rows if self._mine(r)]

    def _mine(self, row: JobRow) -> bool:
        """Whether a job is of this run, where the gateway serves a program in the sandbox."""
        return self.store.run in ("", row.run)

    def result(self, who: Identity, job_id: str) -> dict[str, Any] | None:
        """Return the whole outcome of a job that has ended, or None."""
        row = self.find(who, job_id)
        return row.outcome if row.state in FINAL else None

    def cancel(self, who: Identity, job_id: str) -> bool:
        """Cancel a job that has not started; return whether it was."""
        row = self.find(who, job_id, "cancel")
        done = self.store.cancel(row.id, row.tenant)
        self.record("cancel", who, {"job": row.id, "outcome": "ALLOW" if done else "LATE"})
        return done

    # -- the rest

    def receipt(self, who: Identity, receipt_id: str) -> dict[str, Any]:
        """Return a receipt with its proof, if its job may be read.

        Raises:
            UnknownError: there is none, or its job may not be read: both alike.
        """
        try:
            entry = self.guard.ledger.find(receipt_id)
            job = str(entry.header.get("job", ""))
            self.find(who, job)
        except InputError as error:
            raise unknown("receipt", receipt_id) from error
        proof = self.guard.ledger.prove(entry.index)
        return {"id": entry.id, "index": entry.index, "job": job, "proof": str(proof)}

    def enter(self, who: Identity, stage: str) -> None:
        """Record that a principal begins to work in a stage, if it may.

        Raises:
            ForbiddenError: it may not; that is recorded too.
        """
        self.require(who, stage)
        self.record("stage", who, {"stage": stage, "outcome": "ALLOW"})

    def revoke(self, who: Identity, kind: str, value: str, tenant: str, reason: str) -> None:
        """Revoke a principal, a key, a token or a tenant."""
        self.require(who, "administer", tenant=tenant)
        self.access.revoke(kind, value, tenant, reason)
        self.record("revoke", who, {"kind": kind, "value": value, "of": tenant, "outcome": "ALLOW"})
