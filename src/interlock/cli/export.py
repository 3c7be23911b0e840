"""`interlock export`."""

from __future__ import annotations

from pathlib import Path

import click

from interlock.config import home as home_folder


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--for",
    "audience",
    type=click.Choice(["auditor", "subject", "public"]),
    required=True,
    help="Who will read it.",
)
@click.option("--subject", help="Whose entries, with --for subject.")
@click.option("--home", type=click.Path(path_type=Path), help="Folder of the ledger.")
def command(folder: Path, audience: str, subject: str | None, home: Path | None) -> int:
    """Write a signed evidence bundle into FOLDER that its reader can check alone, offline.

    Send ledger.vkeys and bundle.keys by another way as well: the reader compares them.
    """
    from typing import cast

    from interlock.ledger import Ledger, existing
    from interlock.ledger.evidence import Audience, bundle

    with Ledger.open(existing(home_folder(home))) as ledger:
        summary = bundle(ledger, folder, cast("Audience", audience), subject=subject)
    shown = ", ".join(f"{count} {how}" for how, count in summary["shown"].items())
    click.echo(f"wrote {folder}: {shown}; its README.txt says how to check it")
    return 0
