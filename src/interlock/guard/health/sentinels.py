"""Has this device's evidence ever said that it does worse than its calibration?"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from interlock.guard.control import Control, Request, Settings, allow
from interlock.guard.health.calibration import calibration_for
from interlock.guard.health.evidence_store import store_of
from interlock.types import Decision, Evidence, Finding, Job, Verdict

__all__ = ["METADATA", "Heard", "SentinelHistoryControl", "stream_of"]

#: Where a result's metadata carries what its sentinels showed.
METADATA = "interlock_sentinels"


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """What the sentinels of one job showed.

    A type of its own: a device may put anything it likes into its metadata, but not this.
    """

    device: str
    rows: tuple[dict[str, Any], ...] = ()
    skipped: str | None = None


class SentinelHistorySettings(Settings, frozen=True, kw_only=True):
    """Settings of `sentinels`.

    Attributes:
        alpha: false-alarm level over the device's whole life.
        on_alarm: what a device with an alarm leads to, until someone clears it.
    """

    alpha: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 1e-3
    on_alarm: Literal["fallback", "deny"] = "fallback"


def stream_of(request: Request) -> str:
    """Return the name under which a device's evidence is kept."""
    calibration = calibration_for(request)
    return calibration.device if calibration is not None else request.job.backend


class SentinelHistoryControl(Control):
    """Keeps jobs away from a device whose sentinels have raised an alarm."""

    id = "sentinels"
    stage = "health"
    Settings = SentinelHistorySettings

    def gather(self, request: Request, settings: Any) -> Evidence:
        """Read the shared evidence about the device."""
        stream = stream_of(request)
        state = store_of(request.home).read(stream)
        return {
            "stream": stream,
            "jobs": state.jobs,
            "shots": state.shots,
            "failures": state.failures,
            "log_evidence": state.log_value,
            "peak": state.peak,
            "alpha": settings.alpha,
        }

    def decide(self, job: Job, settings: SentinelHistorySettings, evidence: Evidence) -> Verdict:
        """Compare the highest evidence ever with the level."""
        import math

        if evidence["peak"] < math.log(1 / settings.alpha):
            return allow(evidence)
        return Verdict(
            decision=Decision[settings.on_alarm.upper()],
            evidence=evidence,
            findings=(
                Finding(
                    rule="health.sentinels.alarm",
                    message="the device does worse than its calibration says",
                    got=f"evidence e^{evidence['peak']:.1f} from {evidence['shots']} shots",
                    expected=f"below 1/{settings.alpha:g}",
                    fix="recalibrate or use another backend, then clear the stream's evidence",
                ),
            ),
        )
