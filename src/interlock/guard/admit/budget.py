"""Budgets: what a job may take, and what a day may. Reserved, then settled."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from interlock.guard.control import Control, Request, Settings, verdict
from interlock.guard.patterns import best_match
from interlock.guard.state import Cap, Window, fits
from interlock.types import Evidence, Finding, Job, Mode, Outcome, Verdict

__all__ = ["DAY_S", "RESERVED", "BudgetControl", "Price", "cost_usd", "qpu_seconds"]

DAY_S = 86_400.0
#: Ends the name of a unit that counts what jobs under way hold.
RESERVED = " reserved"
Positive = Annotated[int, msgspec.Meta(ge=1)]
Amount = Annotated[float, msgspec.Meta(ge=0)]


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a backend charges, in US dollars, and how long a job holds it.

    Attributes:
        per_task_usd: for each circuit with each parameter set.
        per_shot_usd: for each shot.
        per_task_s: seconds the device is held for each circuit with each parameter set.
        per_shot_s: seconds the device is held for each shot.
    """

    per_task_usd: Amount = 0.0
    per_shot_usd: Amount = 0.0
    per_task_s: Amount = 0.0
    per_shot_s: Amount = 0.0


class BudgetSettings(Settings, frozen=True, kw_only=True):
    """Settings of `budget`. A limit left out does not limit; the amounts are counted all the same.

    Attributes:
        max_qubits: width of the widest circuit of a job.
        max_shots_per_job: shots over all circuits and parameter sets of a job.
        max_cost_usd_per_job: cost of a job.
        max_qpu_s_per_job: seconds a job holds the device, estimated from `prices`.
        max_jobs_per_day: jobs in a rolling day.
        max_shots_per_day: shots in a rolling day.
        max_cost_usd_per_day: cost in a rolling day.
        max_qpu_s_per_day: seconds of the device in a rolling day, estimated from `prices`.
        per: whose day it is: each principal's, or the tenant's together.
        prices: pattern of a backend's name -> price; the most specific that matches counts. With
            a limit on QPU seconds, a backend that none matches is denied.
    """

    max_qubits: Positive | None = None
    max_shots_per_job: Positive | None = None
    max_cost_usd_per_job: Amount | None = None
    max_qpu_s_per_job: Amount | None = None
    max_jobs_per_day: Positive | None = None
    max_shots_per_day: Positive | None = None
    max_cost_usd_per_day: Amount | None = None
    max_qpu_s_per_day: Amount | None = None
    per: Literal["principal", "tenant"] = "principal"
    prices: dict[str, Price] = {}


def cost_usd(job: Job, prices: dict[str, Price]) -> float:
    """Return what the job will cost by the price list; a backend without a price costs nothing."""
    price = best_match(job.backend, prices) or Price()
    return job.total_tasks * price.per_task_usd + job.total_shots * price.per_shot_usd


def qpu_seconds(job: Job, prices: dict[str, Price]) -> float | None:
    """Return how long the job will hold its device, by the price list; None when not listed."""
    price = best_match(job.backend, prices)
    if price is None:
        return None
    return job.total_tasks * price.per_task_s + job.total_shots * price.per_shot_s


class BudgetControl(Control):
    """Reserves the job, its shots, cost and QPU seconds in one transaction, or denies."""

    id = "budget"
    stage = "admit"
    phase = 1
    Settings = BudgetSettings

    def gather(self, request: Request, settings: BudgetSettings) -> Evidence:
        """Try the reservation and return what each counter looked like."""
        job = request.job
        amounts = wanted(job, settings)
        evidence = amounts | {"qubits": max((c.num_qubits for c in job.circuits), default=0)}
        request.shared["cost_usd"] = amounts["cost_usd"]
        if _per_job(job, evidence, settings):
            return evidence | {"usage": []}
        caps = [
            Cap("jobs", 1.0, settings.max_jobs_per_day),
            Cap("shots", float(amounts["shots"]), settings.max_shots_per_day),
            Cap("cost_usd", amounts["cost_usd"], settings.max_cost_usd_per_day),
            Cap("qpu_s", amounts["qpu_s"] or 0.0, settings.max_qpu_s_per_day),
        ]
        # A gateway's console shows what jobs under way hold.
        shown = job.mode is Mode.ENFORCED
        held = [Cap(cap.unit + RESERVED, cap.amount) for cap in caps if shown and cap.amount]
        window, now = Window(scope_for(job, settings), DAY_S), request.now()
        tried = request.state.reserve(window, caps + held, now, durable=amounts["cost_usd"] > 0)
        if tried.taken:
            request.shared["budget"] = (window, caps, held, now)
        return evidence | {"usage": tried.usage(caps)}

    def decide(self, job: Job, settings: BudgetSettings, evidence: Evidence) -> Verdict:
        """Compare the amounts with the limits."""
        findings = _per_job(job, evidence, settings)
        limits = {
            "jobs": settings.max_jobs_per_day,
            "shots": settings.max_shots_per_day,
            "cost_usd": settings.max_cost_usd_per_day,
            "qpu_s": settings.max_qpu_s_per_day,
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
        """Give back what a job that never reached the device had reserved; it stays counted."""
        reserved = request.shared.get("budget")
        if reserved is not None:
            window, caps, held, now = reserved
            unused = [] if "executed" in request.shared else caps[1:]
            if held or unused:
                request.state.release(window, held + unused, now)


def scope_for(job: Job, settings: BudgetSettings) -> str:
    """Return whose budget a job counts against."""
    base = f"budget/{job.principal.tenant}"
    return base if settings.per == "tenant" else f"{base}/{job.principal.id}"


def wanted(job: Job, settings: BudgetSettings) -> dict[str, Any]:
    """Return what a job will take; `qpu_s` is None when the price list does not say."""
    return {
        "shots": job.total_shots,
        "cost_usd": cost_usd(job, settings.prices),
        "qpu_s": qpu_seconds(job, settings.prices),
    }


def _per_job(job: Job, evidence: Evidence, settings: BudgetSettings) -> list[Finding]:
    rows = (
        ("qubits", settings.max_qubits, "use a narrower circuit"),
        ("shots", settings.max_shots_per_job, "ask for fewer shots or split the job"),
        ("cost_usd", settings.max_cost_usd_per_job, "ask for fewer shots or a cheaper backend"),
        ("qpu_s", settings.max_qpu_s_per_job, "ask for fewer shots or split the job"),
    )
    limited = settings.max_qpu_s_per_job is not None or settings.max_qpu_s_per_day is not None
    unknown = [
        Finding(
            rule="admit.budget.qpu-s-unknown",
            message="nobody says how long a job holds this backend",
            got=job.backend,
            expected="an entry of `prices` that matches it",
            fix="add per_task_s and per_shot_s for it to the policy; zeros for a simulator",
        )
    ]
    return (unknown if limited and evidence.get("qpu_s") is None else []) + [
        Finding(
            rule=f"admit.budget.{name.replace('_', '-')}-per-job",
            message=f"the job wants more {name} than one job may have",
            got=f"{evidence[name]:g}",
            expected=f"at most {limit:g}",
            fix=fix,
        )
        for name, limit, fix in rows
        if limit is not None and evidence.get(name) is not None and evidence[name] > limit
    ]
