"""The console's devices, budgets and tenants: what the pages show, and to whom."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response

from interlock.access.identity import Identity
from interlock.backends.calibration import Calibration
from interlock.gateway.apart import EVERY
from interlock.gateway.service import Gateway
from interlock.guard.admit.budget import DAY_S, RESERVED, BudgetSettings
from interlock.guard.health.calibration import CalibrationSettings
from interlock.guard.health.grades import Grade, age_hours, worst
from interlock.guard.health.layout import device_grades, overall
from interlock.guard.health.pictures import device_map
from interlock.monitor.store import monitor_store

__all__ = ["add_views"]

_UNITS = (
    ("jobs", "max_jobs_per_day"),
    ("shots", "max_shots_per_day"),
    ("cost_usd", "max_cost_usd_per_day"),
    ("qpu_s", "max_qpu_s_per_day"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceView:
    """A backend and the newest calibration of its device that a job brought with it.

    Attributes:
        name: as jobs name it.
        provider: who runs it.
        grade: GREEN, AMBER, RED, or empty when there is nothing to grade.
        why: what the grade of the device as a whole comes from.
        age_h: since the calibration was observed, or None when it does not say.
        counts: grade -> number of qubits and couplings.
        poor: qubit or coupling, its grade and the reasons, of what is not GREEN; worst first.
        picture: the map, as SVG.
        detectors: health of the detectors that watch its telemetry.
    """

    name: str
    provider: str
    grade: str = ""
    why: str = ""
    source: str = ""
    age_h: float | None = None
    qubits: int = 0
    counts: dict[str, int]
    poor: tuple[tuple[str, str, str], ...] = ()
    picture: str = ""
    detectors: tuple[tuple[str, str], ...] = ()


class _Calibrations:
    """The newest calibration of each device in the ledger; what was read is not read again."""

    def __init__(self, gateway: Gateway) -> None:
        self._ledger = gateway.guard.ledger
        self._lock = threading.Lock()
        self._next = 0
        self._newest: dict[str, Calibration] = {}

    def newest(self) -> dict[str, Calibration]:
        with self._lock:
            size = len(self._ledger)
            for entry in self._ledger.entries("calibration", self._next):
                if entry.payload is not None:
                    found = Calibration.from_json(str(entry.payload["calibration"]).encode())
                    self._newest[found.device] = found
            self._next = size
            return dict(self._newest)


def _settings(gateway: Gateway, stage: str, control: str, kind: type[Any]) -> Any:
    for bound in gateway.policy.controls(stage):
        if bound.id == control and isinstance(bound.settings, kind):
            return bound.settings
    return None


def device_view(
    name: str,
    provider: str,
    calibration: Calibration | None,
    settings: CalibrationSettings,
    now: float,
    detectors: tuple[tuple[str, str], ...] = (),
) -> DeviceView:
    """Return what the page shows of a backend.

    Args:
        name: of the backend.
        provider: who runs it.
        calibration: the newest on record, or None.
        settings: of `health.calibration`: where AMBER and RED begin.
        now: seconds since the epoch.
        detectors: source of telemetry and its detector's health.
    """
    if calibration is None:
        return DeviceView(name=name, provider=provider, counts={}, detectors=detectors)
    age = age_hours(calibration, now)
    dated = calibration.kind == "snapshot"
    grades = device_grades(calibration, 0.0 if dated else age or 0.0, settings.thresholds)
    levels, why = [overall(grades)], []
    if dated:
        levels.append(Grade.AMBER)
        why.append("a simulation of a device as it once was")
    elif age is None:
        levels.append(Grade.AMBER)
        why.append("the calibration does not say how old it is")
    elif age >= settings.amber_age_h:
        levels.append(Grade.RED if age >= settings.max_age_h else Grade.AMBER)
        why.append(f"calibration {age:.1f} h old")
    counts = {g.name: sum(v[0] is g for v in grades.values()) for g in Grade}
    if counts["RED"] or counts["AMBER"]:
        why.append(f"{counts['AMBER']} AMBER and {counts['RED']} RED of {len(grades)} parts")
    poor = sorted(((level, part, reasons) for part, (level, reasons) in grades.items() if level),
                  key=lambda p: (-p[0], len(p[1]), p[1]))  # fmt: skip
    return DeviceView(
        name=name,
        provider=provider,
        grade=worst(levels).name,
        why="; ".join(why),
        source=calibration.source,
        age_h=age,
        qubits=calibration.num_qubits,
        counts=counts,
        poor=tuple((part, level.name, "; ".join(reasons)) for level, part, reasons in poor),
        picture=device_map(calibration, grades),
        detectors=detectors,
    )


def add_views(
    router: APIRouter,
    gateway: Gateway,
    shown: Callable[[Request, Callable[[Any], Response]], Any],
    page: Callable[..., Response],
) -> None:
    """Add the pages to the console's router."""
    calibrations = _Calibrations(gateway)
    store = monitor_store(gateway.home)

    @router.get("/devices")
    async def devices(request: Request) -> Response:
        def work(session: Any) -> Response:
            known, now = calibrations.newest(), time.time()
            settings = _settings(gateway, "health", "calibration", CalibrationSettings)
            watched = store.sources()
            views = []
            specs = gateway.broker.specs
            for name in gateway.broker.names(session.identity.principal.tenant):
                spec = specs[name]
                names = (spec.device, name, f"ibm_{spec.device}", name.removeprefix("fake_"))
                found = next((known[n] for n in names if n and n in known), None)
                if spec.provider == "aer":
                    found = None  # a calibration of that name is of another device
                watch = tuple((s.source, str(s.health)) for s in watched if s.device in names)
                views.append(
                    device_view(
                        name, spec.provider, found, settings or CalibrationSettings(), now, watch
                    )
                )
            return page("devices.html", "Devices", session, devices=views)

        return await shown(request, work)  # type: ignore[no-any-return]

    def visible(who: Identity) -> dict[str, dict[str, float]]:
        """Return the scopes a principal may see: its own, or all of its tenant."""
        base = f"budget/{who.principal.tenant}"
        found = gateway.guard.state.totals(base, DAY_S, time.time())
        whole = any(
            gateway.allowed(who, *asked)
            for asked in (("administer",), ("read-ledger",), ("read-policy",))
        ) or gateway.allowed(who, "read", owner="(anybody)")
        own = (base, f"{base}/{who.principal.id}")
        return {k: v for k, v in found.items() if whole or k in own}

    @router.get("/budgets")
    async def budgets(request: Request) -> Response:
        def work(session: Any) -> Response:
            who = session.identity
            settings = _settings(gateway, "admit", "budget", BudgetSettings)
            tenant = who.principal.tenant
            base = f"budget/{tenant}"
            totals = visible(who)
            mine = base if settings and settings.per == "tenant" else f"{base}/{who.principal.id}"
            totals.setdefault(mine, {})
            rows = []
            for scope in sorted(totals, key=lambda s: (s != mine, s)):
                name = scope.removeprefix(f"{base}/") if scope != base else f"all of {tenant}"
                limited = settings is not None and (scope == base) == (settings.per == "tenant")
                for unit, key in _UNITS:
                    rows.append(
                        {
                            "name": name,
                            "unit": unit,
                            "used": totals[scope].get(unit, 0.0),
                            "reserved": totals[scope].get(unit + RESERVED, 0.0),
                            "limit": getattr(settings, key) if limited else None,
                        }
                    )
            return page("budgets.html", "Budgets", session, rows=rows, budget=settings)

        return await shown(request, work)  # type: ignore[no-any-return]

    @router.get("/tenants")
    async def tenants(request: Request) -> Response:
        def work(session: Any) -> Response:
            who = session.identity
            gateway.require(who, "administer", tenant=EVERY)
            rows = []
            for tenant in gateway.store.tenants():
                if gateway.allowed(who, "administer", tenant=tenant.name):
                    base = f"budget/{tenant.name}"
                    used: dict[str, float] = {}
                    for units in gateway.guard.state.totals(base, DAY_S, time.time()).values():
                        for unit, amount in units.items():
                            used[unit] = used.get(unit, 0.0) + amount
                    rows.append(
                        {
                            "tenant": tenant,
                            "counts": gateway.store.counts(tenant.name),
                            "used": used,
                        }
                    )
            return page("tenants.html", "Tenants", session, rows=rows, units=_UNITS)

        return await shown(request, work)  # type: ignore[no-any-return]
