"""May this principal submit this to that backend? Cedar decides; no rule that permits means no."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal

import msgspec

from interlock.access.cedar import Authoriser, Member, Resource
from interlock.access.store import store_of
from interlock.guard.control import Control, Request, Settings, verdict
from interlock.guard.patterns import best_match
from interlock.types import Evidence, Finding, Job, Principal, Verdict

__all__ = [
    "AuthorisationControl",
    "AuthorisationSettings",
    "BackendFacts",
    "ExecuteStanding",
    "ReleaseStanding",
    "authoriser_of",
]


class BackendFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the rules may ask of a backend.

    Attributes:
        region: where it stands, for residency: `eu`, `us`, `local`.
        provider: who runs it.
        tenant: whose it is; empty means shared by all.
    """

    region: str = ""
    provider: str = ""
    tenant: str = ""


class AuthorisationSettings(Settings, frozen=True, kw_only=True):
    """Settings of `authorisation`.

    Attributes:
        rules: Cedar policies, each with an `@id`.
        members: principals and their roles.
        roles: role -> roles it is part of.
        backends: pattern of a backend's name -> facts; the most specific that matches counts.
        schema: Cedar schema; empty means the shipped one.
        stages: stage of the path (`execute`, `release`) -> action (`quantum-execute`, ...) that
            the submitter must then also have; asked by `standing`.
    """

    rules: str = ""
    members: tuple[Member, ...] = ()
    roles: dict[str, tuple[str, ...]] = {}
    backends: dict[str, BackendFacts] = {}
    schema: str = ""
    stages: dict[Literal["execute", "release"], str] = {}


@lru_cache(maxsize=64)
def _built(encoded: bytes) -> Authoriser:
    s = msgspec.json.decode(encoded, type=AuthorisationSettings)
    return Authoriser(s.rules, s.members, s.roles, s.schema)


_recent: list[tuple[AuthorisationSettings, Authoriser]] = []


def authoriser_of(settings: AuthorisationSettings) -> Authoriser:
    """Return the authoriser of some settings; built once for equal settings."""
    for known, found in tuple(_recent):
        if known is settings:
            return found
    built = _built(msgspec.json.encode(settings, order="deterministic"))
    _recent.append((settings, built))
    del _recent[:-8]
    return built


def backend_resource(name: str, settings: AuthorisationSettings) -> Resource:
    """Return a backend as the rules see it."""
    facts = best_match(name, settings.backends) or BackendFacts()
    return Authoriser.backend(name, facts.tenant, region=facts.region, provider=facts.provider)


def job_context(job: Job, evidence: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of a job as the rules see them."""
    return {
        "shots": job.total_shots,
        "qubits": max((c.num_qubits for c in job.circuits), default=0),
        "circuits": len(job.circuits),
        "depth": max((c.depth for c in job.circuits), default=0),
        "labels": sorted(job.labels),
        "kind": job.kind,
        "mode": job.mode.value,
        "hour_utc": int(evidence["hour_utc"]),
    }


class AuthorisationControl(Control):
    """Asks Cedar whether the principal may submit this job to this backend."""

    id = "authorisation"
    stage = "admit"
    version = 3
    Settings = AuthorisationSettings

    def gather(self, request: Request, settings: AuthorisationSettings) -> Evidence:
        """Look up what is revoked; the rest is in the job and the policy."""
        request.shared["authorisation"] = settings
        return {
            "revoked": revoked(request),
            "hour_utc": int(request.now() // 3600 % 24),
        }

    def decide(self, job: Job, settings: AuthorisationSettings, evidence: Evidence) -> Verdict:
        """Deny what no rule permits."""
        findings = _standing(self.stage, self.id, evidence)
        ruling = authoriser_of(settings).ask(
            job.principal,
            "submit",
            backend_resource(job.backend, settings),
            job_context(job, evidence),
        )
        if not ruling.allowed:
            rule = ruling.rules[0] if ruling.rules else "not-permitted"
            findings.append(
                Finding(
                    rule=f"admit.authorisation.{rule}",
                    message="the rules do not let this principal submit this job",
                    got=f"{_who(job.principal)}: {ruling.reason}",
                    expected="a rule that permits it and none that forbids it",
                    fix="ask the owner of the policy; `interlock policy test` shows who may what",
                )
            )
        return verdict(evidence, findings)


class _Standing(Control):
    """Asks again, later on the path: was the principal revoked, and do the rules still permit it?

    The rules are those of `authorisation`, asked about the job as it is now; the ruling is part of
    the evidence, because what the clock said then cannot be asked again at replay.
    """

    id = "standing"

    def gather(self, request: Request, settings: Any) -> Evidence:
        """Look up what is revoked by now, and what the rules say by now."""
        hour = int(request.now() // 3600 % 24)
        known: AuthorisationSettings | None = request.shared.get("authorisation")
        ruling = _again(self.stage, request.job, known, hour) if known is not None else None
        return {"revoked": revoked(request), "hour_utc": hour, "ruling": ruling}

    def decide(self, job: Job, settings: Any, evidence: Evidence) -> Verdict:
        """Deny who was revoked and what the rules do not permit any more."""
        findings = _standing(self.stage, self.id, evidence)
        ruling = evidence.get("ruling")
        if ruling is not None and not ruling["allowed"]:
            rule = ruling["rules"][0] if ruling["rules"] else "not-permitted"
            findings.append(
                Finding(
                    rule=f"{self.stage}.{self.id}.{rule}",
                    message="the rules do not let this principal go on to this stage",
                    got=f"{_who(job.principal)}: {ruling['action']}: {ruling['reason']}",
                    expected="a rule that permits it and none that forbids it",
                    fix="ask the owner of the policy",
                )
            )
        return verdict(evidence, findings)


def _again(stage: str, job: Job, settings: AuthorisationSettings, hour: int) -> dict[str, Any]:
    """Ask the rules about a job that was admitted and has come to a later stage."""
    auth = authoriser_of(settings)
    context = job_context(job, {"hour_utc": hour})
    resource = backend_resource(job.backend, settings)
    action, ruling = "submit", auth.ask(job.principal, "submit", resource, context)
    if ruling.allowed and stage in settings.stages:
        action = settings.stages[stage]
        ruling = auth.ask(job.principal, action, auth.stage(action, job.principal.tenant))
    return {
        "action": action,
        "allowed": ruling.allowed,
        "rules": list(ruling.rules),
        "reason": ruling.reason,
    }


class ExecuteStanding(_Standing):
    """Nothing of a revoked principal reaches the device."""

    stage = "execute"


class ReleaseStanding(_Standing):
    """Nothing is released to a principal that was revoked while its job ran."""

    stage = "release"


def revoked(request: Request) -> str | None:
    """Return what of the job's principal or credential is revoked, or None."""
    credential = request.shared.get("credential", {})
    return store_of(request.home).revoked(
        request.job.principal,
        token=str(credential.get("token", "")),
        key=str(credential.get("key", "")),
    )


def _standing(stage: str, control: str, evidence: Evidence) -> list[Finding]:
    if evidence["revoked"] is None:
        return []
    return [
        Finding(
            rule=f"{stage}.{control}.revoked",
            message="the right to run this was revoked",
            got=str(evidence["revoked"]),
            expected="a principal and a credential that stand",
            fix="ask the owner of the policy why",
        )
    ]


def _who(principal: Principal) -> str:
    behalf = f" for {principal.on_behalf_of}" if principal.on_behalf_of else ""
    return f"{principal.kind} {principal.tenant}/{principal.id}{behalf}"
