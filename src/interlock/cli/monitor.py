"""`interlock monitor`: watch telemetry with a false-alarm budget."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from interlock.monitor.detectors.alarms import Alarm

__all__ = ["command"]


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--simulate", is_flag=True, help="Watch a simulated device with planted faults.")
@click.option("--seed", default=0, show_default=True, help="Seed of the simulation.")
@click.option("--budget", default=10.0, show_default=True, help="False alarms a million rows.")
@click.option("--block", default=1, show_default=True, help="Rows a block; 256 for fast streams.")
@click.option("--period-ms", default=1.0, show_default=True, help="Sampling period of the file.")
@click.option("--origin", default="lab-driver", show_default=True,
              type=click.Choice(["simulated", "lab-driver", "cloud-api"]),
              help="Where the file's samples come from.")  # fmt: skip
@click.option("--report", type=click.Path(path_type=Path), help="Write an HTML report here.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def command(
    file: Path | None,
    simulate: bool,
    seed: int,
    budget: float,
    block: int,
    period_ms: float,
    origin: str,
    report: Path | None,
    as_json: bool,
) -> None:
    """Watch telemetry from FILE (Arrow, Parquet, CSV, NDJSON) or a simulated device."""
    import json

    from interlock.monitor.detectors.alarms import AlarmSettings
    from interlock.monitor.frames import Origin
    from interlock.monitor.ingest.files import read_frames
    from interlock.monitor.watch import simulated, watch

    if simulate == (file is not None):
        raise click.UsageError("give a FILE, or --simulate")
    if not 1e-6 <= period_ms <= 1e12:
        raise click.UsageError("--period-ms must be between 1e-6 and 1e12")
    frames = (
        read_frames(file, period_ns=round(period_ms * 1e6), origin=Origin(origin))
        if file is not None
        else simulated(seed=seed)
    )
    live = sys.stdout.isatty() and not as_json

    def show(rows: int, found: list[Alarm]) -> None:
        for alarm in found:
            if as_json:
                click.echo(json.dumps({
                    "row": alarm.row, "kind": alarm.kind.value, "channel": alarm.channel,
                    "evidence": round(alarm.evidence, 3),
                }))  # fmt: skip
            elif live:
                click.echo("\r\x1b[K", nl=False)
                click.secho(f"{alarm.row:>12}  {alarm.kind.value:<6} channel {alarm.channel}"
                            f"  evidence {alarm.evidence:.1f}", fg="yellow")  # fmt: skip
        if live:
            click.echo(f"\r\x1b[K{rows:>12}  rows watched", nl=False)

    settings = AlarmSettings(budget_per_million=budget)
    seen = watch(frames, settings=settings, block=block, on_batch=show)
    if seen is None:
        raise click.UsageError("there were no rows to watch")
    if live:
        click.echo("\r\x1b[K", nl=False)
    if as_json:
        click.echo(json.dumps({
            "rows": seen.rows, "alarms": len(seen.alarms), "incidents": len(seen.incidents),
            "origin": seen.spec.origin.value, "budget_per_million": budget,
        }))  # fmt: skip
    else:
        _table(seen)
    if report is not None:
        _write_report(report, seen, budget)
        if not as_json:
            click.echo(f"report: {report}")


def _table(seen: object) -> None:
    from interlock.monitor.watch import Watch

    assert isinstance(seen, Watch)
    names = seen.spec.channels
    click.echo(f"{seen.spec.source}: {seen.rows} rows, samples {seen.spec.origin.value}")
    shares = {id(a): s for a, s in zip(seen.alarms, seen.attributions, strict=True)}
    for group in seen.incidents:
        first = group[0]
        name = names[first.channel] if first.channel >= 0 else "several"
        why = ", ".join(f"{n} {v:.0%}" for n, v in shares[id(first)])
        click.echo(f"  row {first.row:>9}  {first.kind.value:<6} {name:<14}"
                   f" evidence {first.evidence:5.1f}  alarms {len(group)}  {why}")  # fmt: skip
    click.echo(f"{len(seen.incidents)} incidents from {len(seen.alarms)} alarms")


def _write_report(path: Path, seen: object, budget: float) -> None:
    import dataclasses

    from interlock.errors import StorageError
    from interlock.monitor.report import render
    from interlock.monitor.watch import Watch

    assert isinstance(seen, Watch)
    shown = [
        (dataclasses.replace(a, row=a.row - seen.first_row), s)
        for a, s in zip(seen.alarms, seen.attributions, strict=True)
        if a.row >= seen.first_row
    ]
    text = render(
        title=seen.spec.source,
        origin=seen.spec.origin.value,
        channels=seen.spec.channels,
        values=seen.values.astype("f8"),
        alarms=[a for a, _ in shown],
        e_process=seen.e_process,
        attributions=[s for _, s in shown],
        budget_per_million=budget,
    )
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(
            "the report cannot be written",
            code="monitor-report",
            got=str(error),
            expected="a writable path with room",
            fix="choose another --report path",
        ) from error
