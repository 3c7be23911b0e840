"""Dual use: circuits that break cryptography start only with a named approval."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

import msgspec
from msgspec.structs import replace

from interlock.access.approvals import Approver
from interlock.circuits.canonical import Circuit
from interlock.circuits.intent import MAX_STEPS, Intent, classify
from interlock.guard.admit.approvals import Gate, gathered, waits
from interlock.guard.control import Control, Program, Request, Settings
from interlock.types import Decision, Evidence, Finding, Job, Verdict

__all__ = ["DualUseControl", "DualUseSettings"]

REMEMBERED = 4096


class DualUseSettings(Settings, frozen=True, kw_only=True):
    """Settings of `dual-use`.

    Attributes:
        group: who approves; `approvers` names it.
        needed: how many of them.
        approvers: who may approve, with their public keys. Without any, a held job stays held.
        labels: patterns of labels that declare a restricted use; they hold a job as well.
        on_unclear: what a circuit that could not be followed to its end leads to.
        max_bindings: parameter sets of a template that are looked at, evenly over all.
    """

    group: str = "dual-use"
    needed: Annotated[int, msgspec.Meta(ge=1)] = 1
    approvers: tuple[Approver, ...] = ()
    labels: tuple[str, ...] = ("use:cryptanalysis", "use:surveillance")
    on_unclear: Literal["hold", "allow"] = "hold"
    max_bindings: Annotated[int, msgspec.Meta(ge=1)] = 4


class DualUseControl(Control):
    """Holds jobs whose circuits find periods or search keys, and those that say so themselves."""

    id = "dual-use"
    stage = "admit"
    Settings = DualUseSettings

    def __init__(self) -> None:
        self._known: OrderedDict[str, Intent] = OrderedDict()
        self._lock = threading.Lock()

    def gather(self, request: Request, settings: DualUseSettings) -> Evidence:
        """Classify every circuit; fetch the approvals of exactly this job when one is needed."""
        found = [self._judge(program, settings) for program in request.programs]
        evidence: dict[str, Any] = {
            "programs": [
                {"sha256": p.circuit.sha256, **msgspec.to_builtins(i), "inputs": list(i.inputs)}
                for p, i in zip(request.programs, found, strict=True)
            ]
        }
        gates = _gate(settings) if _hits(request.job, settings, evidence) else {}
        return evidence | gathered(request, gates)

    def decide(self, job: Job, settings: DualUseSettings, evidence: Evidence) -> Verdict:
        """Hold what hits until enough named people have approved it."""
        shas = [p["sha256"] for p in evidence["programs"]]
        if shas != [c.sha256 for c in job.circuits]:
            raise ValueError("the evidence is of another job")
        hits = _hits(job, settings, evidence)
        missing = waits(job, _gate(settings), settings.approvers, evidence, "admit.dual-use")
        if not hits or not missing:
            return Verdict(decision=Decision.ALLOW, evidence=evidence)
        # what the submitter is shown first says what an approver has to run
        hits[0] = replace(hits[0], fix=f"{hits[0].fix}; they run: {missing[0].fix}")
        return Verdict(decision=Decision.HOLD, findings=(*hits, *missing), evidence=evidence)

    def _judge(self, program: Program, settings: DualUseSettings) -> Intent:
        """Return the worst of a circuit's parameter sets."""
        worst = Intent(kind="none")
        if program.circuit.size > MAX_STEPS:
            return Intent(kind="unclear", reason=f"over {MAX_STEPS} operations")
        for circuit in _bound(program, settings.max_bindings):
            key = circuit.sha256
            with self._lock:
                found = self._known.get(key)
            if found is None:
                found = classify(circuit, seed=int(key[:8], 16))
                with self._lock:
                    self._known[key] = found
                    while len(self._known) > REMEMBERED:
                        self._known.popitem(last=False)
            if found.kind not in ("none", "unclear"):
                return found
            if found.kind == "unclear":
                worst = found
        return worst


def _bound(program: Program, most: int) -> Iterator[Circuit]:
    rows = len(program.values)
    if not program.parameters or not rows:
        yield program.circuit
        return
    for k in range(min(most, rows)):
        row = program.values[k * (rows - 1) // max(1, min(most, rows) - 1)]
        named = dict(zip(program.parameters, map(float, row), strict=True))
        yield program.circuit.bind(named)


def _gate(settings: DualUseSettings) -> dict[str, Gate]:
    return {"approval": Gate(group=settings.group, needed=settings.needed)}


def _hits(job: Job, settings: DualUseSettings, evidence: Evidence) -> list[Finding]:
    """Return why the job needs an approval."""
    hits: list[Finding] = []
    for number, program in enumerate(evidence["programs"]):
        kind = program["kind"]
        if kind == "none" or (kind == "unclear" and settings.on_unclear == "allow"):
            continue
        hits.append(
            Finding(
                rule=f"admit.dual-use.{kind}",
                message="what the circuit is for could not be told"
                if kind == "unclear"
                else "the circuit has the structure of an attack on cryptography",
                got=program["reason"],
                expected=f"a use that needs no approval, or {settings.needed} of {settings.group}",
                fix="say what it is for to an approver; they see this finding",
                location=f"circuit {number}",
            )
        )
    declared = sorted(x for x in job.labels if any(fnmatchcase(x, p) for p in settings.labels))
    if declared:
        hits.append(
            Finding(
                rule="admit.dual-use.declared",
                message="the job declares a restricted use",
                got=", ".join(declared),
                expected=f"an approval by {settings.needed} of {settings.group}",
                fix="ask for the approval",
            )
        )
    return hits
