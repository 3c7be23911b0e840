"""Evidence bundles: what an auditor, a data subject or the public may see, signed and checkable."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeAlias

from interlock.crypto import dsse, files
from interlock.errors import InputError, UsageError
from interlock.ledger.entry import Entry
from interlock.ledger.export import Show, export
from interlock.ledger.ledger import Ledger

__all__ = ["Audience", "bundle"]

Audience: TypeAlias = Literal["auditor", "subject", "public"]
_KIND = "application/vnd.interlock.evidence+json"


def bundle(
    ledger: Ledger, folder: Path, audience: Audience, *, subject: str | None = None
) -> dict[str, Any]:
    """Write a bundle for an audience into a new folder.

    An auditor sees everything that has not been erased. A subject sees the entries recorded under
    its own data keys and of the others only that they exist. The public sees counts. Every
    bundle's entries lead to the same signed root, so two readers can compare theirs.

    Args:
        ledger: the ledger.
        folder: a new or empty folder.
        audience: who will read it.
        subject: whose entries, for `subject`.

    Returns:
        The summary that is written into the bundle.

    Raises:
        UsageError: `subject` is missing or given for another audience.
        InputError: the ledger has no data key of the subject.
    """
    if (audience == "subject") != (subject is not None):
        raise UsageError(
            "a bundle for a subject needs to know whose",
            code="evidence-subject",
            got=f"audience {audience}, subject {subject!r}",
            expected="--subject with --for subject, and only there",
            fix="give --subject NAME, or another audience",
        )
    counts = export(ledger, folder, _chooser(ledger, audience, subject))
    summary = _summary(ledger, audience, counts)
    try:
        (folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
        signer = ledger.artefact_signer()
        (folder / "bundle.keys").write_text(signer.public_text())
        listed = {
            path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        manifest = {"audience": audience, "files": listed, "origin": ledger.origin, "v": 1}
        envelope = dsse.sign(_KIND, json.dumps(manifest, sort_keys=True).encode(), signer)
        (folder / "manifest.dsse.json").write_text(envelope)
    except OSError as error:
        raise files.storage_error(folder, error) from error
    return summary


def _chooser(ledger: Ledger, audience: Audience, subject: str | None) -> Callable[[Entry], Show]:
    if audience == "auditor":
        return lambda _entry: "payload"
    if subject is None:
        return lambda _entry: "hidden"
    mine = ledger.keys_of(subject)
    if not mine:
        raise InputError(
            "nothing readable is recorded about this subject",
            code="evidence-unknown",
            got=subject,
            expected="a subject with a data key (an erased one has none)",
            fix="check the spelling of the subject",
        )
    return lambda entry: "payload" if entry.key in mine else "hidden"


def _summary(ledger: Ledger, audience: Audience, counts: dict[str, int]) -> dict[str, Any]:
    """Count events and outcomes; nothing that could name a person or a job."""
    events: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    months: Counter[str] = Counter()
    size = sum(counts.values())
    for entry, _, _ in ledger.raw_entries(size):
        events[entry.event] += 1
        months[entry.time[:7]] += 1
        outcome = entry.header.get("outcome")
        if isinstance(outcome, str) and outcome.isupper() and len(outcome) <= 16:
            outcomes[outcome] += 1
    return {
        "audience": audience,
        "origin": ledger.origin,
        "entries": size,
        "shown": counts,
        "events": dict(sorted(events.items())),
        "outcomes": dict(sorted(outcomes.items())),
        "months": dict(sorted(months.items())),
        "note": "The number of entries is checked against the signed root. The other counts are "
        "the operator's statement; an auditor's bundle lets them be recounted.",
    }
