"""Is the calibration in force fresh, and are the qubits and couplings of this job healthy?"""

from __future__ import annotations

import contextlib
import threading
import weakref
from typing import Annotated, Any, Literal

import msgspec

from interlock.backends.calibration import Calibration
from interlock.backends.sources import calibration_of
from interlock.guard.control import Control, Request, Settings
from interlock.guard.health.grades import Grade, Thresholds, age_hours, grade, subjects, worst
from interlock.monitor.health import Health, widened
from interlock.types import Decision, Evidence, Finding, Job, Verdict

__all__ = ["CalibrationControl", "calibration_for"]

#: A device is asked for its calibration again after this many seconds.
REFRESH_S = 60.0
_REMEMBERED = 512

_Choice = Literal["allow", "fallback", "deny"]
_lock = threading.Lock()
_asked: weakref.WeakKeyDictionary[Any, tuple[float, Calibration | None]] = (
    weakref.WeakKeyDictionary()
)


def calibration_for(request: Request) -> Calibration | None:
    """Return the calibration in force for a job; controls of one job share it.

    A file of the generic JSON form may stand in for a device that offers none: the caller puts it
    into `request.shared["calibration"]`.
    """
    found = request.shared.get("calibration")
    if isinstance(found, Calibration):
        return found
    now = request.now()
    backend = request.backend
    with _lock:
        try:
            known = _asked.get(backend)
        except TypeError:
            known = None
    if known is not None and 0 <= now - known[0] < REFRESH_S:
        calibration = known[1]
    else:
        calibration = None if backend is None else calibration_of(backend, now=now)
        # an object that cannot be referred to weakly is asked every time
        with _lock, contextlib.suppress(TypeError):
            _asked[backend] = (now, calibration)
    request.shared["calibration"] = calibration
    return calibration


class CalibrationSettings(Settings, frozen=True, kw_only=True):
    """Settings of `calibration`.

    Attributes:
        max_age_h: a calibration observed longer ago is RED.
        amber_age_h: a calibration observed longer ago is AMBER.
        degraded_factor: both ages shrink by this factor while the detector of the device's
            telemetry is degraded.
        on_red: what a RED device, qubit or coupling leads to.
        on_missing: what a device without any calibration leads to.
        on_snapshot: what a vendor's simulation of a dated snapshot (`FakeManilaV2`) leads to. It
            behaves by that very calibration, so its age is labelled and does not make it RED.
        on_unknown_age: what a calibration that does not say its age leads to.
        thresholds: where AMBER and RED begin for qubits and couplings.
    """

    max_age_h: Annotated[float, msgspec.Meta(gt=0)] = 36.0
    amber_age_h: Annotated[float, msgspec.Meta(gt=0)] = 24.0
    degraded_factor: Annotated[float, msgspec.Meta(ge=1)] = 2.0
    on_red: _Choice = "fallback"
    on_missing: _Choice = "fallback"
    on_snapshot: _Choice = "allow"
    on_unknown_age: _Choice = "allow"
    thresholds: Thresholds = Thresholds()


class CalibrationControl(Control):
    """Grades the device, and each qubit and coupling the job uses, GREEN, AMBER or RED."""

    id = "calibration"
    stage = "health"
    Settings = CalibrationSettings

    def __init__(self) -> None:
        self._values: dict[tuple[str, ...], list[dict[str, Any]]] = {}

    def gather(self, request: Request, settings: Any) -> Evidence:
        """Ask the device; take the values of what the job uses."""
        # it asks this module for the calibration
        from interlock.guard.health.telemetry import detector_health

        calibration = calibration_for(request)
        if calibration is None:
            return {"id": None, "device": request.job.backend, "age_h": None, "subjects": []}
        key = (calibration.id, *(p.circuit.sha256 for p in request.programs))
        values = self._values.get(key)
        if values is None:
            qubits = {q for p in request.programs for q in p.circuit.used_qubits}
            edges = {e for p in request.programs for e in p.circuit.used_edges}
            values = subjects(calibration, qubits, edges)
            if len(self._values) >= _REMEMBERED:
                self._values.clear()
            self._values[key] = values
        return {
            "id": calibration.id,
            "device": calibration.device,
            "kind": calibration.kind,
            "source": calibration.source,
            "age_h": age_hours(calibration, request.now()),
            "repairs": len(calibration.repairs),
            "subjects": values,
            **detector_health(request),
        }

    def decide(self, job: Job, settings: CalibrationSettings, evidence: Evidence) -> Verdict:
        """Grade, and take the worst."""
        if evidence["id"] is None:
            return _one(
                evidence, settings.on_missing, "missing", "the device offers no calibration",
                "none", "a calibration",
                "backend.calibration = Calibration.from_json(...), or set on_missing: allow",
            )  # fmt: skip
        age = evidence["age_h"]
        if age is None and settings.on_unknown_age != "allow":
            return _one(
                evidence, settings.on_unknown_age, "age-unknown",
                "the calibration does not say how old it is", "no date", "a date",
                "use the provider's properties, or set on_unknown_age: allow",
            )  # fmt: skip
        findings: list[Finding] = []
        if evidence.get("kind") == "snapshot":
            found = _one(
                evidence, settings.on_snapshot, "snapshot",
                "AMBER: this is a simulation of a device as it once was, not a device",
                str(evidence["source"]), "a device, for results that matter",
                "run it on the provider's backend; on_snapshot: deny keeps simulations out",
            )  # fmt: skip
            if found.decision is not Decision.ALLOW:
                return found
            findings += found.findings
            age = None
        health = Health(evidence.get("detector", "good"))
        shrink = widened(1.0, health, factor=settings.degraded_factor)
        max_age_h = settings.max_age_h / shrink
        if age is not None and (age >= max_age_h or age < -1):
            return _one(
                evidence, settings.on_red, "stale", "RED: the calibration in force is stale",
                f"{age:.1f} h old", f"at most {max_age_h:g} h old",
                "wait for the provider to calibrate, use another backend, or give a fallback",
            )  # fmt: skip
        levels = [Grade.GREEN]
        if age is None or age >= settings.amber_age_h / shrink:
            levels.append(Grade.AMBER)
        for subject in evidence["subjects"]:
            level, reasons = grade(subject, settings.thresholds, age or 0.0)
            levels.append(level)
            if level is not Grade.GREEN:
                findings.append(
                    _finding(
                        level.name.lower(), f"{level.name}: {subject['subject']}",
                        "; ".join(reasons), "GREEN",
                        "pick other qubits: interlock health CIRCUIT --backend ...",
                        str(subject["subject"]),
                    )
                )  # fmt: skip
        findings.sort(key=lambda f: f.rule, reverse=True)
        decision = Decision.ALLOW
        if worst(levels) is Grade.RED:
            decision = Decision[settings.on_red.upper()]
        return Verdict(decision=decision, findings=tuple(findings), evidence=evidence)


def _finding(
    rule: str, message: str, got: str, expected: str, fix: str, where: str | None = None
) -> Finding:
    return Finding(
        rule=f"health.calibration.{rule}", message=message, got=got, expected=expected, fix=fix,
        location=where,
    )  # fmt: skip


def _one(
    evidence: Evidence, choice: str, rule: str, message: str, got: str, expected: str, fix: str
) -> Verdict:
    return Verdict(
        decision=Decision[choice.upper()],
        findings=(_finding(rule, message, got, expected, fix),),
        evidence=evidence,
    )
