"""What the ledger keeps of a job, and how it is read back."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import msgspec

from interlock import plugins
from interlock.errors import DeniedError, HeldError, InputError, IntegrityError
from interlock.guard.pipeline import Trace
from interlock.ledger import Entry, Ledger, Reader
from interlock.ledger.postgres import address_of
from interlock.ledger.subjects import joined
from interlock.types import Decision, Finding, Job, Outcome, Principal

if TYPE_CHECKING:
    from interlock.guard.policy import Policy

__all__ = [
    "FORMAT",
    "Receipt",
    "Scope",
    "Unfinished",
    "job_from",
    "refusal",
    "scope_of",
    "session_payload",
    "told",
    "trace_payload",
]

#: A job label that says whom its data are about, beside who submits it.
ABOUT = "subject:"

#: Version of the records of a job.
FORMAT = 1

_PACKAGES = (
    "interlock", "numpy", "msgspec", "cryptography", "qiskit", "qiskit-aer", "qiskit-ibm-runtime",
    "cirq-core", "pennylane", "amazon-braket-sdk", "torch",
)  # fmt: skip


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What the user gets with a result, and what the ledger can be asked for.

    Attributes:
        id: receipt id; `interlock explain <id>` tells the whole story.
        job: id of the job.
        outcome: RELEASE, FALLBACK, HOLD or DENY.
        mode: ADVISORY or ENFORCED.
        rule: the rule that kept the job from being released, or None.
        reason: its message, or None.
        policy_sha256: identity of the policy that decided.
        index: position in the ledger.
        leaf_sha256: hash of the ledger entry.
        exact: whether the values were computed by a simulator without shots: no device gives such.
    """

    id: str
    job: str
    outcome: str
    mode: str
    rule: str | None
    reason: str | None
    policy_sha256: str
    index: int
    leaf_sha256: str
    exact: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return the receipt as plain values."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain


class Scope(TypedDict):
    """Under whose data key a record is encrypted, as `Ledger.append` takes it."""

    subject: str
    label: str


def person(principal: Principal) -> str:
    """Return the name under which `interlock erase` knows a principal.

    Example:
        >>> person(Principal(id="ada"))
        'local/ada'
    """
    return f"{principal.tenant}/{principal.id}"


def scope_of(principal: Principal, labels: Sequence[str]) -> Scope:
    """Return whom the records of a job are about, and its data labels.

    That is who submits it, and whoever its labels `subject:NAME` name; the other labels are data
    labels, by which retention ends.

    Example:
        >>> scope = scope_of(Principal(id="ada"), ("subject:p-17", "health"))
        >>> scope["subject"].split(), scope["label"]
        (['local/ada', 'p-17'], 'health')
    """
    about = [label.removeprefix(ABOUT) for label in labels if label.startswith(ABOUT)]
    others = [label for label in labels if not label.startswith(ABOUT)]
    return {"subject": joined(person(principal), *about), "label": joined(*others)}


@cache
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def session_payload(policy: Policy) -> dict[str, Any]:
    """Return what all jobs under one policy share: the policy itself, plugins, versions."""
    loaded = [
        msgspec.to_builtins(plugins.source_of(f"interlock.{stage}", b.id))
        for stage, controls in policy.bound.items()
        for b in controls
        if b.control is not None and b.id in plugins.installed(f"interlock.{stage}")
    ]
    return {
        "format": FORMAT,
        "policy": {"name": policy.name, "sha256": policy.sha256, "document": policy.document},
        "plugins": loaded,
        "versions": _versions(),
        "platform": {"system": platform.system(), "machine": platform.machine()},
    }


def session_id(payload: Mapping[str, Any]) -> str:
    """Return the identity of a session payload: equal sessions are recorded once."""
    return hashlib.sha256(msgspec.json.encode(payload, order="deterministic")).hexdigest()


def job_from(payload: Mapping[str, Any]) -> Job:
    """Read a job back.

    Raises:
        msgspec.ValidationError: the payload is not a job.
    """
    return msgspec.convert(payload, Job)


#: Decisions by name, in their order.
_NAMES = tuple(decision.name for decision in Decision)


def trace_payload(trace: Trace) -> dict[str, Any]:
    """Return a trace as plain values; decisions by name."""
    return {
        "outcome": trace.outcome.value,
        "stages": [
            {
                "stage": stage.stage,
                "branch": stage.branch,
                "decision": _NAMES[stage.decision],
                "controls": [
                    {
                        "control": c.control,
                        "version": c.version,
                        "decision": _NAMES[c.verdict.decision],
                        "findings": c.verdict.findings,
                        "evidence": c.verdict.evidence,
                    }
                    for c in stage.controls
                ],
            }
            for stage in trace.stages
        ],
    }


class Unfinished:
    """Passes entries on, and knows which jobs began to execute and have no end among them."""

    def __init__(self) -> None:
        self._begun: dict[str, None] = {}

    def passing(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """Yield the entries as they come."""
        for entry in entries:
            job = str(entry.header.get("job"))
            if "outcome" in entry.header:
                self._begun.pop(job, None)
            elif entry.event == "admit" and "job" in entry.header:
                self._begun[job] = None
            yield entry

    @property
    def jobs(self) -> list[str]:
        """The ids of these jobs, in order."""
        return list(self._begun)


@contextmanager
def recorded(home: Path) -> Iterator[Reader]:
    """Open the ledger of a home that has one for reading; nothing is written.

    Raises:
        InputError: there is no ledger.
        IntegrityError: there was one.
    """
    if address_of(home) is None and not (home / "ledger.db").exists():
        if any((home / "checkpoints").glob("*.note")):
            raise IntegrityError(
                "the ledger is gone, its signed heads are not",
                code="ledger-truncated",
                got=f"no {home / 'ledger.db'}",
                expected="the ledger that was signed here",
                fix="run `interlock verify`; keep this copy as evidence; restore the newest copy",
            )
        raise InputError(
            "there is no ledger here",
            code="ledger-absent",
            got=str(home),
            expected="a folder with ledger.db",
            fix="give --home, or set INTERLOCK_HOME, to where the jobs were recorded",
        )
    with Ledger.read(home) as ledger:
        yield ledger


def _reason(finding: Finding | None) -> str | None:
    if finding is None:
        return None
    return finding.message + (f" (got {finding.got})" if finding.got else "")


def told(trace: Trace) -> tuple[str | None, str | None]:
    """Return the rule and the reason that a receipt names.

    Of a job that fell back and got no answer these are why it fell back, and then what kept the
    baseline from answering: without a fallback that is always the same.
    """
    if trace.outcome is Outcome.RELEASE:
        return None, None
    cause, first = trace.cause, trace.fell_back
    if cause is None:
        return None, None
    if first is None or first is cause:
        return cause.rule, _reason(cause)
    if cause.rule == "release.baseline.none":
        return first.rule, f"{_reason(first)}; then {cause.rule}: no classical baseline to fall to"
    return cause.rule, f"{_reason(cause)}; it fell back because {first.rule}: {_reason(first)}"


def refusal(
    kind: type[DeniedError | HeldError], code: str, trace: Trace, receipt: Receipt
) -> DeniedError | HeldError:
    """Return the error for a job that was not released; the receipt is in it."""
    cause = trace.cause
    where = f" at {cause.location}" if cause and cause.location else ""
    error = kind(
        f"{receipt.outcome}({receipt.rule}): {receipt.reason}{where}",
        code=code,
        got=cause.got if cause else None,
        expected=cause.expected if cause else None,
        fix=(f"{cause.fix}; " if cause and cause.fix else "") + f"interlock explain {receipt.id}",
    )
    error.receipt = receipt
    return error
