"""The stop: while it is set, nothing is admitted and nothing may act."""

from __future__ import annotations

from typing import Any

from interlock.guard.control import Control, Request, allow, deny
from interlock.types import Evidence, Finding, Job, Verdict

__all__ = ["AdmitKillSwitch", "GovernKillSwitch"]


class _KillSwitch(Control):
    id = "kill-switch"

    def gather(self, request: Request, settings: Any) -> Evidence:
        """Look for the stop file."""
        return {"stopped": request.state.stopped()}

    def decide(self, job: Job, settings: Any, evidence: Evidence) -> Verdict:
        """Deny while stopped."""
        if evidence["stopped"] is None:
            return allow(evidence)
        return deny(
            evidence,
            Finding(
                rule=f"{self.stage}.kill-switch.stopped",
                message="everything is stopped",
                got=str(evidence["stopped"]),
                expected="no stop in force",
                fix="`interlock resume` lifts the stop",
            ),
        )


class AdmitKillSwitch(_KillSwitch):
    """Admits nothing while the stop is set."""

    stage = "admit"


class GovernKillSwitch(_KillSwitch):
    """Releases nothing while the stop is set, also for jobs that were already running."""

    stage = "govern"
