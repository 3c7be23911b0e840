"""How well is the execution isolated, and is that enough?"""

from __future__ import annotations

from typing import Any, Literal

from interlock.guard.control import Control, Request, Settings, verdict
from interlock.types import Evidence, Finding, Job, Verdict

__all__ = ["LEVELS", "IsolationControl"]

#: Weakest first: `none` is the program's own process; see `interlock.confine.Level`.
LEVELS = ("none", "process", "rlimits", "confined")


#: By whether the job would run in a process of its own.
_FIXES = (
    (
        "submit through interlock.backends.Confined{kind}(backend), which runs simulators in a "
        "confined process; a remote device needs minimum: none"
    ),
    "see `interlock doctor` for what this machine lacks, or lower minimum",
)


class IsolationSettings(Settings, frozen=True, kw_only=True):
    """Settings of `isolation`.

    Attributes:
        minimum: the weakest level that may run a job.
    """

    minimum: Literal["none", "process", "rlimits", "confined"] = "none"


class IsolationControl(Control):
    """Refuses to run a job at a level below the policy's; the level is recorded either way."""

    id = "isolation"
    stage = "execute"
    version = 2
    Settings = IsolationSettings

    def gather(self, request: Request, settings: Any) -> Evidence:
        """Return the level that what runs the job offers."""
        return {"level": request.isolation}

    def decide(self, job: Job, settings: IsolationSettings, evidence: Evidence) -> Verdict:
        """Compare; a level nobody knows is the weakest."""
        level = evidence["level"]
        rank = LEVELS.index(level) if level in LEVELS else -1
        findings = []
        if rank < LEVELS.index(settings.minimum):
            findings.append(
                Finding(
                    rule="execute.isolation.too-weak",
                    message="the job would run at a level of isolation below the policy's",
                    got=str(level),
                    expected=f"at least {settings.minimum}",
                    fix=_FIXES[min(max(rank, 0), 1)].format(
                        kind="Estimator" if job.kind == "estimate" else "Sampler"
                    ),
                )
            )
        return verdict(evidence, findings)
