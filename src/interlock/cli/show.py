"""How job lines look: one line a job, colour for people on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from interlock.backends.calibration import age_text

if TYPE_CHECKING:
    from interlock.ledger.report import Report

__all__ = ["COLOURS", "changed", "job_line", "printable", "unguarded_line"]

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
    if age := age_text(line["device_kind"], line["calibration_age_h"]):
        parts.append(age)
    parts.append(f"${line['cost_usd']:.4f}")
    if line["interval"]:
        parts.append(str(line["interval"]))
    parts.append(str(line["mode"]))
    parts.append(str(line["receipt"]))
    parts += [f"ALARM {alarm}" for alarm in line.get("alarms", ())]
    return printable("  ".join(parts))


def printable(text: str) -> str:
    """Return text without control characters: a name must not forge a line or steer a terminal.

    Example:
        >>> printable("a" + chr(10) + "RELEASE")
        'a?RELEASE'
    """
    return "".join(c if c.isprintable() else "?" for c in text)


def changed(report: Report) -> bool:
    """Say on standard error what is wrong with a ledger that was read; return whether it is."""
    if report.ok:
        return False
    for fault in report.faults[:3]:
        where = printable(f"{fault.kind}: {fault.where}")
        click.echo(f"FAULT   {where}", err=True)
    more = len(report.faults) + report.more_faults - 3
    tail = f" and {more} more;" if more > 0 else ""
    click.echo(f"CHANGED:{tail} do not rely on what is said here; run `interlock verify`", err=True)
    return True


def unguarded_line(line: Mapping[str, Any]) -> str:
    """Return the line of a submission that went round the guard."""
    return printable(f"UNGUARDED  {line['what']}  called at {line['where']}  {line['receipt']}")
