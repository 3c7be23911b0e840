"""The console: server-rendered pages over the gateway's services; readable without JavaScript."""

from __future__ import annotations

import asyncio
import hmac
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from typing import Any
from urllib.parse import parse_qs

from fastapi import APIRouter, FastAPI, Request, Response
from jinja2 import Environment, PackageLoader, StrictUndefined

from interlock.access.identity import Credentials, Identity
from interlock.errors import InterlockError
from interlock.gateway import consent
from interlock.gateway.apart import EVERY
from interlock.gateway.console_events import add_events
from interlock.gateway.console_views import add_views
from interlock.gateway.errors import ForbiddenError, status_of
from interlock.gateway.service import Gateway
from interlock.gateway.telemetry import add_telemetry

__all__ = ["add_console"]

SESSION_S = 8 * 3600.0
MAX_SESSIONS = 10_000
#: Sessions of one principal at a time: nobody signs others out by signing in often.
MAX_OWN = 20
PAGES = (
    ("/console", "Jobs"),
    ("/console/approvals", "Approvals"),
    ("/console/devices", "Devices"),
    ("/console/telemetry", "Telemetry"),
    ("/console/budgets", "Budgets"),
    ("/console/events", "Events"),
    ("/console/tenant", "Tenant"),
    ("/console/tenants", "Tenants"),
    ("/console/ledger", "Ledger"),
)
#: Pages that only some may open: the action, and on which tenant; not linked for the others.
_GATED = {"Telemetry": ("read-ledger", ""), "Ledger": ("read-ledger", ""),
          "Tenants": ("administer", EVERY)}  # fmt: skip
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self';"
        " img-src data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A signed-in browser."""

    identity: Identity
    csrf: str
    expires: float


def _amount(value: float) -> str:
    return f"{value:,.2f}".rstrip("0").rstrip(".")


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


class _Sessions:
    def __init__(self) -> None:
        self._all: dict[str, Session] = {}
        self._lock = threading.Lock()

    def open(self, identity: Identity) -> tuple[str, Session]:
        now = time.time()
        made = Session(
            identity=identity,
            csrf=secrets.token_urlsafe(32),
            expires=min(now + SESSION_S, identity.expires),
        )
        name = secrets.token_urlsafe(32)
        with self._lock:
            self._all = {k: s for k, s in self._all.items() if s.expires > now}
            whose = identity.principal.tenant, identity.principal.id
            own = [
                k
                for k, s in self._all.items()
                if (s.identity.principal.tenant, s.identity.principal.id) == whose
            ]
            for oldest in own[: max(0, len(own) + 1 - MAX_OWN)]:
                del self._all[oldest]
            while len(self._all) >= MAX_SESSIONS:
                del self._all[next(iter(self._all))]
            self._all[name] = made
        return name, made

    def get(self, name: str) -> Session | None:
        with self._lock:
            found = self._all.get(name)
        return found if found and found.expires > time.time() else None

    def close(self, name: str) -> None:
        with self._lock:
            self._all.pop(name, None)


def add_console(app: FastAPI, gateway: Gateway) -> None:
    """Add the console's pages to the application."""
    environment = Environment(
        loader=PackageLoader("interlock.gateway"), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["moment"] = _moment
    environment.filters["amount"] = _amount
    sessions = _Sessions()
    router = APIRouter(prefix="/console", include_in_schema=False)

    def linked(who: Identity, name: str) -> bool:
        if name == "Approvals":
            asked = ("approve", "read")
            return any(gateway.allowed(who, a, owner="(somebody)") for a in asked)
        action, tenant = _GATED.get(name, ("", ""))
        return not action or gateway.allowed(who, action, tenant=tenant)

    def page(
        name: str, title: str, session: Session | None, status: int = 200, **more: Any
    ) -> Response:
        pages = [p for p in PAGES if session is not None and linked(session.identity, p[1])]
        values = {"title": title, "session": session, "pages": pages, "error": None, **more}
        html = environment.get_template(name).render(values)
        return Response(html, status, HEADERS, "text/html; charset=utf-8")

    def go(path: str) -> Response:
        return Response(None, 303, {**HEADERS, "location": path})

    def current(request: Request) -> Session | None:
        return sessions.get(request.cookies.get("interlock", ""))

    async def shown(request: Request, work: Callable[[Session], Any]) -> Response:
        session = current(request)
        try:
            if session is not None:
                who = session.identity
                revoked = await asyncio.to_thread(
                    gateway.access.revoked, who.principal, token=who.token, key=who.key
                )
                session = None if revoked else session
            if session is None:
                return page("enter.html", "Sign in", None, 401)
            made: Response = await asyncio.to_thread(work, session)
        except InterlockError as error:
            tables = [("What to do", [(error.code, error.fix)])]
            return page(
                "facts.html",
                error.message,
                session,
                status_of(error),
                note="",
                verify=False,
                tables=tables,
            )
        return made

    async def form(request: Request) -> dict[str, str]:
        raw = b""
        async for chunk in request.stream():
            raw += chunk
            if len(raw) > 8192:
                break
        fields = parse_qs(raw[:8192].decode("utf-8", "replace"), max_num_fields=10)
        return {k: v[0] for k, v in fields.items()}

    def checked(session: Session, fields: dict[str, str]) -> None:
        if not hmac.compare_digest(fields.get("csrf", "").encode(), session.csrf.encode()):
            raise ForbiddenError(
                "this form was not made by your session",
                code="csrf",
                got="another token",
                expected="the form's own",
                fix="open the page again",
            )

    @router.get("/static/{name}")
    async def static(name: str) -> Response:
        kinds = {
            "console.css": "text/css",
            "console.js": "text/javascript",
            "telemetry.css": "text/css",
        }
        if name not in kinds:
            return Response(None, 404, HEADERS)
        data = resources.files("interlock.gateway").joinpath("static", name).read_bytes()
        return Response(data, 200, {**HEADERS, "cache-control": "max-age=3600"}, kinds[name])

    @router.post("/enter")
    async def enter(request: Request) -> Response:
        fields = await form(request)
        if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            # Another site must not sign a browser in under a key of its own.
            return page("enter.html", "Sign in", None, 403, error="open this page itself")
        credentials = Credentials(authorization=f"Bearer {fields.get('key', '')}")
        try:
            who = await asyncio.to_thread(gateway.identify, credentials, on_socket=False)
        except InterlockError as error:
            return page("enter.html", "Sign in", None, 401, error=error.message)
        name, _ = sessions.open(who)
        reply = go("/console")
        secure = request.url.scheme == "https"
        reply.set_cookie("interlock", name, max_age=int(SESSION_S), path="/console",
                         httponly=True, samesite="strict", secure=secure)  # fmt: skip
        return reply

    @router.post("/leave")
    async def leave(request: Request) -> Response:
        fields = await form(request)

        def work(session: Session) -> Response:
            checked(session, fields)
            sessions.close(request.cookies.get("interlock", ""))
            return go("/console")

        return await shown(request, work)

    @router.get("")
    async def jobs(request: Request) -> Response:
        def work(session: Session) -> Response:
            found = gateway.list_jobs(session.identity, state=None, before=1e11, limit=50)
            counts = gateway.store.counts(session.identity.principal.tenant)
            return page("jobs.html", "Jobs", session, jobs=found, counts=counts)

        return await shown(request, work)

    @router.get("/jobs/{job_id}")
    async def job(request: Request, job_id: str) -> Response:
        def work(session: Session) -> Response:
            row = gateway.find(session.identity, job_id)
            view = gateway.view(row)
            receipt = (row.outcome or {}).get("receipt")
            stages: list[Any] = []
            if receipt:
                payload = gateway.guard.ledger.find(receipt["id"]).payload or {}
                stages = payload.get("trace", {}).get("stages", [])
            outcome = {"receipt": None, "error": None, **(view["outcome"] or {})}
            view["outcome"] = outcome if view["outcome"] else None
            return page("job.html", f"Job {row.id}", session, job=view, stages=stages)

        return await shown(request, work)

    @router.get("/approvals")
    async def approvals(request: Request) -> Response:
        def work(session: Session) -> Response:
            waiting = consent.waiting(gateway, session.identity)
            return page("approvals.html", "Approvals", session, waiting=waiting)

        return await shown(request, work)

    @router.post("/approvals")
    async def approve(request: Request) -> Response:
        fields = await form(request)

        def work(session: Session) -> Response:
            checked(session, fields)
            subject, gate = fields.get("subject", ""), fields.get("gate", "")
            consent.give(gateway, session.identity, subject, gate)
            return go("/console/approvals")

        return await shown(request, work)

    @router.get("/tenant")
    async def tenant(request: Request) -> Response:
        def work(session: Session) -> Response:
            name = session.identity.principal.tenant
            settings = gateway.store.tenant(name)
            rows = [
                ("Weight", settings.weight),
                ("Jobs at once", settings.max_running),
                ("Jobs waiting at most", settings.max_queued),
                ("Submissions a second, each", settings.rate),
                ("At once, each", settings.burst),
                ("Policy", gateway.policy.sha256),
            ]
            counts = sorted(gateway.store.counts(name).items())
            tables = [(f"Tenant {name}", rows), ("Jobs by state", counts)]
            return page("facts.html", "Tenant", session, tables=tables, note="", verify=False)

        return await shown(request, work)

    @router.get("/ledger")
    async def ledger(request: Request) -> Response:
        def work(session: Session) -> Response:
            gateway.require(session.identity, "read-ledger")
            rows: list[tuple[str, Any]] = [("Entries", len(gateway.guard.ledger))]
            note = gateway.guard.ledger.checkpoint()
            if request.query_params.get("verify"):
                report = gateway.guard.ledger.verify()
                rows.append(("Every entry and head checked", "sound" if report.ok else "BROKEN"))
            return page("facts.html", "Ledger", session, tables=[("The record", rows)], note=note,
                        verify=True)  # fmt: skip

        return await shown(request, work)

    add_telemetry(router, gateway, shown, page)
    add_views(router, gateway, shown, page)
    line = environment.get_template("event_line.html")
    add_events(router, gateway, shown, page, current, line)
    app.include_router(router)
