"""Has this principal's access lately looked like reconnaissance? It can only tighten."""

from __future__ import annotations

from typing import Any, Literal

from interlock.guard.control import Control, Request, Settings, allow
from interlock.monitor.access import Tighten, pseudonym
from interlock.monitor.access_record import pseudonym_key
from interlock.monitor.store import monitor_store
from interlock.types import Decision, Evidence, Finding, Job, Verdict

__all__ = ["BehaviourControl", "BehaviourSettings"]


class BehaviourSettings(Settings, frozen=True, kw_only=True):
    """Settings of `behaviour`.

    Attributes:
        on_step_up: what a principal-hour out of its role's profile leads to.
        on_hold: what one far out of it leads to.
    """

    on_step_up: Literal["hold", "deny"] = "hold"
    on_hold: Literal["hold", "deny"] = "deny"


class BehaviourControl(Control):
    """Holds or denies jobs of a principal whose access was out of its role's profile."""

    id = "behaviour"
    stage = "admit"
    Settings = BehaviourSettings

    def gather(self, request: Request, settings: Any) -> Evidence:
        """Read the principal's standing under its pseudonym."""
        who = pseudonym(pseudonym_key(request.home), request.job.principal.id)
        step, field = monitor_store(request.home).standing(who, request.now())
        return {"pseudonym": who, "step": step, "field": field}

    def decide(self, job: Job, settings: BehaviourSettings, evidence: Evidence) -> Verdict:
        """Allow without a standing; otherwise hold or deny, never less."""
        step = Tighten(evidence["step"])
        if step is Tighten.NONE:
            return allow(evidence)
        choice = settings.on_hold if step is Tighten.HOLD else settings.on_step_up
        finding = Finding(
            rule=f"admit.behaviour.{step.name.lower().replace('_', '-')}",
            message="recent access was unlike the role's",
            got=str(evidence["field"]),
            expected="access within the role's profile",
            fix="a person who may approve looks at the audit log; it expires after the next hour",
        )
        return Verdict(decision=Decision[choice.upper()], findings=(finding,), evidence=evidence)
