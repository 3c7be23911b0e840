"""An interval on every figure."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from interlock.errors import InputError
from interlock.guard.control import Control, Request, Settings, verdict
from interlock.guard.filter.fields import fields_of
from interlock.guard.health.known import bounds_for
from interlock.guard.pipeline import Trace
from interlock.guard.validate.figures import Found, Noise, figures
from interlock.types import Decision, Evidence, Finding, Job, Outcome, Verdict

__all__ = ["IntervalControl", "intervals_of"]


class IntervalSettings(Settings, frozen=True, kw_only=True):
    """Settings of `interval`.

    Attributes:
        confidence: two-sided confidence of each interval.
        max_half_width: a figure known less well than this is not used, or None for no limit.
        model_field: the decoded field with the standard error of the model that uses the figures,
            on their scale, one number or one a figure (beyond the named ones the largest counts);
            null when no model has a part in it.
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
    version = 3
    Settings = IntervalSettings

    def gather(self, request: Request, settings: IntervalSettings) -> Evidence:
        """Compute the intervals of the current result."""
        if request.result is None:
            return {"figures": [], "confidence": settings.confidence, "half_width": None}
        noise = _noise(request, settings)
        found = figures(request.result, settings.confidence, noise)
        return {
            "confidence": settings.confidence,
            "basis": noise.basis,
            "count": found.total,
            "figures": found.named,
            **({"tables": found.tables} if found.tables else {}),
            "half_width": found.widest,
            "headline": headline(found),
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


def _noise(request: Request, settings: IntervalSettings) -> Noise:
    successes = request.shared.get("cautious_successes") or ()
    model = _model(request, settings.model_field)
    limits = [max(p.bounds, default=1.0) for p in request.programs]
    if not any(s is not None for s in successes):
        return Noise("sampling", (), {}, limits, (), model)
    if all(s == 1.0 for s in successes):
        return Noise("exact device", successes, {}, limits, (), model)
    widths = [len({q for op in p.circuit.walk() for q in op.qubits}) for p in request.programs]
    device = getattr(request.shared.get("calibration"), "device", request.job.backend)
    bounds, basis = bounds_for(request.home, device, settings.confidence)
    return Noise(basis, successes, bounds, limits, widths, model)


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


def intervals_of(trace: Trace) -> dict[str, Any]:
    """Return what a released quantum result carries: `intervals`, and `interval_tables` if any.

    A baseline's has none.
    """
    stages = trace.stages if trace.outcome is Outcome.RELEASE else ()
    for stage in stages:
        if stage.stage != "validate":
            continue
        for record in stage.controls:
            if record.control == "interval":
                found = record.verdict.evidence
                made = {"intervals": list(found.get("figures", ()))}
                return made | ({"interval_tables": found["tables"]} if "tables" in found else {})
    return {"intervals": []}


def headline(found: Found) -> str | None:
    """Return the interval as the line of a job shows it."""
    if not found.named or found.widest is None:
        return None
    first = found.named[0]
    text = f"{first['name']} {first['value']:.3f} [{first['low']:.3f}, {first['high']:.3f}]"
    return (
        text if found.total == 1 else f"{text}, {found.total} figures within +-{found.widest:.3f}"
    )
