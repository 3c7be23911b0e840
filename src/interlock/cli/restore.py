"""`interlock restore`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("home", type=click.Path(path_type=Path))
@click.option("--sha256", help="What `interlock backup` printed: another file is refused.")
@click.option("--keys", type=click.Path(path_type=Path), help="Public keys to trust (vkeys file).")
@click.option("--ledger-database", help="`postgresql://...`: put the ledger there; empty.")
@click.option(
    "--database",
    envvar="INTERLOCK_DATABASE_URL",
    show_envvar=True,
    help="Database URL for the gateway's queue, as `serve` will have it; empty.",
)
def command(
    file: Path,
    home: Path,
    sha256: str | None,
    keys: Path | None,
    ledger_database: str | None,
    database: str | None,
) -> int:
    """Make HOME, which must not exist, from FILE; all of it, checked, or nothing.

    Subjects erased after the backup was taken are back: erase them again. Jobs that ran after it
    are queued again: cancel them. Without a database named, everything is in files of HOME.
    """
    from interlock.ledger.backup import restore
    from interlock.ledger.identity import read_vkeys

    def move(staged: Path) -> None:
        if ledger_database is not None:
            from interlock.ledger.moving import ledger_to_postgres

            ledger_to_postgres(staged, ledger_database)
        if database is not None:
            from interlock.gateway.moving import queue_to_postgres

            queue_to_postgres(staged, database)

    trusted = read_vkeys(keys) if keys else None
    report = restore(file, home, sha256=sha256, keys=trusted, move=move)
    click.echo(f"made {home}: ledger of {report.size} entries, {report.checkpoints} heads checked")
    for note in report.notes:
        click.echo(f"note   {note}")
    return 0
