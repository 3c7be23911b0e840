"""The figures of a result with their intervals, every one of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

from interlock.guard.result import Estimates, Result, Samples
from interlock.guard.stats.uncertainty import (
    ESTIMATES,
    FIGURES,
    Bounds,
    Figure,
    Kind,
    interval_from,
    reach,
    shot_sd,
)

__all__ = ["Found", "Noise", "figures", "wilson"]

#: Outcomes of one parameter set, and figures of one job, that are named one by one.
TOP = 8
MOST = 64
#: Shots up to which the figures of all counts are kept in a table.
TABLED = 1 << 14


def wilson(count: Any, shots: int, z: float) -> tuple[Any, Any]:
    """Return the score interval of a proportion, or of an array of them.

    Wilson, J. Am. Stat. Assoc. 22, 209 (1927). Unlike count/shots +- error it stays within [0, 1]
    and does not shrink to nothing at 0 or `shots` counts.

    Example:
        >>> low, high = wilson(0, 100, 1.645)
        >>> float(low), round(float(high), 4)
        (0.0, 0.0263)
    """
    p, zz = count / shots, z * z
    centre = (p + zz / (2 * shots)) / (1 + zz / shots)
    half = z / (1 + zz / shots) * np.sqrt(p * (1 - p) / shots + zz / (4 * shots * shots))
    low = np.where(count == 0, 0.0, np.maximum(centre - half, 0.0))
    high = np.where(count == shots, 1.0, np.minimum(centre + half, 1.0))
    return low, high


class Noise(NamedTuple):
    """What is known of the device and the model, for `figures`.

    Attributes:
        basis: where the widths come from: `device`, `shipped`, `device and shipped`, or `sampling`
            when there is no prediction, `exact device` when there is no noise.
        successes: predicted success of each circuit at the worse readout, or None.
        bounds: score bounds by stratum of figure.
        limits: largest absolute value of each circuit's estimates.
        widths: qubits in use of each circuit.
        model: standard errors of the model, one a figure, or one for all, or none.
    """

    basis: str = "sampling"
    successes: Sequence[float | None] = ()
    bounds: Mapping[str, Bounds] = {}
    limits: Sequence[float] = ()
    widths: Sequence[int] = ()
    model: Sequence[float] = ()


#: Nothing is known of device and model: the intervals are those of the shots.
NO_NOISE = Noise()


class Found(NamedTuple):
    """The intervals of a result.

    Attributes:
        named: the first, with their names and what they are made of.
        tables: where there are more: of samples low and high for each count that occurs, as
            outcomes of one register with one count have one interval (of one bit each of its two
            outcomes has its own, and `outcome` says whose); of estimates low and high of every
            value.
        total: how many figures there are.
        widest: the widest half-width of all, or None when one has no interval.
    """

    named: list[dict[str, Any]]
    tables: list[dict[str, Any]]
    total: int
    widest: float | None


class _Raw(NamedTuple):
    """Figures before device and model, on the scale of a probability: value = p * span + low.

    Attributes:
        p: (n,), as measured.
        sampling: (n,), standard errors from the shots.
        ends: two of (n,), the intervals of the shots alone, on the figures' own scale.
        resting: what a fully decohered device would give.
        width: qubits of the circuit, or bits of the register.
        span: of the figures' own scale.
        low: its lower end.
        kinds: `FIGURES` or `ESTIMATES`.
        mirrored: (n,) or one for all, whether a figure has what another leaves of 1 and is judged
            by that: of a single bit 1 is, as ones and noughts are not read equally well.
    """

    p: Any
    sampling: Any
    ends: tuple[Any, Any]
    resting: float
    width: int
    span: float = 1.0
    low: float = 0.0
    kinds: tuple[Kind, ...] = FIGURES
    mirrored: Any = False


class _Columns(NamedTuple):
    """What is told of figures, on their own scale.

    Attributes:
        value: as measured.
        least: lower ends of the intervals of the shots alone.
        most: their upper ends.
        shots: standard errors from the shots.
        device: how far the device's noise could move each.
    """

    value: list[float]
    least: list[float]
    most: list[float]
    shots: list[float]
    device: list[float]


class _Circuit(NamedTuple):
    """What the figures of one circuit have in common."""

    number: int
    success: float | None
    limit: float
    width: int
    noise: Noise
    z: float
    confidence: float

    def models(self, first: int, count: int) -> Any:
        """Return the model's errors of named figures, (count,); those beyond them have the largest.

        Args:
            first: number of the first of them in the job; `MOST` or more for one that is not named.
            count: how many.
        """
        given = self.noise.model
        if not given:
            return np.zeros(count)
        numbers = np.arange(first, first + count)
        each = np.asarray(given, dtype=float)[np.minimum(numbers, len(given) - 1)]
        return np.where(numbers < MOST, each, max(given))

    def intervals(self, raw: _Raw, first: int) -> tuple[list[float], list[float]]:
        """Return the intervals of figures, on their own scale.

        Args:
            raw: the figures.
            first: number of the first of them, as `models` takes it.
        """
        low, high = raw.ends
        if self.noise.bounds and self.success is not None:
            flip, model = raw.mirrored, self.models(first, len(raw.p))
            p = np.where(flip, 1 - raw.p, raw.p)
            figure = Figure(p, raw.sampling, self.success, raw.resting, raw.width, model / raw.span)
            least, most = interval_from(figure, self.noise.bounds, raw.kinds, self.confidence)
            inner = np.where(flip, 1 - most, least), np.where(flip, 1 - least, most)
            low, high = (end * raw.span + raw.low for end in inner)
        elif self.noise.model:
            value = raw.p * raw.span + raw.low
            extra = self.z * self.models(first, len(raw.p))
            low = value - np.hypot(value - low, extra)
            high = value + np.hypot(high - value, extra)
        return low.tolist(), high.tolist()

    def columns(self, raw: _Raw) -> _Columns:
        """Return what is told of each figure, on their own scale."""
        low, high = raw.ends
        moved = np.zeros(len(raw.p))
        if self.success is not None and self.success != 1.0:
            moved = reach(raw.p, self.success, raw.resting) * raw.span
        return _Columns(
            (raw.p * raw.span + raw.low).tolist(),
            low.tolist(),
            high.tolist(),
            (raw.sampling * raw.span).tolist(),
            moved.tolist(),
        )

    def named(
        self,
        told: _Columns,
        names: Sequence[str],
        at: Sequence[int],
        ends: Sequence[Any],
        first: int,
    ) -> list[dict[str, Any]]:
        """Return figures as they are recorded.

        Args:
            told: of all figures.
            names: of those to record.
            at: their places among the figures.
            ends: low and high of each figure.
            first: number of the first to record, as `models` takes it.
        """
        model = self.models(first, len(names)).tolist()
        lows, highs = ends
        return [
            {
                "circuit": self.number,
                "name": name,
                "value": told.value[i],
                "low": lows[i],
                "high": highs[i],
                "sampling": [told.least[i], told.most[i]],
                "parts": {"sampling": told.shots[i], "device": told.device[i], "model": off},
            }
            for name, i, off in zip(names, at, model, strict=True)
        ]


def figures(result: Result, confidence: float, noise: Noise = NO_NOISE) -> Found:
    """Return the intervals of every figure of a result.

    Named are, of samples, the most frequent outcomes of each register and parameter set, and of
    estimates each value with the error the device reported, `MOST` in all. Their `parts` are the
    standard deviations of shots, device and model; `sampling` is the interval of the shots alone.
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    named: list[dict[str, Any]] = []
    tables: list[dict[str, Any]] = []
    total, widest = 0, 0.0
    for index, item in enumerate(result.items):
        circuit = _Circuit(
            index,
            noise.successes[index] if index < len(noise.successes) else None,
            noise.limits[index] if index < len(noise.limits) else 1.0,
            noise.widths[index] if index < len(noise.widths) else 1,
            noise, z, confidence,
        )  # fmt: skip
        if isinstance(item, Samples):
            made = _samples(circuit, item, len(named))
        else:
            made = _estimates(circuit, item, len(named))
        named += made.named
        tables += made.tables
        total += made.total
        if made.widest is None:
            return Found(named, [], total, None)
        widest = max(widest, made.widest)
    return Found(named, tables if total > len(named) else [], total, widest if total else None)


def _samples(circuit: _Circuit, item: Samples, before: int) -> Found:
    named: list[dict[str, Any]] = []
    tables: list[dict[str, Any]] = []
    total = 0
    for name, given in item.registers.items():
        rows = list(itertools.takewhile(lambda counts: sum(counts.values()), given))
        one_bit = item.widths[name] == 1
        # Of one bit 0 is judged by what it leaves of 1: its count stands there as its complement.
        occurring: dict[int, set[int]] = {}
        for counts in rows:
            shots = sum(counts.values())
            total += len(counts)
            seen = occurring.setdefault(shots, set())
            if one_bit:
                seen.update(~count if bits == "0" else count for bits, count in counts.items())
            else:
                seen.update(counts.values())
        made: dict[int, tuple[_Raw, _Columns, dict[int, int], tuple[list[float], list[float]]]] = {}
        for shots, different in occurring.items():
            ordered = sorted(different)
            number = np.array(ordered)
            mirrored = number < 0
            number = np.where(mirrored, ~number, number) if one_bit else number
            raw = _outcomes(number, shots, item.widths[name], circuit.z, mirrored)
            ends = circuit.intervals(raw, MOST)
            places = dict(zip(ordered, itertools.count()))
            made[shots] = raw, circuit.columns(raw), places, ends
            facts: dict[str, Any] = {"circuit": circuit.number, "register": name, "shots": shots}
            if one_bit:
                facts["outcome"] = ["0" if key < 0 else "1" for key in ordered]
            tables.append(facts | {"count": number.tolist(), "low": ends[0], "high": ends[1]})
        for row, counts in enumerate(rows):
            room = MOST - before - len(named)
            if room <= 0:
                break
            # The sort by count keeps the order of equal counts, which is that of the bits.
            first = sorted(sorted(counts), key=counts.__getitem__, reverse=True)
            top = [(bits, counts[bits]) for bits in first[: min(TOP, room)]]
            raw, told, places, ends = made[sum(counts.values())]
            place = before + len(named)
            at = [places[~count if one_bit and bits == "0" else count] for bits, count in top]
            if circuit.noise.model:
                raw = _picked(raw, at)
                told = circuit.columns(raw)
                ends = circuit.intervals(raw, place)
                at = list(range(len(top)))
            set_of = "" if len(given) == 1 else f" [{row}]"
            names = [f"{name} p({bits}){set_of}" for bits, _ in top]
            named += circuit.named(told, names, at, ends, place)
        if len(rows) < len(given):  # no shot, no interval
            return Found(named, [], total, None)
    return Found(named, tables, total, _widest(tables))


def _outcomes(counts: Any, shots: int, width: int, z: float, mirrored: Any) -> _Raw:
    if shots > TABLED:
        p, sd, low, high = _figures_of(counts, shots, z)
    else:
        p, sd, low, high = _table(shots, z)[:, counts]
    return _Raw(p, sd, (low, high), 0.5**width, width, mirrored=mirrored)


def _figures_of(counts: Any, shots: int, z: float) -> Any:
    """Return for an array of counts its share, the share's standard error, low and high: (4, n)."""
    p = counts / shots
    return np.array([p, shot_sd(p, shots), *wilson(counts, shots, z)])


@lru_cache(maxsize=16)
def _table(shots: int, z: float) -> Any:
    """Return `_figures_of` for every count there can be."""
    return _figures_of(np.arange(shots + 1), shots, z)


def _picked(raw: _Raw, at: Sequence[int]) -> _Raw:
    low, high = raw.ends
    return raw._replace(
        p=raw.p[at], sampling=raw.sampling[at], ends=(low[at], high[at]), mirrored=raw.mirrored[at]
    )


def _estimates(circuit: _Circuit, item: Estimates, before: int) -> Found:
    values, errors = np.asarray(item.values, dtype=float), np.asarray(item.errors, dtype=float)
    half = circuit.z * errors
    finite = np.isfinite(values) & np.isfinite(half)
    broken = not finite.all()
    if broken:
        first = int(np.argmin(finite))
        values, errors, half = values[:first], errors[:first], half[:first]
    bound = max(circuit.limit, 1e-300)
    span = 2 * bound
    raw = _Raw(
        (values + bound) / span, errors / span, (values - half, values + half),
        0.5, circuit.width, span, -bound, ESTIMATES,
    )  # fmt: skip
    ends = circuit.intervals(raw, before)
    few = range(min(len(values), max(MOST - before, 0)))
    named = circuit.named(circuit.columns(raw), [f"value [{i}]" for i in few], few, ends, before)
    tables = [{"circuit": circuit.number, "low": ends[0], "high": ends[1]}] if len(values) else []
    return Found(named, tables, len(values), None if broken else _widest(tables))


def _widest(tables: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the widest half-width, or None where an interval is not finite."""
    # NumPy's maximum of numbers with a NaN among them is NaN, Python's may be any.
    with np.errstate(over="ignore", invalid="ignore"):
        widths = [np.subtract(t["high"], t["low"]).max() for t in tables]
    widest = float(np.max(widths, initial=0.0)) / 2
    return widest if math.isfinite(widest) else None
