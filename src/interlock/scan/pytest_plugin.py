"""A pytest plugin: assertions on sampled results whose flake rate is bounded by construction.

The whole run has one budget of false failures, `--shot-flake` (0.01 by default). The i-th assertion
may fail by chance with probability budget * 6 / (pi^2 i^2); over any number of assertions the sum
stays within the budget, so an unchanged, correct program turns a run red with probability at most
0.01. Tests ask the fixture `shots` how many shots they need for the effect they want to see.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from interlock.errors import UsageError
from interlock.scan import shots as statistics
from interlock.scan.shots import Bound

__all__ = ["Shots"]

_DEFAULT_FLAKE = 0.01
_DEFAULT_MISS = 0.01


class Shots:
    """Plans shots and asserts within the run's budget of false failures.

    Args:
        budget: probability of any false failure in the whole run.
        miss: probability of passing a program that is wrong by the effect asked for.
        largest: assertions of a run that shots are computed for.
    """

    def __init__(self, budget: float, *, miss: float = _DEFAULT_MISS, largest: int = 1000) -> None:
        self.budget = budget
        self.miss = miss
        self.largest = largest
        self.made = 0

    def _share(self, number: int) -> float:
        return self.budget * 6 / (math.pi**2 * number**2)

    def _next(self) -> float:
        self.made += 1
        return self._share(self.made)

    @property
    def _planned(self) -> float:
        return self._share(max(self.largest, self.made + 1))

    def for_distribution(self, effect: float, *, outcomes: int) -> int:
        """Return the shots needed to see a distribution off by `effect`."""
        return statistics.shots_for_distribution(
            effect,
            outcomes=outcomes + 1,  # with a tolerance, what is not expected counts as one
            flake=self._planned,
            miss=self.miss,
        )

    def for_expectation(self, effect: float, *, span: float = 2.0) -> int:
        """Return the shots needed to see an expectation off by `effect`."""
        return statistics.shots_for_mean(effect, flake=self._planned, miss=self.miss, span=span)

    def for_noise(self, effect: float, *, levels: int = 2) -> int:
        """Return the shots needed at each of `levels` to see a change `effect` over the bound."""
        flake = self._planned / max(levels - 1, 1)
        return statistics.shots_for_rates(effect, flake=flake, miss=self.miss, span=2.0)

    def for_fairness(self, effect: float, *, groups: int = 2) -> int:
        """Return the samples needed in each of `groups` to see a gap `effect` over the bound."""
        flake = self._planned / max(math.comb(groups, 2), 1)
        return statistics.shots_for_rates(effect, flake=flake, miss=self.miss)

    def assert_distribution_close(
        self, counts: Mapping[str, int], expected: Mapping[str, float], *, tolerance: float = 0.0
    ) -> Bound:
        """Assert that counts come from a distribution within `tolerance` of the expected one."""
        statistics.not_negative("tolerance", tolerance)
        number, flake = statistics.total(counts), self._next()
        # outcomes outside the expected support count as one: their distance is their total
        outcomes = len(expected) + (tolerance > 0)
        margin = statistics.distribution_margin(number, outcomes, flake)
        return self._judge(
            "total variation distance",
            Bound(
                value=statistics.distance(counts, expected),
                limit=tolerance + margin,
                shots=number,
                flake=flake,
            ).able_to_fail(1.0),
        )

    def assert_expectation_within(
        self,
        counts: Mapping[str, int],
        target: float,
        *,
        tolerance: float = 0.0,
        qubits: Sequence[int] | None = None,
    ) -> Bound:
        """Assert that the expectation of Z on `qubits` is within `tolerance` of `target`."""
        statistics.not_negative("tolerance", tolerance)
        number, flake = statistics.total(counts), self._next()
        margin = statistics.mean_margin(number, flake)
        off = abs(statistics.expectation_of(counts, qubits) - target)
        bound = Bound(value=off, limit=tolerance + margin, shots=number, flake=flake)
        most = 1 + abs(target)
        return self._judge("distance from the target expectation", bound.able_to_fail(most))

    def assert_noise_sensitivity(
        self,
        run: Callable[[float], Mapping[str, int]],
        levels: Sequence[float],
        *,
        most_per_unit: float,
        qubits: Sequence[int] | None = None,
    ) -> Bound:
        """Assert that the expectation moves by at most `most_per_unit` for each unit of noise.

        `run(level)` returns counts at a noise level; the first level is the reference.
        """
        if len(levels) < 2 or len(set(levels)) != len(levels):
            raise UsageError(
                "noise sensitivity needs two different levels or more",
                code="shots-argument",
                got=str(list(levels)),
                expected="a reference level and at least one other",
                fix="pass for instance levels=[0.0, 0.01]",
            )
        statistics.not_negative("most_per_unit", most_per_unit)
        flake = self._next() / (len(levels) - 1)
        reference = run(levels[0])
        base = statistics.expectation_of(reference, qubits)
        worst = Bound(value=-math.inf, limit=0.0, shots=0, flake=flake)
        for level in levels[1:]:
            counts = run(level)
            moved = abs(statistics.expectation_of(counts, qubits) - base)
            first, second = statistics.total(reference), statistics.total(counts)
            limit = most_per_unit * abs(level - levels[0])
            limit += statistics.rate_margin(first, second, flake, span=2.0)
            few = min(first, second)
            bound = Bound(value=moved, limit=limit, shots=few, flake=flake).able_to_fail(2.0)
            if bound.value - bound.limit > worst.value - worst.limit:
                worst = bound
        return self._judge("change of the expectation under noise", worst)

    def assert_fairness_bound(self, groups: Mapping[str, tuple[int, int]], *, most: float) -> Bound:
        """Assert that no two groups' rates differ by more than `most`.

        `groups` maps a name to (favourable, total).
        """
        statistics.not_negative("most", most)
        names = sorted(groups)
        if len(names) < 2 or any(not 0 <= a <= n for a, n in groups.values()):
            raise UsageError(
                "a fairness bound needs two groups of (favourable, total)",
                code="shots-argument",
                got=str(dict(groups))[:80],
                expected="two groups or more, 0 <= favourable <= total",
                fix="pass counts, not rates",
            )
        pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
        flake = self._next() / len(pairs)
        worst = Bound(value=-math.inf, limit=0.0, shots=0, flake=flake)
        for a, b in pairs:
            (x, n), (y, m) = groups[a], groups[b]
            limit = most + statistics.rate_margin(n, m, flake)
            bound = Bound(value=abs(x / n - y / m), limit=limit, shots=min(n, m), flake=flake)
            bound.able_to_fail(1.0)
            if bound.value - bound.limit > worst.value - worst.limit:
                worst = bound
        return self._judge("largest gap between two groups", worst)

    def _judge(self, what: str, bound: Bound) -> Bound:
        __tracebackhide__ = True
        if not bound.holds:
            pytest.fail(
                f"{what} is {bound.value:.4f}, over {bound.limit:.4f} at {bound.shots} shots; a "
                f"correct program does this with probability at most {bound.flake:.1e}",
                pytrace=False,
            )
        return bound


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the budget."""
    group = parser.getgroup("interlock")
    group.addoption(
        "--shot-flake",
        type=float,
        default=_DEFAULT_FLAKE,
        help="probability of any false failure of a shot assertion in the whole run",
    )


_KEY: pytest.StashKey[Shots] = pytest.StashKey()


def pytest_configure(config: pytest.Config) -> None:
    """Make the run's one budget."""
    budget = float(config.getoption("--shot-flake"))
    if not 0 < budget < 1:
        raise pytest.UsageError(f"--shot-flake is {budget}; it lies between 0 and 1")
    # pytest-xdist: each worker judges on its own, so each gets its part of the budget
    workers = int(getattr(config, "workerinput", {}).get("workercount", 1))
    config.stash[_KEY] = Shots(budget / workers)


@pytest.fixture
def shots(request: pytest.FixtureRequest) -> Shots:
    """Plan shots and assert on counts; false failures of the whole run stay within the budget."""
    return request.config.stash[_KEY]


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say how many shot assertions there were and what they may fail by chance."""
    plan = config.stash[_KEY]
    if plan.made:
        terminalreporter.write_line(
            f"{plan.made} shot assertion(s); probability of any false failure <= {plan.budget:g}"
        )
