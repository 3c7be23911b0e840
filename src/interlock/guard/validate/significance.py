"""Is the effect that the caller wants to act on larger than everything that may fake it?"""

from __future__ import annotations

import hashlib
import math
from typing import Annotated, Literal

import msgspec

from interlock.guard.control import Control, Request, Settings
from interlock.guard.health.evidence_store import store_of
from interlock.guard.result import Samples
from interlock.guard.stats.significance import count_evidence, value_evidence
from interlock.types import Decision, Evidence, Finding, Job, Verdict

__all__ = ["Question", "SignificanceControl"]


class Question(Settings, frozen=True, kw_only=True):
    """One effect to be shown.

    Attributes:
        name: how findings call it.
        null: the probability or expectation value that means "no effect".
        outcomes: for counts, the bit strings whose probability is meant; empty for an estimate.
        register: for counts, the register; empty for the first.
        circuit: number of the circuit in the job.
        row: number of the parameter set, or of the value of an estimate.
        weights: for an estimate, judge this weighted sum of its values instead of one of them,
            for instance the score of a kernel machine; one weight a value.
        margin: how far device noise alone may move it; None takes it from the predicted success.
    """

    name: str
    null: float
    outcomes: tuple[str, ...] = ()
    register: str = ""
    circuit: int = 0
    row: int = 0
    weights: tuple[float, ...] = ()
    margin: Annotated[float, msgspec.Meta(ge=0)] | None = None


class SignificanceSettings(Settings, frozen=True, kw_only=True):
    """Settings of `significance`.

    Attributes:
        alpha: the chance of ever acting on a question to which there is no effect.
        questions: the effects a decision rests on; all must be shown.
        on_unclear: what an effect that is not shown leads to.
        looks: `stream` adds up all looks at the same question, `job` judges each job alone.
    """

    alpha: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.01
    questions: tuple[Question, ...] = ()
    on_unclear: Literal["fallback", "hold", "deny"] = "fallback"
    looks: Literal["stream", "job"] = "stream"


class SignificanceControl(Control):
    """Lets a result act only when its effect clears shot noise, device noise and all looks."""

    id = "significance"
    stage = "validate"
    Settings = SignificanceSettings

    def gather(self, request: Request, settings: SignificanceSettings) -> Evidence:
        """Add this look to the question's total and return the totals."""
        success = request.shared.get("predicted_success")
        rows = []
        for question in settings.questions:
            look = _look(request, question)
            if look is None:
                rows.append({"name": question.name, "missing": True})
                continue
            kind, first, second = look
            if settings.looks == "stream":
                stream = _stream(request, question)
                first, second = store_of(request.home).look(stream, first, second)
            margin = question.margin
            if margin is None:
                margin = _noise_room(kind, question.null, success)
            rows.append(
                {"name": question.name, "kind": kind, "first": first, "second": second,
                 "margin": margin}
            )  # fmt: skip
        return {"success": success, "rows": rows}

    def decide(self, job: Job, settings: SignificanceSettings, evidence: Evidence) -> Verdict:
        """Compute the evidence of each question; an open margin shows nothing."""
        findings = []
        need = math.log(1 / settings.alpha)
        for question, row in zip(settings.questions, evidence["rows"], strict=True):
            if row.get("missing"):
                got, shown = "no such figure in the result", False
            elif row["margin"] is None:
                got, shown = "the device noise is not known", False
            else:
                judge = count_evidence if row["kind"] == "count" else value_evidence
                value = judge(row["first"], row["second"], question.null, row["margin"])
                got = f"evidence e^{min(value, 999):.2f}, noise room +-{row['margin']:.3g}"
                shown = value >= need
            if not shown:
                findings.append(
                    Finding(
                        rule="validate.significance.unclear",
                        message=f"the effect {question.name!r} is not shown",
                        got=got,
                        expected=f"evidence of at least 1/{settings.alpha:g}",
                        fix="ask for more shots, or a shallower circuit",
                    )
                )
        decision = Decision[settings.on_unclear.upper()] if findings else Decision.ALLOW
        return Verdict(decision=decision, findings=tuple(findings), evidence=evidence)


def _noise_room(kind: str, null: float, success: float | None) -> float | None:
    """How far a device that succeeds with this chance may move a figure that has no effect."""
    if success is None:
        return None
    reach = max(null, 1 - null) if kind == "count" else 1 + abs(null)
    return (1 - success) * reach


def _look(request: Request, question: Question) -> tuple[str, float, float] | None:
    result = request.result
    if result is None or question.circuit >= len(result.items):
        return None
    item = result.items[question.circuit]
    if isinstance(item, Samples):
        name = question.register or next(iter(item.registers), "")
        rows = item.registers.get(name, ())
        if not question.outcomes or question.row >= len(rows):
            return None
        counts = rows[question.row]
        hits = sum(counts.get(bits, 0) for bits in set(question.outcomes))
        return "count", float(hits), float(sum(counts.values()))
    if question.outcomes or question.row >= len(item.values):
        return None
    if question.weights:
        if len(question.weights) != len(item.values):
            return None
        value = math.fsum(w * v for w, v in zip(question.weights, item.values, strict=True))
        # The values are measured apart, so their errors are independent.
        error = math.hypot(*(w * e for w, e in zip(question.weights, item.errors, strict=True)))
    else:
        value, error = float(item.values[question.row]), float(item.errors[question.row])
    if not (math.isfinite(value) and math.isfinite(error) and error > 0):
        return None
    return "value", value / error**2, 1 / error**2


def _stream(request: Request, question: Question) -> str:
    program = request.programs[question.circuit]
    told: dict[str, object] = msgspec.to_builtins(question)
    if not question.weights:
        told.pop("weights")  # streams of before there were weights go on
    asked = [
        request.job.principal.tenant, request.job.pipeline, request.job.backend,
        program.circuit.sha256, [[float(v) for v in row] for row in program.values],
        list(program.observables), told,
    ]  # fmt: skip
    return hashlib.sha256(msgspec.json.encode(asked, order="deterministic")).hexdigest()
