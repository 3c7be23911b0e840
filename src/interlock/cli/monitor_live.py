"""What `interlock monitor` shows on a terminal while it watches.

A line an alarm, and below them one that moves: rows, and how close the e-process is to an alarm.
"""

from __future__ import annotations

import math
import shutil
from typing import TYPE_CHECKING

import click

from interlock.cli.show import printable

if TYPE_CHECKING:
    from interlock.monitor.detectors.alarms import Alarm
    from interlock.monitor.watch import Note, Watcher

__all__ = ["clear", "show_alarm", "show_rows"]

WIDTH = 20


def clear() -> None:
    """Take the moving line away."""
    click.echo("\r\x1b[K", nl=False)


def show_alarm(watcher: Watcher, alarm: Alarm, note: Note) -> None:
    """Print a line for an alarm."""
    why = ", ".join(f"{name} {share:.0%}" for name, share in note.shares)
    line = (f"{alarm.row:>12}  {alarm.kind.value:<6} {watcher.name(alarm.channel)}"
            f"  evidence {alarm.evidence:.1f}  {why}")  # fmt: skip
    clear()
    click.secho(printable(line), fg="yellow")


def show_rows(watcher: Watcher) -> None:
    """Renew the moving line."""
    clear()
    room = shutil.get_terminal_size().columns - 1  # a line that wraps could not be taken away
    click.echo(printable(progress(watcher))[:room], nl=False)


def progress(watcher: Watcher) -> str:
    """Return rows, alarms, and the e-process of the last rows beside its alarm level."""
    level = math.log10(watcher.monitor.alarm_level)
    peak = float(watcher.monitor.trace.max(initial=0.0))
    height = max(math.log10(peak), 0.0) if peak > 0 else 0.0
    bar = "#" * round(WIDTH * min(height / level, 1.0)) if level > 0 else ""
    return (
        f"{watcher.spec.source:.16} {watcher.rows:>9} rows  alarms {len(watcher.alarms)}"
        f"  e-process 10^{height:.1f} of 10^{level:.1f} [{bar:<{WIDTH}}]"
    )
