"""Will a qubit of this job fall below what it needs, and when? From the device's own history."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from interlock.backends.calibration import Calibration
from interlock.guard.control import Control, Request, Settings, allow
from interlock.guard.health.calibration import calibration_for
from interlock.monitor.forecast import Outlook, outlook
from interlock.monitor.store import MonitorStore, monitor_store
from interlock.types import Decision, Evidence, Finding, Job, Verdict

__all__ = ["ForecastControl", "ForecastSettings", "outlooks", "record_calibration"]

MOST = 32
_REMEMBERED = 256


class ForecastSettings(Settings, frozen=True, kw_only=True):
    """Settings of `forecast`.

    Attributes:
        t1_us: a qubit whose relaxation time is below this is of no use.
        horizon_h: how long the job may wait and run.
        risk: chance of falling below within the horizon that is too much.
        on_risk: what too much leads to.
        on_short: what too short a history leads to.
    """

    t1_us: Annotated[float, msgspec.Meta(gt=0)] = 5.0
    horizon_h: Annotated[float, msgspec.Meta(gt=0)] = 24.0
    risk: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.2
    on_risk: Literal["allow", "fallback", "deny"] = "fallback"
    on_short: Literal["allow", "fallback", "deny"] = "allow"


def record_calibration(store: MonitorStore, calibration: Calibration) -> bool:
    """Keep a calibration's T1 values for forecasts; False when it does not say when it was read."""
    if calibration.observed_at is None:
        return False
    values = {f"q{k}": q.t1_us for k, q in enumerate(calibration.qubits) if q.t1_us is not None}
    store.add_history(calibration.device, calibration.observed_at, values)
    return True


def outlooks(
    store: MonitorStore, device: str, qubits: list[int], *, t1_us: float, horizon_h: float,
    risk: float,
) -> tuple[dict[str, Outlook], int]:  # fmt: skip
    """Return each qubit's outlook, where its history is long enough, and the shortest history."""
    history = store.history(device)
    found: dict[str, Outlook] = {}
    shortest = min((len(history.get(f"q{k}", [])) for k in qubits), default=0)
    for k in qubits:
        made = outlook(history.get(f"q{k}", []), threshold=t1_us, horizon_h=horizon_h, risk=risk)
        if made is not None:
            found[f"q{k}"] = made
    return found, shortest


def _weakest(calibration: Calibration, used: set[int]) -> list[int]:
    """Return the qubits to forecast: of more than MOST those that have the least T1 now."""
    now = {k: q.t1_us or 0.0 for k, q in enumerate(calibration.qubits)}
    return sorted(sorted(used, key=lambda k: (now.get(k, 0.0), k))[:MOST])


class ForecastControl(Control):
    """Keeps jobs away from qubits expected to fail within the job's time; records the outlook."""

    id = "forecast"
    stage = "health"
    Settings = ForecastSettings

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], Evidence] = {}

    def gather(self, request: Request, settings: Any) -> Evidence:
        """Keep the calibration in force, then forecast each qubit the job uses."""
        calibration = calibration_for(request)
        if calibration is None:
            return {"device": None, "qubits": [], "shortest": 0, "used": 0}
        every = {q for p in request.programs for q in p.circuit.used_qubits}
        used = _weakest(calibration, every)
        key = (str(request.home), calibration.id, calibration.observed_at, tuple(used), len(every),
               settings.t1_us, settings.horizon_h, settings.risk)  # fmt: skip
        known = self._known.get(key)
        if known is None:
            store = monitor_store(request.home)
            record_calibration(store, calibration)
            found, shortest = outlooks(
                store, calibration.device, used, t1_us=settings.t1_us,
                horizon_h=settings.horizon_h, risk=settings.risk,
            )  # fmt: skip
            known = {
                "device": calibration.device,
                "used": len(every),
                "shortest": shortest,
                "qubits": [
                    {
                        "qubit": name,
                        "method": o.method,
                        "p_cross": round(o.p_cross, 4),
                        "hours": o.hours,
                        "low_us": round(o.low, 3),
                        "steps": o.steps,
                    }
                    for name, o in found.items()
                ],
            }
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[key] = known
        return known

    def decide(self, job: Job, settings: ForecastSettings, evidence: Evidence) -> Verdict:
        """Compare each qubit's chance of falling below with the risk."""
        findings = []
        worst = Decision.ALLOW
        for row in evidence["qubits"]:
            if row["p_cross"] >= settings.risk:
                worst = max(worst, Decision[settings.on_risk.upper()])
                when = "now" if row["hours"] is None else f"in about {row['hours']:.0f} h"
                findings.append(
                    Finding(
                        rule="health.forecast.falling",
                        message=f"{row['qubit']} is expected to fall below {settings.t1_us:g} us",
                        got=f"chance {row['p_cross']:.2f} within {settings.horizon_h:g} h, {when}"
                        f" ({row['method']})",
                        expected=f"below {settings.risk:g}",
                        fix="recalibrate before then, or use other qubits",
                        location=row["qubit"],
                    )
                )
        if len(evidence["qubits"]) < evidence["used"] and settings.on_short != "allow":
            worst = max(worst, Decision[settings.on_short.upper()])
            findings.append(
                Finding(
                    rule="health.forecast.short",
                    message="not every qubit of the job is forecast over the horizon",
                    got=f"{len(evidence['qubits'])} of {evidence['used']} qubits,"
                    f" {evidence['shortest']} calibrations",
                    expected=f"at most {MOST} qubits; 27 calibrations, more for a horizon of more"
                    " than seven of their steps",
                    fix="record more: interlock health --record; use fewer qubits",
                )
            )
        if not findings:
            return allow(evidence)
        return Verdict(decision=worst, findings=tuple(findings), evidence=evidence)
