"""The guarded path: one ordered tuple of stages and one pure walk along it.

The walk is the same at run time and at replay. At run time the evidence comes from controls that
gather it; at replay it comes from the ledger. Nothing else differs.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import msgspec
from msgspec.structs import replace

from interlock.types import Decision, Evidence, Finding, Job, Outcome, Verdict

if TYPE_CHECKING:
    from interlock.guard.policy import Bound, Policy

__all__ = [
    "ABSENT",
    "BASELINE",
    "BASELINE_STAGES",
    "QUANTUM",
    "STAGES",
    "Asked",
    "ControlRecord",
    "EvidenceSource",
    "StageRecord",
    "Trace",
    "Way",
    "answered",
    "decide_stage",
    "walk",
    "way",
]

#: The stage name is also the entry-point group, the policy section, the ledger event, the metric
#: label and the docs page.
STAGES: tuple[str, ...] = (
    "admit",
    "verify",
    "health",
    "execute",
    "validate",
    "filter",
    "govern",
    "release",
)

#: What the classical answer goes through: the release stage computes it, and it is filtered and
#: governed like any other answer.
BASELINE_STAGES: tuple[str, ...] = ("release", "filter", "govern")

QUANTUM = "quantum"
BASELINE = "baseline"


T = TypeVar("T")


class Asked(NamedTuple):
    """What evidence is needed next: that of the controls of one phase of a stage."""

    stage: str
    branch: str
    phase: int
    controls: tuple[Bound, ...]


#: Asks for evidence, is sent it (control id -> evidence), and returns what was decided. A control
#: left out has no verdict and so denies. It is begun by sending None.
Way = Generator[Asked, Mapping[str, Evidence] | None, T]


class EvidenceSource(Protocol):
    """Where the evidence for some controls of a stage comes from."""

    def __call__(self, asked: Asked) -> Mapping[str, Evidence]:
        """Return control id -> evidence. A control left out has no verdict and so denies."""
        ...


class ControlRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one control decided."""

    control: str
    version: int
    verdict: Verdict


class StageRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one stage decided: the most severe verdict of its controls."""

    stage: str
    branch: str
    decision: Decision
    controls: tuple[ControlRecord, ...]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings, those of the most severe controls first."""
        ordered = sorted(self.controls, key=lambda c: -c.verdict.decision)
        return tuple(f for record in ordered for f in record.verdict.findings)


class Trace(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The whole way of one job and how it ended."""

    outcome: Outcome
    stages: tuple[StageRecord, ...]

    @property
    def ended_at(self) -> str:
        """The stage that decided the outcome."""
        return self.stages[-1].stage

    @property
    def fell_back(self) -> Finding | None:
        """Why the quantum branch was left for the baseline, or None."""
        for record in self.stages:
            if record.branch == QUANTUM and record.decision is Decision.FALLBACK:
                return record.findings[0] if record.findings else None
        return None

    @property
    def cause(self) -> Finding | None:
        """The first finding of the stage that kept the job from being released, or None."""
        for record in reversed(self.stages):
            if record.decision is not Decision.ALLOW:
                return record.findings[0] if record.findings else None
        return None


#: The evidence on record for a control that gave none.
ABSENT: Evidence = {"absent": True}


def _fault(
    stage: str, control: str, rule: str, got: str, evidence: Evidence | None = None
) -> Verdict:
    message, fix = _FAULTS[rule]
    finding = Finding(
        rule=f"{stage}.{control}.{rule}",
        message=message,
        got=got,
        expected="a verdict; no verdict means DENY",
        fix=fix,
    )
    return Verdict(decision=Decision.DENY, findings=(finding,), evidence=evidence or ABSENT)


_FAULTS = {
    "empty": ("the policy has no control for this stage", "add a control under the stage's key"),
    "failed": ("the control failed", "mend what it reports, then run the job again"),
    "missing": (
        "the control the policy names is not installed",
        "install the package that brings it, or take it out of the policy",
    ),
    "no-evidence": ("the control gathered no evidence", "see the log of the control"),
    "no-verdict": (
        "the control returned something else than a verdict",
        "mend the control, then run the job again",
    ),
}


def _decide_control(bound: Bound, stage: str, job: Job, evidence: Evidence | None) -> Verdict:
    if bound.control is None:
        return _fault(stage, bound.id, "missing", bound.id)
    if evidence is None:
        return _fault(stage, bound.id, "no-evidence", "nothing")
    if "error" in evidence:
        return _fault(stage, bound.id, "failed", str(evidence["error"]), evidence)
    try:
        verdict: object = bound.control.decide(job, bound.settings, evidence)
    except BaseException as error:  # noqa: BLE001 - whatever a control raises, the job is denied
        return _fault(stage, bound.id, "failed", f"{type(error).__name__}: {error}", evidence)
    if (
        type(verdict) is Verdict
        and type(verdict.decision) is Decision
        and verdict.findings == ()
        and verdict.evidence is evidence
    ):
        return verdict  # one of the many with nothing to say
    flaw = _flaw(verdict)
    if flaw is not None or not isinstance(verdict, Verdict):
        return _fault(stage, bound.id, "no-verdict", flaw or "", evidence)
    # What is recorded is what was decided on, whatever the control put into its verdict.
    return Verdict(decision=verdict.decision, findings=verdict.findings, evidence=evidence)


_TEXTS = ("rule", "message", "got", "expected", "fix", "location")


def _flaw(verdict: Any) -> str | None:
    """Return what keeps an answer from being a verdict that can be recorded, or None."""
    if not isinstance(verdict, Verdict):
        return type(verdict).__name__
    decision: Any = verdict.decision
    findings: Any = verdict.findings
    if not isinstance(decision, Decision):
        return f"decision {decision!r:.80}"
    if not isinstance(findings, tuple):
        return f"findings of type {type(findings).__name__}"
    for finding in findings:
        if not isinstance(finding, Finding):
            return f"a finding of type {type(finding).__name__}"
        parts: tuple[Any, ...] = tuple(getattr(finding, name) for name in _TEXTS)
        for part in parts:
            if part is not None and not isinstance(part, str):
                return f"a finding with a {type(part).__name__}"
        if not parts[0] or parts[1] is None:
            return "a finding without a rule or a message"
        try:
            "".join(p for p in parts if p).encode()
        except UnicodeEncodeError:
            return "a finding with text that cannot be encoded"
    return None


_BY_CONTROL = attrgetter("control")


def decide_stage(stage: str, branch: str, job: Job, policy: Policy) -> Way[StageRecord]:
    """Decide one stage: phases in order, the most severe verdict of all controls."""
    records: list[ControlRecord] = []
    worst = Decision.ALLOW
    questions = policy.questions(stage, branch)
    if not questions:
        verdict = _fault(stage, "policy", "empty", "no control")
        records.append(ControlRecord(control="policy", version=1, verdict=verdict))
        worst = verdict.decision
    for asked in questions:
        evidence = (yield asked) or {}
        for bound in asked.controls:
            verdict = _decide_control(bound, stage, job, evidence.get(bound.id))
            version = bound.control.version if bound.control else 0
            records.append(ControlRecord(control=bound.id, version=version, verdict=verdict))
            if verdict.decision > worst:
                worst = verdict.decision
        if worst is not Decision.ALLOW:
            break
    records.sort(key=_BY_CONTROL)
    return StageRecord(stage=stage, branch=branch, decision=worst, controls=tuple(records))


def _refused(job: Job) -> StageRecord | None:
    """Return how `admit` ends for a job that was refused before the path, whatever the policy."""
    if job.refused is None:
        return None
    verdict = Verdict(decision=Decision.DENY, findings=(job.refused,), evidence={})
    record = ControlRecord(control="intake", version=1, verdict=verdict)
    return StageRecord(stage="admit", branch=QUANTUM, decision=Decision.DENY, controls=(record,))


def _finite(record: StageRecord, job: Job) -> StageRecord:
    """Deny numbers that are not finite in `verify`, whatever controls the policy names."""
    wrong = [n for n, circuit in enumerate(job.circuits) if not circuit.finite]
    if not wrong or record.decision is Decision.DENY:
        return record
    finding = Finding(
        rule="verify.finite.not-finite",
        message="a number of a circuit or of its parameter sets is not finite",
        got="NaN or infinity",
        expected="finite numbers",
        fix="look for a division by zero or a diverged optimiser",
        location=f"circuit {wrong[0]}",
    )
    verdict = Verdict(decision=Decision.DENY, findings=(finding,), evidence={})
    always = ControlRecord(control="finite", version=1, verdict=verdict)
    controls = tuple(sorted((*record.controls, always), key=lambda r: r.control))
    return replace(record, decision=Decision.DENY, controls=controls)


def walk(job: Job, policy: Policy, source: EvidenceSource) -> Trace:
    """Take a job along its `way` with the evidence of one source, and say how it ends."""
    return answered(way(job, policy), source)


def answered(asking: Way[T], source: EvidenceSource) -> T:
    """Answer each question of a way, and return what it comes to."""
    evidence: Mapping[str, Evidence] | None = None
    while True:
        try:
            asked = asking.send(evidence)
        except StopIteration as end:
            decided: T = end.value
            return decided
        evidence = source(asked)


def way(job: Job, policy: Policy) -> Way[Trace]:
    """Take a job along the path, one question at a time, and say how it ends.

    The first stage that does not allow ends the quantum branch. HOLD and DENY end the job.
    FALLBACK goes on with the classical baseline, which must be allowed by every stage of
    `BASELINE_STAGES`; a baseline that is not ends in DENY (or HOLD).

    Two refusals no policy can leave out: `intake`, of a job that has no form to check, and
    `finite`, of a NaN or an infinity.
    """
    stages: list[StageRecord] = []
    for stage in STAGES:
        record = _refused(job) or (yield from decide_stage(stage, QUANTUM, job, policy))
        if stage == "verify":
            record = _finite(record, job)
        stages.append(record)
        if record.decision is Decision.FALLBACK:
            break
        if record.decision is not Decision.ALLOW:
            return Trace(outcome=Outcome[record.decision.name], stages=tuple(stages))
    else:
        return Trace(outcome=Outcome.RELEASE, stages=tuple(stages))
    for stage in BASELINE_STAGES:
        record = yield from decide_stage(stage, BASELINE, job, policy)
        stages.append(record)
        if record.decision is not Decision.ALLOW:
            held = record.decision is Decision.HOLD
            outcome = Outcome.HOLD if held else Outcome.DENY
            return Trace(outcome=outcome, stages=tuple(stages))
    return Trace(outcome=Outcome.FALLBACK, stages=tuple(stages))
