"""What a policy would say of a job that nobody has sent: every control that needs no device.

Golden tables and `interlock policy diff` ask this. The controls decide here as they do on the
path; only what they would have gathered is written down by whoever asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from interlock.guard.admit.authorisation import authoriser_of, backend_resource
from interlock.guard.admit.budget import BudgetControl, BudgetSettings, wanted
from interlock.guard.policy import Bound, Policy
from interlock.types import CircuitFacts, Decision, Job, Mode, Principal

__all__ = ["FACTS", "SHAPE", "Said", "ask_job"]

#: Facts of the smallest job.
FACTS: dict[str, Any] = {
    "shots": 1,
    "qubits": 1,
    "circuits": 1,
    "depth": 1,
    "labels": [],
    "kind": "sample",
    "mode": "ENFORCED",
    "hour_utc": 12,
}
#: More of its shape, of which the rules do not know; the limits do.
SHAPE = {"clbits": 1, "operations": 1, "two_qubit_ops": 0, "parameters": 0, "bindings": 1}
_ASKED = {
    "admit": ("authorisation", "budget", "retention"),
    "verify": ("limits",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What the policy said.

    Attributes:
        allowed: whether every control that was asked allows it.
        rules: those that decided: a rule's `@id`, or `stage.control.rule` of a limit.
        reason: in a sentence.
    """

    allowed: bool
    rules: tuple[str, ...]
    reason: str


def ask_job(
    policy: Policy,
    who: Principal,
    backend: str,
    context: Mapping[str, Any],
    used: Mapping[str, float] | None = None,
) -> Said:
    """Ask rules, budget, retention and limits of circuits about one job.

    Args:
        policy: with the controls.
        who: submits it.
        backend: its name.
        context: facts that differ from the smallest job, of `FACTS` and `SHAPE`.
        used: unit (`jobs`, `shots`, `cost_usd`, `qpu_s`) -> what the day already holds.
    """
    facts = {**FACTS, **SHAPE, **context}
    job = _job(who, backend, facts)
    rules: list[str] = []
    reasons: list[str] = []
    allowed = True
    for stage, names in _ASKED.items():
        for bound in policy.controls(stage):
            if bound.id not in names:
                continue
            if bound.id == "authorisation":
                ruling = authoriser_of(bound.settings).ask(
                    who, "submit", backend_resource(backend, bound.settings),
                    {name: facts[name] for name in FACTS},
                )  # fmt: skip
                allowed = allowed and ruling.allowed
                rules += ruling.rules
                reasons.append(ruling.reason)
                continue
            found = _asked(bound, job, facts, used or {})
            if found.decision is not Decision.ALLOW:
                allowed = False
                rules += [f.rule for f in found.findings]
                reasons += [f"{f.rule}: {f.got}, {f.expected}" for f in found.findings]
    return Said(allowed=allowed, rules=tuple(rules), reason="; ".join(reasons))


def _asked(bound: Bound, job: Job, facts: Mapping[str, Any], used: Mapping[str, float]) -> Any:
    if bound.control is None:
        raise LookupError(bound.id)
    evidence: dict[str, Any] = {}
    if isinstance(bound.control, BudgetControl):
        settings: BudgetSettings = bound.settings
        amounts = wanted(job, settings)
        units = (("jobs", 1.0), *((u, amounts[u] or 0.0) for u in ("shots", "cost_usd", "qpu_s")))
        evidence = amounts | {
            "qubits": max(c.num_qubits for c in job.circuits),
            "usage": [{"unit": u, "used": used.get(u, 0.0), "amount": a} for u, a in units],
        }
    elif bound.id == "limits":
        count = len(job.circuits)
        evidence = {"parameters": [facts["parameters"]] * count, "bounded": [True] * count}
    return bound.control.decide(job, bound.settings, evidence)


def _job(who: Principal, backend: str, facts: Mapping[str, Any]) -> Job:
    def circuit(shots: int) -> CircuitFacts:
        return CircuitFacts(
            sha256="0" * 64, num_qubits=facts["qubits"], num_clbits=facts["clbits"],
            size=facts["operations"], depth=facts["depth"],
            two_qubit_ops=facts["two_qubit_ops"], bindings=facts["bindings"], shots=shots,
        )  # fmt: skip

    more = tuple(circuit(0) for _ in range(int(facts["circuits"]) - 1))
    return Job(
        id="what-if", kind=facts["kind"], principal=who, mode=Mode(facts["mode"]),
        backend=backend, circuits=(circuit(facts["shots"]), *more),
        submitted_at="1970-01-01T00:00:00+00:00", labels=tuple(facts["labels"]),
    )  # fmt: skip
