"""`interlock canary`: mark sensitive columns by planting canaries in them."""

from __future__ import annotations

import json
from pathlib import Path

import click

HOME = click.option("--home", type=click.Path(), help="Folder of ledger, state and keys.")


@click.group()
def command() -> None:
    """Mark sensitive columns, so that what reaches a circuit is found."""


@command.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--column", required=True, help="Name of the sensitive column.")
@click.option("--label", required=True, help="Its data label.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True,
              help="The table with the planted rows.")  # fmt: skip
@click.option("--tenant", default="local", show_default=True, help="Whose it is.")
@HOME
def plant(data: Path, column: str, label: str, output: Path, tenant: str, home: str | None) -> None:
    """Write the CSV table DATA with three more rows, whose COLUMN holds values nobody has."""
    import csv
    import random

    from interlock import config
    from interlock.crypto import files
    from interlock.errors import InputError
    from interlock.guard import canaries

    try:
        with data.open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream)
            rows = list(reader)
            names = list(reader.fieldnames or ())
        cells = [str(row[column] or "") for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error, KeyError) as error:
        raise InputError(
            "the table cannot be read",
            code="canary-column",
            got=f"{data.name}: {type(error).__name__}: {error}",
            expected="a CSV table in UTF-8 whose first line names the column",
            fix="check the path and --column",
        ) from error
    made, values = canaries.plant(cells, tenant=tenant, name=column, label=label)
    chance = random.SystemRandom()
    for value in values:  # like another row in all else, and not at the end
        row = {**chance.choice(rows), column: value}
        rows.insert(chance.randint(0, len(rows)), row)
    canaries.register(config.home(home), made)
    from io import StringIO

    text = StringIO()
    writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    files.write_private(output, text.getvalue().encode())
    click.echo(f"planted {len(values)} rows in {output}; column {column} is {label}")


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@HOME
def list_(as_json: bool, home: str | None) -> None:
    """Name the columns that are marked; never the values."""
    from interlock import config
    from interlock.guard import canaries

    rows = [
        {"tenant": c.tenant, "column": c.column, "label": c.label,
         "rows": len(c.numbers) + len(c.texts)}
        for c in canaries.read(config.home(home))
    ]  # fmt: skip
    if as_json:
        click.echo(json.dumps(rows))
        return
    for row in rows:
        click.echo(f"{row['tenant']}: column {row['column']} is {row['label']}, {row['rows']} rows")
    if not rows:
        click.echo("no column is marked")
