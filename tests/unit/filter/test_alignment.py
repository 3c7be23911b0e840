import random
from typing import Any

import pytest

from interlock.guard.filter.alignment import alignment_gap, gap_of, proportion_interval
from interlock.guard.filter.constraints import Constraint, ConstraintsControl, ConstraintsSettings
from tests.unit.guard.doubles import a_job


class Recorded:
    def __init__(self, payload: Any) -> None:
        self.payload = payload


def record(verdict: Any, pipeline: str = "p") -> Recorded:
    name = verdict.decision.name
    stage = {
        "stage": "filter", "branch": "quantum", "decision": name,
        "controls": [{"control": "constraints", "evidence": verdict.evidence}],
    }  # fmt: skip
    outcome = "RELEASE" if name == "ALLOW" else "DENY"
    return Recorded({"job": {"pipeline": pipeline}, "trace": {"outcome": outcome,
                                                              "stages": [stage]}})  # fmt: skip


def test_a_generator_with_seven_percent_violations_reads_seven_percent() -> None:
    rng = random.Random(7)
    settings = ConstraintsSettings(rules=(Constraint(id="c", field="x", max=0.93),))
    entries = [
        record(ConstraintsControl().decide(a_job(), settings, {"fields": {"x": rng.random()}}))
        for _ in range(4000)
    ]
    gap = alignment_gap(entries, budget=0.05)["p"]  # type: ignore[arg-type]
    assert gap.interval[0] <= 0.07 <= gap.interval[1]
    assert gap.interval[1] - gap.interval[0] < 0.02
    assert gap.released_violating == 0
    assert gap.released + gap.violating == gap.outputs == 4000
    assert gap.over_budget
    assert abs(gap.trend_z) < 3


@pytest.mark.parametrize(
    ("other", "outcome", "counted"),
    [
        ({"decision": "ALLOW", "evidence": {}}, "RELEASE", (10, 3, 7, 0)),
        ({"decision": "DENY", "evidence": {}}, "DENY", (10, 10, 0, 0)),
        ({"decision": "ALLOW", "evidence": {"fixed": {"x": 1}}}, "RELEASE", (10, 10, 7, 7)),
    ],
)
def test_a_rule_of_the_whole_output_counts_beside_those_of_its_items(
    other: Any, outcome: str, counted: Any
) -> None:
    items = {"decision": "ALLOW", "evidence": {"items": {"total": 10, "violating": 3}}}
    stage = {
        "stage": "filter", "branch": "quantum", "decision": other["decision"],
        "controls": [items, other],
    }  # fmt: skip
    entry = Recorded({"job": {}, "trace": {"outcome": outcome, "stages": [stage]}})
    gap = alignment_gap([entry])["default"]  # type: ignore[list-item]
    assert (gap.outputs, gap.violating, gap.released, gap.changed) == counted


def test_a_rate_that_rises_shows_as_a_trend() -> None:
    rows = [(1, int(i % 20 == 0), 1, 0, 0) for i in range(500)]
    rows += [(1, int(i % 5 == 0), 1, 0, 0) for i in range(500)]
    gap = gap_of(rows)
    assert gap.trend == pytest.approx(0.15)
    assert gap.trend_z > 5


def test_nothing_judged_claims_nothing() -> None:
    gap = gap_of([], budget=0.1)
    assert gap.rate != gap.rate
    assert gap.interval == (0.0, 1.0)
    assert gap.divergence_nats is None
    assert not gap.over_budget


def test_a_violation_in_the_record_of_a_release_is_counted() -> None:
    entry = record(
        ConstraintsControl().decide(
            a_job(),
            ConstraintsSettings(rules=(Constraint(id="c", field="x", max=0.0),)),
            {"fields": {"x": 1.0}},
        )
    )
    entry.payload["trace"]["outcome"] = "RELEASE"
    assert alignment_gap([entry])["p"].released_violating == 1  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("k", "n"), [(0, 10), (3, 10), (10, 10), (70, 1000), (1, 10**6), (55_000, 10**5)]
)
def test_the_interval_agrees_with_scipy(k: int, n: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    low, high = proportion_interval(k, n)
    reference = stats.binomtest(k, n).proportion_ci(method="exact")
    assert low == pytest.approx(reference.low, abs=1e-9)
    assert high == pytest.approx(reference.high, abs=1e-9)
