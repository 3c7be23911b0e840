"""The govern stage's question to the governor's process."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Any

import msgspec

from interlock.guard.control import Control, Request, Settings, verdict
from interlock.guard.filter.fields import fields_of
from interlock.guard.govern.governor.client import Client
from interlock.types import Evidence, Finding, Job, Verdict

__all__ = ["GovernorControl"]

_FIX = {
    "stopped": "`interlock resume` lifts the stop",
    "form": "decode orders as {symbol, side, quantity, price}",
    "id-reused": "give every job its own id",
    "duplicate": "wait until `duplicate_s` of the appetite is over, if it is meant",
    "mark-age": "let the risk side tell prices and equity again",
}


class GovernorSettings(Settings, frozen=True, kw_only=True):
    """Settings of `governor`.

    Attributes:
        field: the decoded field with the orders; none, or an empty list, needs no permission.
        home: the home the governor serves, if it is another than the guard's.
        timeout_s: how long to wait for its answer; no answer denies.
    """

    field: str = "orders"
    home: str | None = None
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=60)] = 1.0


@cache
def _client(home: Path, timeout_s: float) -> Client:
    return Client(home, timeout_s=timeout_s)


class GovernorControl(Control):
    """Lets orders out only when the governor's process, asked over its socket, says yes."""

    id = "governor"
    stage = "govern"
    phase = 1
    Settings = GovernorSettings

    def gather(self, request: Request, settings: GovernorSettings) -> Evidence:
        """Ask the governor; what it allows is counted, whether or not the job is released."""
        orders = fields_of(request).get(settings.field)
        if orders == []:
            return {"orders": [], "answer": None}
        home = Path(settings.home) if settings.home else request.home
        ident = f"{request.job.id}/{request.branch}"
        answer = _client(home, settings.timeout_s).ask({"id": ident, "orders": orders})
        after = request.state.stopped()
        return {"id": ident, "orders": orders, "answer": answer, "stopped": after}

    def decide(self, job: Job, settings: GovernorSettings, evidence: Evidence) -> Verdict:
        """Allow only an answer to this very question that says so."""
        if evidence["orders"] == []:
            return verdict(evidence, [])
        answer: Any = evidence["answer"]
        rule = answer.get("rule") or "no-answer"
        if evidence["stopped"] is not None:
            rule = "stopped"
        elif answer.get("id") == evidence["id"] and answer.get("allowed") is True:
            return verdict(evidence, [])
        finding = Finding(
            rule=f"govern.governor.{rule}",
            message="the governor does not let these orders out",
            got=rule,
            expected="orders within the signed appetite",
            fix=_FIX.get(rule, "see `interlock governor status`; an override needs two people"),
        )
        return verdict(evidence, [finding])
