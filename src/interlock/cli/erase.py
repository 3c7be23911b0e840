"""`interlock erase`."""

from __future__ import annotations

from pathlib import Path

import click

from interlock.config import home as home_folder


@click.command()
@click.argument("subject")
@click.option("--home", type=click.Path(path_type=Path), help="Folder of the ledger.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def command(subject: str, home: Path | None, yes: bool) -> int:
    """Destroy the data keys of SUBJECT: what is recorded about it becomes unreadable for ever.

    Proofs and heads stay valid. Backups of the keys folder have to be destroyed as well.
    """
    from interlock.ledger import Ledger, existing

    folder = existing(home_folder(home))
    if not yes:
        click.confirm(f"Destroy the keys of {subject!r} in {folder}? This is final.", abort=True)
    with Ledger.open(folder) as ledger:
        receipts = ledger.erase(subject)
    for entry in receipts:
        click.echo(f"erased   key {entry.header['key']}, receipt {entry.id}")
    if not receipts:
        click.echo("nothing  no data key of this subject")
    return 0
