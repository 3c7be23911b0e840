"""`interlock monitor covert`: is there a message in the timing of pulses?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from interlock.cli.numbers import Finite

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["covert_command"]

_PATH = click.Path(path_type=Path)


@click.command("covert")
@click.argument("honest", type=_PATH)
@click.argument("file", type=_PATH)
@click.option("--channel", default="", help="Column of the intervals; the only one by default.")
@click.option("--length", type=click.IntRange(min=32), default=1000, show_default=True,
              help="Intervals a window.")  # fmt: skip
@click.option("--false-positive", type=Finite(1e-4, 0.5), default=0.01,
              show_default=True, help="Share of honest windows that may be found.")  # fmt: skip
@click.option("--budget-bits-per-s", type=Finite(min=0.0), default=0.0,
              show_default=True, help="An estimate below this raises no alarm.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def covert_command(
    honest: Path,
    file: Path,
    channel: str,
    length: int,
    false_positive: float,
    budget_bits_per_s: float,
    as_json: bool,
) -> int:
    """Look for a covert channel in FILE's pulse intervals (ns), learnt on those of HONEST.

    Exit code 9 when a window is in alarm. A quiet file is no proof: small shifts and channels that
    copy the distribution of independent timing are not seen.
    """
    from interlock.cli.show import printable
    from interlock.monitor.covert import CovertDetector

    detector = CovertDetector(
        _windows(honest, channel, length)[0],
        false_positive=false_positive,
        budget_bits_per_s=budget_bits_per_s,
    )
    windows, rest = _windows(file, channel, length)
    found = alarms = 0
    for k, window in enumerate(windows):
        v = detector.test(window)
        found, alarms = found + v.found, alarms + v.alarm
        if as_json:
            click.echo(json.dumps({
                "window": k, "found": v.found, "alarm": v.alarm, "strongest": v.strongest,
                "e_value": v.e_value, "threshold": v.threshold, "bits_per_s": v.bits_per_s,
            }))  # fmt: skip
        elif v.found:
            click.echo(printable(
                f"{'ALARM' if v.alarm else 'found'}  intervals {k * length} to"
                f" {(k + 1) * length - 1}  {v.strongest}  about {v.bits_per_s:.3g} bits/s"
            ))  # fmt: skip
    told = {"windows": len(windows), "found": found, "alarms": alarms, "untested": rest}
    click.echo(json.dumps(told) if as_json else
               f"{len(windows)} windows of {length} intervals: {found} found, {alarms} in alarm"
               f" (of honest ones about {false_positive:g} are found)")  # fmt: skip
    if rest and not as_json:
        click.echo(f"NOT TESTED the last {rest} intervals: too few for a window")
    return 9 if alarms else 0


def _windows(file: Path, channel: str, length: int) -> tuple[npt.NDArray[np.float64], int]:
    """Return whole windows of one column, and how many intervals are left over."""
    import numpy as np

    from interlock.cli.show import printable
    from interlock.errors import InputError
    from interlock.monitor.ingest.files import read_frames

    parts: list[npt.NDArray[np.float64]] = []
    names: tuple[str, ...] = ()
    for frame in read_frames(file, say=lambda line: click.echo(printable(line), err=True)):
        names = frame.spec.channels
        wanted = channel or (names[0] if len(names) == 1 else "")
        if wanted not in names:
            break
        parts.append(frame.original[:, names.index(wanted)])
    gaps = np.concatenate([np.empty(0), *parts])
    if len(gaps) < length:
        raise InputError(
            f"{file.name} has too few intervals of the channel for one window",
            code="monitor-covert-intervals",
            got=f"{len(gaps)} intervals; columns: {', '.join(names)[:200]}",
            expected=f"one column, or --channel with its name, and at least {length} intervals",
            fix="name the column, record more, or give a smaller --length",
        )
    whole = len(gaps) // length * length
    return gaps[:whole].reshape(-1, length), len(gaps) - whole
