"""How long is what this job leaves behind kept? A data label without an answer may be refused."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from interlock.guard.control import Control, Request, Settings, verdict
from interlock.types import Evidence, Finding, Job, Verdict

__all__ = ["RetentionControl", "RetentionSettings"]


class RetentionSettings(Settings, frozen=True, kw_only=True):
    """Settings of `retention`.

    Attributes:
        results_days: a gateway forgets an ended job, circuits and results included, so many days
            after it ended; the ledger keeps its record. None keeps it.
        months: data label -> whole months, beside the present one, after which a gateway destroys
            the key of what was recorded under the label.
        on_unlisted: what a data label that `months` does not name leads to. A label with a colon
            (`data:sha256:...`, `subject:NAME`) is a reference and no data label.
    """

    results_days: Annotated[float, msgspec.Meta(gt=0)] | None = None
    months: dict[str, Annotated[int, msgspec.Meta(ge=0)]] = {}
    on_unlisted: Literal["allow", "hold", "deny"] = "allow"


class RetentionControl(Control):
    """Refuses jobs under data labels of which nobody has said how long they are kept."""

    id = "retention"
    stage = "admit"
    Settings = RetentionSettings

    def gather(self, request: Request, settings: RetentionSettings) -> Evidence:
        """Nothing: the labels are in the job."""
        return {}

    def decide(self, job: Job, settings: RetentionSettings, evidence: Evidence) -> Verdict:
        """Compare the job's data labels with the policy's."""
        if settings.on_unlisted == "allow":
            return verdict(evidence, [])
        unlisted = sorted(x for x in job.labels if ":" not in x and x not in settings.months)
        findings = [
            Finding(
                rule="admit.retention.unlisted",
                message="nobody has said how long data of this label is kept",
                got=label,
                expected="one of " + ", ".join(sorted(settings.months)),
                fix="name it under admit.retention.months, or use the label the data has",
            )
            for label in unlisted
        ]
        return verdict(evidence, findings, settings.on_unlisted)
