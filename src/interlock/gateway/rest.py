"""The REST interface. Every error is `application/problem+json` with a stable code (RFC 9457)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, TypeVar

import msgspec
from fastapi import FastAPI, Header, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import StreamingResponse
from starlette.exceptions import HTTPException

from interlock.access.identity import Credentials, Identity
from interlock.errors import InputError, InterlockError, InternalError
from interlock.gateway.errors import LimitedError, status_of
from interlock.gateway.service import Gateway
from interlock.gateway.store import FINAL, Tenant
from interlock.gateway.wire import MAX_BODY, Submission

__all__ = ["build_app", "credentials_of"]

PROBLEM = "application/problem+json"
DOCS = "https://interlock.invalid/docs/reference/errors.md"
POLL_S = 0.05
RECHECK_S = 1.0
JobId = Annotated[str, Path(pattern=r"^[0-9a-z-]{1,64}$")]
T = TypeVar("T")


def problem(error: InterlockError) -> Response:
    """Return an error as a response."""
    status = status_of(error)
    body = {
        "type": f"{DOCS}#{error.code}",
        "title": error.message,
        "status": status,
        "code": error.code,
        "got": error.got,
        "expected": error.expected,
        "fix": error.fix,
    }
    headers = {"cache-control": "no-store"}
    if isinstance(error, LimitedError):
        headers["retry-after"] = str(max(1, round(error.retry_after_s)))
    if status == 401:
        headers["www-authenticate"] = "Bearer, DPoP"
    return Response(json.dumps(body), status, headers, PROBLEM)


def credentials_of(request: Request) -> tuple[Credentials, bool]:
    """Return what a request carries, and whether it came in by the Unix socket."""
    state = request.scope.get("state") or {}
    headers = request.headers
    peer = state.get("tls", ("", ""))
    credentials = Credentials(
        authorization=headers.get("authorization", ""),
        dpop=headers.get("dpop", ""),
        method=request.method,
        url=str(request.url.replace(query="")),
        certificate_uri=peer[0],
        certificate_sha256=peer[1],
    )
    return credentials, bool(state.get("on_socket"))


async def body_of(request: Request) -> bytes:
    """Read a body up to the limit; a larger one is refused before it is read whole."""
    parts: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BODY:
            raise InputError(
                "the body is too large",
                code="job-too-large",
                got=f"more than {MAX_BODY} B",
                expected=f"at most {MAX_BODY} B",
                fix="split the job",
            )
        parts.append(chunk)
    return b"".join(parts)


def _parsed(raw: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InputError(
            "the request cannot be read",
            code="request-format",
            got=str(error)[:300],
            expected=f"the JSON of {kind.__name__}",
            fix="see docs/reference/gateway.md",
        ) from error


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


def _schema(kind: Any) -> dict[str, Any]:
    (schema,), parts = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    return {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {**schema, "$defs": parts}}},
        }
    }


_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "content": {PROBLEM: {}}}
    for status, text in (
        (401, "Who asks could not be shown"),
        (403, "The rules forbid it"),
        (404, "There is no such thing in this tenant"),
        (405, "No such method here"),
        (409, "It contradicts what was done before"),
        (422, "Something in the request is wrong"),
        (429, "Too much, too fast"),
        (503, "The gateway cannot answer now"),
    )
}


def build_app(gateway: Gateway, *, title: str = "Interlock gateway") -> FastAPI:
    """Return the application."""
    app = FastAPI(
        title=title, version="1", docs_url=None, redoc_url=None, responses=_PROBLEMS,
        openapi_url="/v1/openapi.json", redirect_slashes=False,
    )  # fmt: skip

    async def who(request: Request) -> Identity:
        credentials, on_socket = credentials_of(request)
        if gateway.access.fresh and credentials.authorization.startswith("Bearer eyJ"):
            # Nothing here waits: the keys of the issuer are at hand, and so is what is revoked.
            return gateway.identify(credentials, on_socket=on_socket)
        return await asyncio.to_thread(gateway.identify, credentials, on_socket=on_socket)

    async def call(request: Request, work: Callable[[Identity], T]) -> T:
        identity = await who(request)
        return await asyncio.to_thread(work, identity)

    @app.exception_handler(InterlockError)
    async def _ours(_: Request, error: InterlockError) -> Response:
        return problem(error)

    @app.exception_handler(RequestValidationError)
    async def _shape(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(p) for p in first.get("loc", ()))
        return problem(
            InputError(
                "the request cannot be read",
                code="request-format",
                got=f"{where}: {first.get('msg', '')}"[:300],
                expected="what /v1/openapi.json describes",
                fix="mend the parameter named above",
            )
        )

    @app.exception_handler(HTTPException)
    async def _http(_: Request, error: HTTPException) -> Response:
        body = {
            "type": f"{DOCS}#http-{error.status_code}",
            "title": str(error.detail),
            "status": error.status_code,
            "code": f"http-{error.status_code}",
        }
        return Response(json.dumps(body), error.status_code, error.headers, PROBLEM)

    @app.exception_handler(Exception)
    async def _fault(_: Request, error: Exception) -> Response:
        gateway.count("fault", type(error).__name__)
        return problem(
            InternalError(
                "the gateway failed",
                code="gateway-fault",
                got=type(error).__name__,
                expected="an answer",
                fix="tell the operator the time and the path",
            )
        )

    @app.get("/healthz")
    async def health() -> dict[str, str]:
        """Say that the process lives."""
        return {"status": "ok"}

    @app.get("/readyz")
    async def ready() -> Response:
        """Say whether it takes jobs: not while draining, not without its database."""
        try:
            await asyncio.to_thread(gateway.store.counts)
            fine = gateway.ready
        except InterlockError:
            fine = False
        return Response(json.dumps({"ready": fine}), 200 if fine else 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        """Counters in Prometheus' text format; no tenant and no principal in any label."""
        counts = await asyncio.to_thread(gateway.store.counts)
        lines = ["# TYPE quantum_jobs gauge"]
        lines += [f'quantum_jobs{{state="{s}"}} {n}' for s, n in sorted(counts.items())]
        totals: dict[tuple[str, str], int] = {}
        for (what, label), n in list(gateway.counters.items()):
            shown = "" if what == "submitted" else label
            totals[what, shown] = totals.get((what, shown), 0) + n
        for what in sorted({w for w, _ in totals}):
            lines.append(f"# TYPE quantum_gateway_{what}_total counter")
            lines += [
                f'quantum_gateway_{what}_total{{reason="{r}"}} {n}'
                for (w, r), n in sorted(totals.items())
                if w == what
            ]
        return Response("\n".join(lines) + "\n", media_type="text/plain; version=0.0.4")

    @app.post("/v1/jobs", status_code=202, openapi_extra=_schema(Submission))
    async def submit(
        request: Request,
        idempotency_key: Annotated[str, Header(max_length=200, pattern=r"^[\x21-\x7e]*$")] = "",
    ) -> Response:
        """Put a job into the queue. The same Idempotency-Key never makes a second job."""
        identity = await who(request)
        raw = await body_of(request)
        view, new = await gateway.submit(identity, raw, idempotency_key)
        status = 202 if new else 200
        return Response(json.dumps(view), status, {"location": f"/v1/jobs/{view['id']}"},
                        "application/json")  # fmt: skip

    @app.get("/v1/jobs")
    async def jobs(
        request: Request,
        state: Annotated[
            str | None, Query(pattern="^(queued|running|done|failed|cancelled)$")
        ] = None,
        before: Annotated[float, Query(ge=0, le=1e11)] = 1e11,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
    ) -> dict[str, Any]:
        """List jobs, newest first; go on with `before` = the last `created`."""
        found = await call(
            request, lambda w: gateway.list_jobs(w, state=state, before=before, limit=limit)
        )
        return {"jobs": found}

    @app.get("/v1/jobs/{job_id}")
    async def job(request: Request, job_id: JobId) -> dict[str, Any]:
        """Show a job."""
        return await call(request, lambda w: gateway.view(gateway.find(w, job_id)))

    @app.get("/v1/jobs/{job_id}/result")
    async def result(
        request: Request, job_id: JobId, wait: Annotated[float, Query(ge=0, le=30)] = 0.0
    ) -> Response:
        """Return the outcome once the job has ended; 202 while it has not."""
        identity = await who(request)
        loop = asyncio.get_running_loop()
        end = loop.time() + wait
        pause = 0.002
        while True:
            outcome = await asyncio.to_thread(gateway.result, identity, job_id)
            if outcome is not None or loop.time() >= end:
                break
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, POLL_S)
            if pause >= POLL_S:
                identity = await who(request) if identity.method != "dpop" else identity
        body = json.dumps(outcome if outcome is not None else {"state": "pending"})
        return Response(body, 200 if outcome is not None else 202, media_type="application/json")

    @app.get("/v1/jobs/{job_id}/events")
    async def events(request: Request, job_id: JobId) -> StreamingResponse:
        """Stream the job's states as server-sent events until it ends."""
        identity = await who(request)
        await asyncio.to_thread(gateway.find, identity, job_id)

        async def stream() -> AsyncIterator[str]:
            last = ""
            while not await request.is_disconnected():
                try:
                    await asyncio.to_thread(_still, gateway, identity)
                    row = await asyncio.to_thread(gateway.find, identity, job_id)
                except InterlockError as error:
                    yield f"event: error\ndata: {json.dumps(error.as_dict())}\n\n"
                    return
                if row.state != last:
                    last = row.state
                    yield f"event: state\ndata: {json.dumps(gateway.view(row))}\n\n"
                if row.state in FINAL:
                    return
                await asyncio.sleep(POLL_S * 2)

        return StreamingResponse(stream(), media_type="text/event-stream")

    @app.post("/v1/jobs/{job_id}/cancel")
    async def cancel(request: Request, job_id: JobId) -> dict[str, Any]:
        """Cancel a job that has not started."""
        return {"cancelled": await call(request, lambda w: gateway.cancel(w, job_id))}

    @app.get("/v1/receipts/{receipt_id}")
    async def receipt(
        request: Request, receipt_id: Annotated[str, Path(max_length=120)]
    ) -> dict[str, Any]:
        """Return a receipt with its inclusion proof."""
        return await call(request, lambda w: gateway.receipt(w, receipt_id))

    @app.get("/v1/backends")
    async def backends(request: Request) -> dict[str, Any]:
        """List the backends of the caller's tenant."""
        return {"backends": await call(request, lambda w: gateway.broker.names(w.principal.tenant))}

    @app.get("/v1/approvals")
    async def approvals(request: Request) -> dict[str, Any]:
        """List what waits for approval."""
        return {"waiting": await call(request, gateway.waiting)}

    @app.post("/v1/approvals", status_code=201, openapi_extra=_schema(Approval))
    async def approve(request: Request) -> dict[str, Any]:
        """Approve a waiting job in the caller's name."""
        identity = await who(request)
        wanted = _parsed(await body_of(request), Approval)
        return await asyncio.to_thread(gateway.approve, identity, wanted.subject, wanted.gate)

    @app.post("/v1/revocations", status_code=201, openapi_extra=_schema(Revocation))
    async def revoke(request: Request) -> dict[str, Any]:
        """Revoke a principal, key, token or the tenant."""
        identity = await who(request)
        wanted = _parsed(await body_of(request), Revocation)
        tenant = identity.principal.tenant
        await asyncio.to_thread(
            gateway.revoke, identity, wanted.kind, wanted.value, tenant, wanted.reason
        )
        return {"revoked": f"{wanted.kind} {wanted.value}"}

    @app.get("/v1/policy")
    async def policy(request: Request) -> dict[str, Any]:
        """Show the policy in force."""

        def read(identity: Identity) -> dict[str, Any]:
            gateway.require(identity, "read-policy")
            document = gateway.policy.document
            return {"sha256": gateway.policy.sha256, "document": document}

        return await call(request, read)

    @app.get("/v1/tenant")
    async def tenant(request: Request) -> dict[str, Any]:
        """Show the caller's tenant: its settings and its queue."""

        def read(identity: Identity) -> dict[str, Any]:
            name = identity.principal.tenant
            settings: dict[str, Any] = msgspec.to_builtins(gateway.store.tenant(name))
            return {**settings, "jobs": gateway.store.counts(name)}

        return await call(request, read)

    @app.put("/v1/tenants/{name}", openapi_extra=_schema(TenantSettings))
    async def set_tenant(
        request: Request, name: Annotated[str, Path(pattern=r"^[a-z0-9-]{1,100}$")]
    ) -> dict[str, Any]:
        """Make or change a tenant."""
        identity = await who(request)
        wanted = _parsed(await body_of(request), TenantSettings)

        def write() -> dict[str, Any]:
            gateway.require(identity, "administer", tenant=name)
            plain = msgspec.to_builtins(wanted)
            plain["windows"] = tuple(tuple(w) for w in plain["windows"])
            gateway.store.set_tenant(Tenant(name=name, **plain))
            gateway.record("tenant", identity, {"name": name, "outcome": "ALLOW"})
            return {"name": name}

        return await asyncio.to_thread(write)

    @app.get("/v1/ledger")
    async def ledger(request: Request) -> dict[str, Any]:
        """Return the signed head of the ledger."""

        def read(identity: Identity) -> dict[str, Any]:
            gateway.require(identity, "read-ledger")
            note = gateway.guard.ledger.checkpoint()
            return {"entries": len(gateway.guard.ledger), "checkpoint": note}

        return await call(request, read)

    from interlock.gateway.console import add_console

    add_console(app, gateway)
    return app


def _still(gateway: Gateway, identity: Identity) -> None:
    """Raise when an identity was revoked or has expired meanwhile."""
    from interlock.access.identity import UnauthenticatedError

    revoked = gateway.access.revoked(identity.principal, token=identity.token, key=identity.key)
    if revoked or identity.expires <= gateway.access.clock():
        raise UnauthenticatedError(
            "the session has ended",
            code="unauthenticated",
            got="a credential that was revoked or has expired",
            expected="one that stands",
            fix="sign in again",
        )
