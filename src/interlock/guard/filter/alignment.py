"""The alignment gap: how far the raw quantum output is from what is released.

Computed from the ledger's own filter evidence, so anyone with the export can compute it again.
Four numbers a pipeline: the violation rate of the raw output, that of the release, the divergence
between the two, and whether the rate rises. When filtering only removes outputs, the released
distribution is the raw one given that the rules hold, and its Kullback-Leibler divergence from the
raw one is exactly `-log(1 - v)` with `v` the violation rate; a fix moves values, so the share of
outputs that were changed is reported apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from interlock.ledger import Entry

__all__ = ["AlignmentGap", "alignment_gap", "gap_of", "proportion_interval"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignmentGap:
    """The gap of one pipeline.

    Attributes:
        outputs: raw outputs judged.
        violating: of these, how many broke a rule.
        released: outputs that left.
        released_violating: released outputs that broke a rule in the record; must be 0.
        changed: released outputs that a fix had changed.
        interval: 95 % Clopper-Pearson interval of the violation rate.
        divergence_nats: KL divergence of release from raw, or None when nothing was released.
        trend: rate of the second half minus that of the first, with the z-score of the two.
        budget: the violation rate the owner accepts, or None.
    """

    outputs: int
    violating: int
    released: int
    released_violating: int
    changed: int
    interval: tuple[float, float]
    divergence_nats: float | None
    trend: float
    trend_z: float
    budget: float | None = None

    @property
    def rate(self) -> float:
        """Violation rate of the raw output."""
        return self.violating / self.outputs if self.outputs else math.nan

    @property
    def over_budget(self) -> bool:
        """Whether the whole interval lies above the budget."""
        return self.budget is not None and self.interval[0] > self.budget


def alignment_gap(
    entries: Iterable[Entry], *, budget: float | None = None
) -> dict[str, AlignmentGap]:
    """Return the gap of each pipeline in a ledger."""
    judged: dict[str, list[tuple[int, int, int, int, int]]] = {}
    for entry in entries:
        payload = entry.payload
        if payload is None or "trace" not in payload or "job" not in payload:
            continue
        for stage in payload["trace"]["stages"]:
            if stage["stage"] == "filter" and stage["branch"] == "quantum":
                released = payload["trace"]["outcome"] == "RELEASE"
                pipeline = str(payload["job"].get("pipeline", "default"))
                judged.setdefault(pipeline, []).append(_counts(stage, released=released))
    return {name: gap_of(rows, budget=budget) for name, rows in judged.items()}


def _counts(stage: Mapping[str, Any], *, released: bool) -> tuple[int, int, int, int, int]:
    """Return outputs, violating, released, released and violating, changed of one record."""
    fixed = any("fixed" in c["evidence"] for c in stage["controls"])
    for control in stage["controls"]:
        items = control["evidence"].get("items")
        if isinstance(items, Mapping) and "violating" in items:
            total, bad = int(items["total"]), int(items["violating"])
            let_out = total - bad if released else 0
            others = [c.get("decision", "ALLOW") for c in stage["controls"] if c is not control]
            # A rule of the whole output is broken by all that is in it.
            whole = fixed or any(decision not in ("ALLOW", 0) for decision in others)
            return total, total if whole else bad, let_out, 0, let_out if fixed else 0
    allowed = stage["decision"] in ("ALLOW", 0)
    bad = int(fixed or not allowed)
    return 1, bad, int(released), int(released and not allowed), int(released and fixed)


def gap_of(
    rows: Iterable[tuple[int, int, int, int, int]], *, budget: float | None = None
) -> AlignmentGap:
    """Return the gap of rows (outputs, violating, released, released and violating, changed).

    Example:
        >>> gap = gap_of([(100, 7, 93, 0, 0)])
        >>> round(gap.rate, 2), gap.released_violating, round(gap.divergence_nats, 4)
        (0.07, 0, 0.0726)
    """
    table = list(rows)
    total, bad, out, out_bad, changed = (
        (sum(column) for column in zip(*table, strict=True)) if table else (0, 0, 0, 0, 0)
    )
    half = len(table) // 2
    trend, z = _trend(table[:half], table[half:])
    rate = bad / total if total else 0.0
    return AlignmentGap(
        outputs=total,
        violating=bad,
        released=out,
        released_violating=out_bad,
        changed=changed,
        interval=proportion_interval(bad, total),
        divergence_nats=-math.log1p(-rate) if out and rate < 1 else None,
        trend=trend,
        trend_z=z,
        budget=budget,
    )


def _trend(first: list[Any], second: list[Any]) -> tuple[float, float]:
    n1, n2 = sum(r[0] for r in first), sum(r[0] for r in second)
    if not n1 or not n2:
        return 0.0, 0.0
    p1, p2 = sum(r[1] for r in first) / n1, sum(r[1] for r in second) / n2
    pooled = (p1 * n1 + p2 * n2) / (n1 + n2)
    spread = math.sqrt(pooled * (1 - pooled) * (1 / n1 + 1 / n2))
    return p2 - p1, (p2 - p1) / spread if spread else 0.0


def _at_most(k: int, n: int, p: float) -> float:
    """Return the chance of at most k of n: an incomplete beta function, by its continued fraction.

    Lentz's method as in Press et al., Numerical Recipes, 6.4; terms grow as the root of n.
    """
    if p <= 0.0:
        return 1.0
    if p >= 1.0 or k >= n:
        return float(k >= n)
    a, b, x = n - k, k + 1, 1.0 - p
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    if x < (a + 1) / (a + b + 2):
        return front * _fraction(a, b, x) / a
    return 1.0 - front * _fraction(b, a, 1.0 - x) / b


def _fraction(a: int, b: int, x: float) -> float:
    tiny = 1e-300
    d = 1.0 / (1.0 - (a + b) * x / (a + 1) or tiny)
    c, value = 1.0, d
    for m in range(1, 100_000):
        for numerator in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1.0 / (1.0 + numerator * d or tiny)
            c = 1.0 + numerator / c or tiny
            value *= d * c
        if abs(d * c - 1.0) < 1e-14:
            return value
    raise ArithmeticError(f"the fraction of {a}, {b}, {x} does not settle")


def proportion_interval(k: int, n: int, *, level: float = 0.95) -> tuple[float, float]:
    """Return the exact (Clopper and Pearson, 1934) interval of a proportion.

    Example:
        >>> [round(v, 4) for v in proportion_interval(0, 100)]
        [0.0, 0.0362]
    """
    if n == 0:
        return 0.0, 1.0
    tail = (1 - level) / 2
    low = 0.0 if k == 0 else _solve(lambda p: 1 - _at_most(k - 1, n, p) - tail)
    high = 1.0 if k == n else _solve(lambda p: tail - _at_most(k, n, p))
    return low, high


def _solve(rising: Any) -> float:
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return (low + high) / 2
