"""Why was this released? One receipt, the whole lineage."""

from __future__ import annotations

from typing import Any

from interlock.errors import InputError
from interlock.guard.pipeline import STAGES
from interlock.ledger import Entry, Records

__all__ = ["explain"]


def explain(ledger: Records, receipt: str) -> dict[str, Any]:
    """Collect everything the ledger holds about one receipt.

    Returns:
        job, outcome, stages with their evidence, circuits, intent, session (policy, plugins,
        versions), place in the ledger with its inclusion proof, and `missing`: links that cannot
        be found.

    Raises:
        InputError: no job has this receipt.
    """
    entry = ledger.find(receipt)
    if entry.event not in STAGES or "outcome" not in entry.header:
        raise InputError(
            f"receipt {receipt} is not a job's",
            code="receipt-not-a-job",
            got=f"a {entry.event} record",
            expected="the receipt of a job, as `interlock run` prints it",
            fix="`interlock replay --json` lists the receipts of all jobs",
        )
    payload = entry.payload or {}
    missing = [] if entry.payload is not None else ["payload (erased, or its key is not here)"]
    job = payload.get("job", {})
    wanted = {c["sha256"] for c in job.get("circuits", ())}
    session: dict[str, Any] | None = None
    intent: dict[str, Any] | None = None
    circuits: dict[str, Any] = {}
    for other in ledger.entries():
        if other.index >= entry.index:
            break
        if other.event == "session" and other.header.get("session") == payload.get("session"):
            session = _payload(other)
        elif other.event == "circuit" and other.header.get("circuit") in wanted:
            if other.payload is not None:  # one subject's copy may be erased, another's not
                circuits[str(other.header["circuit"])] = dict(other.payload)
        elif other.event == "admit" and other.header.get("job") == job.get("id"):
            intent = _payload(other)
    executed = any(s["stage"] == "execute" for s in payload.get("trace", {}).get("stages", ()))
    missing += [f"circuit {sha}" for sha in sorted(wanted - set(circuits)) if executed]
    if session is None:
        missing.append("session (policy, plugins, versions)")
    if executed and intent is None:
        missing.append("intent (written before the execution)")
    return {
        "receipt": entry.id,
        "outcome": entry.header["outcome"],
        "job": job,
        "policy": payload.get("policy"),
        "stages": payload.get("trace", {}).get("stages", []),
        "circuits": circuits,
        "bindings": (intent or {}).get("bindings", []),
        "session": session,
        "ledger": {"index": entry.index, "leaf_sha256": entry.leaf_hash.hex()},
        "missing": missing,
    }


def _payload(entry: Entry) -> dict[str, Any] | None:
    return dict(entry.payload) if entry.payload is not None else None
