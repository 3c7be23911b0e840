"""What a deviation comes from: shot noise, coherent error, drift, bias, or other stochastic noise.

One circuit is run three ways, in batches in turn. `plain`: as it is. `twirled`: random Paulis about
each two-qubit gate that change nothing but turn a coherent error into a stochastic one (Wallman and
Emerson, Phys. Rev. A 94, 052325). `flipped`: every bit inverted before it is measured and back
afterwards, so that a readout, or a hand, that prefers one answer now prefers the other (van den
Berg et al., Phys. Rev. A 105, 032620). Each cause is then a contrast that shot noise and a steady
calibrated device do not have:

    coherent   plain against twirled, beyond what the calibration predicts
    bias       plain against flipped, beyond what the calibration predicts
    drift      a trend over the batches (Cochran-Armitage, for several outcomes)
    noise      all arms together against the prediction (Pearson)

Each is a score test with a chi-square limit; Holm's procedure over them keeps the chance that pure
shot noise is given any other cause at `alpha`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

__all__ = ["CAUSES", "Arm", "Attribution", "Test", "attribute"]

#: What a deviation can be put down to. `unexplained`: there is one, from what cannot be told. The
#: last two: none was found, and one that matters would have been, or might have been missed.
CAUSES = ("coherent", "bias", "drift", "noise", "unexplained", "shot-noise", "cannot-tell")
#: Outcomes seen less often than this over all arms are counted as one.
RARE = 12
#: Power at which a test's smallest visible effect is stated.
POWER = 0.8

Array = np.ndarray[Any, np.dtype[Any]]


class Arm(msgspec.Struct, frozen=True, kw_only=True):
    """One way of running the circuit.

    Attributes:
        counts: outcome -> count, one mapping a batch, in order of time.
        expected: outcome -> probability by the calibration, or None when it is not known.
    """

    counts: tuple[Mapping[str, int], ...]
    expected: Mapping[str, float] | None = None


class Test(msgspec.Struct, frozen=True, kw_only=True):
    """One contrast.

    Attributes:
        p: probability of so large a contrast from shot noise alone, for Holm's procedure.
        detectable: total variation that this test sees with a chance of at least 80 %.
        size: estimated total variation of the contrast, at most; 0 when it is within shot noise.
        found: whether it stands after Holm's procedure.
    """

    p: float
    detectable: float
    size: float = 0.0
    found: bool = False


class Attribution(msgspec.Struct, frozen=True, kw_only=True):
    """What was found.

    Attributes:
        cause: one of `CAUSES`; of several, the one with the smallest p.
        causes: every cause that stands.
        tests: cause -> test, for those that could be made.
        shots: shots of all arms.
        shots_needed: shots that would tell: for every cause of size `effect` to be seen when the
            cause is `cannot-tell`, for the deviation there is when it is `unexplained`.
        effect: the smallest deviation, in total variation, that matters to the caller.
        alpha: chance that pure shot noise is given another cause.
    """

    cause: str
    causes: tuple[str, ...]
    tests: dict[str, Test]
    shots: int
    shots_needed: int | None
    effect: float
    alpha: float

    @property
    def statement(self) -> str:
        """The finding in words, with its power."""
        if self.cause == "cannot-tell":
            return (
                f"cannot tell at {self.shots} shots: a deviation of {self.effect:g} may hide in "
                f"shot noise; about {self.shots_needed} shots would show it"
            )
        if self.cause == "shot-noise":
            return (
                f"no more than shot noise: any cause of {self.effect:g} in total variation would "
                f"have shown in {self.shots} shots with a chance of {POWER:.0%}"
            )
        if self.cause == "unexplained":
            more = f"; about {self.shots_needed} shots would" if self.shots_needed else ""
            return (
                f"a deviation of about {self.tests['noise'].size:.2g} from the prediction (p "
                f"{self.tests['noise'].p:.2g}); {self.shots} shots cannot tell from what{more}"
            )
        return f"{_WORDS[self.cause]} (p {self.tests[self.cause].p:.2g}, {self.shots} shots)"


_WORDS = {
    "coherent": "coherent error: randomising the gates' frame changes the result",
    "bias": "bias: the result depends on which way the bits are written",
    "drift": "drift: the result changes with time",
    "noise": "more noise, or other noise, than the calibration says",
}


def attribute(arms: Mapping[str, Arm], *, alpha: float = 0.03, effect: float = 0.05) -> Attribution:
    """Say what a deviation comes from.

    Args:
        arms: `plain`, and where they were run `twirled` and `flipped`, with as many batches. A
            contrast without its arm is not made, and what is left is `unexplained`.
        alpha: chance that pure shot noise is given another cause.
        effect: smallest deviation that matters, in total variation; when a test could not have
            seen it, the answer is `cannot-tell` instead of `shot-noise`.

    Raises:
        ValueError: no plain arm, an arm without counts, or `alpha` or `effect` out of (0, 1).

    Example:
        >>> plain = Arm(counts=({"0": 520, "1": 480},) * 8, expected={"0": 0.5, "1": 0.5})
        >>> found = attribute({"plain": plain})
        >>> found.cause, round(found.tests["noise"].p, 3)
        ('unexplained', 0.0)
        >>> attribute({"plain": Arm(counts=({"0": 51, "1": 49},) * 8)}).cause
        'cannot-tell'
    """
    if "plain" not in arms or not (0 < alpha < 1 and 0 < effect < 1):
        raise ValueError(f"arms {sorted(arms)}, alpha {alpha}, effect {effect}")
    table = {name: _table(arm, arms) for name, arm in arms.items()}
    if any(not counts.sum() for counts, _ in table.values()):
        raise ValueError("an arm without counts")
    # Holm's first step is the strictest; power is stated for it.
    strict = alpha / (2 + len(arms) - 1)
    tests: dict[str, Test] = {}
    for cause, other in (("coherent", "twirled"), ("bias", "flipped")):
        if other in table:
            tests[cause] = _contrast(table["plain"], table[other], strict)
    steady = [table[name][0] for name in ("plain", "flipped") if name in table]
    if len(steady[0]) > 2:
        tests["drift"] = _drift(steady, strict)
    known = [(c.sum(0), e) for c, e in table.values() if e is not None]
    if len(known) == len(table):
        tests["noise"] = _against(known, strict)
    tests = _holm(tests, alpha)
    return _conclude(tests, sum(int(c.sum()) for c, _ in table.values()), effect, alpha, set(arms))


def _conclude(
    tests: dict[str, Test], shots: int, effect: float, alpha: float, arms: set[str]
) -> Attribution:
    found = sorted((c for c, t in tests.items() if t.found), key=lambda c: tests[c].p)
    # Any cause moves the totals too; only what no contrast explains is put down to noise.
    named = [c for c in found if c != "noise"]
    needed = None
    if named:
        cause = named[0]
    elif found:
        # Noise is what is left when every other cause of this size would have shown.
        others = [t.detectable for c, t in tests.items() if c != "noise"]
        size = max(tests["noise"].size, 1e-9)
        told = {"twirled", "flipped"} <= arms and max(others, default=1.0) <= size
        cause = "noise" if told else "unexplained"
        named = [cause]
        if not told and others and {"twirled", "flipped"} <= arms:
            needed = math.ceil(shots * (max(others) / size) ** 2)
    else:
        # Without a single contrast any deviation at all could hide.
        blunt = max((t.detectable for t in tests.values()), default=1.0)
        cause = "shot-noise" if blunt <= effect and "noise" in tests else "cannot-tell"
        if cause == "cannot-tell":
            needed = math.ceil(shots * max(1.0, blunt / effect) ** 2)
    return Attribution(
        cause=cause, causes=tuple(named), tests=tests, shots=shots, shots_needed=needed,
        effect=effect, alpha=alpha,
    )  # fmt: skip


def _table(arm: Arm, arms: Mapping[str, Arm]) -> tuple[Array, Array | None]:
    """Counts of each batch and outcome, rare outcomes together, and what was expected."""
    totals: dict[str, float] = {}
    for other in arms.values():
        for batch in other.counts:
            for key, count in batch.items():
                totals[key] = totals.get(key, 0) + count
        share = sum(sum(b.values()) for b in other.counts)
        for key in other.expected or {}:
            totals.setdefault(key, 0)
            totals[key] = max(totals[key], share * (other.expected or {})[key])
    often = sorted(k for k, n in totals.items() if n >= RARE * len(arms))
    place = {key: index for index, key in enumerate(often)}
    rare = len(often)
    width = rare + (len(often) < len(totals) or not often)
    counts = np.zeros((len(arm.counts), width))
    for row, batch in enumerate(arm.counts):
        for key, count in batch.items():
            counts[row, place.get(key, rare)] += count
    expected = None
    if arm.expected is not None:
        expected = np.zeros(width)
        for key, value in arm.expected.items():
            expected[place.get(key, rare)] += value
        expected /= expected.sum()
    return counts, expected


def _quadratic(vector: Array, covariance: Array) -> tuple[float, int]:
    """Return vector' covariance^-1 vector on the directions with variance, and their number."""
    values, axes = np.linalg.eigh(covariance)
    keep = values > max(values.max(), 1e-300) * 1e-9
    along = axes[:, keep].T @ vector
    return float((along**2 / values[keep]).sum()), int(keep.sum())


def _multinomial(p: Array) -> Array:
    made: Array = np.diag(p) - np.outer(p, p)
    return made


def _test(statistic: float, freedom: int, shots: float, alpha: float, reach: float = 1.0) -> Test:
    """Turn a statistic into a test; `shots` and `reach` turn noncentrality into variation.

    By Cauchy-Schwarz, (sum |d|)^2 <= sum d^2/p, so every deviation of total variation at least
    sqrt(noncentrality / shots) / 2 is seen with the stated power.
    """
    from scipy.special import chdtrc, chdtri, chndtrinc

    if freedom == 0 or shots <= 1e-9:
        return Test(p=1.0, detectable=1.0)
    limit = chdtri(freedom, alpha)
    central = float(chndtrinc(limit, freedom, 1 - POWER))
    size = min(1.0, reach * math.sqrt(central / shots) / 2)
    seen = min(1.0, reach * math.sqrt(max(0.0, statistic - freedom) / shots) / 2)
    return Test(p=float(chdtrc(freedom, statistic)), detectable=size, size=seen)


def _contrast(
    plain: tuple[Array, Array | None], other: tuple[Array, Array | None], alpha: float
) -> Test:
    """Two arms beyond their expected difference: a score test with the pooled distribution."""
    (a, expected_a), (b, expected_b) = plain, other
    first, second = a.sum(0), b.sum(0)
    n, m = first.sum(), second.sum()
    shift = np.zeros(len(first))
    if expected_a is not None and expected_b is not None:
        shift = expected_a - expected_b
    pooled = (first + second) / (n + m)
    p = np.clip(pooled + m / (n + m) * shift, 1e-9, 1)
    q = np.clip(pooled - n / (n + m) * shift, 1e-9, 1)
    covariance = _multinomial(p / p.sum()) / n + _multinomial(q / q.sum()) / m
    statistic, freedom = _quadratic(first / n - second / m - shift, covariance)
    return _test(statistic, freedom, n * m / (n + m), alpha)


def _drift(arms: Sequence[Array], alpha: float) -> Test:
    """A straight or a bent trend of the outcomes over the batches, within each arm."""
    times = np.linspace(-1, 1, len(arms[0]))
    best: Test | None = None
    for shape in (times, times**2):
        score = np.zeros(arms[0].shape[1])
        rooms = []
        for counts in arms:
            weight = counts.sum(1)
            centred = shape - (weight * shape).sum() / weight.sum()
            if shape is not times:
                line = times - (weight * times).sum() / weight.sum()
                slope = float((weight * line * line).sum())
                if slope > 0:
                    centred = centred - line * float((weight * centred * line).sum()) / slope
            room = float((weight * centred**2).sum())
            score += centred @ counts
            rooms.append((room, counts.sum(0) / weight.sum()))
        spread = sum(room for room, _ in rooms)
        if len(rooms) == 1 and spread > 0:
            # The score adds up to nothing, and there the inverse is that of the diagonal alone.
            p = rooms[0][1]
            statistic = float((score[p > 0] ** 2 / (spread * p[p > 0])).sum())
            freedom = int((p > 0).sum()) - 1
        else:
            covariance = np.sum([room * _multinomial(p) for room, p in rooms], axis=0)
            statistic, freedom = _quadratic(score, covariance)
        made = _test(statistic, freedom, spread, alpha / 2, float(np.ptp(shape)))
        if best is None or made.p < best.p:
            blunt = max(made.detectable, best.detectable if best else 0.0)
            best = msgspec.structs.replace(made, detectable=blunt)
    assert best is not None
    return msgspec.structs.replace(best, p=min(1.0, 2 * best.p))


def _against(arms: Sequence[tuple[Array, Array]], alpha: float) -> Test:
    """All arms together against what the calibration predicts."""
    seen = np.sum([counts for counts, _ in arms], axis=0)
    wanted = np.sum([counts.sum() * expected for counts, expected in arms], axis=0)
    keep = wanted > 0
    if seen[~keep].sum():
        return Test(p=0.0, detectable=0.0)
    statistic = float(((seen[keep] - wanted[keep]) ** 2 / wanted[keep]).sum())
    return _test(statistic, int(keep.sum()) - 1, float(wanted.sum()), alpha)


def _holm(tests: dict[str, Test], alpha: float) -> dict[str, Test]:
    """Holm, Scand. J. Stat. 6, 65: step down from the smallest p."""
    made = dict(tests)
    for step, name in enumerate(sorted(tests, key=lambda c: tests[c].p)):
        if tests[name].p > alpha / (len(tests) - step):
            break
        made[name] = msgspec.structs.replace(tests[name], found=True)
    return made
