"""`interlock restore`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("home", type=click.Path(path_type=Path))
@click.option("--sha256", help="What `interlock backup` printed: another file is refused.")
@click.option("--keys", type=click.Path(path_type=Path), help="Public keys to trust (vkeys file).")
def command(file: Path, home: Path, sha256: str | None, keys: Path | None) -> int:
    """Make HOME, which must not exist, from FILE; all of it, checked, or nothing.

    Subjects erased after the backup was taken are back: erase them again. Jobs that ran after it
    are queued again: cancel them.
    """
    from interlock.ledger.backup import restore
    from interlock.ledger.identity import read_vkeys

    report = restore(file, home, sha256=sha256, keys=read_vkeys(keys) if keys else None)
    click.echo(f"made {home}: ledger of {report.size} entries, {report.checkpoints} heads checked")
    for note in report.notes:
        click.echo(f"note   {note}")
    return 0
