"""Did the device send an old result again?"""

from __future__ import annotations

import hashlib
import math
from typing import Annotated, Any, Literal

import msgspec

from interlock.guard.control import Control, Request, Settings, allow
from interlock.guard.health.evidence_store import store_of
from interlock.guard.result import Samples
from interlock.types import Decision, Evidence, Finding, Job, Verdict

__all__ = ["RepeatsControl", "chance_of_repeat"]


class RepeatsSettings(Settings, frozen=True, kw_only=True):
    """Settings of `repeats`.

    Attributes:
        alpha: a run of equal results less likely than this is no chance.
        on_repeat: what such a run leads to.
    """

    alpha: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 1e-6
    on_repeat: Literal["fallback", "deny"] = "fallback"


class RepeatsControl(Control):
    """Finds stuck and replayed results: the same counts as last time for the same question.

    Equal counts may be chance, so the chance is computed, and it multiplies over a run of equal
    results. A circuit with one outcome is never suspicious, and neither is a job with a seed.
    """

    id = "repeats"
    stage = "validate"
    Settings = RepeatsSettings

    def gather(self, request: Request, settings: Any) -> Evidence:
        """Compare each circuit's counts with those of its last run."""
        if request.result is None or request.job.seed is not None:
            return {"log_chance": 0.0, "skipped": "seeded" if request.job.seed else None}
        worst = 0.0
        where = None
        for index, (item, program) in enumerate(
            zip(request.result.items, request.programs, strict=False)
        ):
            if not isinstance(item, Samples):
                continue
            counts = [dict(sorted(c.items())) for rows in item.registers.values() for c in rows]
            asked = [
                request.job.principal.tenant, request.job.backend, program.circuit.sha256,
                [[float(v) for v in row] for row in program.values], item.shots,
            ]  # fmt: skip
            stream = hashlib.sha256(msgspec.json.encode(asked)).hexdigest()
            digest = hashlib.sha256(msgspec.json.encode(counts)).hexdigest()
            chance = sum(chance_of_repeat(c) for c in counts)
            total = store_of(request.home).repeated(stream, digest, chance)
            if total < worst:
                worst, where = total, index
        return {"log_chance": worst, "circuit": where, "skipped": None}

    def decide(self, job: Job, settings: RepeatsSettings, evidence: Evidence) -> Verdict:
        """Compare the chance of the run of equal results with alpha."""
        if evidence["log_chance"] > math.log(settings.alpha):
            return allow(evidence)
        return Verdict(
            decision=Decision[settings.on_repeat.upper()],
            evidence=evidence,
            findings=(
                Finding(
                    rule="validate.repeats.stuck",
                    message="the device sent a result it had sent before",
                    got=f"equal counts, by chance e^{evidence['log_chance']:.1f}",
                    expected=f"at least {settings.alpha:g}",
                    fix="run again; if it recurs, tell the provider and keep the receipts",
                    location=f"circuit {evidence['circuit']}",
                ),
            ),
        )


def chance_of_repeat(counts: dict[str, int]) -> float:
    """Log probability that a second run gives exactly these counts, at its largest.

    The multinomial probability of the counts under their own frequencies bounds that under any.

    Example:
        >>> chance_of_repeat({"0": 100})
        0.0
        >>> round(chance_of_repeat({"0": 500, "1": 500}), 2)
        -3.68
    """
    shots = sum(counts.values())
    value = math.lgamma(shots + 1)
    for count in counts.values():
        if count > 0:
            value += count * math.log(count / shots) - math.lgamma(count + 1)
    return min(0.0, round(value, 9))
