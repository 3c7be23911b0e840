"""Statistics for tests on sampled results: how many shots, and when to fail.

Every bound here is a finite-sample inequality (Hoeffding 1963, McDiarmid 1989), not an
approximation for many shots. A test therefore fails on a correct program with probability at most
`flake`, and passes on a program that is wrong by `effect` with probability at most `miss`,
whatever the distribution.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from interlock.errors import UsageError

__all__ = [
    "Bound", "distance", "distribution_margin", "expectation_of", "mean_margin", "not_negative",
    "rate_margin", "shots_for_distribution", "shots_for_mean", "shots_for_rates", "total",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A measured value against the largest allowed one.

    Attributes:
        value: what was measured.
        limit: what a correct program stays under, but for `flake`.
        shots: shots it rests on.
        flake: probability of a failure when nothing is wrong.
    """

    value: float
    limit: float
    shots: int
    flake: float

    def able_to_fail(self, most: float) -> Bound:
        """Return the bound, unless the limit is beyond `most`, the largest value there can be.

        Raises:
            UsageError: no result could fail, so nothing would be tested.
        """
        if not self.limit < most:
            raise UsageError(
                "this assertion cannot fail",
                code="shots-vacuous",
                got=f"a limit of {self.limit:.4g} at {self.shots} shots",
                expected=f"a limit under {most:.4g}, the largest value there can be",
                fix="lower the tolerance, or run more shots (the fixture computes how many)",
            )
        return self

    @property
    def holds(self) -> bool:
        """Whether the value is within the limit."""
        return self.value <= self.limit


def _checked(name: str, value: float, *, low: float = 0.0, high: float = 1.0) -> float:
    if not (isinstance(value, (int, float)) and low < value < high):
        raise UsageError(
            f"{name} is out of range",
            code="shots-argument",
            got=repr(value),
            expected=f"a number between {low:g} and {high:g}",
            fix=f"pass {name} within that range",
        )
    return float(value)


def not_negative(name: str, value: float) -> None:
    """Refuse a bound below zero: a correct program would fail it more often than is promised.

    Example:
        >>> not_negative("tolerance", 0.02)
    """
    if value < 0:
        raise UsageError(
            f"{name} is negative",
            code="shots-argument",
            got=repr(value),
            expected="zero or more",
            fix=f"pass {name} >= 0",
        )


def _positive(shots: int) -> int:
    if shots < 1:
        raise UsageError(
            "there are no shots to judge",
            code="shots-argument",
            got=str(shots),
            expected="at least one shot",
            fix="run the circuit before asserting",
        )
    return shots


def total(counts: Mapping[str, int]) -> int:
    """Return the number of shots; none, or less than none of an outcome, is an error.

    Example:
        >>> total({"00": 60, "11": 40})
        100
    """
    if any(not count >= 0 for count in counts.values()):
        raise UsageError(
            "a count is negative",
            code="shots-argument",
            got=str(dict(counts))[:80],
            expected="how often each outcome came, zero or more",
            fix="pass counts of shots, not differences or quasi-probabilities",
        )
    return _positive(sum(counts.values()))


def distribution_margin(shots: int, outcomes: int, flake: float) -> float:
    """Return how far from the truth an empirical distribution strays, in total variation.

    The mean distance is at most sqrt((k - 1) / n) / 2 over k outcomes; one shot moves the distance
    by at most 1 / n, so it exceeds its mean by t with probability at most exp(-2 n t^2).

    Example:
        >>> round(distribution_margin(10_000, 4, 1e-4), 4)
        0.0301
    """
    _checked("flake", flake)
    mean = math.sqrt(max(outcomes - 1, 0) / _positive(shots)) / 2
    return mean + math.sqrt(math.log(1 / flake) / (2 * shots))


def shots_for_distribution(effect: float, *, outcomes: int, flake: float, miss: float) -> int:
    """Return the shots at which a distance of `tolerance + effect` is told from `tolerance`.

    Example:
        >>> shots_for_distribution(0.05, outcomes=4, flake=1e-4, miss=1e-2)
        8207
    """
    effect = _checked("effect", effect)
    _checked("miss", miss)
    spread = math.sqrt(max(outcomes - 1, 0)) / 2
    tail = math.sqrt(math.log(1 / flake) / 2) + math.sqrt(math.log(1 / miss) / 2)
    return math.ceil(((spread + tail) / effect) ** 2)


def mean_margin(shots: int, flake: float, *, span: float = 2.0) -> float:
    """Return how far the mean of values in a range of width `span` strays, either way.

    Example:
        >>> round(mean_margin(10_000, 1e-4), 4)
        0.0445
    """
    _checked("flake", flake)
    return span * math.sqrt(math.log(2 / flake) / (2 * _positive(shots)))


def shots_for_mean(effect: float, *, flake: float, miss: float, span: float = 2.0) -> int:
    """Return the shots at which an expectation wrong by `effect` is told from a right one.

    Example:
        >>> shots_for_mean(0.05, flake=1e-4, miss=1e-2)
        22413
    """
    effect = _checked("effect", effect, high=span)
    tail = math.sqrt(math.log(2 / _checked("flake", flake)) / 2)
    tail += math.sqrt(math.log(1 / _checked("miss", miss)) / 2)
    return math.ceil((span * tail / effect) ** 2)


def rate_margin(first: int, second: int, flake: float, *, span: float = 1.0) -> float:
    """Return how far the difference of two means strays, from samples of these sizes.

    Values lie in a range of width `span`: 1 for rates, 2 for expectations.

    Example:
        >>> round(rate_margin(5000, 5000, 1e-4), 4)
        0.0445
    """
    _checked("flake", flake)
    width = 1 / _positive(first) + 1 / _positive(second)
    return span * math.sqrt(math.log(2 / flake) * width / 2)


def shots_for_rates(effect: float, *, flake: float, miss: float, span: float = 1.0) -> int:
    """Return the size of each group at which a gap of `effect` over the bound is seen.

    `span` is as for `rate_margin`.

    Example:
        >>> shots_for_rates(0.05, flake=1e-4, miss=1e-2)
        11207
    """
    effect = _checked("effect", effect, high=span)
    tail = math.sqrt(math.log(2 / _checked("flake", flake)))
    tail += math.sqrt(math.log(1 / _checked("miss", miss)))
    return math.ceil((span * tail / effect) ** 2)


def distance(counts: Mapping[str, int], expected: Mapping[str, float]) -> float:
    """Return the total variation distance of counts from an expected distribution.

    Example:
        >>> distance({"00": 60, "11": 40}, {"00": 0.5, "11": 0.5})
        0.1
    """
    shots = total(counts)
    mass = sum(expected.values())
    if abs(mass - 1) > 1e-6 or min(expected.values(), default=0) < 0:
        raise UsageError(
            "the expected distribution does not add up to one",
            code="shots-argument",
            got=f"{mass:g}",
            expected="probabilities >= 0 that sum to 1",
            fix="normalise it, and leave no outcome out",
        )
    keys = set(counts) | set(expected)
    gap = sum(abs(counts.get(k, 0) / shots - expected.get(k, 0.0)) for k in keys) / 2
    return round(gap, 12)


def expectation_of(counts: Mapping[str, int], qubits: Sequence[int] | None = None) -> float:
    """Return the expectation of Z on the named qubits; qubit 0 is the last character.

    Example:
        >>> expectation_of({"01": 75, "00": 25}, [0])
        -0.5
    """
    shots = total(counts)
    width = _width(counts)
    chosen = range(width) if qubits is None else qubits
    if not chosen or len(set(chosen)) != len(chosen) or not all(0 <= q < width for q in chosen):
        raise UsageError(
            "these qubits have no expectation",
            code="shots-argument",
            got=str(list(chosen))[:80],
            expected=f"one qubit or more, each once, from 0 to {width - 1}",
            fix="correct `qubits`, or leave it out for all of them",
        )
    value = 0
    for key, count in counts.items():
        bits = key.replace(" ", "")[::-1]
        value += count * (-1 if sum(bits[q] == "1" for q in chosen) % 2 else 1)
    return value / shots


def _width(counts: Mapping[str, int]) -> int:
    """The bits of every outcome; hexadecimal or numbered outcomes would be counted wrong."""
    plain = [key.replace(" ", "") if isinstance(key, str) else "?" for key in counts]
    wrong = [key for key in plain if not key or set(key) - set("01") or len(key) != len(plain[0])]
    if wrong:
        raise UsageError(
            "an outcome is no bit string",
            code="shots-argument",
            got=str(list(counts))[:80],
            expected="keys of 0 and 1, all of one length",
            fix="convert hexadecimal or numbered outcomes, as in format(3, '04b')",
        )
    return len(plain[0])
