"""Shot-aware assertions: the sizes do what they promise, and flakes stay within the budget."""

import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from interlock.errors import UsageError
from interlock.scan import shots as statistics
from interlock.scan.pytest_plugin import Shots, pytest_configure

BELL = {"00": 0.5, "11": 0.5}


def sample(rng: np.random.Generator, probabilities: dict[str, float], n: int) -> dict[str, int]:
    drawn = rng.multinomial(n, list(probabilities.values()))
    return {k: int(c) for k, c in zip(probabilities, drawn, strict=True)}


def fails(check) -> bool:
    try:
        check()
    except pytest.fail.Exception:
        return True
    return False


def test_a_right_program_fails_within_the_budget_and_a_wrong_one_is_seen() -> None:
    rng = np.random.default_rng(20)
    wrong = {"00": 0.55, "11": 0.45}
    flakes = misses = 0
    for _ in range(300):
        plan = Shots(0.01)
        n = plan.for_distribution(0.05, outcomes=2)
        close = partial(plan.assert_distribution_close, expected=BELL)
        flakes += fails(partial(close, sample(rng, BELL, n)))
        misses += not fails(partial(close, sample(rng, wrong, n)))
    assert flakes <= 1
    assert misses <= 3


def test_expectation_noise_and_fairness() -> None:
    rng = np.random.default_rng(21)
    plan = Shots(0.01)
    n = plan.for_expectation(0.05)
    plan.assert_expectation_within(sample(rng, BELL, n), 0.0, qubits=[0])
    assert fails(lambda: plan.assert_expectation_within(sample(rng, BELL, n), 0.2, qubits=[0]))

    def noisy(level: float) -> dict[str, int]:
        return sample(rng, {"00": 1 - level, "01": level}, 60_000)

    plan.assert_noise_sensitivity(noisy, [0.0, 0.05], most_per_unit=2.0)
    assert fails(lambda: plan.assert_noise_sensitivity(noisy, [0.0, 0.3], most_per_unit=0.5))
    m = plan.for_fairness(0.05)
    fair = {"a": (int(rng.binomial(m, 0.6)), m), "b": (int(rng.binomial(m, 0.58)), m)}
    plan.assert_fairness_bound(fair, most=0.05)
    unfair = {"a": (int(rng.binomial(m, 0.6)), m), "b": (int(rng.binomial(m, 0.48)), m)}
    assert fails(lambda: plan.assert_fairness_bound(unfair, most=0.05))


@pytest.mark.parametrize(
    "call",
    [
        lambda p: p.assert_distribution_close({}, BELL),
        lambda p: p.assert_distribution_close({"00": 5}, {"00": 0.4}),
        lambda p: p.assert_noise_sensitivity(lambda _: {}, [0.0], most_per_unit=1),
        lambda p: p.assert_fairness_bound({"a": (1, 2)}, most=0.1),
        lambda p: p.for_expectation(0.0),
        lambda p: p.for_distribution(float("nan"), outcomes=2),
    ],
)
def test_a_test_that_judges_nothing_is_an_error(call) -> None:
    with pytest.raises(UsageError):
        call(Shots(0.01))


def test_the_margins_hold_far_more_often_than_promised() -> None:
    rng = np.random.default_rng(22)
    for flake in (0.2, 0.05):
        bad = 0
        for _ in range(400):
            counts = sample(rng, {"a": 0.5, "b": 0.3, "c": 0.2}, 500)
            off = statistics.distance(counts, {"a": 0.5, "b": 0.3, "c": 0.2})
            bad += off > statistics.distribution_margin(500, 3, flake)
        assert bad / 400 <= flake


SUITE = """
import numpy as np

def sampled(p, n):
    k = int(np.random.default_rng().binomial(n, p))
    return {"00": n - k, "11": k}

def test_bell(shots):
    n = shots.for_distribution(0.1, outcomes=2)
    shots.assert_distribution_close(sampled(0.5, n), {"00": 0.5, "11": 0.5})

def test_z(shots):
    n = shots.for_expectation(0.1)
    shots.assert_expectation_within(sampled(0.5, n), 0.0, qubits=[0])
"""


def test_the_plugin_loads_by_entry_point_and_says_its_budget(tmp_path: Path) -> None:
    (tmp_path / "test_suite.py").write_text(SUITE)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout
    assert "2 shot assertion(s); probability of any false failure <= 0.01" in done.stdout
    command.append("--shot-flake=2")
    assert subprocess.run(command, capture_output=True, cwd=tmp_path, check=False).returncode == 4


def test_workers_share_the_budget() -> None:
    for count in (1, 4):
        worker = SimpleNamespace(
            getoption=lambda _name: 0.01, workerinput={"workercount": count}, stash={}
        )
        pytest_configure(worker)  # type: ignore[arg-type]
        assert [s.budget for s in worker.stash.values()] == [0.01 / count]


def test_one_hundred_runs_of_a_suite_flip_at_most_once() -> None:
    flips = 0
    for _ in range(100):
        plan = Shots(0.01)
        rng = np.random.default_rng()
        red = False
        for _ in range(20):
            n = plan.for_distribution(0.1, outcomes=2)
            counts = sample(rng, BELL, n)
            red |= fails(partial(plan.assert_distribution_close, counts, BELL))
        flips += red
    assert flips <= 1


ONE = {"0": 1000, "1": 1000}
HALF = {"0": 0.5, "1": 0.5}
VACUOUS = {
    "tolerance 1": lambda p: p.assert_distribution_close(ONE, HALF, tolerance=1.0),
    "tolerance inf": lambda p: p.assert_distribution_close(ONE, HALF, tolerance=float("inf")),
    "tolerance nan": lambda p: p.assert_distribution_close(ONE, HALF, tolerance=float("nan")),
    "nearly 1": lambda p: p.assert_distribution_close(ONE, HALF, tolerance=0.95),
    "two shots": lambda p: p.assert_distribution_close({"0": 1, "1": 1}, HALF),
    "expectation 1": lambda p: p.assert_expectation_within(ONE, 0.0, tolerance=1.0),
    "expectation 2": lambda p: p.assert_expectation_within(ONE, 1.0, tolerance=2.0),
    "one shot": lambda p: p.assert_expectation_within({"0": 1}, 0.0),
    "steep": lambda p: p.assert_noise_sensitivity(lambda _: ONE, [0, 0.01, 1], most_per_unit=2),
    "noise, few": lambda p: p.assert_noise_sensitivity(lambda _: {"0": 4}, [0, 1], most_per_unit=0),
    "any gap": lambda p: p.assert_fairness_bound({"a": (1, 900), "b": (2, 900)}, most=1.0),
    "a tiny group": lambda p: p.assert_fairness_bound(
        {"a": (9, 9000), "b": (9, 9000), "c": (1, 2)}, most=0.0
    ),
}
NOTHING = {
    "no counts": lambda p: p.assert_distribution_close({}, HALF),
    "zero counts": lambda p: p.assert_expectation_within({"0": 0}, 0.0),
    "negative": lambda p: p.assert_distribution_close({"0": 2000, "1": -1000}, HALF),
    "not a number": lambda p: p.assert_expectation_within({"0": float("nan")}, 0.0),
    "noise": lambda p: p.assert_noise_sensitivity(lambda _: {}, [0, 1], most_per_unit=0.1),
    "an empty group": lambda p: p.assert_fairness_bound({"a": (0, 0), "b": (1, 900)}, most=0.1),
}


@pytest.mark.parametrize("case", VACUOUS)
def test_an_assertion_that_cannot_fail_is_refused(case: str) -> None:
    with pytest.raises(UsageError) as caught:
        VACUOUS[case](Shots(0.01))
    assert caught.value.code == "shots-vacuous"


@pytest.mark.parametrize("case", NOTHING)
def test_an_assertion_on_no_shots_is_refused(case: str) -> None:
    with pytest.raises(UsageError) as caught:
        NOTHING[case](Shots(0.01))
    assert caught.value.code == "shots-argument"


def test_wide_but_failing_assertions_stay() -> None:
    plan = Shots(0.01)
    assert fails(lambda: plan.assert_distribution_close({"1": 2000}, {"0": 1.0}, tolerance=0.9))
    assert fails(lambda: plan.assert_expectation_within({"1": 2000}, 1.0, tolerance=1.5))
    assert fails(lambda: plan.assert_fairness_bound({"a": (0, 999), "b": (999, 999)}, most=0.8))


def test_shots_are_enough_for_many_levels_groups_and_a_tolerance_late_in_a_run() -> None:
    rng = np.random.default_rng(22)
    missed = dict.fromkeys(("distribution", "noise", "fairness"), 0)
    for _ in range(100):
        plan = Shots(0.01)
        plan.made = 996
        expected = {format(i, "03b"): 1 / 7 for i in range(7)}
        off = {k: v * 0.88 for k, v in expected.items()} | {"111": 0.12}
        n = plan.for_distribution(0.1, outcomes=7)
        check = partial(plan.assert_distribution_close, sample(rng, off, n), expected)
        missed["distribution"] += not fails(partial(check, tolerance=0.02))
        n = plan.for_noise(0.2, levels=5)
        runs = {x: sample(rng, {"0": 1 - x / 2, "1": x / 2}, n) for x in (0, 0.1, 0.2, 0.3, 0.5)}
        check = partial(plan.assert_noise_sensitivity, runs.__getitem__, list(runs))
        missed["noise"] += not fails(partial(check, most_per_unit=0.6))
        n = plan.for_fairness(0.1, groups=6)
        groups = {name: (int(rng.binomial(n, 0.5)), n) for name in "abcde"}
        groups["f"] = (int(rng.binomial(n, 0.65)), n)
        check = partial(plan.assert_fairness_bound, groups)
        missed["fairness"] += not fails(partial(check, most=0.05))
    assert max(missed.values()) <= 3, missed


def test_more_levels_and_groups_ask_for_more_shots() -> None:
    plan = Shots(0.01)
    assert plan.for_noise(0.1) < plan.for_noise(0.1, levels=9)
    assert plan.for_fairness(0.1) < plan.for_fairness(0.1, groups=9)


EIGHT = {"000": 5000, "011": 5000}
WRONG = {
    "no qubit": lambda p: p.assert_expectation_within(EIGHT, 1.0, qubits=[]),
    "one twice": lambda p: p.assert_expectation_within(EIGHT, 1.0, qubits=[0, 0]),
    "past the end": lambda p: p.assert_expectation_within(EIGHT, 1.0, qubits=[3]),
    "from the end": lambda p: p.assert_expectation_within(EIGHT, 1.0, qubits=[-1]),
    "hexadecimal": lambda p: p.assert_expectation_within({"0x0": 5000, "0x2": 5000}, 1.0),
    "numbers": lambda p: p.assert_expectation_within({0: 5000, 2: 5000}, 1.0),
    "two lengths": lambda p: p.assert_expectation_within({"0": 5000, "11": 5000}, 1.0),
    "empty": lambda p: p.assert_expectation_within({"": 5000}, 1.0),
    "tolerance": lambda p: p.assert_distribution_close(ONE, HALF, tolerance=-0.1),
    "gap": lambda p: p.assert_fairness_bound({"a": (1, 900), "b": (2, 900)}, most=-0.1),
    "steep": lambda p: p.assert_noise_sensitivity(lambda _: ONE, [0, 1], most_per_unit=-0.1),
}


@pytest.mark.parametrize("case", WRONG)
def test_an_assertion_that_would_judge_something_else_is_refused(case: str) -> None:
    with pytest.raises(UsageError) as caught:
        WRONG[case](Shots(0.01))
    assert caught.value.code == "shots-argument"
