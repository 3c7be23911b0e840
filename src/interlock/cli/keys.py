"""`interlock keys`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from interlock.config import home as home_folder

_home = click.option("--home", type=click.Path(path_type=Path), help="Folder of the keys.")


def existing_keys(home: Path | None) -> Path:
    """Return the folder of the keys of a home that has some: a mistyped path makes none.

    Raises:
        InputError: there is no such folder.
    """
    from interlock.errors import InputError

    path = home_folder(home) / "keys"
    if not path.is_dir():
        raise InputError(
            "there are no keys here",
            code="keys-missing",
            got=str(path),
            expected="the folder of the keys of a home in use",
            fix="give --home, or set INTERLOCK_HOME; `interlock ledger` and `weights` make keys",
        )
    return path


@click.group()
def command() -> None:
    """List keys, rotate the key-encryption key, choose where it is kept."""


@command.command("list")
@_home
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_keys(home: Path | None, as_json: bool) -> int:
    """Print name and algorithm of every key; nothing secret."""
    from interlock.crypto.keys import KeyStore

    found = KeyStore(existing_keys(home)).inventory()
    if as_json:
        click.echo(json.dumps(found, indent=1))
    else:
        for item in found:
            click.echo(f"{item['name']:<24} {item['algorithm']}")
    return 0


def _ledger(home: Path | None) -> Path | None:
    """Return the home when it has a ledger: what is done to its keys is recorded there."""
    from interlock.errors import InputError
    from interlock.ledger import existing

    try:
        return existing(home_folder(home))
    except InputError:
        return None


@command.command()
@_home
def rotate(home: Path | None) -> int:
    """Seal every key under a new key-encryption key; readers go on meanwhile.

    The home's ledger, where there is one, records it.
    """
    from interlock.crypto.keys import KeyStore
    from interlock.ledger import Ledger

    keys, found = existing_keys(home), _ledger(home)
    if found is None:
        count = KeyStore(keys).rotate_kek()
        click.echo(f"{count} keys sealed anew; there is no ledger here to record it")
        return 0
    with Ledger.open(found) as ledger:
        count = ledger.rotate_kek()
    click.echo(f"{count} keys sealed anew; the ledger records it")
    return 0


@command.command()
@click.argument("keeper", type=click.Choice(["file", "keyring", "passphrase", "pkcs11", "tpm"]))
@_home
def keep(keeper: str, home: Path | None) -> int:
    """Keep the key-encryption key in a file, under a passphrase, in the keyring, a TPM or an HSM.

    The passphrase is read from INTERLOCK_PASSPHRASE_FILE or INTERLOCK_PASSPHRASE; the HSM is named
    by INTERLOCK_PKCS11_MODULE, INTERLOCK_PKCS11_TOKEN and INTERLOCK_PKCS11_PIN_FILE. The home's
    ledger, where there is one, records it.
    """
    from interlock.crypto.keys import KeyStore
    from interlock.ledger import Ledger

    found = _ledger(home)
    if found is not None:
        with Ledger.open(found) as ledger:
            before, _ = ledger.keep_kek(keeper)
        click.echo(f"kept: {keeper} (before: {before}); the ledger records it")
        return 0
    # A keeper may be chosen before the first key: a home that is there is enough.
    fresh = home_folder(home)
    path = fresh / "keys" if fresh.is_dir() else existing_keys(home)
    before, _ = KeyStore(path).move_kek(keeper)
    click.echo(f"kept: {keeper} (before: {before}); there is no ledger here to record it")
    return 0


@command.command("algorithms")
@_home
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_algorithms(home: Path | None, as_json: bool) -> int:
    """Print the registry of algorithms: each use, the suite in use, what else is allowed."""
    from interlock.crypto.suites import USES, chosen

    in_use = {name: chosen(home_folder(home), name) for name in USES}
    if as_json:
        found = {
            name: {
                "for": use.what,
                "in_use": in_use[name],
                "allowed": list(use.suites),
                "refused": dict(use.refused),
            }
            for name, use in USES.items()
        }
        click.echo(json.dumps(found, indent=1))
        return 0
    for name, use in USES.items():
        click.echo(f"{name:<10} {in_use[name]:<20} in use for {use.what}")
        for suite in use.suites:
            if suite != in_use[name]:
                click.echo(f"{'':<10} {suite:<20} allowed")
        for suite, why in use.refused.items():
            click.echo(f"{'':<10} {suite:<20} refused: {why}")
    return 0


@command.command()
@click.argument("purpose", metavar="USE")
@click.argument("suite")
@_home
def use(purpose: str, suite: str, home: Path | None) -> int:
    """Choose the SUITE of algorithms of a USE from now on; what is there still verifies.

    The home's ledger, where there is one, records it.
    """
    from interlock.crypto.suites import choose
    from interlock.ledger import Ledger

    found = _ledger(home)
    if found is not None:
        with Ledger.open(found) as ledger:
            before = ledger.choose_suite(purpose, suite)
        click.echo(f"{purpose}: {suite} (before: {before}); the ledger records it")
        return 0
    before = choose(existing_keys(home).parent, purpose, suite)
    click.echo(f"{purpose}: {suite} (before: {before}); there is no ledger here to record it")
    return 0
