"""Does telemetry speak against the device, and is the detector that watches it well?

A degraded detector does not stop jobs by itself: it makes the other gates ask for more. `fidelity`
and `calibration` read its health through `detector_health` and widen their margins.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from interlock.guard.control import Control, Request, Settings, allow
from interlock.guard.health.sentinels import stream_of
from interlock.monitor.health import Health
from interlock.monitor.store import monitor_store
from interlock.types import Decision, Evidence, Finding, Job, Verdict

__all__ = ["TelemetryControl", "TelemetrySettings", "detector_health"]

#: A source that was silent for so long has no detector that is well.
STALE_S = 900.0
MOST = 16

_Choice = Literal["allow", "fallback", "deny"]


def _standing(request: Request) -> list[dict[str, Any]]:
    """Return how each source of the job's device is; read once a job."""
    found: list[dict[str, Any]] | None = request.shared.get("telemetry")
    if found is None:
        now = request.now()
        found = []
        for state in monitor_store(request.home).sources(stream_of(request))[:MOST]:
            age = now - state.seen_s
            reasons = [*state.reasons, *(["no rows come"] if age > STALE_S else [])]
            health = Health.DEGRADED if reasons else Health(state.health)
            found.append(
                {
                    "source": state.source,
                    "origin": state.origin,
                    "health": health.value,
                    "reasons": reasons,
                    "age_s": round(age, 3),
                }
            )
        request.shared["telemetry"] = found
    return found


def detector_health(request: Request) -> dict[str, str]:
    """Return `{"detector": "good" | "degraded"}`, the worst; nothing where nobody watches."""
    standing = _standing(request)
    if not standing:
        return {}
    bad = any(s["health"] == Health.DEGRADED.value for s in standing)
    return {"detector": (Health.DEGRADED if bad else Health.GOOD).value}


class TelemetrySettings(Settings, frozen=True, kw_only=True):
    """Settings of `telemetry`.

    Attributes:
        on_alarm: what a device with a recent alarm leads to.
        alarm_s: an alarm counts for so long.
        on_degraded: what a degraded detector leads to, besides wider gates.
        on_missing: what a device that nobody watches leads to.
    """

    on_alarm: _Choice = "fallback"
    alarm_s: Annotated[float, msgspec.Meta(gt=0)] = 3600.0
    on_degraded: _Choice = "allow"
    on_missing: _Choice = "allow"


class TelemetryControl(Control):
    """Keeps jobs away from a device whose telemetry raised an alarm; records detector health."""

    id = "telemetry"
    stage = "health"
    Settings = TelemetrySettings

    def gather(self, request: Request, settings: Any) -> Evidence:
        """Read health and recent alarms of the device's sources."""
        store, now = monitor_store(request.home), request.now()
        rows = []
        for source in _standing(request):
            recent = store.alarms(source["source"], since_s=now - settings.alarm_s)
            newest = recent[0] if recent else None
            rows.append(
                {
                    **source,
                    "alarms": len(recent),
                    "newest": None
                    if newest is None
                    else {
                        "kind": newest.kind,
                        "channel": newest.channel,
                        "evidence": round(newest.evidence, 3),
                        "row": newest.row,
                        "age_s": round(now - newest.at_s, 3),
                    },
                }
            )
        return {"device": stream_of(request), "sources": rows}

    def decide(self, job: Job, settings: TelemetrySettings, evidence: Evidence) -> Verdict:
        """Take the worst of no watcher, a degraded detector and a recent alarm."""
        sources = evidence["sources"]
        findings: list[tuple[str, Finding]] = []
        if not sources and settings.on_missing != "allow":
            findings.append((settings.on_missing, _finding(
                "missing", "nobody watches the device's telemetry", "no source",
                "a source of this device", "interlock monitor listen --sources FILE",
            )))  # fmt: skip
        for source in sources:
            name = str(source["source"])
            if source["newest"] is not None:
                seen = source["newest"]
                findings.append((settings.on_alarm, _finding(
                    "alarm", f"telemetry from {name} raised an alarm",
                    f"{seen['kind']} on {seen['channel']}, evidence {seen['evidence']:.1f}, "
                    f"{seen['age_s']:.0f} s ago",
                    f"no alarm for {settings.alarm_s:g} s",
                    "find the cause, or use another backend",
                )))  # fmt: skip
            if source["health"] == Health.DEGRADED.value:
                findings.append((settings.on_degraded, _finding(
                    "degraded", f"the detector of {name} is not well",
                    "; ".join(source["reasons"]), "a detector that is well",
                    "interlock monitor shows its checks; until then the gates are wider",
                )))  # fmt: skip
        if not findings:
            return allow(evidence)
        worst = max((Decision[choice.upper()] for choice, _ in findings), default=Decision.ALLOW)
        return Verdict(decision=worst, findings=tuple(f for _, f in findings), evidence=evidence)


def _finding(rule: str, message: str, got: str, expected: str, fix: str) -> Finding:
    return Finding(
        rule=f"health.telemetry.{rule}", message=message, got=got, expected=expected, fix=fix
    )
