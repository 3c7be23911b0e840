"""`interlock monitor triage`: which alarm to look at first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from interlock.cli.numbers import Finite

if TYPE_CHECKING:
    from interlock.errors import UsageError
    from interlock.monitor.triage import Ticket

__all__ = ["triage_command"]

_PATH = click.Path(path_type=Path)


@click.command("triage")
@click.argument("alerts", required=False, type=_PATH)
@click.option("--home", type=click.Path(), help="Folder of ledger, state and keys.")
@click.option("--assets", type=_PATH,
              help="What devices are worth; triage.yaml in the home by default.")  # fmt: skip
@click.option("--hours", type=Finite(min=0.0, min_open=True), default=24.0,
              show_default=True, help="How far back recorded alarms count.")  # fmt: skip
@click.option("--window-s", type=Finite(min=0.0), default=600.0, show_default=True,
              help="Alerts of one cause follow each other within this.")  # fmt: skip
@click.option("--top", type=click.IntRange(min=1), default=20, show_default=True,
              help="Tickets to show.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def triage_command(
    alerts: Path | None,
    home: str | None,
    assets: Path | None,
    hours: float,
    window_s: float,
    top: int,
    as_json: bool,
) -> None:
    """Fold alarms of one cause into tickets and order them by what they may cost.

    The order is predicted infidelity x affected jobs x criticality. ALERTS is a file of alerts, one
    JSON object a line; without it the home's recorded alarms are taken.
    """
    import time

    from interlock import config
    from interlock.cli.show import printable
    from interlock.monitor.store import monitor_store
    from interlock.monitor.triage import triage
    from interlock.monitor.triage_input import ASSETS, read_alerts, read_assets, recorded_alerts

    unnamed: list[str] = []
    if alerts is not None:
        if assets is not None:
            raise click.UsageError(
                "ALERTS bring their own figures; --assets is for recorded alarms"
            )
        found = read_alerts(alerts)
    else:
        folder = config.home(home)
        store = monitor_store(folder)
        if not store.sources():
            raise _nothing(folder)
        path = assets or folder / ASSETS
        known = read_assets(path) if assets or path.exists() else {}
        found = recorded_alerts(store, known, since_s=time.time() - hours * 3600)
        unnamed = sorted({a.asset for a in found} - set(known))
    tickets = triage(found, window_s=window_s)
    for place, ticket in enumerate(tickets[:top], 1):
        click.echo(json.dumps(_row(place, ticket)) if as_json else printable(_line(place, ticket)))
    if as_json:
        click.echo(json.dumps({"alerts": len(found), "tickets": len(tickets),
                               "assumed_worst": unnamed}))  # fmt: skip
        return
    click.echo(f"{len(tickets)} tickets from {len(found)} alerts"
               + (f"; the first {top} are shown" if len(tickets) > top else ""))  # fmt: skip
    if unnamed:
        click.echo(printable(f"no figures for {', '.join(unnamed)}: counted as the worst; "
                             f"name them in {ASSETS}"))  # fmt: skip


def _nothing(folder: Path) -> UsageError:
    from interlock.errors import UsageError

    return UsageError(
        "no telemetry is on record in this home",
        code="monitor-unrecorded",
        got=str(folder),
        expected="alarms that `interlock monitor FILE --record` or `monitor listen` kept",
        fix="give the --home they were recorded in, or a file of alerts",
    )


def _row(place: int, ticket: Ticket) -> dict[str, object]:
    worst = ticket.worst
    return {
        "place": place, "asset": worst.asset, "kind": worst.kind, "alerts": ticket.count,
        "first_s": ticket.first_s, "impact": worst.impact, "infidelity": worst.infidelity,
        "jobs": worst.jobs, "criticality": worst.criticality, "shares": worst.shares,
    }  # fmt: skip


def _line(place: int, ticket: Ticket) -> str:
    shares = sorted(ticket.worst.shares.items(), key=lambda s: -s[1])[:3]
    why = ", ".join(f"{name} {share:.0%}" for name, share in shares) or "not attributed"
    return f"{place:>4}  {ticket.explain()}  {why}"
