"""`interlock exposure`."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from interlock.config import home as home_folder


@click.command()
@click.argument("label")
@click.option("--years", type=float, required=True, help="How long the data has to stay secret.")
@click.option("--algorithm", required=True, help="What protects it, like rsa-2048 or x25519.")
@click.option("--migration", type=float, default=2.0, show_default=True, help="Years to change it.")
@click.option("--regime", "regimes", multiple=True, help="Regime; all of them by default.")
@click.option("--home", type=click.Path(path_type=Path), help="Home whose ledger to look in.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    label: str,
    years: float,
    algorithm: str,
    migration: float,
    regimes: tuple[str, ...],
    home: Path | None,
    as_json: bool,
) -> int:
    """Say whether data with LABEL is secret for longer than its encryption will be.

    Also how many entries of the home's ledger carry the label, and since when.

    Exit code 7 when any regime says exposed, expires or not allowed.
    """
    from interlock.crypto.exposure import DataLabel, assess, horizons

    asked = DataLabel(
        name=label, lifetime_years=years, algorithm=algorithm, migration_years=migration
    )
    verdicts = assess(asked, datetime.now(UTC).date(), regimes)
    held = _data(label, home_folder(home))
    if as_json:
        found = {"verdicts": [v.as_dict() for v in verdicts], "data": held}
        click.echo(json.dumps(found, indent=1))
    else:
        for v in verdicts:
            click.echo(f"{v.verdict:<12} {v.regime:<11} until {v.needed_until}, {v.source}")
            if v.verdict != "ok":
                click.echo(f"{'':<12} fix: {v.fix}")
        click.echo(f"note: {horizons()['note']}")
        click.echo(f"data: {_line(label, held)}")
    return 0 if all(v.verdict == "ok" for v in verdicts) else 7


def _data(label: str, home: Path) -> dict[str, Any]:
    """Return how many readable entries of the home's ledger carry the label, and the oldest."""
    from interlock.errors import InputError
    from interlock.ledger import Ledger

    held: dict[str, Any] = {"home": str(home), "state": "counted", "entries": None, "oldest": None}
    try:
        with Ledger.read(home) as ledger:
            found = ledger.labelled(label)
    except InputError as error:
        if error.code != "ledger-missing":
            raise
        return held | {"state": "no-ledger"}
    if found is None:
        return held | {"state": "no-keys"}
    return held | {"entries": found[0], "oldest": found[1] or None}


def _line(label: str, held: dict[str, Any]) -> str:
    home = held["home"]
    if held["state"] == "no-ledger":
        return f"no ledger in {home}"
    if held["state"] == "no-keys":
        return f"unknown; the keys of the ledger in {home} are not here"
    since = f", the oldest of {held['oldest']}" if held["oldest"] else ""
    return f"{held['entries']} entries in {home} carry {label!r}{since}"
