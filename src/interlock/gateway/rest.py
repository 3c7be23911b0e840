"""The REST interface. Every error is `application/problem+json` with a stable code (RFC 9457)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

import msgspec
from fastapi import FastAPI, Header, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from interlock.access.identity import Credentials, Identity
from interlock.errors import InputError, InterlockError, InternalError
from interlock.gateway import metrics
from interlock.gateway.calls import (
    JOB_ID,
    MAX_LIST,
    MAX_TIME,
    MAX_WAIT_S,
    STAGES,
    STATES,
    TENANT,
    Approval,
    Calls,
    JobName,
    JobQuery,
    ReceiptName,
    ResultRequest,
    Revocation,
    StageName,
    TenantSettings,
    parsed,
)
from interlock.gateway.errors import LimitedError, status_of
from interlock.gateway.service import Gateway
from interlock.gateway.wire import MAX_BODY, Submission

__all__ = ["build_app", "credentials_of"]

PROBLEM = "application/problem+json"
DOCS = "https://interlock.invalid/docs/reference/errors.md"
JobId = Annotated[str, Path(pattern=JOB_ID)]


class EventResponse(StreamingResponse):
    """Server-sent events."""

    media_type = "text/event-stream"


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


def fault(gateway: Gateway, error: Exception, call: str) -> Response:
    """Return a failure of the gateway as a response, without what the exception holds."""
    gateway.fault(error, call)
    return problem(
        InternalError(
            "the gateway failed",
            code="gateway-fault",
            got=type(error).__name__,
            expected="an answer",
            fix="tell the operator the time and the path",
        )
    )


def credentials_of(request: Request) -> tuple[Credentials, bool]:
    """Return what a request carries, and whether it came in by the Unix socket."""
    state = request.scope.get("state") or {}
    headers = request.headers
    peer = state.get("tls", ("", ""))
    credentials = Credentials(
        authorization=headers.get("authorization", ""),
        dpop=headers.get("dpop", ""),
        method=request.method,
        url=str(request.url.replace(query="")) if "dpop" in headers else "",
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


_BODIES = (Submission, Approval, Revocation, TenantSettings)


def _schema(kind: type) -> dict[str, Any]:
    reference = {"$ref": f"#/components/schemas/{kind.__name__}"}
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": reference}}}
    }


def _describe(app: FastAPI) -> None:
    """Put the schemas of the bodies, which msgspec checks, into the description."""
    document = app.openapi()
    _, parts = msgspec.json.schema_components(_BODIES, ref_template="#/components/schemas/{name}")
    document.setdefault("components", {}).setdefault("schemas", {}).update(parts)
    events = document["paths"]["/v1/jobs/{job_id}/events"]["get"]["responses"]["200"]
    events["content"] = {EventResponse.media_type: {}}  # a stream of events, not one string


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


async def _who(calls: Calls, request: Request) -> Identity:
    credentials, on_socket = credentials_of(request)
    return await calls.who(credentials, on_socket=on_socket)


async def _submit(calls: Calls, request: Request, key: str) -> Response:
    identity = await _who(calls, request)
    trace = request.headers.get("traceparent", "")
    view, new = await calls.gateway.submit(identity, await body_of(request), key, trace)
    headers = {"location": f"/v1/jobs/{view['id']}"}
    body = msgspec.json.encode(view)
    return Response(body, 202 if new else 200, headers, "application/json")


class _App:
    """The application. What is called most, a submission, does not go through the router."""

    def __init__(self, app: FastAPI, calls: Calls) -> None:
        self._app = app
        self._calls = calls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or (scope["method"], scope["path"]) != ("POST", "/v1/jobs"):
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            key = request.headers.get("idempotency-key", "")
            reply = await _submit(self._calls, request, key)
        except InterlockError as error:
            reply = problem(error)
        except ClientDisconnect:
            return
        except Exception as error:  # noqa: BLE001 - told without what it holds
            reply = fault(self._calls.gateway, error, "POST /v1/jobs")
        await reply(scope, receive, send)


def build_app(gateway: Gateway, *, title: str = "Interlock gateway") -> ASGIApp:
    """Return the application."""
    app = FastAPI(
        title=title, version="1", docs_url=None, redoc_url=None, responses=_PROBLEMS,
        openapi_url="/v1/openapi.json", redirect_slashes=False,
    )  # fmt: skip

    calls = Calls(gateway)

    async def who(request: Request) -> Identity:
        return await _who(calls, request)

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
    async def _fault(request: Request, error: Exception) -> Response:
        # The route, not the path: a path holds what the caller wrote.
        route = getattr(request.scope.get("route"), "path", "")
        return fault(gateway, error, f"{request.method} {route}")

    @app.get("/healthz")
    async def health() -> dict[str, str]:
        """Say that the process lives."""
        return {"status": "ok"}

    @app.get("/readyz")
    async def ready() -> Response:
        """Say whether it takes jobs: not while draining, not without its database."""
        fine = await calls.ready()
        return Response(
            json.dumps({"ready": fine}), 200 if fine else 503, media_type="application/json"
        )

    @app.get("/metrics", response_class=PlainTextResponse)
    async def show_metrics(request: Request) -> Response:
        """Counters in Prometheus' text format, for the operator or a key of scope `metrics`."""
        text = await calls.metrics(await who(request))
        return Response(text, headers={"content-type": metrics.CONTENT_TYPE})

    @app.post(
        "/v1/jobs",
        status_code=202,
        responses={200: {"description": "This key made the job before"}},
        openapi_extra=_schema(Submission),
    )
    async def submit(
        request: Request,
        idempotency_key: Annotated[str, Header(max_length=200, pattern=r"^[\x21-\x7e]*$")] = "",
    ) -> Response:
        """Put a job into the queue. The same Idempotency-Key never makes a second job."""
        return await _submit(calls, request, idempotency_key)

    @app.get("/v1/jobs")
    async def jobs(
        request: Request,
        state: Annotated[str | None, Query(pattern=STATES)] = None,
        before: Annotated[float, Query(ge=0, le=MAX_TIME)] = MAX_TIME,
        limit: Annotated[int, Query(ge=1, le=MAX_LIST)] = 50,
    ) -> dict[str, Any]:
        """List jobs, newest first; go on with `before` = the last `created`."""
        asked = JobQuery(state=state, before=before, limit=limit)
        return await calls.jobs(await who(request), asked)

    @app.get("/v1/jobs/{job_id}")
    async def job(request: Request, job_id: JobId) -> dict[str, Any]:
        """Show a job."""
        return await calls.job(await who(request), JobName(id=job_id))

    @app.get("/v1/jobs/{job_id}/result", responses={202: {"description": "The job has not ended"}})
    async def result(
        request: Request, job_id: JobId, wait: Annotated[float, Query(ge=0, le=MAX_WAIT_S)] = 0.0
    ) -> Response:
        """Return the outcome once the job has ended; 202 while it has not."""
        asked = ResultRequest(id=job_id, wait=wait)
        outcome = await calls.result(await who(request), asked, lambda: who(request))
        body = json.dumps(outcome if outcome is not None else {"state": "pending"})
        return Response(body, 200 if outcome is not None else 202, media_type="application/json")

    @app.get("/v1/jobs/{job_id}/events", response_class=EventResponse)
    async def events(request: Request, job_id: JobId) -> StreamingResponse:
        """Stream the job's states as server-sent events until it ends."""
        states = calls.watch(await who(request), JobName(id=job_id))
        first = await anext(states)  # what is wrong with the request is an error, not an event

        async def stream() -> AsyncIterator[str]:
            yield _event("state", first)
            try:
                async for view in states:
                    yield _event("state", view)
            except InterlockError as error:
                yield _event("error", error.as_dict())

        return EventResponse(stream())

    @app.post("/v1/jobs/{job_id}/cancel")
    async def cancel(request: Request, job_id: JobId) -> dict[str, Any]:
        """Cancel a job that has not started."""
        return await calls.cancel(await who(request), JobName(id=job_id))

    @app.get("/v1/receipts/{receipt_id}")
    async def receipt(
        request: Request, receipt_id: Annotated[str, Path(max_length=120)]
    ) -> dict[str, Any]:
        """Return a receipt with its inclusion proof."""
        return await calls.receipt(await who(request), ReceiptName(id=receipt_id))

    @app.get("/v1/backends")
    async def backends(request: Request) -> dict[str, Any]:
        """List the backends of the caller's tenant."""
        return await calls.backends(await who(request))

    @app.get("/v1/approvals")
    async def approvals(request: Request) -> dict[str, Any]:
        """List what waits for approval."""
        return await calls.approvals(await who(request))

    @app.post("/v1/approvals", status_code=201, openapi_extra=_schema(Approval))
    async def approve(request: Request) -> dict[str, Any]:
        """Approve a waiting job in the caller's name."""
        identity = await who(request)
        return await calls.approve(identity, parsed(await body_of(request), Approval))

    @app.post("/v1/revocations", status_code=201, openapi_extra=_schema(Revocation))
    async def revoke(request: Request) -> dict[str, Any]:
        """Revoke a principal, key, token or the tenant."""
        identity = await who(request)
        return await calls.revoke(identity, parsed(await body_of(request), Revocation))

    @app.post("/v1/stages/{stage}")
    async def enter(
        request: Request, stage: Annotated[str, Path(pattern=STAGES)]
    ) -> dict[str, Any]:
        """Begin to work in a stage of a pipeline, if the caller may; either way it is recorded."""
        return await calls.enter(await who(request), StageName(stage=stage))

    @app.get("/v1/policy")
    async def policy(request: Request) -> dict[str, Any]:
        """Show the policy in force."""
        return await calls.policy(await who(request))

    @app.get("/v1/tenant")
    async def tenant(request: Request) -> dict[str, Any]:
        """Show the caller's tenant: its settings and its queue."""
        return await calls.tenant(await who(request))

    @app.put("/v1/tenants/{name}", openapi_extra=_schema(TenantSettings))
    async def set_tenant(
        request: Request, name: Annotated[str, Path(pattern=TENANT)]
    ) -> dict[str, Any]:
        """Make or change a tenant."""
        identity = await who(request)
        return await calls.set_tenant(
            identity, name, parsed(await body_of(request), TenantSettings)
        )

    @app.get("/v1/ledger")
    async def ledger(request: Request) -> dict[str, Any]:
        """Return the signed head of the ledger."""
        return await calls.ledger(await who(request))

    from interlock.gateway.console import add_console

    add_console(app, gateway)
    _describe(app)
    return _App(app, calls)


def _event(kind: str, body: dict[str, Any]) -> str:
    return f"event: {kind}\ndata: {json.dumps(body)}\n\n"
