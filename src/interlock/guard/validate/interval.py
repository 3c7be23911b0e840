"""An interval on every figure."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Annotated, Any

import msgspec

from interlock.guard.control import Control, Request, Settings, verdict
from interlock.guard.result import Result, Samples
from interlock.types import Decision, Evidence, Finding, Job, Verdict

__all__ = ["IntervalControl", "figures", "wilson"]

#: Outcomes of one parameter set, and figures of one job, that the record gives intervals for.
TOP = 8
MOST = 64


class IntervalSettings(Settings, frozen=True, kw_only=True):
    """Settings of `interval`.

    Attributes:
        confidence: two-sided confidence of each interval.
        max_half_width: a figure known less well than this is not used, or None for no limit.
    """

    confidence: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.9
    max_half_width: Annotated[float, msgspec.Meta(gt=0)] | None = None


class IntervalControl(Control):
    """Puts an interval on every figure; what is known too badly is not used."""

    id = "interval"
    stage = "validate"
    Settings = IntervalSettings

    def gather(self, request: Request, settings: IntervalSettings) -> Evidence:
        """Compute the intervals of the current result."""
        if request.result is None:
            return {"figures": [], "confidence": settings.confidence, "half_width": None}
        found, total, widest = figures(request.result, settings.confidence)
        return {
            "confidence": settings.confidence,
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


def figures(result: Result, confidence: float) -> tuple[list[dict[str, Any]], int, float | None]:
    """Return the first figures with their intervals, how many there are, the widest half-width.

    Of samples: the most frequent outcomes of each register and parameter set. Of estimates: each
    value, with the error the device reported.
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    found: list[dict[str, Any]] = []
    total, widest = 0, 0.0
    for index, item in enumerate(result.items):
        if isinstance(item, Samples):
            for name, rows in item.registers.items():
                for row, counts in enumerate(rows):
                    shots = sum(counts.values())
                    if shots == 0:
                        return found, total, None
                    top = sorted(counts.items(), key=lambda kv: (-kv[1], kv[0]))[:TOP]
                    for bits, count in top:
                        low, high = wilson(count, shots, z)
                        widest = max(widest, (high - low) / 2)
                        total += 1
                        if len(found) < MOST:
                            label = f"p({bits})" if len(rows) == 1 else f"p({bits}) [{row}]"
                            found.append(
                                _figure(index, f"{name} {label}", count / shots, low, high)
                            )
        else:
            for row, (value, error) in enumerate(zip(item.values, item.errors, strict=True)):
                half = z * error
                if not math.isfinite(value) or not math.isfinite(half):
                    return found, total, None
                widest = max(widest, half)
                total += 1
                if len(found) < MOST:
                    found.append(
                        _figure(index, f"value [{row}]", value, value - half, value + half)
                    )
    return found, total, widest if total else None


def _figure(circuit: int, name: str, value: float, low: float, high: float) -> dict[str, Any]:
    return {"circuit": circuit, "name": name, "value": value, "low": low, "high": high}


def headline(found: list[dict[str, Any]], total: int, widest: float | None) -> str | None:
    """Return the interval as the line of a job shows it."""
    if not found or widest is None:
        return None
    first = found[0]
    text = f"{first['name']} {first['value']:.3f} [{first['low']:.3f}, {first['high']:.3f}]"
    return text if total == 1 else f"{text}, {total} figures within +-{widest:.3f}"
