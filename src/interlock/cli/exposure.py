"""`interlock exposure`."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import click


@click.command()
@click.argument("label")
@click.option("--years", type=float, required=True, help="How long the data has to stay secret.")
@click.option("--algorithm", required=True, help="What protects it, like rsa-2048 or x25519.")
@click.option("--migration", type=float, default=2.0, show_default=True, help="Years to change it.")
@click.option("--regime", "regimes", multiple=True, help="Regime; all of them by default.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    label: str,
    years: float,
    algorithm: str,
    migration: float,
    regimes: tuple[str, ...],
    as_json: bool,
) -> int:
    """Say whether data with LABEL is secret for longer than its encryption will be.

    Exit code 7 when any regime says exposed, expires or not allowed.
    """
    from interlock.crypto.exposure import DataLabel, assess, horizons

    asked = DataLabel(
        name=label, lifetime_years=years, algorithm=algorithm, migration_years=migration
    )
    verdicts = assess(asked, datetime.now(UTC).date(), regimes)
    if as_json:
        click.echo(json.dumps([v.as_dict() for v in verdicts], indent=1))
    else:
        for v in verdicts:
            click.echo(f"{v.verdict:<12} {v.regime:<11} until {v.needed_until}, {v.source}")
            if v.verdict != "ok":
                click.echo(f"{'':<12} fix: {v.fix}")
        click.echo(f"note: {horizons()['note']}")
    return 0 if all(v.verdict == "ok" for v in verdicts) else 7
