"""Which alert first: duplicates folded, then predicted infidelity x affected jobs x criticality."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

__all__ = ["Alert", "Ticket", "ndcg", "simulate_storm", "triage"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert as it arrives.

    Args:
        t_s: arrival.
        asset: device or sensor.
        kind: what was seen.
        infidelity: predicted loss of fidelity of a typical job, 0 to 1.
        jobs: queued jobs that use the asset.
        criticality: of the asset to the business, 0 to 1.
        shares: what weighed most in the detector's score, name -> share.
    """

    t_s: float
    asset: str
    kind: str
    infidelity: float
    jobs: int
    criticality: float
    shares: dict[str, float] = field(default_factory=dict)

    @property
    def impact(self) -> float:
        """The product the queue is ordered by."""
        return self.infidelity * self.jobs * self.criticality


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """Alerts of one cause: the worst of them, how many, and when the first came."""

    worst: Alert
    count: int
    first_s: float

    def explain(self) -> str:
        """Return the reason for its place in one line."""
        a = self.worst
        return (
            f"{a.asset} {a.kind} x{self.count}: infidelity {a.infidelity:.3g} x {a.jobs} jobs"
            f" x criticality {a.criticality:.2g} = {a.impact:.3g}"
        )


def triage(alerts: list[Alert], *, window_s: float = 600.0) -> list[Ticket]:
    """Fold alerts of one asset and kind within `window_s` of the last, and order by impact.

    Example:
        >>> make = lambda t, asset, q: Alert(t_s=t, asset=asset, kind="shift", infidelity=q,
        ...                                  jobs=10, criticality=1.0)
        >>> alerts = [make(0, "q1", .01), make(1, "q2", .2), make(2, "q1", .02)]
        >>> [ticket.worst.asset for ticket in triage(alerts)]
        ['q2', 'q1']
    """
    groups: dict[tuple[str, str], list[list[Alert]]] = {}
    for alert in sorted(alerts, key=lambda a: a.t_s):
        runs = groups.setdefault((alert.asset, alert.kind), [])
        if runs and alert.t_s - runs[-1][-1].t_s <= window_s:
            runs[-1].append(alert)
        else:
            runs.append([alert])
    tickets = [
        Ticket(worst=max(run, key=lambda a: a.impact), count=len(run), first_s=run[0].t_s)
        for runs in groups.values()
        for run in runs
    ]
    return sorted(tickets, key=lambda t: (-t.worst.impact, t.first_s))


def ndcg(relevance: list[float]) -> float:
    """Return normalised discounted cumulative gain of relevances in the order shown."""
    gains = np.asarray(relevance, float)
    discount = 1.0 / np.log2(np.arange(2, len(gains) + 2))
    ideal = float(np.sort(gains)[::-1] @ discount)
    return float(gains @ discount) / ideal if ideal > 0 else 1.0


def simulate_storm(
    count: int = 500, *, rng: np.random.Generator | int | None = None
) -> tuple[list[Alert], str]:
    """Return a storm of alerts and the asset of its one true incident.

    The true incident sends about one alert in twenty, from a random moment on; the predictions of
    infidelity carry a lognormal error, so that ranking is not given the answer.
    """
    rng = np.random.default_rng(rng)
    assets = [f"q{k}" for k in range(60)]
    jobs = rng.poisson(12, 60) + 1
    criticality = rng.uniform(0.2, 1.0, 60)
    true = int(rng.integers(60))
    onset = rng.uniform(100, 400)
    alerts = []
    for t in np.sort(rng.uniform(0, 600, count)):
        real = t > onset and rng.random() < 0.08
        k = true if real else int(rng.integers(60))
        size = 0.15 if real else rng.exponential(0.01)
        alerts.append(
            Alert(
                t_s=float(t),
                asset=assets[k],
                kind="t1" if real else str(rng.choice(["spike", "shift", "queue"])),
                infidelity=float(min(1.0, size * rng.lognormal(0, 0.6))),
                jobs=int(jobs[k]),
                criticality=float(criticality[k]),
            )
        )
    return alerts, assets[true]
