"""The figures of a result with their intervals, every one of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any, NamedTuple

from interlock.guard.result import Estimates, Result, Samples
from interlock.guard.stats.uncertainty import (
    ESTIMATES,
    FIGURES,
    Bounds,
    Figure,
    Kind,
    Scale,
    interval_from,
    reach,
    shot_sd,
)

__all__ = ["Found", "Noise", "figures", "wilson"]

#: Outcomes of one parameter set, and figures of one job, that are named one by one.
TOP = 8
MOST = 64


def wilson(count: int, shots: int, z: float) -> tuple[float, float]:
    """Return the score interval of a proportion.

    Wilson, J. Am. Stat. Assoc. 22, 209 (1927). Unlike count/shots +- error it stays within [0, 1]
    and does not shrink to nothing at 0 or `shots` counts.

    Example:
        >>> low, high = wilson(0, 100, 1.645)
        >>> low, round(high, 4)
        (0.0, 0.0263)
    """
    p, zz = count / shots, z * z
    centre = (p + zz / (2 * shots)) / (1 + zz / shots)
    half = z / (1 + zz / shots) * math.sqrt(p * (1 - p) / shots + zz / (4 * shots * shots))
    low = 0.0 if count == 0 else max(centre - half, 0.0)
    high = 1.0 if count == shots else min(centre + half, 1.0)
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
            outcomes of one register with one count have one interval; of estimates low and high
            of every value.
        total: how many figures there are.
        widest: the widest half-width of all, or None when one has no interval.
    """

    named: list[dict[str, Any]]
    tables: list[dict[str, Any]]
    total: int
    widest: float | None


class _Raw(NamedTuple):
    """A figure before device and model: on the scale of a probability, value = p * span + low."""

    name: str
    p: float
    sampling: float
    interval: tuple[float, float]
    resting: float
    width: int
    span: float = 1.0
    low: float = 0.0
    kinds: tuple[Kind, ...] = FIGURES


class _Circuit(NamedTuple):
    """What the figures of one circuit have in common."""

    number: int
    success: float | None
    limit: float
    width: int
    noise: Noise
    z: float
    confidence: float

    def model(self, number: int | None) -> float:
        """Return the model's error of a named figure; of another the largest there is."""
        given = self.noise.model
        if not given:
            return 0.0
        return max(given) if number is None else given[min(number, len(given) - 1)]

    def interval(self, raw: _Raw, number: int | None = None) -> tuple[float, float]:
        """Return the interval of a figure, on its own scale."""
        low, high = raw.interval
        model = self.model(number)
        if self.noise.bounds and self.success is not None:
            figure = Figure(
                raw.p, raw.sampling, self.success, raw.resting, raw.width, model / raw.span
            )
            inner = interval_from(figure, self.noise.bounds, raw.kinds, self.confidence)
            low, high = (v * raw.span + raw.low for v in inner)
        elif model:
            value, extra = raw.p * raw.span + raw.low, self.z * model
            low = value - math.hypot(value - low, extra)
            high = value + math.hypot(high - value, extra)
        return low, high

    def named(self, raw: _Raw, number: int) -> dict[str, Any]:
        """Return a figure as it is recorded."""
        low, high = self.interval(raw, number)
        success = 1.0 if self.success is None else self.success
        reached = reach(raw.p, success, raw.resting)
        scale = Scale(raw.sampling, reached, self.model(number) / raw.span)
        return {
            "circuit": self.number,
            "name": raw.name,
            "value": raw.p * raw.span + raw.low,
            "low": low,
            "high": high,
            "sampling": list(raw.interval),
            "parts": {k: v * raw.span for k, v in scale._asdict().items()},
        }


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
    for name, rows in item.registers.items():
        width = item.widths[name]
        known: dict[int, dict[int, tuple[float, float]]] = {}
        for row, counts in enumerate(rows):
            shots = sum(counts.values())
            if shots == 0:
                return Found(named, [], total, None)
            total += len(counts)
            of = known.setdefault(shots, {})
            for count in set(counts.values()) - of.keys():
                of[count] = circuit.interval(_outcome("", count, shots, width, circuit.z))
            if before + len(named) >= MOST:
                continue
            top = sorted(counts.items(), key=lambda kv: (-kv[1], kv[0]))[:TOP]
            for bits, count in top[: MOST - before - len(named)]:
                label = f"{name} p({bits})" if len(rows) == 1 else f"{name} p({bits}) [{row}]"
                raw = _outcome(label, count, shots, width, circuit.z)
                named.append(circuit.named(raw, before + len(named)))
        for shots, of in known.items():
            ordered = sorted(of)
            low, high = ([of[count][side] for count in ordered] for side in (0, 1))
            facts = {"circuit": circuit.number, "register": name, "shots": shots}
            tables.append(facts | {"count": ordered, "low": low, "high": high})
    return Found(named, tables, total, _widest(tables))


def _outcome(name: str, count: int, shots: int, width: int, z: float) -> _Raw:
    p = count / shots
    return _Raw(name, p, shot_sd(p, shots), wilson(count, shots, z), 0.5**width, width)


def _estimates(circuit: _Circuit, item: Estimates, before: int) -> Found:
    named: list[dict[str, Any]] = []
    low: list[float] = []
    high: list[float] = []
    bound = max(circuit.limit, 1e-300)
    span = 2 * bound
    for row, (value, error) in enumerate(zip(item.values, item.errors, strict=True)):
        half = circuit.z * error
        if not math.isfinite(value) or not math.isfinite(half):
            return Found(named, [], row, None)
        raw = _Raw(
            f"value [{row}]", (value + bound) / span, error / span, (value - half, value + half),
            0.5, circuit.width, span, -bound, ESTIMATES,
        )  # fmt: skip
        number = before + len(named) if before + len(named) < MOST else None
        ends = circuit.interval(raw, number)
        low.append(ends[0])
        high.append(ends[1])
        if number is not None:
            named.append(circuit.named(raw, number))
    tables = [{"circuit": circuit.number, "low": low, "high": high}] if low else []
    return Found(named, tables, len(low), _widest(tables))


def _widest(tables: Sequence[Mapping[str, Any]]) -> float:
    return max(
        ((h - w) / 2 for t in tables for w, h in zip(t["low"], t["high"], strict=True)),
        default=0.0,
    )
