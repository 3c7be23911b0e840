"""Approvals given at the gateway, in the approver's own name and signed by the gateway."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from interlock.access.approvals import approve
from interlock.gateway.errors import ForbiddenError, unknown
from interlock.types import Principal

if TYPE_CHECKING:
    from interlock.access.identity import Identity
    from interlock.gateway.service import Gateway

__all__ = ["give", "waiting"]

APPROVAL_S = 7 * 86_400.0


def waiting(gateway: Gateway, who: Identity) -> list[dict[str, Any]]:
    """Return what waits for approval, for those who may approve or read everything."""
    if not (
        gateway.allowed(who, "approve", owner="(somebody)")
        or (not gateway.store.run and gateway.allowed(who, "read", owner="(somebody)"))
    ):
        gateway.require(who, "approve", owner="(somebody)")
    items = gateway.access.waiting(who.principal.tenant)
    for item in items:
        given = gateway.access.approvals(item["subject"], who.principal.tenant)
        item["approvals"] = [g["statement"] for g in given]
    return items


def give(gateway: Gateway, who: Identity, subject: str, gate: str) -> dict[str, Any]:
    """Approve what waits, in the caller's name, signed by the gateway.

    Raises:
        UnknownError: nothing of this tenant waits under this subject.
        ForbiddenError: the approval would not count.
        RefusedError: it is the caller's own.
    """
    found = [w for w in gateway.access.waiting(who.principal.tenant) if w["subject"] == subject]
    if not found:
        raise unknown("approval", subject)
    submitter = Principal(
        id=found[0]["job"]["submitter"], on_behalf_of=found[0].get("on_behalf_of")
    )
    gateway.require(who, "approve", owner=submitter.id)
    _counts(gateway, who.principal, gate, found[0]["gates"])
    body = approve(
        subject=subject,
        gate=gate,
        approver=who.principal,
        submitter=submitter,
        lifetime_s=APPROVAL_S,
        now=time.time(),
        signer="gateway",
        key=lambda a: gateway.keys.signing_key(f"gateway-{a}", a),
    )
    gateway.record("approval", who, {"approval": body, "outcome": "ALLOW"})
    gateway.access.add_approval(body)
    return dict(body["statement"])


def _counts(gateway: Gateway, who: Principal, gate: str, gates: Mapping[str, Any]) -> None:
    """Raise unless an approval for this gate would count: nobody shall believe it does."""
    known = [
        a
        for bound in gateway.policy.controls("admit")
        for a in getattr(bound.settings, "approvers", ())
        if a.tenant == who.tenant
    ]
    groups = sorted({str(g["group"]) for g in gates.values()})
    member = any(a.id == who.id and gate in a.groups and not a.vouches for a in known)
    vouched = any(a.vouches for a in known)
    if gate in groups and member and vouched:
        return
    fix = "ask a member of the gate's group"
    if member and not vouched:
        fix = "add what `interlock access public --gateway` prints to the policy's approvers"
    raise ForbiddenError(
        "this approval would not count",
        code="approval-group",
        got=f"gate {gate[:80]!r} by {who.id}",
        expected=f"a gate of {', '.join(groups)}, one of its group in the policy's approvers, "
        "and this gateway to vouch for it",
        fix=fix,
    )
