"""The classical answer, when the quantum one cannot be trusted."""

from __future__ import annotations

from typing import Any

from interlock.guard.control import Control, Request, allow, deny
from interlock.guard.execute.run import describe
from interlock.types import Evidence, Finding, Job, Verdict

__all__ = ["BaselineControl"]


class BaselineControl(Control):
    """Computes the declared classical baseline on the fallback branch; denies without one."""

    id = "baseline"
    stage = "release"

    def gather(self, request: Request, settings: Any) -> Evidence:
        """Compute the baseline on the fallback branch; on the quantum branch there is no need."""
        if request.branch != "baseline":
            return {"needed": False}
        request.result = None
        if request.baseline is None:
            return {"needed": True, "available": False}
        result = request.baseline()
        request.result = result
        return {
            "needed": True,
            "available": True,
            "name": str(result.extra.get("baseline", "user")),
            "items": [describe(item) for item in result.items],
        }

    def decide(self, job: Job, settings: Any, evidence: Evidence) -> Verdict:
        """Deny when a baseline is needed and there is none."""
        if not evidence["needed"] or evidence["available"]:
            return allow(evidence)
        return deny(
            evidence,
            Finding(
                rule="release.baseline.none",
                message="the job fell back, and no classical baseline was supplied",
                got="no fallback",
                expected="a deterministic classical answer",
                fix="pass fallback=... to interlock.guard(), or set release.baseline in the policy",
            ),
        )
