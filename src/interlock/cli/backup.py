"""`interlock backup`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click


@click.command()
@click.argument("home", type=click.Path(path_type=Path))
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--database",
    envvar="INTERLOCK_DATABASE_URL",
    show_envvar=True,
    help="Database URL of the gateway's queue, as `serve` has it.",
)
def command(home: Path, file: Path, database: str | None) -> int:
    """Write everything of HOME into FILE: databases, keys, heads, credentials, certificates.

    HOME may be in use. The ledger in the copy is checked before FILE appears. FILE holds keys:
    seal it with `interlock envelope seal` before it leaves the machine, and keep its SHA-256
    elsewhere. A ledger in PostgreSQL (`ledger.url`) and, with --database, the gateway's queue and
    keys come into FILE as the files they would be in a home.
    """
    from interlock.crypto.kek import provider_of
    from interlock.ledger.backup import backup

    more = None
    if database is not None:
        from interlock.gateway.moving import queue_to_files

        more = partial(queue_to_files, database)
    digest, report = backup(home, file, more=more)
    click.echo(f"wrote {file}: ledger of {report.size} entries, {report.checkpoints} heads checked")
    click.echo(f"sha256 {digest}")
    keeper = provider_of(home / "keys").name
    if keeper != "file":
        click.echo(f"note   the key-encryption key is not in it; it is kept by: {keeper}")
    return 0
