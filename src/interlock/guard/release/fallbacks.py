"""How many jobs end with the classical baseline, and is that share alarming?"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from interlock.guard.control import Control, Request, Settings, verdict
from interlock.guard.pipeline import BASELINE
from interlock.guard.state import Cap, Window
from interlock.types import Evidence, Finding, Job, Verdict

__all__ = ["FallbacksControl"]


class FallbacksSettings(Settings, frozen=True, kw_only=True):
    """Settings of `fallbacks`.

    Attributes:
        max_share: share of a pipeline's jobs in a window that may fall back before the alarm.
        min_jobs: jobs in the window before a share is judged.
        window_s: length of the rolling window in seconds.
        on_alarm: what the alarm leads to for a job that falls back. `allow` hands the labelled
            baseline over with the alarm beside it.
    """

    max_share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.2
    min_jobs: Annotated[int, msgspec.Meta(ge=1)] = 20
    window_s: Annotated[float, msgspec.Meta(gt=0)] = 3600.0
    on_alarm: Literal["allow", "deny"] = "allow"


class FallbacksControl(Control):
    """Counts jobs and fallbacks of a pipeline over all processes, and alarms when too many fall."""

    id = "fallbacks"
    stage = "release"
    phase = 1
    Settings = FallbacksSettings

    def gather(self, request: Request, settings: FallbacksSettings) -> Evidence:
        """Count this job, and return the window with it."""
        fell = request.branch == BASELINE
        scope = f"fallbacks/{request.job.principal.tenant}/{request.job.pipeline}"
        caps = (Cap("jobs", 1.0), Cap("fallbacks", float(fell)))
        window = Window(scope, settings.window_s)
        used = request.state.reserve(window, caps, request.now()).used
        jobs, fallbacks = (int(u + c.amount) for u, c in zip(used, caps, strict=True))
        return {"fell_back": fell, "jobs": jobs, "fallbacks": fallbacks}

    def decide(self, job: Job, settings: FallbacksSettings, evidence: Evidence) -> Verdict:
        """Compare the share with the limit; only a job that fell back carries the alarm."""
        jobs, fallbacks = evidence["jobs"], evidence["fallbacks"]
        many = jobs >= settings.min_jobs and fallbacks > settings.max_share * jobs
        if not evidence["fell_back"] or not many:
            return verdict(evidence, [])
        finding = Finding(
            rule="release.fallbacks.share",
            message="too large a share of the jobs falls back to the classical baseline",
            got=f"{fallbacks} of {jobs} jobs, {fallbacks / jobs:.0%}",
            expected=f"at most {settings.max_share:.0%} in {settings.window_s:g} s",
            fix="see which rules lead there in the report; the device or the policy needs a look",
        )
        return verdict(evidence, [finding], settings.on_alarm)
