"""`interlock resume`: lift the stop."""

from __future__ import annotations

import click

from interlock import config


@click.command()
@click.option("--home", type=click.Path(), help="Folder of ledger, state and keys.")
def command(home: str | None) -> None:
    """Lift the stop."""
    from interlock.guard.state import resume

    lifted = resume(config.home(home))
    click.echo("the stop is lifted" if lifted else "nothing was stopped")
