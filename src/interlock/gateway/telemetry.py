"""The console's telemetry pages: sources, timelines, e-process, alarms, detector health.

Drawn on the server as SVG, so they can be read without JavaScript and under a strict policy. A
tenant sees the sources of devices it may use, as far as it may read the record.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from interlock.access.identity import Identity
from interlock.gateway.errors import unknown
from interlock.gateway.service import Gateway
from interlock.guard.admit.budget import DAY_S
from interlock.guard.state import Cap, Window
from interlock.monitor.store import AlarmRow, SourceState, Strip, monitor_store
from interlock.monitor.triage import Ticket, triage
from interlock.monitor.triage_input import ASSETS, read_assets, recorded_alerts

__all__ = ["add_telemetry"]

WIDTH, HEIGHT = 900.0, 80.0
MOST_CHANNELS = 24
#: The e-detector alarms at 1 / (half the budget): 10 a million rows gives 2 * 10^5.
ALARM_LOG10 = 5.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One strip chart: a band from low to high, and alarms as marks.

    Attributes:
        name: of the channel.
        band: SVG path data of the closed band.
        marks: x of each alarm.
        limit: y of the alarm level, or None.
        low: the least value; `high` is the largest.
        told: what it shows, in words.
    """

    name: str
    band: str
    marks: tuple[float, ...]
    limit: float | None
    low: float
    high: float
    told: str


def _picture(
    name: str,
    lows: list[float | None],
    highs: list[float | None],
    marks: list[float],
    limit: float | None = None,
) -> Picture:
    known = [(k, a, b) for k, (a, b) in enumerate(zip(lows, highs, strict=True))
             if a is not None and b is not None]  # fmt: skip
    if not known:
        return Picture(name=name, band="", marks=tuple(marks), limit=None, low=0.0, high=0.0,
                       told=f"{name}: nothing but missing samples")  # fmt: skip
    low, high = min(a for _, a, _ in known), max(b for _, _, b in known)
    if limit is not None:
        high = max(high, limit)
    span, step = (high - low) or 1.0, WIDTH / max(len(lows) - 1, 1)

    def y(value: float) -> float:
        return HEIGHT - 3.0 - (value - low) / span * (HEIGHT - 6.0)

    up = [f"{k * step:.1f},{y(b):.1f}" for k, _, b in known]
    down = [f"{k * step:.1f},{y(a):.1f}" for k, a, _ in reversed(known)]
    return Picture(
        name=name,
        band="M" + "L".join(up + down) + "Z",
        marks=tuple(marks),
        limit=None if limit is None else y(limit),
        low=low,
        high=high,
        told=f"{name}: from {low:.4g} to {high:.4g}, {len(marks)} alarms",
    )


def _pictures(state: SourceState, strips: list[Strip], alarms: list[AlarmRow]) -> list[Picture]:
    if not strips:
        return []
    first, last = strips[0].row, max(strips[-1].row, strips[0].row + 1)

    def places(channel: str | None) -> list[float]:
        return [
            (a.row - first) / (last - first) * WIDTH
            for a in alarms
            if a.row >= first and (channel is None or a.channel in (channel, "several"))
        ]

    evidence: list[float | None] = [s.e_log10 for s in strips]
    floor: list[float | None] = [min(s.e_log10 for s in strips)] * len(strips)
    made = [_picture("evidence (log10 of the e-detector)", floor, evidence, places(None),
                     ALARM_LOG10)]  # fmt: skip
    for c, name in enumerate(state.channels[:MOST_CHANNELS]):
        lows, highs = [s.low[c] for s in strips], [s.high[c] for s in strips]
        made.append(_picture(name, lows, highs, places(name)))
    return made


def add_telemetry(
    router: APIRouter,
    gateway: Gateway,
    shown: Callable[[Request, Callable[[Any], Response]], Any],
    page: Callable[..., Response],
) -> None:
    """Add the telemetry pages to the console's router."""
    store = monitor_store(gateway.home)

    def visible(who: Identity) -> list[SourceState]:
        gateway.require(who, "read-ledger")
        names = gateway.broker.names(who.principal.tenant)
        devices = set(names) | {gateway.broker.specs[n].device for n in names}
        return [s for s in store.sources() if s.device in devices]

    def tickets(devices: set[str]) -> list[Ticket]:
        path = gateway.home / ASSETS
        known = read_assets(path) if path.exists() else {}
        since = time.time() - DAY_S
        return triage(recorded_alerts(store, known, since_s=since, devices=devices))

    @router.get("/telemetry")
    async def sources(request: Request) -> Response:
        def work(session: Any) -> Response:
            found = visible(session.identity)
            newest = sorted(
                (a for s in found for a in store.alarms(s.source, limit=20)),
                key=lambda a: (-a.at_s, -a.row),
            )[:20]
            return page(
                "telemetry.html", "Telemetry", session, sources=found, alarms=newest,
                tickets=tickets({s.device for s in found})[:10],
            )  # fmt: skip

        return await shown(request, work)  # type: ignore[no-any-return]

    def export(who: Identity, state: SourceState) -> bytes:
        """Return what is on record of a source as NDJSON, as far as the rules let it leave."""
        rows = [{"record": "source", **msgspec.to_builtins(state)}]
        rows += [{"record": "alarm", **msgspec.to_builtins(a)} for a in store.alarms(state.source)]
        rows += [{"record": "strip", **msgspec.to_builtins(s)} for s in store.strips(state.source)]
        now, counters = time.time(), gateway.guard.state
        window = Window(f"telemetry/{who.principal.tenant}", DAY_S)
        caps = (Cap("rows", float(len(rows))),)
        (used,) = counters.reserve(window, caps, now).used
        try:
            today = int(used) + len(rows)
            gateway.require(who, "export-telemetry", context={"rows_today": today})
            said = {"source": state.source, "rows": len(rows), "outcome": "ALLOW"}
            gateway.record("telemetry-export", who, said)
        except BaseException:
            counters.release(window, caps, now)
            raise
        return b"".join(msgspec.json.encode(row) + b"\n" for row in rows)

    @router.get("/telemetry-export")
    async def exported(request: Request) -> Response:
        def work(session: Any) -> Response:
            name = request.query_params.get("source", "")
            state = next((s for s in visible(session.identity) if s.source == name), None)
            if state is None:
                raise unknown("source", name)
            headers = {
                "content-disposition": 'attachment; filename="telemetry.ndjson"',
                "cache-control": "no-store",
                "x-content-type-options": "nosniff",
            }
            body = export(session.identity, state)
            return Response(body, 200, headers, "application/x-ndjson")

        return await shown(request, work)  # type: ignore[no-any-return]

    @router.get("/telemetry/{name:path}")
    async def source(request: Request, name: str) -> Response:
        def work(session: Any) -> Response:
            state = next((s for s in visible(session.identity) if s.source == name), None)
            if state is None:
                raise unknown("source", name)
            alarms, strips = store.alarms(name), store.strips(name)
            return page(
                "telemetry_source.html", f"Telemetry of {name}", session, source=state,
                alarms=alarms, pictures=_pictures(state, strips, alarms),
                rows=(strips[0].row, strips[-1].row) if strips else None,
            )  # fmt: skip

        return await shown(request, work)  # type: ignore[no-any-return]
