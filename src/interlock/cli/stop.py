"""`interlock stop`: nothing is admitted and nothing released until `interlock resume`."""

from __future__ import annotations

import click

from interlock import config


@click.command()
@click.argument("reason", nargs=-1, required=True)
@click.option("--home", type=click.Path(), help="Folder of ledger, state and keys.")
def command(reason: tuple[str, ...], home: str | None) -> None:
    """Stop everything, for REASON. Works also when nothing else does: it only writes a file."""
    from interlock.guard.state import stop

    path = stop(config.home(home), " ".join(reason))
    click.echo(f"stopped: {path}")
