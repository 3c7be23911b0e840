"""`interlock keys`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from interlock.config import home as home_folder

_home = click.option("--home", type=click.Path(path_type=Path), help="Folder of the keys.")


@click.group()
def command() -> None:
    """List keys, rotate the key-encryption key, choose where it is kept."""


@command.command("list")
@_home
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_keys(home: Path | None, as_json: bool) -> int:
    """Print name and algorithm of every key; nothing secret."""
    from interlock.crypto.keys import KeyStore

    found = KeyStore(home_folder(home) / "keys").inventory()
    if as_json:
        click.echo(json.dumps(found, indent=1))
    else:
        for item in found:
            click.echo(f"{item['name']:<24} {item['algorithm']}")
    return 0


@command.command()
@_home
def rotate(home: Path | None) -> int:
    """Seal every key under a new key-encryption key; readers go on meanwhile."""
    from interlock.crypto.keys import KeyStore

    count = KeyStore(home_folder(home) / "keys").rotate_kek()
    click.echo(f"{count} keys sealed anew")
    return 0


@command.command()
@click.argument("keeper", type=click.Choice(["file", "keyring", "passphrase", "tpm"]))
@_home
def keep(keeper: str, home: Path | None) -> int:
    """Keep the key-encryption key in a file, under a passphrase, in the keyring or in a TPM.

    The passphrase is read from INTERLOCK_PASSPHRASE_FILE or INTERLOCK_PASSPHRASE.
    """
    from interlock.crypto.keys import KeyStore

    KeyStore(home_folder(home) / "keys").move_kek(keeper)
    click.echo(f"kept: {keeper}")
    return 0
