"""The console's events: what the ledger recorded of a tenant, newest first, and as it happens.

The page is plain HTML that can be read and paged through without JavaScript. With it, the same
lines come as server-sent events, numbered by their place in the ledger, so that a connection that
broke goes on where it was.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from jinja2 import Template

from interlock.access.identity import Identity
from interlock.errors import InterlockError
from interlock.gateway.errors import LimitedError
from interlock.gateway.service import Gateway
from interlock.ledger.entry import Entry

__all__ = ["EventView", "Feed", "add_events"]

PAGE = 50
#: Entries looked through for one page; what is older has a page of its own.
LOOK = 2000
POLL_S = 0.5
BEAT_S = 15.0
#: Streams open at once, for each signed-in browser.
STREAMS = 4
_QUIET = frozenset({"session", "circuit", "calibration", "sandbox"})


@dataclass(frozen=True, slots=True, kw_only=True)
class EventView:
    """One line of the page.

    Attributes:
        index: its place in the ledger.
        time: RFC 3339, UTC.
        event: what was recorded.
        outcome: of it.
        who: the principal, and for whom.
        job: the job it is about, or empty.
        what: the rule that decided, the action that was refused, or what was done.
    """

    index: int
    time: str
    event: str
    outcome: str
    who: str
    job: str
    what: str


class Feed:
    """Reads the ledger for somebody: only what is of its tenant, and only what it may read.

    Args:
        gateway: whose ledger.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def size(self) -> int:
        """Return the number of entries there are, of all tenants."""
        return len(self._gateway.guard.ledger)

    def between(self, who: Identity, start: int, end: int) -> list[EventView]:
        """Return what somebody may see of the entries from `start` to before `end`, oldest first.

        An entry belongs to the tenant in its header, or to that of its job; one without either,
        or of a job that the caller may not read, is as good as none.
        """
        record = self._gateway.allowed(who, "read-ledger")
        found = []
        for entry in self._gateway.guard.ledger.entries(None, start):
            if entry.index >= end:
                break
            if entry.event not in _QUIET and self._may(who, entry, record):
                found.append(_view(entry))
        return found

    def newest(self, who: Identity, before: int) -> tuple[list[EventView], int]:
        """Return the newest lines before an index, newest first, and where older ones go on."""
        end = min(before, self.size())
        least = max(0, end - LOOK)
        found: list[EventView] = []
        while end > least and len(found) < PAGE:
            start = max(least, end - 4 * PAGE)
            found += reversed(self.between(who, start, end))
            end = start
        if len(found) > PAGE:
            return found[:PAGE], found[PAGE - 1].index
        return found, end

    def _may(self, who: Identity, entry: Entry, record: bool) -> bool:
        tenant = who.principal.tenant
        job = str(entry.header.get("job") or "")
        if job:
            row = self._gateway.store.job(job, tenant)
            return row is not None and self._gateway.allowed(
                who, "read", owner=row.owner, tenant=row.tenant
            )
        if entry.header.get("tenant") != tenant:
            return False
        actor = (entry.payload or {}).get("principal") or {}
        return record or who.principal.id in (actor.get("id"), actor.get("on_behalf_of"))


def _view(entry: Entry) -> EventView:
    payload = entry.payload or {}
    of = payload.get("job")
    asked = of if isinstance(of, dict) else {}
    principal = payload.get("principal") or asked.get("principal") or {}
    behalf = principal.get("on_behalf_of")
    who = str(principal.get("id", "")) + (f" for {behalf}" if behalf else "")
    return EventView(
        index=entry.index,
        time=entry.time[:19].replace("T", " "),
        event=entry.event,
        outcome=str(entry.header.get("outcome") or ("started" if asked else "")),
        who="(erased)" if entry.erased else who,
        job=str(entry.header.get("job") or ""),
        what=_what(payload) or _number(entry.header.get("jobs")),
    )


def _number(jobs: object) -> str:
    return f"{jobs} submitted" if isinstance(jobs, int) else ""


def _index(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 16


def _what(payload: Any) -> str:
    """Return the rule of the verdict that ended a job, or what an event is about."""
    for stage in reversed(payload.get("trace", {}).get("stages", ())):
        for control in stage["controls"]:
            if control["decision"] != "ALLOW" and control["findings"]:
                return str(control["findings"][0]["rule"])
    statement = (payload.get("approval") or {}).get("statement") or {}
    parts = [payload.get(k) for k in ("action", "stage", "kind", "value", "name")]
    return " ".join(str(p) for p in [*parts, statement.get("gate")] if p)


def add_events(
    router: APIRouter,
    gateway: Gateway,
    shown: Callable[[Request, Callable[[Any], Response]], Any],
    page: Callable[..., Response],
    current: Callable[[Request], Any],
    line: Template,
) -> None:
    """Add the page and its stream to the console's router.

    Args:
        router: the console's.
        gateway: whose events.
        shown: answers a request for who is signed in.
        page: renders a page.
        current: the session of a request as it is now, or None.
        line: renders one event.
    """
    feed = Feed(gateway)
    open_now: dict[str, int] = {}
    lock = threading.Lock()

    @router.get("/events")
    async def events(request: Request) -> Response:
        def work(session: Any) -> Response:
            before = request.query_params.get("before", "")
            size = feed.size()
            end = int(before) if _index(before) else size
            found, older = feed.newest(session.identity, min(end, size))
            return page("events.html", "Events", session, events=found, older=older,
                        newest=size, live=not _index(before))  # fmt: skip

        return await shown(request, work)  # type: ignore[no-any-return]

    @router.get("/events/stream")
    async def stream(request: Request) -> Response:
        told = request.headers.get("last-event-id") or request.query_params.get("after", "")
        after = int(told) if _index(told) else feed.size()

        def work(session: Any) -> Response:
            with lock:
                if open_now.get(session.csrf, 0) >= STREAMS:
                    raise LimitedError(
                        "this browser has enough streams open",
                        code="rate-limited",
                        got=f"{STREAMS} open",
                        expected="fewer",
                        fix="close a tab",
                    )
                open_now[session.csrf] = open_now.get(session.csrf, 0) + 1
            return StreamingResponse(lines(request, session, after), 200)

        reply: Response = await shown(request, work)
        if isinstance(reply, StreamingResponse):
            reply.headers["content-type"] = "text/event-stream"
            reply.headers["cache-control"] = "no-store"
            reply.headers["x-content-type-options"] = "nosniff"
        return reply

    def still(request: Request, session: Any) -> bool:
        who, access = session.identity, gateway.access
        gone = access.revoked(who.principal, token=who.token, key=who.key)
        return gateway.ready and not gone and current(request) is session

    async def lines(request: Request, session: Any, after: int) -> AsyncIterator[str]:
        beat = time.monotonic()
        try:
            yield "retry: 2000\n\n"
            while await asyncio.to_thread(still, request, session):
                if await request.is_disconnected():
                    return
                size = await asyncio.to_thread(feed.size)
                if size > after:
                    end = min(size, after + LOOK)
                    found = await asyncio.to_thread(feed.between, session.identity, after, end)
                    for view in found:
                        html = " ".join(line.render(e=view).split())
                        yield f"event: line\nid: {view.index + 1}\ndata: {html}\n\n"
                    after = end
                if time.monotonic() - beat >= BEAT_S:
                    beat = time.monotonic()
                    yield ": still here\n\n"
                await asyncio.sleep(POLL_S)
            yield "event: end\ndata: the session has ended\n\n"
        except InterlockError:
            yield "event: end\ndata: the gateway cannot answer now\n\n"
        finally:
            with lock:
                open_now[session.csrf] -= 1
                if not open_now[session.csrf]:
                    del open_now[session.csrf]
