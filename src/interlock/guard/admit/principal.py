"""Who asks, and may they?"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

from interlock.guard.control import Control, Request, Settings, verdict
from interlock.types import Evidence, Finding, Job, Verdict

__all__ = ["PrincipalControl"]


class PrincipalSettings(Settings, frozen=True, kw_only=True):
    """Settings of `principal`.

    Attributes:
        allow: patterns of principal ids that may submit, for instance `alice` or `svc-*`.
        kinds: kinds of principal that may submit: person, service, agent.
    """

    allow: tuple[str, ...] = ("*",)
    kinds: tuple[str, ...] = ("person", "service", "agent")


class PrincipalControl(Control):
    """Denies a principal the policy does not name; an agent must say on whose behalf it acts."""

    id = "principal"
    stage = "admit"
    Settings = PrincipalSettings

    def gather(self, request: Request, settings: Any) -> Evidence:
        """Return nothing but the fact that it was asked: all it needs is in the job."""
        return {"principal": request.job.principal.id}

    def decide(self, job: Job, settings: PrincipalSettings, evidence: Evidence) -> Verdict:
        """Compare the job's principal with the patterns."""
        who = job.principal
        findings = []
        if not who.id or not any(fnmatchcase(who.id, p) for p in settings.allow):
            findings.append(
                Finding(
                    rule="admit.principal.not-allowed",
                    message="this principal may not submit jobs here",
                    got=who.id or "(no principal)",
                    expected="one of " + ", ".join(settings.allow),
                    fix="ask the owner of the policy to add you under admit.principal.allow",
                )
            )
        if who.kind not in settings.kinds:
            findings.append(
                Finding(
                    rule="admit.principal.kind",
                    message="this kind of principal may not submit jobs here",
                    got=who.kind,
                    expected="one of " + ", ".join(settings.kinds),
                    fix="submit as one of these kinds",
                )
            )
        if who.kind == "agent" and not who.on_behalf_of:
            findings.append(
                Finding(
                    rule="admit.principal.agent-for-nobody",
                    message="an agent must say on whose behalf it acts",
                    got="on_behalf_of is empty",
                    expected="the id of a person",
                    fix="pass Principal(..., kind='agent', on_behalf_of='alice')",
                )
            )
        return verdict(evidence, findings)
