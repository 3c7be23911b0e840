"""What was mitigated, at what cost and on what evidence, and did it end outside physics?"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from interlock.guard.control import Control, Request, Settings, verdict
from interlock.types import Decision, Evidence, Finding, Job, Verdict

__all__ = ["METADATA", "Mitigated", "MitigationControl"]

#: Where a result's metadata carries what was done.
METADATA = "interlock_mitigation"


class Mitigated(msgspec.Struct, frozen=True, kw_only=True):
    """What was done to the results of one job, one row a circuit.

    A type of its own: a device may put anything it likes into its metadata, but not this.
    """

    rows: tuple[dict[str, Any], ...]


class MitigationSettings(Settings, frozen=True, kw_only=True):
    """Settings of `mitigation`.

    Attributes:
        on_unphysical: what a mitigated value outside physics leads to.
        sigmas: standard errors by which a value may lie outside its bound; a value without bias
            near the bound does so in half of all runs. Any value outside is flagged.
        required: whether a result must carry the record of what was mitigated.
    """

    on_unphysical: Literal["allow", "fallback", "deny"] = "fallback"
    sigmas: Annotated[float, msgspec.Meta(ge=0)] = 3.0
    required: bool = False


class MitigationControl(Control):
    """Records the method, its overhead, bias and variance; refuses values outside physics."""

    id = "mitigation"
    stage = "validate"
    Settings = MitigationSettings

    def gather(self, request: Request, settings: Any) -> Evidence:
        """Take what the mitigating estimator wrote down."""
        native = None if request.result is None else request.result.native
        note = (getattr(native, "metadata", None) or {}).get(METADATA)
        if not isinstance(note, Mitigated):
            return {"circuits": [], "mitigated": False}
        return {"circuits": list(note.rows), "mitigated": True}

    def decide(self, job: Job, settings: MitigationSettings, evidence: Evidence) -> Verdict:
        """Refuse values further outside than their own error explains; flag the others."""
        if settings.required and not evidence["mitigated"]:
            finding = Finding(
                rule="validate.mitigation.missing",
                message="the result carries no record of mitigation",
                got="none",
                expected="an estimate by interlock's MitigatingEstimator",
                fix="wrap the sampler in a MitigatingEstimator, or set required: false",
            )
            return verdict(evidence, [finding], Decision.FALLBACK)
        findings, bad = [], False
        for number, row in enumerate(evidence["circuits"]):
            for value in row["unphysical"]:
                bad = bad or value["sigmas"] > settings.sigmas
                findings.append(
                    Finding(
                        rule="validate.mitigation.unphysical",
                        message=f"a value mitigated by {row['method']} is outside physics",
                        got=f"{value['value']:.4g}, {value['sigmas']:.1f} standard errors outside",
                        expected=f"between {-value['bound']:.4g} and {value['bound']:.4g}",
                        fix="ask for a finer precision, or allow fewer methods",
                        location=f"circuit {number}, value {value['index']}",
                    )
                )
        decision = Decision[settings.on_unphysical.upper()] if bad else Decision.ALLOW
        return Verdict(decision=decision, findings=tuple(findings), evidence=evidence)
