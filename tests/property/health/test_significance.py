import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.circuits.canonical import Circuit, Operation
from interlock.guard.control import Program, check_control
from interlock.guard.result import Estimates, Result, Samples
from interlock.guard.stats.significance import count_evidence, value_evidence
from interlock.guard.validate.significance import Question, SignificanceControl
from interlock.types import Decision
from tests.unit.guard.doubles import a_job, a_request

CIRCUIT = Circuit(num_qubits=1, num_clbits=1, operations=(Operation("measure", (), (0,), (0,)),))


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.floats(0.01, 0.99), st.floats(0, 0.3), st.floats(0, 1))
def test_the_evidence_has_expectation_at_most_one_anywhere_in_the_null(
    shots: int, null: float, margin: float, part: float
) -> None:
    low, high = max(0.0, null - margin), min(1.0, null + margin)
    p = low + (high - low) * part
    total = sum(
        math.comb(shots, k) * p**k * (1 - p) ** (shots - k)
        * math.exp(min(700.0, count_evidence(k, shots, null, margin)))
        for k in range(shots + 1)
        if p not in (0.0, 1.0) or p**k * (1 - p) ** (shots - k) > 0
    )  # fmt: skip
    assert total <= 1 + 1e-6


def test_pure_noise_acts_at_most_alpha_with_ten_looks_each() -> None:
    rng = np.random.default_rng(2)
    alpha, runs = 0.05, 2000
    acted = 0
    for _ in range(runs):
        counts = np.cumsum(rng.binomial(50, 0.5, 10))
        acted += any(
            count_evidence(c, 50 * (i + 1), 0.5) >= math.log(1 / alpha)
            for i, c in enumerate(counts)
        )
    assert acted / runs <= alpha


def test_pure_gaussian_noise_acts_at_most_alpha_with_ten_looks_each() -> None:
    rng = np.random.default_rng(3)
    alpha, runs = 0.05, 2000
    error = 0.05
    looks = np.cumsum(rng.normal(0.0, error, (runs, 10)) / error**2, axis=1)
    acted = [
        any(
            value_evidence(float(t), (i + 1) / error**2, 0.0) >= math.log(1 / alpha)
            for i, t in enumerate(row)
        )
        for row in looks
    ]
    assert np.mean(acted) <= alpha


def judged(
    home: Path, item: Any, question: Question, *, success: float | None = 1.0, **changes: Any
) -> Decision:
    control = SignificanceControl()
    chosen = control.Settings(questions=(question,), **changes)
    request = a_request(
        home, programs=(Program(circuit=CIRCUIT, native=None),), result=Result(items=(item,)),
        shared={"predicted_success": success},
    )  # fmt: skip
    evidence = control.gather(request, chosen)
    check_control(control, a_job(), chosen, evidence)
    return control.decide(a_job(), chosen, evidence).decision


def samples(ones: int, shots: int) -> Samples:
    return Samples(registers={"c": [{"0": shots - ones, "1": ones}]}, widths={"c": 1}, shots=shots)


ONE = Question(name="more ones", null=0.5, outcomes=("1",))


def test_a_large_effect_acts_and_none_does_not(tmp_path: Path) -> None:
    assert judged(tmp_path / "a", samples(900, 1000), ONE) is Decision.ALLOW
    assert judged(tmp_path / "b", samples(510, 1000), ONE) is Decision.FALLBACK
    held = judged(tmp_path / "c", samples(510, 1000), ONE, on_unclear="hold")
    assert held is Decision.HOLD


def test_an_effect_within_what_the_device_may_do_does_not_act(tmp_path: Path) -> None:
    assert judged(tmp_path / "a", samples(650, 1000), ONE, success=0.95) is Decision.ALLOW
    assert judged(tmp_path / "b", samples(650, 1000), ONE, success=0.6) is Decision.FALLBACK
    assert judged(tmp_path / "c", samples(900, 1000), ONE, success=None) is Decision.FALLBACK


def test_looks_at_one_question_add_up_and_do_not_multiply_chances(tmp_path: Path) -> None:
    decisions = [judged(tmp_path, samples(58, 100), ONE) for _ in range(12)]
    assert decisions[0] is Decision.FALLBACK
    assert decisions[-1] is Decision.ALLOW
    alone = [judged(tmp_path, samples(58, 100), ONE, looks="job") for _ in range(3)]
    assert set(alone) == {Decision.FALLBACK}


def test_estimates_and_missing_figures(tmp_path: Path) -> None:
    question = Question(name="negative", null=0.0, margin=0.0)
    strong = Estimates(values=[-0.6], errors=[0.03])
    weak = Estimates(values=[-0.05], errors=[0.03])
    assert judged(tmp_path / "a", strong, question) is Decision.ALLOW
    assert judged(tmp_path / "b", weak, question) is Decision.FALLBACK
    bad = Estimates(values=[float("nan")], errors=[0.03])
    assert judged(tmp_path / "c", bad, question) is Decision.FALLBACK
    lost = Question(name="lost", null=0.5, outcomes=("1",), circuit=3)
    assert judged(tmp_path / "d", samples(900, 1000), lost) is Decision.FALLBACK


def test_a_weighted_sum_of_values_is_judged_with_its_combined_error(tmp_path: Path) -> None:
    score = Question(name="score", null=0.0, margin=0.05, weights=(0.5, 0.5, -1.0))
    strong = Estimates(values=[0.8, 0.6, 0.1], errors=[0.02] * 3)
    assert judged(tmp_path / "a", strong, score) is Decision.ALLOW
    # Each value is far from nothing; their weighted sum is not.
    level = Estimates(values=[0.8, 0.6, 0.66], errors=[0.02] * 3)
    assert judged(tmp_path / "b", level, score) is Decision.FALLBACK
    unsure = Estimates(values=[0.8, 0.6, 0.1], errors=[0.6] * 3)
    assert judged(tmp_path / "c", unsure, score) is Decision.FALLBACK
    short = Estimates(values=[0.8, 0.6], errors=[0.02] * 2)
    assert judged(tmp_path / "d", short, score) is Decision.FALLBACK
    broken = Estimates(values=[0.8, float("nan"), 0.1], errors=[0.02] * 3)
    assert judged(tmp_path / "e", broken, score) is Decision.FALLBACK


@pytest.mark.parametrize("count", [0, 1000])
def test_the_edges_are_finite_or_certain(count: int) -> None:
    assert count_evidence(count, 1000, 0.5) > 100
    assert count_evidence(0, 1000, 0.0) < 0
    assert count_evidence(1, 1000, 0.0) == math.inf
    assert count_evidence(0, 0, 0.5) == 0.0
