"""Signed approvals: bound to exactly what will run, by people who did not submit it, for a time.

The signed statement is RFC 8785 JSON under a domain line. Both signatures, Ed25519 and ML-DSA-65,
must verify. An approval that came in through the gateway is signed by the gateway, which vouches
that this approver was signed in; the policy says whether that is enough.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
import rfc8785

from interlock.crypto import signing
from interlock.crypto.signing import PrivateKey
from interlock.errors import InputError, IntegrityError, RefusedError
from interlock.types import Job, Principal

__all__ = ["ALGORITHMS", "Approver", "approve", "check", "described", "subject_of", "values_digest"]

ALGORITHMS = ("ed25519", "ml-dsa-65")
_DOMAIN = b"interlock/approval/v1\n"


class Approver(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Somebody who may approve, or a gateway that vouches for those who do.

    Attributes:
        id: the principal.
        tenant: whose jobs.
        groups: what for: `ethics`, `model-risk`, `legal`, `quantum-safety`.
        public: algorithm -> base64 public key.
        vouches: it is a gateway: approvals of any signed-in member may carry its signature.
    """

    id: str
    tenant: str = "local"
    groups: tuple[str, ...] = ()
    public: dict[str, str] = {}
    vouches: bool = False


def values_digest(programs: Iterable[Any]) -> str:
    """Return the SHA-256 over parameter values and observables of the programs of a job."""
    digest = hashlib.sha256()
    for program in programs:
        rows = [[float(v) for v in row] for row in program.values]
        digest.update(
            msgspec.json.encode([list(program.parameters), rows, list(program.observables)])
        )
        digest.update(b"\n")
    return digest.hexdigest()


def described(job: Job, values_sha256: str) -> dict[str, Any]:
    """Return what an approval of this job is bound to: circuits, values, device, data, model."""
    return {
        "tenant": job.principal.tenant,
        "submitter": job.principal.id,
        "kind": job.kind,
        "backend": job.backend,
        "circuits": [
            {"sha256": c.sha256, "shots": c.shots, "bindings": c.bindings, "precision": c.precision}
            for c in job.circuits
        ],
        "values_sha256": values_sha256,
        "labels": sorted(job.labels),
    }


def subject_of(job: Job, values_sha256: str) -> str:
    """Return the SHA-256 that an approval of this job names."""
    return hashlib.sha256(rfc8785.dumps(described(job, values_sha256))).hexdigest()


def approve(
    *,
    subject: str,
    gate: str,
    approver: Principal,
    submitter: Principal | str,
    lifetime_s: float,
    now: float,
    signer: str,
    key: Callable[[str], PrivateKey],
) -> dict[str, Any]:
    """Make a signed approval.

    Args:
        subject: from `subject_of`.
        gate: which gate it is for.
        approver: who approves.
        submitter: who submitted; nobody approves their own.
        lifetime_s: how long it holds.
        now: seconds since the epoch.
        signer: id of the `Approver` whose key signs: the approver, or a gateway.
        key: algorithm -> private key.

    Raises:
        RefusedError: it is the approver's own job, or an agent approves.
        InputError: the subject is no SHA-256, or the lifetime is not positive.
    """
    own = {submitter} if isinstance(submitter, str) else {submitter.id, submitter.on_behalf_of}
    if approver.id in own or (approver.on_behalf_of and approver.on_behalf_of in own):
        raise RefusedError(
            "nobody approves their own job",
            code="approval-own",
            got=approver.id,
            expected="an approver who is not the submitter",
            fix="ask another member of the gate's group",
        )
    if approver.kind != "person":
        raise RefusedError(
            "only a person approves",
            code="approval-not-a-person",
            got=f"{approver.kind} {approver.id}",
            expected="a person",
            fix="approve as yourself",
        )
    if len(subject) != 64 or set(subject) - set("0123456789abcdef") or not lifetime_s > 0:
        raise InputError(
            "this cannot be approved",
            code="approval-subject",
            got=f"subject {subject[:80]!r}, lifetime {lifetime_s:g} s",
            expected="the 64 hex digits a held job names, and a lifetime above 0",
            fix="copy the subject from the held job",
        )
    statement = {
        "subject": subject,
        "gate": gate,
        "tenant": approver.tenant,
        "approver": approver.id,
        "issued_at": int(now),
        "expires_at": int(now + lifetime_s),
        "signer": signer,
    }
    data = _DOMAIN + rfc8785.dumps(statement)  # type: ignore[arg-type]
    signatures = {a: base64.b64encode(key(a).sign(data)).decode() for a in ALGORITHMS}
    return {"statement": statement, "signatures": signatures}


def check(
    approval: Mapping[str, Any], approvers: Sequence[Approver], *, subject: str, job: Job, at: float
) -> str:
    """Check one approval of a job and return its approver's id.

    Args:
        approval: as `approve` made it.
        approvers: whom the policy trusts.
        subject: what the job's subject is.
        job: the job.
        at: when the job was submitted, seconds since the epoch.

    Raises:
        IntegrityError: it is for something else, expired, not signed, or the submitter's own.
    """
    statement = approval.get("statement")
    signatures = approval.get("signatures")
    if not isinstance(statement, Mapping) or not isinstance(signatures, Mapping):
        raise _invalid("no statement with signatures")
    approver = statement.get("approver")
    who = job.principal
    if statement.get("subject") != subject or statement.get("tenant") != who.tenant:
        raise _invalid("approval of another job")
    if approver in (who.id, who.on_behalf_of):
        raise _invalid("approval of one's own job")
    known = {a.id: a for a in approvers if a.tenant == who.tenant}
    if not isinstance(approver, str) or approver not in known or known[approver].vouches:
        raise _invalid(f"approval by {approver!r}, who is no approver here")
    signer = known.get(str(statement.get("signer")))
    if signer is None or (signer.id != approver and not signer.vouches):
        raise _invalid("approval signed by somebody else")
    if statement.get("gate") not in known[approver].groups:
        raise _invalid(f"approval for gate {statement.get('gate')!r} by another group")
    issued, expires = statement.get("issued_at"), statement.get("expires_at")
    if type(issued) is not int or type(expires) is not int or not issued - 5 <= at <= expires:
        raise _invalid("approval that is not valid at this time")
    data = _DOMAIN + rfc8785.dumps(dict(statement))
    for name in ALGORITHMS:
        try:
            public = base64.b64decode(signer.public[name], validate=True)
            signature = base64.b64decode(str(signatures[name]), validate=True)
        except (KeyError, ValueError) as error:
            raise _invalid(f"approval without a {name} signature") from error
        signing.verify(name, public, signature, data)
    return approver


def _invalid(got: str) -> IntegrityError:
    return IntegrityError(
        "this approval does not count",
        code="approval-invalid",
        got=got,
        expected="an approval of exactly this job, signed, by somebody else, not expired",
        fix="approve the job as it is now",
    )
