"""Is the circuit expected to survive the device?"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from interlock.guard.control import Control, Request, Settings
from interlock.guard.health.calibration import calibration_for
from interlock.guard.health.esp import Prediction, predict
from interlock.guard.health.telemetry import detector_health
from interlock.monitor.health import Health, widened
from interlock.types import Decision, Evidence, Finding, Job, Verdict

__all__ = ["FidelityControl"]

_REMEMBERED = 4096
#: Circuits of one job whose prediction is recorded one by one.
MOST = 32


class FidelitySettings(Settings, frozen=True, kw_only=True):
    """Settings of `fidelity`.

    Attributes:
        minimum: the lowest predicted success of any circuit of the job that may run.
        degraded_factor: the minimum rises by this factor, at most half-way to 1, while the
            detector of the device's telemetry is degraded.
        on_low: what a prediction below the minimum leads to.
        on_unknown: what a circuit without a prediction leads to.
    """

    minimum: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.2
    degraded_factor: Annotated[float, msgspec.Meta(ge=1)] = 2.0
    on_low: Literal["fallback", "deny"] = "fallback"
    on_unknown: Literal["allow", "fallback", "deny"] = "fallback"


class FidelityControl(Control):
    """Predicts each circuit's success from the calibration in force; too low does not run."""

    id = "fidelity"
    stage = "health"
    Settings = FidelitySettings

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, bool], Prediction] = {}

    def gather(self, request: Request, settings: Any) -> Evidence:
        """Predict, once for each pair of circuit and calibration."""
        calibration = calibration_for(request)
        if calibration is None:
            return {"calibration": None, "predicted": None, "circuits": [], "unknown": "none"}
        rows: list[dict[str, Any]] = []
        lowest: float | None = 1.0
        cautious: list[float | None] = []
        unknown: str | None = None
        for index, program in enumerate(request.programs):
            # An estimator reads the qubits out although its circuits measure none.
            read = request.job.kind == "estimate" and not any(
                op.name == "measure" for op in program.circuit.walk()
            )
            key = (program.circuit.sha256, calibration.id, read)
            made = self._known.get(key)
            if made is None:
                made = predict(program.circuit, calibration, read=read)
                if len(self._known) >= _REMEMBERED:
                    self._known.clear()
                self._known[key] = made
            cautious.append(made.worst)
            if made.success is None:
                unknown = unknown or f"circuit {index}: {made.unknown}"
                lowest = None
            elif lowest is not None:
                lowest = min(lowest, made.success)
            if index < MOST:
                rows.append(made._asdict())
        request.shared["predicted_success"] = lowest
        request.shared["cautious_successes"] = cautious
        return {
            "calibration": calibration.id,
            "predicted": lowest,
            "circuits": rows,
            "unknown": unknown,
            **detector_health(request),
        }

    def decide(self, job: Job, settings: FidelitySettings, evidence: Evidence) -> Verdict:
        """Compare the lowest prediction with the minimum."""
        predicted = evidence["predicted"]
        health = Health(evidence.get("detector", "good"))
        minimum = widened(settings.minimum, health, factor=settings.degraded_factor)
        minimum = min(minimum, max(settings.minimum, (1.0 + settings.minimum) / 2))
        if predicted is None:
            decision = Decision[settings.on_unknown.upper()]
            finding = Finding(
                rule="health.fidelity.unknown",
                message="the success of a circuit cannot be predicted",
                got=str(evidence["unknown"]),
                expected="a usable calibration of every operation",
                fix="transpile for the backend and avoid operations it has no calibration of",
            )
        elif predicted < minimum:
            decision = Decision[settings.on_low.upper()]
            finding = Finding(
                rule="health.fidelity.low",
                message="the circuit is not expected to survive the device",
                got=f"estimated success {predicted:.3f}",
                expected=f"at least {minimum:g}"
                + (", as the detector is degraded" if minimum > settings.minimum else ""),
                fix="make it shallower, or pick other qubits: interlock health CIRCUIT",
            )
        else:
            return Verdict(decision=Decision.ALLOW, evidence=evidence)
        return Verdict(decision=decision, findings=(finding,), evidence=evidence)
