"""Every call of the interface, once: REST and gRPC only carry them.

A call takes who asks and what is asked for, and returns plain values. What is asked for is checked
here, by one schema, whatever carried it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any, TypeVar

import msgspec

from interlock.access.identity import Credentials, Identity, UnauthenticatedError
from interlock.errors import InputError, InterlockError
from interlock.gateway import consent, metrics
from interlock.gateway.apart import EVERY, may_give, may_measure, own_policy
from interlock.gateway.service import Gateway
from interlock.gateway.store import FINAL, Tenant

__all__ = [
    "Approval",
    "Calls",
    "JobName",
    "JobQuery",
    "ReceiptName",
    "ResultRequest",
    "Revocation",
    "StageName",
    "TenantSettings",
    "converted",
    "parsed",
]

POLL_S = 0.05
JOB_ID = r"^[0-9a-z-]{1,64}$"
STATES = "^(queued|running|done|failed|cancelled)$"
TENANT = r"^[a-z0-9-]{1,100}$"
STAGES = "^(pre-process|quantum-execute|post-process|infer|sign-off)$"
MAX_WAIT_S = 30.0
MAX_LIST = 200
MAX_TIME = 1e11
T = TypeVar("T")


class JobName(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which job."""

    id: Annotated[str, msgspec.Meta(pattern=JOB_ID)]


class ReceiptName(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which receipt."""

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=120)]


class ResultRequest(JobName, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which job, and how long to wait for its end."""

    wait: Annotated[float, msgspec.Meta(ge=0, le=MAX_WAIT_S)] = 0.0


class JobQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which jobs to list."""

    state: Annotated[str, msgspec.Meta(pattern=STATES)] | None = None
    before: Annotated[float, msgspec.Meta(ge=0, le=MAX_TIME)] = MAX_TIME
    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_LIST)] = 50


class StageName(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which stage of a pipeline; its name is the action of the rules."""

    stage: Annotated[str, msgspec.Meta(pattern=STAGES)]


class Approval(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an approver sends."""

    subject: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    gate: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]


class Revocation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an administrator sends to revoke."""

    kind: Annotated[str, msgspec.Meta(pattern="^(principal|key|token|tenant)$")]
    value: Annotated[str, msgspec.Meta(min_length=1, max_length=400)]
    reason: Annotated[str, msgspec.Meta(max_length=1000)] = ""


class TenantSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an administrator sends to change a tenant."""

    weight: Annotated[float, msgspec.Meta(gt=0, le=1000)] = 1.0
    max_running: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 100
    max_queued: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 10_000
    rate: Annotated[float, msgspec.Meta(gt=0, le=1e6)] = 50.0
    burst: Annotated[float, msgspec.Meta(ge=1, le=1e6)] = 100.0
    windows: Annotated[tuple[tuple[float, float], ...], msgspec.Meta(max_length=100)] = ()


class NamedTenantSettings(TenantSettings, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The same, with the tenant's name."""

    name: Annotated[str, msgspec.Meta(pattern=TENANT)]


def _unreadable(error: Exception, kind: type) -> InputError:
    return InputError(
        "the request cannot be read",
        code="request-format",
        got=str(error)[:300],
        expected=f"the fields of {kind.__name__}",
        fix="see docs/reference/gateway.md",
    )


def parsed(raw: bytes, kind: type[T]) -> T:
    """Read JSON as one of the structs above.

    Raises:
        InputError: it is none.
    """
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise _unreadable(error, kind) from error


def converted(plain: Any, kind: type[T]) -> T:
    """Check plain values as one of the structs above.

    Raises:
        InputError: they do not fit.
    """
    try:
        return msgspec.convert(plain, kind)
    except msgspec.ValidationError as error:
        raise _unreadable(error, kind) from error


class Calls:
    """The calls.

    Args:
        gateway: does the work.
    """

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway

    async def who(self, credentials: Credentials, *, on_socket: bool) -> Identity:
        """Return who asks; never waits on the event loop for a database or an issuer."""
        gateway = self.gateway
        if gateway.access.fresh and credentials.authorization.startswith("Bearer eyJ"):
            # Nothing here waits: the keys of the issuer are at hand, and so is what is revoked.
            return gateway.identify(credentials, on_socket=on_socket)
        return await asyncio.to_thread(gateway.identify, credentials, on_socket=on_socket)

    async def ready(self) -> bool:
        """Return whether jobs are taken: not while draining, not without the database."""
        try:
            await asyncio.to_thread(self.gateway.store.counts)
        except InterlockError:
            return False
        return self.gateway.ready

    async def jobs(self, who: Identity, asked: JobQuery) -> dict[str, Any]:
        """List jobs, newest first."""
        found = await asyncio.to_thread(
            self.gateway.list_jobs, who, state=asked.state, before=asked.before, limit=asked.limit
        )
        return {"jobs": found}

    async def job(self, who: Identity, name: JobName) -> dict[str, Any]:
        """Show a job."""
        row = await asyncio.to_thread(self.gateway.find, who, name.id)
        return self.gateway.view(row)

    async def result(
        self, who: Identity, asked: ResultRequest, again: Callable[[], Awaitable[Identity]]
    ) -> dict[str, Any] | None:
        """Return the outcome once the job has ended, or None when `wait` seconds have passed.

        Args:
            who: who asks.
            asked: which job and how long.
            again: identifies the caller anew, asked while waiting.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + asked.wait
        pause = 0.002
        while True:
            outcome = await asyncio.to_thread(self.gateway.result, who, asked.id)
            if outcome is not None or loop.time() >= end:
                return outcome
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, POLL_S)
            if pause >= POLL_S:
                # A proof of possession is good for one request only: of those, what is revoked.
                if who.method != "dpop":
                    who = await again()
                else:
                    await asyncio.to_thread(self.still, who)

    async def watch(self, who: Identity, name: JobName) -> AsyncIterator[dict[str, Any]]:
        """Yield a job's view at every change of its state until it ends.

        Raises:
            UnauthenticatedError: the session was revoked or has expired meanwhile.
            UnknownError: there is no such job.
        """
        last = ""
        while True:
            await asyncio.to_thread(self.still, who)
            row = await asyncio.to_thread(self.gateway.find, who, name.id)
            if row.state != last:
                last = row.state
                yield self.gateway.view(row)
            if row.state in FINAL:
                return
            await asyncio.sleep(POLL_S * 2)

    def still(self, who: Identity) -> None:
        """Raise when an identity was revoked or has expired meanwhile."""
        access = self.gateway.access
        revoked = access.revoked(who.principal, token=who.token, key=who.key)
        if revoked or who.expires <= access.clock():
            raise UnauthenticatedError(
                "the session has ended",
                code="unauthenticated",
                got="a credential that was revoked or has expired",
                expected="one that stands",
                fix="sign in again",
            )

    async def cancel(self, who: Identity, name: JobName) -> dict[str, Any]:
        """Cancel a job that has not started."""
        return {"cancelled": await asyncio.to_thread(self.gateway.cancel, who, name.id)}

    async def receipt(self, who: Identity, name: ReceiptName) -> dict[str, Any]:
        """Return a receipt with its inclusion proof."""
        return await asyncio.to_thread(self.gateway.receipt, who, name.id)

    async def backends(self, who: Identity) -> dict[str, Any]:
        """List the backends of the caller's tenant."""
        names = await asyncio.to_thread(self.gateway.broker.names, who.principal.tenant)
        return {"backends": names}

    async def approvals(self, who: Identity) -> dict[str, Any]:
        """List what waits for approval."""
        return {"waiting": await asyncio.to_thread(consent.waiting, self.gateway, who)}

    async def approve(self, who: Identity, asked: Approval) -> dict[str, Any]:
        """Approve a waiting job in the caller's name."""
        return await asyncio.to_thread(consent.give, self.gateway, who, asked.subject, asked.gate)

    async def revoke(self, who: Identity, asked: Revocation) -> dict[str, Any]:
        """Revoke a principal, key, token or the tenant."""
        tenant = who.principal.tenant
        await asyncio.to_thread(
            self.gateway.revoke, who, asked.kind, asked.value, tenant, asked.reason
        )
        return {"revoked": f"{asked.kind} {asked.value}"}

    async def enter(self, who: Identity, asked: StageName) -> dict[str, Any]:
        """Ask whether the caller may work in a stage of its tenant's pipelines; recorded."""
        await asyncio.to_thread(self.gateway.enter, who, asked.stage)
        return {"stage": asked.stage, "principal": who.principal.id}

    async def policy(self, who: Identity) -> dict[str, Any]:
        """Show the policy in force, without people and backends of other tenants."""
        await asyncio.to_thread(self.gateway.require, who, "read-policy")
        policy = self.gateway.policy
        every = await asyncio.to_thread(self.gateway.allowed, who, "administer", tenant=EVERY)
        document = policy.document if every else own_policy(policy.document, who.principal.tenant)
        return {"sha256": policy.sha256, "document": document}

    async def metrics(self, who: Identity) -> str:
        """Return the metrics, of all tenants together."""

        def read() -> str:
            may_measure(self.gateway, who)
            return metrics.render(self.gateway)

        return await asyncio.to_thread(read)

    async def tenant(self, who: Identity) -> dict[str, Any]:
        """Show the caller's tenant: its settings and its queue."""

        def read() -> dict[str, Any]:
            name = who.principal.tenant
            settings: dict[str, Any] = msgspec.to_builtins(self.gateway.store.tenant(name))
            return {**settings, "jobs": self.gateway.store.counts(name)}

        return await asyncio.to_thread(read)

    async def set_tenant(self, who: Identity, name: str, asked: TenantSettings) -> dict[str, Any]:
        """Make or change a tenant."""

        def write() -> dict[str, Any]:
            self.gateway.require(who, "administer", tenant=name)
            fields = {f: getattr(asked, f) for f in TenantSettings.__struct_fields__}
            after = Tenant(name=name, **fields)
            may_give(self.gateway, who, self.gateway.store.tenant(name), after)
            self.gateway.store.set_tenant(after)
            self.gateway.record("tenant", who, {"name": name, "outcome": "ALLOW"})
            return {"name": name}

        return await asyncio.to_thread(write)

    async def ledger(self, who: Identity) -> dict[str, Any]:
        """Return the signed head of the ledger."""

        def read() -> dict[str, Any]:
            self.gateway.require(who, "read-ledger")
            note = self.gateway.guard.ledger.checkpoint()
            return {"entries": len(self.gateway.guard.ledger), "checkpoint": note}

        return await asyncio.to_thread(read)
