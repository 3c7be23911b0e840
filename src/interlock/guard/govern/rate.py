"""How fast and how much may be released."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from interlock.guard.control import Control, Request, Settings, verdict
from interlock.guard.filter.fields import fields_of
from interlock.guard.state import Cap, Window, fits
from interlock.types import Evidence, Finding, Job, Outcome, Verdict

__all__ = ["RateControl"]


class RateSettings(Settings, frozen=True, kw_only=True):
    """Settings of `rate`.

    Attributes:
        max_releases: releases of a pipeline in a window.
        max_volume: sum of `volume_field` over the releases of a window.
        volume_field: the decoded field whose absolute value is summed.
        window_s: length of the rolling window in seconds of the machine's wall clock; where that
            could be moved, let the governor hold the limits.
        on_excess: what a release too many leads to.
    """

    max_releases: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_volume: Annotated[float, msgspec.Meta(gt=0)] | None = None
    volume_field: str | None = None
    window_s: Annotated[float, msgspec.Meta(gt=0)] = 60.0
    on_excess: Literal["deny", "hold"] = "deny"


class RateControl(Control):
    """Counts releases and their volume over all processes; reserves before it allows."""

    id = "rate"
    stage = "govern"
    phase = 1
    Settings = RateSettings

    def gather(self, request: Request, settings: RateSettings) -> Evidence:
        """Reserve one release and its volume."""
        volume: float | None = 0.0
        if settings.volume_field is not None:
            volume = _volume(fields_of(request).get(settings.volume_field))
            if volume is None:
                return {"usage": [], "volume": None}
        job = request.job
        window = Window(f"govern/{job.principal.tenant}/{job.pipeline}", settings.window_s)
        caps = (
            Cap("releases", 1.0, settings.max_releases),
            Cap("volume", volume or 0.0, settings.max_volume),
        )
        self._give_back(request)  # the quantum branch may have reserved before it was left
        now = request.now()
        tried = request.state.reserve(window, caps, now)
        if tried.taken:
            request.shared["rate"] = (window, caps, now)
        return {"volume": volume, "usage": tried.usage(caps)}

    def decide(self, job: Job, settings: RateSettings, evidence: Evidence) -> Verdict:
        """Compare with the limits; a volume that cannot be read is too much."""
        findings = []
        if evidence["volume"] is None:
            findings.append(
                Finding(
                    rule="govern.rate.no-volume",
                    message=f"the output has no finite number {settings.volume_field!r} to govern",
                    got="no such number",
                    expected=f"a finite number in field {settings.volume_field!r}",
                    fix="decode the result so that it has this field",
                )
            )
        limits = {"releases": settings.max_releases, "volume": settings.max_volume}
        for usage in evidence["usage"]:
            limit = limits[usage["unit"]]
            if not fits(usage["used"], usage["amount"], limit):
                findings.append(
                    Finding(
                        rule=f"govern.rate.{usage['unit']}",
                        message=f"too much {usage['unit']} in {settings.window_s:g} s",
                        got=f"{usage['used']:g} so far + {usage['amount']:g}",
                        expected=f"at most {limit:g}",
                        fix="release more slowly, or raise the limit in govern.rate",
                    )
                )
        return verdict(evidence, findings, settings.on_excess)

    def settle(self, request: Request, settings: RateSettings, outcome: Outcome) -> None:
        """Give back what a job reserved that was not released after all."""
        if outcome not in (Outcome.RELEASE, Outcome.FALLBACK):
            self._give_back(request)

    @staticmethod
    def _give_back(request: Request) -> None:
        reserved = request.shared.pop("rate", None)
        if reserved is not None:
            request.state.release(*reserved)


def _volume(value: Any) -> float | None:
    numbers = value if isinstance(value, list) else [value]
    total = 0.0
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int | float):
            return None
        total += abs(number)
    return total if total == total and total != float("inf") else None
