"""Did the sentinels of this very job come back right?"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import msgspec

from interlock.guard.control import Control, Request, Settings, allow
from interlock.guard.health.evidence_store import store_of
from interlock.guard.health.sentinels import METADATA, Heard, stream_of
from interlock.types import Decision, Evidence, Finding, Job, Verdict

__all__ = ["SentinelControl"]


class SentinelSettings(Settings, frozen=True, kw_only=True):
    """Settings of `sentinels`.

    Attributes:
        alpha: false-alarm level over the device's whole life.
        on_alarm: what an alarm leads to.
        required: whether a job without sentinels may be used.
    """

    alpha: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 1e-3
    on_alarm: Literal["fallback", "deny"] = "fallback"
    required: bool = False


class SentinelControl(Control):
    """Adds this job's sentinels to the device's evidence; an alarm means no use of the result."""

    id = "sentinels"
    stage = "validate"
    Settings = SentinelSettings

    def gather(self, request: Request, settings: Any) -> Evidence:
        """Take this job's sentinels into the shared evidence."""
        native = None if request.result is None else request.result.native
        note = (getattr(native, "metadata", None) or {}).get(METADATA)
        if not isinstance(note, Heard):
            return {"rows": [], "skipped": "none were run"}
        if not note.rows:
            return {"rows": [], "skipped": note.skipped or "none were run"}
        stream = stream_of(request)
        store = store_of(request.home)
        before = store.read(stream)
        state = before
        for row in note.rows:
            state = store.add(
                stream,
                failures=row["failures"],
                shots=row["shots"],
                p0=row["allowed"],
                now=request.now(),
            )
        return {
            "stream": stream,
            "rows": list(note.rows),
            "jobs": state.jobs,
            "shots": state.shots,
            "log_evidence_before": before.log_value,
            "log_evidence": state.log_value,
            "peak": state.peak,
            "alpha": settings.alpha,
        }

    def decide(self, job: Job, settings: SentinelSettings, evidence: Evidence) -> Verdict:
        """Compare the highest evidence with the level; no sentinels is said, or refused."""
        if not evidence["rows"]:
            if not settings.required:
                return allow(evidence)
            return _bad(evidence, settings, "missing", "the job ran without sentinels",
                        str(evidence["skipped"]), "at least one sentinel",
                        "run it through a SentinelSampler")  # fmt: skip
        if evidence["peak"] < math.log(1 / settings.alpha):
            return allow(evidence)
        return _bad(evidence, settings, "alarm", "the device does worse than its calibration says",
                    f"evidence e^{evidence['peak']:.1f} from {evidence['shots']} shots",
                    f"below 1/{settings.alpha:g}",
                    "recalibrate or use another backend, then clear the evidence")  # fmt: skip


def _bad(
    evidence: Evidence, settings: SentinelSettings, rule: str, message: str, got: str,
    expected: str, fix: str,
) -> Verdict:  # fmt: skip
    return Verdict(
        decision=Decision[settings.on_alarm.upper()],
        evidence=evidence,
        findings=(
            Finding(
                rule=f"validate.sentinels.{rule}", message=message, got=got, expected=expected,
                fix=fix,
            ),
        ),
    )  # fmt: skip
