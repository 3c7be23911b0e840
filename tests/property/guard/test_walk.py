"""The decision core: the most severe verdict wins, and nothing that fails is a pass."""

from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from interlock.guard.pipeline import (
    BASELINE_STAGES,
    QUANTUM,
    STAGES,
    Asked,
    StageRecord,
    Trace,
    answered,
    decide_stage,
    walk,
)
from interlock.types import Decision, Evidence, Outcome
from tests.unit.guard.doubles import a_job, one_each, policy_of

BROKEN = ("raise", "none", "text", "absent", "error")
SAYS = ("ALLOW", "HOLD", "FALLBACK", "DENY", *BROKEN)
JOB = a_job()


def meaning(say: str) -> Decision:
    return Decision.DENY if say in BROKEN else Decision[say]


class Scripted:
    """Evidence from a script: (stage, branch, control) -> what to say."""

    def __init__(self, script: Mapping[tuple[str, str, str], str]) -> None:
        self.script = script
        self.asked: list[tuple[str, str]] = []

    def __call__(self, asked: Asked) -> Mapping[str, Evidence]:
        self.asked.append((asked.stage, asked.branch))
        found: dict[str, Any] = {}
        for bound in asked.controls:
            say = self.script.get((asked.stage, asked.branch, bound.id), "ALLOW")
            if say == "absent":
                continue
            found[bound.id] = {"error": "disk on fire"} if say == "error" else {"say": say}
        return found


def decided(names: list[str], source: Scripted) -> StageRecord:
    return answered(decide_stage("verify", QUANTUM, JOB, policy_of({"verify": names})), source)


@given(st.lists(st.sampled_from(SAYS), min_size=1, max_size=6), st.randoms())
def test_the_most_severe_verdict_wins_in_any_order(says: list[str], random: Any) -> None:
    names = [f"c{i}" for i in range(len(says))]
    source = Scripted({("verify", QUANTUM, n): s for n, s in zip(names, says, strict=True)})
    record = decided(names, source)
    assert record.decision == max(meaning(s) for s in says)
    shuffled = names[:]
    random.shuffle(shuffled)
    again = decided(shuffled, source)
    assert again == record


@given(st.sampled_from(STAGES), st.sampled_from(BROKEN))
def test_a_broken_control_denies_wherever_it_stands(stage: str, how: str) -> None:
    trace = walk(JOB, policy_of(one_each()), Scripted({(stage, QUANTUM, "a"): how}))
    assert trace.outcome is Outcome.DENY
    assert trace.ended_at == stage
    assert trace.cause is not None


@given(st.sampled_from(STAGES))
def test_a_missing_control_or_an_empty_stage_denies(stage: str) -> None:
    policy = policy_of(one_each(), missing=frozenset({(stage, "a")}))
    assert walk(JOB, policy, Scripted({})).outcome is Outcome.DENY
    empty = {s: ([] if s == stage else ["a"]) for s in STAGES}
    assert walk(JOB, policy_of(empty), Scripted({})).outcome is Outcome.DENY


@given(
    st.dictionaries(
        st.tuples(
            st.sampled_from(STAGES),
            st.sampled_from(("quantum", "baseline")),
            st.sampled_from(("a", "b")),
        ),
        st.sampled_from(SAYS),
    )
)
def test_what_is_released_went_all_the_way(script: dict[tuple[str, str, str], str]) -> None:
    source = Scripted(script)
    trace = walk(JOB, policy_of({s: ["a", "b"] for s in STAGES}), source)
    quantum = [r.stage for r in trace.stages if r.branch == "quantum"]
    baseline = [r.stage for r in trace.stages if r.branch == "baseline"]
    assert quantum == list(STAGES[: len(quantum)]), "stages are walked in order, none skipped"
    assert baseline == list(BASELINE_STAGES[: len(baseline)])
    said = {r.decision for r in trace.stages}
    if trace.outcome is Outcome.RELEASE:
        assert quantum == list(STAGES)
        assert not baseline
        assert said == {Decision.ALLOW}
    elif trace.outcome is Outcome.FALLBACK:
        assert baseline == list(BASELINE_STAGES)
        assert [r.decision for r in trace.stages if r.branch == "quantum"][-1] is Decision.FALLBACK
        assert all(r.decision is Decision.ALLOW for r in trace.stages if r.branch == "baseline")
    else:
        assert trace.stages[-1].decision is not Decision.ALLOW
    assert walk(JOB, policy_of({s: ["a", "b"] for s in STAGES}), Scripted(script)) == trace


@given(st.sampled_from(STAGES), st.sampled_from(BASELINE_STAGES), st.sampled_from(SAYS))
def test_a_baseline_is_filtered_and_governed_too(stage: str, at: str, say: str) -> None:
    script = {(stage, "quantum", "a"): "FALLBACK", (at, "baseline", "a"): say}
    trace: Trace = walk(JOB, policy_of(one_each()), Scripted(script))
    expected = {
        Decision.ALLOW: Outcome.FALLBACK,
        Decision.HOLD: Outcome.HOLD,
        Decision.FALLBACK: Outcome.DENY,
        Decision.DENY: Outcome.DENY,
    }
    assert trace.outcome is expected[meaning(say)]
