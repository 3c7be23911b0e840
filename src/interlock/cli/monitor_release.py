"""`interlock monitor access release`: counts of people, with noise, out of a budget on record."""

from __future__ import annotations

import json
from pathlib import Path

import click

__all__ = ["release"]


@click.command("release")
@click.argument("events", type=click.Path(path_type=Path))
@click.option("--by", type=click.Choice(["role", "action", "target"]), default="role",
              show_default=True, help="What is counted.")  # fmt: skip
@click.option("--name", "names", multiple=True, required=True,
              help="A value to count; several.")  # fmt: skip
@click.option("--budget", required=True, help="Name of the privacy budget, like access-2026.")
@click.option("--total", type=float, required=True, help="Epsilon of the whole budget.")
@click.option("--epsilon", type=float, required=True, help="Epsilon that each count spends.")
@click.option("--home", type=click.Path(), help="Folder of ledger, state and keys.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def release(
    events: Path,
    by: str,
    names: tuple[str, ...],
    budget: str,
    total: float,
    epsilon: float,
    home: str | None,
    as_json: bool,
) -> None:
    """Count the principals of EVENTS by a field, with noise (differential privacy).

    One principal changes each count by one at most. The spending is in the ledger before a count
    leaves; what the budget does not hold is denied.
    """
    from interlock import config
    from interlock.cli.show import printable
    from interlock.ledger import Ledger
    from interlock.ledger.existing import existing
    from interlock.monitor.access_record import LedgeredRelease, pseudonym_key, read_events

    folder = existing(config.home(home))
    rows = read_events(events, pseudonym_key(folder))
    who: dict[str, set[str]] = {name: set() for name in names}
    for event in rows:
        value = str(getattr(event, by))
        if value in who:
            who[value].add(event.principal)
    with Ledger.open(folder) as ledger:
        told = LedgeredRelease(folder, ledger, name=budget, epsilon=total)
        counts = told.counts([(n, len(found)) for n, found in who.items()], epsilon=epsilon)
        spent, total = told.spent, told.total
    if as_json:
        click.echo(json.dumps({"counts": counts, "spent": spent, "total": total}))
        return
    for name, count in counts.items():
        click.echo(printable(f"{count:>8}  {name}"))
    click.echo(f"{spent:g} of {total:g} spent of {printable(budget)}")
