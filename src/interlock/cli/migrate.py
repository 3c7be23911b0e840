"""`interlock migrate`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("home", type=click.Path(path_type=Path))
@click.option(
    "--database",
    envvar="INTERLOCK_DATABASE_URL",
    show_envvar=True,
    help="Database URL, as `serve` has it; SQLite in the home by default.",
)
def command(home: Path, database: str | None) -> int:
    """Bring the gateway's databases of HOME to this version; each of them wholly or not at all.

    Stop every gateway on them and back them up first (`interlock backup`): an older Interlock
    refuses a database once it is migrated.
    """
    from interlock.gateway.migration import migrate_home

    for part, before, now in migrate_home(home, database):
        said = f"version {now}" if before == now else f"version {before} -> {now}"
        click.echo(f"{part}: {said}")
    return 0
