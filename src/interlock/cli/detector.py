"""`interlock detector`: release, check and roll back signed detectors."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import numpy.typing as npt

    from interlock.ledger.reader import Reader
    from interlock.monitor.registry import DetectorRegistry
    from interlock.monitor.signed import DualKey, DualPublic

__all__ = ["command", "loaded", "private_key", "public_key", "write_key"]


def public_key(public: Path) -> DualPublic:
    """Read the public keys of a detectors' owner."""
    import msgspec

    from interlock.errors import InputError
    from interlock.monitor.signed import DualPublic

    try:
        return msgspec.json.decode(public.read_bytes(), type=DualPublic)
    except (OSError, msgspec.MsgspecError) as error:
        raise InputError(
            f"public key file {public.name} cannot be read",
            code="monitor-public-key",
            got=str(error),
            expected='{"ed25519": "<hex>", "ml_dsa_65": "<hex>"}',
            fix="ask the detectors' owner for the file",
        ) from error


@contextlib.contextmanager
def _registry(
    folder: Path, public: DualPublic, home: str | Path | None, *, write: bool
) -> Iterator[DetectorRegistry]:
    """Give the registry of a folder, with the record of the home's ledger where there is one."""
    from interlock import config
    from interlock.errors import InputError
    from interlock.ledger import Ledger, existing
    from interlock.monitor.registry import DetectorRegistry
    from interlock.monitor.releases import LedgerRecord

    with contextlib.ExitStack() as stack:
        record = None
        try:
            found = existing(config.home(home))
        except InputError:
            if home is not None:
                raise
        else:
            ledger: Ledger | Reader = Ledger.open(found) if write else Ledger.read(found)
            stack.enter_context(ledger)
            record = LedgerRecord(ledger, public)
        yield DetectorRegistry(folder, public, record)


def loaded(
    folder: Path, name: str, public: Path, home: str | Path | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return card and weights of the current version of a detector, as the monitor loads it."""
    with _registry(folder, public_key(public), home, write=False) as registry:
        return registry.load(name, now_s=_now_s())


def private_key(path: Path) -> DualKey:
    """Read a private key file that `write_key` wrote."""
    import msgspec

    from interlock.crypto.files import read_private
    from interlock.errors import InputError
    from interlock.monitor.signed import DualKey

    try:
        seeds = msgspec.json.decode(read_private(path) or b"", type=dict[str, str])
        first, second = (bytes.fromhex(seeds[name]) for name in ("ed25519", "ml_dsa_65"))
        if len(first) != 32 or len(second) != 32:
            raise ValueError("seeds of 32 bytes each")
    except (ValueError, KeyError) as error:
        raise InputError(
            f"key file {path.name} cannot be read",
            code="monitor-detector-key",
            got=type(error).__name__,  # never what is in it
            expected='{"ed25519": "<seed, hex>", "ml_dsa_65": "<seed, hex>"}, for its owner alone',
            fix="use the file that `interlock detector key` or `interlock firmware keys` wrote",
        ) from error
    return DualKey(first, second)


def write_key(path: Path) -> DualKey:
    """Make a key pair of each algorithm and write their seeds, for the owner alone."""
    import secrets

    import msgspec

    from interlock.crypto.files import write_private
    from interlock.monitor.signed import DualKey

    first, second = secrets.token_bytes(32), secrets.token_bytes(32)
    seeds = {"ed25519": first.hex(), "ml_dsa_65": second.hex()}
    write_private(path, msgspec.json.encode(seeds))
    return DualKey(first, second)


def _now_s() -> int:
    import time

    return int(time.time())


@click.group()
def command() -> None:
    """Release signed detectors, check them, go back a version, or bundle one for the edge."""


_PATH = click.Path(path_type=Path)
_FOLDER = click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
_NAME = click.argument("name")
_FILE = click.argument("file", type=_PATH)
_PUBLIC = click.option("--public", required=True, type=_PATH, help="Their public keys, JSON.")
_KEY = click.option("--key", required=True, type=_PATH, help="The owner's private key, JSON.")
_VERSION = click.option("--version", required=True, type=click.IntRange(1), help="Rises.")
_DAYS = click.option("--max-age-days", default=30, show_default=True, type=click.IntRange(1, 3650),
                     help="After so many days it does not load.")  # fmt: skip
_HOME = click.option("--home", type=_PATH, help="Home whose ledger has the versions on record.")


def _rows(file: Path) -> tuple[npt.NDArray[np.float64], tuple[str, ...]]:
    import numpy as np

    from interlock.cli.show import printable
    from interlock.monitor.ingest.files import read_frames

    frames = list(read_frames(file, say=lambda line: click.echo(printable(line), err=True)))
    if not frames:
        raise click.UsageError("there are no rows to learn from")
    return np.concatenate([f.original for f in frames]), frames[0].spec.channels


@command.command("key")
@click.argument("private", type=_PATH)
@click.argument("public", type=_PATH)
def make_key(private: Path, public: Path) -> None:
    """Make an owner's keys: PRIVATE to sign detectors with, PUBLIC to give to who loads them."""
    import msgspec

    from interlock.crypto.files import write_private

    for path in (private, public):
        if path.exists():
            raise click.UsageError(f"{path} exists; a key is never written over")
    keys = msgspec.to_builtins(write_key(private).public)
    write_private(public, msgspec.json.encode(keys), mode=0o644)
    click.echo(f"wrote {private}, for its owner alone, and {public}")


@command.command()
@_FOLDER
@_NAME
@_FILE
@_KEY
@_VERSION
@click.option("--owner", required=True, help="Who answers for it: a person or a team.")
@click.option("--purpose", required=True, help="What it watches.")
@click.option("--block", default=1024, show_default=True, help="Rows a summary.")
@_DAYS
@_HOME
def release(
    folder: Path,
    name: str,
    file: Path,
    key: Path,
    version: int,
    owner: str,
    purpose: str,
    block: int,
    max_age_days: int,
    home: Path | None,
) -> None:
    """Learn a detector for blocks on FILE, rows in control; validate, sign and release it."""
    import hashlib

    from interlock.monitor.learn import learn
    from interlock.monitor.registry import Card

    rows, channels = _rows(file)
    weights, validation = learn(rows, channels, block=block)
    signer = private_key(key)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    card = Card(
        name=name,
        version=version,
        owner=owner,
        purpose=purpose,
        training_data=f"{file.name}, SHA-256 {digest}",
        validation=validation,
        created_s=_now_s(),
        max_age_s=max_age_days * 86_400,
    )
    with _registry(folder, signer.public, home, write=True) as registry:
        registry.release(card, weights, signer)
    figures = ", ".join(f"{figure} {value:g}" for figure, value in validation.items())
    click.echo(f"{name} version {version} is current; validation: {figures}")


@command.command()
@_FOLDER
@_NAME
@_PUBLIC
@_HOME
def check(folder: Path, name: str, public: Path, home: Path | None) -> None:
    """Load the current version of NAME as the monitor would, and print its card."""
    card, _ = loaded(folder, name, public, home)
    for field in ("name", "version", "owner", "purpose", "training_data", "sha256"):
        click.echo(f"{field + ':':<15}{card[field]}")
    for figure, value in card["validation"].items():
        click.echo(f"{figure + ':':<15}{value}")


@command.command()
@_FOLDER
@_NAME
@_PUBLIC
@_KEY
@_HOME
def rollback(folder: Path, name: str, public: Path, key: Path, home: Path | None) -> None:
    """Make the version of NAME before the current one the current one."""
    with _registry(folder, public_key(public), home, write=True) as registry:
        version = registry.rollback(name, private_key(key), now_s=_now_s())
    click.echo(f"{name} is at version {version}")


@command.command()
@click.argument("folder", type=_PATH)
@_FILE
@_KEY
@_VERSION
@_DAYS
def bundle(folder: Path, file: Path, key: Path, version: int, max_age_days: int) -> None:
    """Learn a detector on FILE, rows in control, and write it to FOLDER for `monitor edge`."""
    from interlock.monitor.edge import export_bundle

    rows, _ = _rows(file)
    age_s = max_age_days * 86_400
    export_bundle(
        folder, rows, private_key(key), version=version, created_s=_now_s(), max_age_s=age_s
    )
    click.echo(f"wrote {folder}: version {version}, {rows.shape[1]} channels")
