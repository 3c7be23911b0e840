"""Nothing is released that could not be explained later."""

from __future__ import annotations

from typing import Any

from interlock.guard.control import Control, Request, Settings, verdict
from interlock.types import Evidence, Finding, Job, Verdict

__all__ = ["LINKS", "LineageControl"]

#: Every link the record can hold, and where it comes from.
LINKS = ("backend", "calibration", "circuit", "plugins", "policy", "principal", "result", "seed")


class LineageSettings(Settings, frozen=True, kw_only=True):
    """Settings of `lineage`.

    Attributes:
        require: links without which nothing is released. `calibration` and `seed` are recorded
            whenever the backend has them; require them where it must.
    """

    require: tuple[str, ...] = ("backend", "circuit", "plugins", "policy", "principal", "result")

    def __post_init__(self) -> None:
        unknown = sorted(set(self.require) - set(LINKS))
        if unknown:
            raise ValueError(f"unknown links {unknown}; the links are {', '.join(LINKS)}")


class LineageControl(Control):
    """Denies a release whose record would miss a required link."""

    id = "lineage"
    stage = "release"
    Settings = LineageSettings

    def gather(self, request: Request, settings: Any) -> Evidence:
        """See which links are there."""
        job, shared = request.job, request.shared
        answered = request.branch == "baseline" or request.result is not None
        links = {
            "backend": bool(job.backend),
            "calibration": bool(shared.get("calibration")),
            "circuit": bool(job.circuits) and all(c.sha256 for c in job.circuits),
            "plugins": bool(shared.get("session")),
            "policy": bool(shared.get("policy")),
            "principal": bool(job.principal.id),
            "result": answered,
            "seed": job.seed is not None,
        }
        return {"links": links, "session": shared.get("session"), "policy": shared.get("policy")}

    def decide(self, job: Job, settings: LineageSettings, evidence: Evidence) -> Verdict:
        """Deny when a required link is missing."""
        missing = [name for name in settings.require if not evidence["links"].get(name)]
        findings = [
            Finding(
                rule="release.lineage.missing",
                message="the record would not explain this result",
                got="missing: " + ", ".join(missing),
                expected="all of " + ", ".join(settings.require),
                fix="supply what is missing, or take it out of release.lineage.require",
            )
        ]
        return verdict(evidence, findings if missing else [])
