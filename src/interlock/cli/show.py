"""How job lines look: one line a job, colour for people on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["COLOURS", "job_line", "printable", "unguarded_line"]

COLOURS = {
    "RELEASE": "green",
    "FALLBACK": "yellow",
    "HOLD": "cyan",
    "DENY": "red",
    "UNGUARDED": "magenta",
}


def job_line(line: Mapping[str, Any]) -> str:
    """Return the line of one job.

    `RELEASE | FALLBACK(reason) | HOLD(approval) | DENY(rule)`, predicted fidelity and calibration
    age, cost, interval, receipt id.
    """
    rule = f"({line['rule']})" if line["rule"] else ""
    parts = [f"{line['outcome']}{rule}", str(line["backend"]), f"{line['shots']} shots"]
    if line["predicted_fidelity"] is not None:
        parts.append(f"fidelity~{line['predicted_fidelity']:.3f}")
    if line["calibration_age_h"] is not None:
        parts.append(f"calibration {line['calibration_age_h']:.1f} h old")
    parts.append(f"${line['cost_usd']:.4f}")
    if line["interval"]:
        parts.append(str(line["interval"]))
    parts.append(str(line["mode"]))
    parts.append(str(line["receipt"]))
    return printable("  ".join(parts))


def printable(text: str) -> str:
    """Return text without control characters: a name must not forge a line or steer a terminal.

    Example:
        >>> printable("a" + chr(10) + "RELEASE")
        'a?RELEASE'
    """
    return "".join(c if c.isprintable() else "?" for c in text)


def unguarded_line(line: Mapping[str, Any]) -> str:
    """Return the line of a submission that went round the guard."""
    return printable(f"UNGUARDED  {line['what']}  called at {line['where']}  {line['receipt']}")
