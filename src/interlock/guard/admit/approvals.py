"""Gates: some jobs start only after N people, none of them the submitter, have approved them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Annotated, Any

import msgspec

from interlock.access.approvals import Approver, check, described, subject_of, values_digest
from interlock.access.store import store_of
from interlock.errors import IntegrityError
from interlock.guard.control import Control, Request, Settings
from interlock.types import Decision, Evidence, Finding, Job, Principal, Verdict

__all__ = ["ApprovalsControl", "ApprovalsSettings", "Gate", "gates_for", "gathered", "waits"]


class Gate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When approval is needed, and how much of it. A job must fit every condition given.

    Attributes:
        group: who approves; `Approver.groups` names it.
        needed: how many of them.
        labels: any of these labels (patterns).
        backends: the backend matches any of these patterns.
        kinds: kind of job.
        shots_above: more shots than this.
    """

    group: str
    needed: Annotated[int, msgspec.Meta(ge=1)] = 1
    labels: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    shots_above: Annotated[int, msgspec.Meta(ge=0)] | None = None


class ApprovalsSettings(Settings, frozen=True, kw_only=True):
    """Settings of `approvals`.

    Attributes:
        gates: name -> gate.
        approvers: who may approve, with their public keys.
    """

    gates: dict[str, Gate] = {}
    approvers: tuple[Approver, ...] = ()


def gates_for(job: Job, settings: ApprovalsSettings) -> dict[str, Gate]:
    """Return the gates a job must pass."""

    def fits(gate: Gate) -> bool:
        return (
            (not gate.labels or any(fnmatchcase(x, p) for x in job.labels for p in gate.labels))
            and (not gate.backends or any(fnmatchcase(job.backend, p) for p in gate.backends))
            and (not gate.kinds or job.kind in gate.kinds)
            and (gate.shots_above is None or job.total_shots > gate.shots_above)
        )

    return {name: gate for name, gate in settings.gates.items() if fits(gate)}


class ApprovalsControl(Control):
    """Holds a job until its gates are approved, for exactly these circuits, values and labels."""

    id = "approvals"
    stage = "admit"
    version = 3
    Settings = ApprovalsSettings

    def gather(self, request: Request, settings: ApprovalsSettings) -> Evidence:
        """Fetch the approvals of exactly this job."""
        return gathered(request, gates_for(request.job, settings))

    def decide(self, job: Job, settings: ApprovalsSettings, evidence: Evidence) -> Verdict:
        """Count the approvals that hold; too few hold the job."""
        gates = gates_for(job, settings)
        findings = waits(job, gates, settings.approvers, evidence, "admit.approvals")
        return Verdict(
            decision=Decision.HOLD if findings else Decision.ALLOW,
            findings=tuple(findings),
            evidence=evidence,
        )


def gathered(request: Request, gates: Mapping[str, Gate]) -> dict[str, Any]:
    """Return the approvals of exactly this job, and show it to those who may approve.

    Without a gate nothing is fetched.
    """
    job = request.job
    values = values_digest(request.programs)
    evidence: dict[str, Any] = {"values_sha256": values, "approvals": []}
    if not gates:
        return evidence
    store = store_of(request.home)
    subject = subject_of(job, values)
    tenant = job.principal.tenant
    evidence["approvals"] = store.approvals(subject, tenant)
    people = {str(a["statement"]["approver"]) for a in evidence["approvals"]}
    evidence["revoked"] = sorted(
        p for p in people if store.revoked(Principal(id=p, tenant=tenant)) is not None
    )
    store.wait_for(
        subject,
        tenant,
        {
            "gates": {n: {"group": g.group, "needed": g.needed} for n, g in gates.items()},
            "on_behalf_of": job.principal.on_behalf_of,
            "job": described(job, values),
        },
    )
    return evidence


def waits(
    job: Job,
    gates: Mapping[str, Gate],
    approvers: Sequence[Approver],
    evidence: Evidence,
    prefix: str,
) -> list[Finding]:
    """Return a finding for each gate with too few approvals that hold."""
    subject = subject_of(job, evidence["values_sha256"])
    at = datetime.fromisoformat(job.submitted_at).timestamp()
    given: dict[str, set[str]] = {}
    rejected: list[str] = []
    for approval in evidence["approvals"]:
        try:
            who = check(approval, approvers, subject=subject, job=job, at=at)
            if who in evidence.get("revoked", ()):
                rejected.append(f"approval by {who}, who is revoked")
                continue
            given.setdefault(str(approval["statement"]["gate"]), set()).add(who)
        except IntegrityError as error:
            rejected.append(str(error.got))
    return [
        Finding(
            rule=f"{prefix}.{name}",
            message="the job waits for approval",
            got=f"{len(given.get(gate.group, ()))} of {gate.needed}"
            + (f"; not counted: {'; '.join(rejected)}" if rejected else ""),
            expected=f"{gate.needed} of group {gate.group}, none of them the submitter",
            fix=f"interlock access approve {subject} --gate {gate.group}",
        )
        for name, gate in sorted(gates.items())
        if len(given.get(gate.group, ())) < gate.needed
    ]
