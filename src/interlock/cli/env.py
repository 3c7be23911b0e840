"""`interlock env`."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.group()
def command() -> None:
    """Throwaway environments: tenant, keys, home and simulated devices, and their end."""


@command.command()
@click.option("--in", "parent", type=click.Path(path_type=Path), help="Folder to make it in.")
@click.option(
    "--hours",
    type=click.FloatRange(0, 720, min_open=True),
    default=8.0,
    show_default=True,
    help="After this its key is refused.",
)
def up(parent: Path | None, hours: float) -> int:
    """Make one, and print as JSON where it is; serve it with `interlock serve --home HOME`."""
    from interlock.gateway import throwaway

    made = throwaway.up(parent, lifetime_s=hours * 3600)
    click.echo(
        json.dumps(
            {
                "home": str(made.home),
                "tenant": made.tenant,
                "key_file": str(made.key_file),
                "expires": made.expires,
            },
            indent=1,
        )
    )
    return 0


@command.command()
@click.argument("homes", nargs=-1, required=True, type=click.Path(path_type=Path))
def down(homes: tuple[Path, ...]) -> int:
    """Destroy environments with all that is in them, keys first."""
    from interlock.gateway import throwaway

    for home in homes:
        throwaway.down(home)
        click.echo(f"gone: {home}")
    return 0
