"""The classical answer, when the quantum one cannot be trusted."""

from __future__ import annotations

from typing import Any

from interlock.guard.control import Control, Request, allow, deny, verdict
from interlock.guard.execute.run import describe, digest
from interlock.guard.validate.counts import faults
from interlock.types import Evidence, Finding, Job, Verdict

__all__ = ["BaselineControl"]


class BaselineControl(Control):
    """Computes the declared classical baseline on the fallback branch; denies without one.

    It is computed twice, and one that answers the same job with other bits is denied: it would be
    noise in place of noise.
    """

    id = "baseline"
    stage = "release"
    version = 2

    def gather(self, request: Request, settings: Any) -> Evidence:
        """Compute the baseline on the fallback branch; on the quantum branch there is no need."""
        if request.branch != "baseline":
            return {"needed": False}
        request.result = None
        if request.baseline is None:
            return {"needed": True, "available": False}
        result = request.baseline()
        items = [describe(item) for item in result.items]
        again = [describe(item) for item in request.baseline().items]
        request.result = result
        return {
            "needed": True,
            "available": True,
            "name": str(result.extra.get("baseline", "user")),
            "faults": faults(result, request.programs, drawn=True),
            "items": items,
            "repeats": digest(items) == digest(again),
        }

    def decide(self, job: Job, settings: Any, evidence: Evidence) -> Verdict:
        """Deny when a baseline is needed and there is none, or one that cannot be right."""
        if not evidence["needed"]:
            return allow(evidence)
        if not evidence["available"]:
            return deny(
                evidence,
                Finding(
                    rule="release.baseline.none",
                    message="the job fell back, and no classical baseline was supplied",
                    got="no fallback",
                    expected="a deterministic classical answer",
                    fix="pass fallback=... to interlock.guard(), or --fallback to interlock run",
                ),
            )
        findings = [
            Finding(
                rule=f"release.baseline.{fault['rule']}",
                message="the classical baseline's answer is not one for these circuits",
                got=fault["got"],
                expected=fault["expected"],
                fix="mend the fallback function; see docs/how-to/fallback.md",
                location=fault.get("where"),
            )
            for fault in evidence["faults"]
        ]
        if not evidence["repeats"]:
            findings.append(
                Finding(
                    rule="release.baseline.not-repeatable",
                    message="the classical baseline is not deterministic",
                    got=f"two answers of {evidence['name']} to one job, with other bits",
                    expected="the same bits each time it is computed",
                    fix="give it a whole-number seed, as StatevectorSampler(seed=7): a generator"
                    " goes on each time. Of a torch module, eval() switches dropout off",
                )
            )
        return verdict(evidence, findings)
