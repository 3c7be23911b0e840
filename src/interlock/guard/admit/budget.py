"""Budgets: qubits and shots of a job, jobs, shots and cost of a day. Reserved, then settled."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

import msgspec

from interlock.guard.control import Control, Request, Settings, verdict
from interlock.guard.state import Cap, fits
from interlock.types import Evidence, Finding, Job, Outcome, Verdict

__all__ = ["BudgetControl", "Price", "cost_usd"]

DAY_S = 86_400.0
Positive = Annotated[int, msgspec.Meta(ge=1)]
Amount = Annotated[float, msgspec.Meta(ge=0)]


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a backend charges, in US dollars.

    Attributes:
        per_task_usd: for each circuit with each parameter set.
        per_shot_usd: for each shot.
    """

    per_task_usd: Amount = 0.0
    per_shot_usd: Amount = 0.0


class BudgetSettings(Settings, frozen=True, kw_only=True):
    """Settings of `budget`. A limit left out does not limit; the amounts are counted all the same.

    Attributes:
        max_qubits: width of the widest circuit of a job.
        max_shots_per_job: shots over all circuits and parameter sets of a job.
        max_cost_usd_per_job: cost of a job.
        max_jobs_per_day: jobs in a rolling day.
        max_shots_per_day: shots in a rolling day.
        max_cost_usd_per_day: cost in a rolling day.
        per: whose day it is: each principal's, or the tenant's together.
        prices: pattern of a backend's name -> price; the first that matches counts.
    """

    max_qubits: Positive | None = None
    max_shots_per_job: Positive | None = None
    max_cost_usd_per_job: Amount | None = None
    max_jobs_per_day: Positive | None = None
    max_shots_per_day: Positive | None = None
    max_cost_usd_per_day: Amount | None = None
    per: Literal["principal", "tenant"] = "principal"
    prices: dict[str, Price] = {}


def planned_shots(job: Job) -> int:
    """Return the shots a job will take; an estimate to precision p counts as ceil(1/p^2) shots."""
    total = 0
    for circuit in job.circuits:
        shots = circuit.shots
        if circuit.precision:
            shots = -int(-(circuit.precision**-2) // 1)
        total += shots * circuit.bindings
    return total


def cost_usd(job: Job, prices: dict[str, Price]) -> float:
    """Return what the job will cost by the price list; a backend without a price costs nothing."""
    for pattern, price in prices.items():
        if fnmatchcase(job.backend, pattern):
            tasks = sum(c.bindings for c in job.circuits)
            return tasks * price.per_task_usd + planned_shots(job) * price.per_shot_usd
    return 0.0


class BudgetControl(Control):
    """Reserves the job's jobs, shots and cost in one transaction, or denies."""

    id = "budget"
    stage = "admit"
    phase = 1
    Settings = BudgetSettings

    def _scope(self, job: Job, settings: BudgetSettings) -> str:
        base = f"budget/{job.principal.tenant}"
        return base if settings.per == "tenant" else f"{base}/{job.principal.id}"

    def gather(self, request: Request, settings: BudgetSettings) -> Evidence:
        """Try the reservation and return what each counter looked like."""
        job = request.job
        cost = cost_usd(job, settings.prices)
        evidence: dict[str, Any] = {
            "qubits": max((c.num_qubits for c in job.circuits), default=0),
            "shots": planned_shots(job),
            "cost_usd": cost,
        }
        request.shared["cost_usd"] = cost
        if _per_job(evidence, settings):
            return evidence | {"usage": []}
        wanted = (
            ("jobs", 1.0, settings.max_jobs_per_day),
            ("shots", float(evidence["shots"]), settings.max_shots_per_day),
            ("cost_usd", cost, settings.max_cost_usd_per_day),
        )
        caps = tuple(
            Cap(scope=self._scope(job, settings), unit=u, amount=a, limit=m, window_s=DAY_S)
            for u, a, m in wanted
        )
        now = request.now()
        usage = request.state.reserve(caps, now, durable=cost > 0)
        if all(u.fits for u in usage):
            request.shared["budget"] = (caps, now)
        return evidence | {
            "usage": [{"unit": u.unit, "used": u.used, "amount": u.amount} for u in usage]
        }

    def decide(self, job: Job, settings: BudgetSettings, evidence: Evidence) -> Verdict:
        """Compare the amounts with the limits."""
        findings = _per_job(evidence, settings)
        limits = {
            "jobs": settings.max_jobs_per_day,
            "shots": settings.max_shots_per_day,
            "cost_usd": settings.max_cost_usd_per_day,
        }
        for usage in evidence["usage"]:
            limit = limits[usage["unit"]]
            if not fits(usage["used"], usage["amount"], limit):
                findings.append(
                    Finding(
                        rule=f"admit.budget.{usage['unit'].replace('_', '-')}-per-day",
                        message=f"the day's budget of {usage['unit']} is spent",
                        got=f"{usage['used']:g} used + {usage['amount']:g} wanted",
                        expected=f"at most {limit:g} in 24 h",
                        fix="wait until older use leaves the window, or ask for a larger budget",
                    )
                )
        return verdict(evidence, findings)

    def settle(self, request: Request, settings: BudgetSettings, outcome: Outcome) -> None:
        """Give back shots and cost of a job that never reached the device; it stays counted."""
        reserved = request.shared.get("budget")
        if reserved is not None and "executed" not in request.shared:
            caps, now = reserved
            request.state.release(tuple(c for c in caps if c.unit != "jobs"), now)


def _per_job(evidence: Evidence, settings: BudgetSettings) -> list[Finding]:
    rows = (
        ("qubits", settings.max_qubits, "use a narrower circuit"),
        ("shots", settings.max_shots_per_job, "ask for fewer shots or split the job"),
        ("cost_usd", settings.max_cost_usd_per_job, "ask for fewer shots or a cheaper backend"),
    )
    return [
        Finding(
            rule=f"admit.budget.{name.replace('_', '-')}-per-job",
            message=f"the job wants more {name} than one job may have",
            got=f"{evidence[name]:g}",
            expected=f"at most {limit:g}",
            fix=fix,
        )
        for name, limit, fix in rows
        if limit is not None and evidence[name] > limit
    ]
