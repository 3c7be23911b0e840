"""An interval on every figure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import NormalDist
from typing import Annotated, Any, NamedTuple

import msgspec

from interlock.errors import InputError
from interlock.guard.control import Control, Request, Settings, verdict
from interlock.guard.filter.fields import fields_of
from interlock.guard.health.known import bounds_for
from interlock.guard.pipeline import Trace
from interlock.guard.result import Estimates, Result, Samples
from interlock.guard.stats.uncertainty import (
    ESTIMATES,
    FIGURES,
    Kind,
    interval_from,
    scale_of,
    shot_sd,
)
from interlock.types import Decision, Evidence, Finding, Job, Verdict

__all__ = ["IntervalControl", "Noise", "figures", "intervals_of", "wilson"]

#: Outcomes of one parameter set, and figures of one job, that the record gives intervals for.
TOP = 8
MOST = 64


class IntervalSettings(Settings, frozen=True, kw_only=True):
    """Settings of `interval`.

    Attributes:
        confidence: two-sided confidence of each interval.
        max_half_width: a figure known less well than this is not used, or None for no limit.
        model_field: the decoded field with the standard error of the model that uses the figures,
            on their scale, one number or one a figure; null when no model has a part in it.
    """

    confidence: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.9
    max_half_width: Annotated[float, msgspec.Meta(gt=0)] | None = None
    model_field: str | None = None


class IntervalControl(Control):
    """Puts an interval on every figure; what is known too badly is not used.

    The interval is for the noiseless value: it combines the shots, the device's noise and the
    model's own error, with widths learnt from known answers (`interlock health learn`, or shipped
    ones). Without a predicted success there is only the shots' own interval, and it says so.
    """

    id = "interval"
    stage = "validate"
    version = 2
    Settings = IntervalSettings

    def gather(self, request: Request, settings: IntervalSettings) -> Evidence:
        """Compute the intervals of the current result."""
        if request.result is None:
            return {"figures": [], "confidence": settings.confidence, "half_width": None}
        noise = _noise(request, settings)
        found, total, widest = figures(request.result, settings.confidence, noise)
        return {
            "confidence": settings.confidence,
            "basis": noise.basis,
            "count": total,
            "figures": found,
            "half_width": widest,
            "headline": headline(found, total, widest),
        }

    def decide(self, job: Job, settings: IntervalSettings, evidence: Evidence) -> Verdict:
        """Fall back when a figure has no interval or too wide a one."""
        findings = []
        widest = evidence["half_width"]
        if widest is None:
            findings.append(
                Finding(
                    rule="validate.interval.none",
                    message="a figure has no interval",
                    got="no figure, or one that is not finite",
                    expected="a finite interval on every figure",
                    fix="ask for at least one shot and one measured bit",
                )
            )
        elif settings.max_half_width is not None and widest > settings.max_half_width:
            findings.append(
                Finding(
                    rule="validate.interval.too-wide",
                    message="a figure is known too badly to be used",
                    got=f"+-{widest:.4g} at {settings.confidence:.0%}",
                    expected=f"at most +-{settings.max_half_width:g}",
                    fix="ask for more shots",
                )
            )
        return verdict(evidence, findings, Decision.FALLBACK)


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
        bounds: score bounds by kind of figure.
        limits: largest absolute value of each circuit's estimates.
        model: standard errors of the model, one a figure, or one for all, or none.
    """

    basis: str = "sampling"
    successes: Sequence[float | None] = ()
    bounds: Mapping[str, tuple[float, float]] = {}
    limits: Sequence[float] = ()
    model: Sequence[float] = ()


#: Nothing is known of device and model: the intervals are those of the shots.
NO_NOISE = Noise()


def _noise(request: Request, settings: IntervalSettings) -> Noise:
    successes = request.shared.get("cautious_successes") or ()
    model = _model(request, settings.model_field)
    limits = [max(p.bounds, default=1.0) for p in request.programs]
    if not any(s is not None for s in successes):
        return Noise("sampling", (), {}, limits, model)
    if all(s == 1.0 for s in successes):
        return Noise("exact device", successes, {}, limits, model)
    device = getattr(request.shared.get("calibration"), "device", request.job.backend)
    bounds, basis = bounds_for(request.home, device, settings.confidence)
    return Noise(basis, successes, bounds, limits, model)


def _model(request: Request, field: str | None) -> tuple[float, ...]:
    if field is None:
        return ()
    value = fields_of(request).get(field)
    rows: list[Any] = value if isinstance(value, list) else [value]
    if not rows or not all(isinstance(v, int | float) and v >= 0 for v in rows):
        raise InputError(
            "the model's standard error is missing",
            code="interval-model",
            got=f"{field}: {value!r:.80}",
            expected="a number >= 0, or one a figure, in the decoded output",
            fix="have the decoder return it, or take model_field out of validate.interval",
        )
    return tuple(float(v) for v in rows)


class _Raw(NamedTuple):
    """A figure before device and model: on the scale of a probability, value = p * span + low."""

    name: str
    p: float
    sampling: float
    interval: tuple[float, float]
    resting: float
    span: float = 1.0
    low: float = 0.0
    kinds: tuple[Kind, ...] = FIGURES


def figures(
    result: Result, confidence: float, noise: Noise = NO_NOISE
) -> tuple[list[dict[str, Any]], int, float | None]:
    """Return the first figures with their intervals, how many there are, the widest half-width.

    Of samples: the most frequent outcomes of each register and parameter set. Of estimates: each
    value, with the error the device reported. `parts` are the standard deviations of shots, device
    and model; `sampling` is the interval of the shots alone.
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    found: list[dict[str, Any]] = []
    total, widest = 0, 0.0
    for index, item in enumerate(result.items):
        success = noise.successes[index] if index < len(noise.successes) else None
        limit = noise.limits[index] if index < len(noise.limits) else 1.0
        for raw in _samples(item, z) if isinstance(item, Samples) else _estimates(item, z, limit):
            if raw is None:
                return found, total, None
            model = noise.model[min(total, len(noise.model) - 1)] if noise.model else 0.0
            made = _figure(index, raw, success, model / raw.span, noise, z)
            widest = max(widest, (made["high"] - made["low"]) / 2)
            total += 1
            if len(found) < MOST:
                found.append(made)
    return found, total, widest if total else None


def _samples(item: Samples, z: float) -> Iterator[_Raw | None]:
    for name, rows in item.registers.items():
        for row, counts in enumerate(rows):
            shots = sum(counts.values())
            if shots == 0:
                yield None
                return
            top = sorted(counts.items(), key=lambda kv: (-kv[1], kv[0]))[:TOP]
            for bits, count in top:
                label = f"p({bits})" if len(rows) == 1 else f"p({bits}) [{row}]"
                p = count / shots
                yield _Raw(
                    f"{name} {label}", p, shot_sd(p, shots), wilson(count, shots, z),
                    0.5 ** len(bits),
                )  # fmt: skip


def _estimates(item: Estimates, z: float, limit: float) -> Iterator[_Raw | None]:
    for row, (value, error) in enumerate(zip(item.values, item.errors, strict=True)):
        half = z * error
        if not math.isfinite(value) or not math.isfinite(half):
            yield None
            return
        bound = max(limit, 1e-300)
        span = 2 * bound
        yield _Raw(
            f"value [{row}]", (value + bound) / span, error / span, (value - half, value + half),
            0.5, span, -bound, ESTIMATES,
        )  # fmt: skip


def _figure(
    circuit: int, raw: _Raw, success: float | None, model: float, noise: Noise, z: float
) -> dict[str, Any]:
    scale = scale_of(raw.p, raw.sampling, 1.0 if success is None else success, raw.resting, model)
    low, high = raw.interval
    if noise.bounds and success is not None:
        inner = interval_from(raw.p, scale.physical, noise.bounds, raw.kinds, z * model)
        low, high = (v * raw.span + raw.low for v in inner)
    elif model:
        value, extra = raw.p * raw.span + raw.low, z * model * raw.span
        low, high = value - math.hypot(value - low, extra), value + math.hypot(high - value, extra)
    return {
        "circuit": circuit,
        "name": raw.name,
        "value": raw.p * raw.span + raw.low,
        "low": low,
        "high": high,
        "sampling": list(raw.interval),
        "parts": {k: v * raw.span for k, v in scale._asdict().items()},
    }


def intervals_of(trace: Trace) -> list[dict[str, Any]]:
    """Return the intervals that a released quantum result carries; a baseline's has none."""
    if trace.fell_back is not None:
        return []
    for stage in trace.stages:
        for record in stage.controls:
            if (stage.stage, record.control) == ("validate", "interval"):
                return list(record.verdict.evidence.get("figures", ()))
    return []


def headline(found: list[dict[str, Any]], total: int, widest: float | None) -> str | None:
    """Return the interval as the line of a job shows it."""
    if not found or widest is None:
        return None
    first = found[0]
    text = f"{first['name']} {first['value']:.3f} [{first['low']:.3f}, {first['high']:.3f}]"
    return text if total == 1 else f"{text}, {total} figures within +-{widest:.3f}"
