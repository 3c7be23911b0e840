"""`interlock detector`: check and roll back signed detectors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from interlock.monitor.registry import DetectorRegistry
    from interlock.monitor.signed import DualKey

__all__ = ["command"]


def _registry(folder: Path, public: Path) -> DetectorRegistry:
    import msgspec

    from interlock.errors import InputError
    from interlock.monitor.registry import DetectorRegistry
    from interlock.monitor.signed import DualPublic

    try:
        key = msgspec.json.decode(public.read_bytes(), type=DualPublic)
    except (OSError, msgspec.MsgspecError) as error:
        raise InputError(
            f"public key file {public.name} cannot be read",
            code="monitor-public-key",
            got=str(error),
            expected='{"ed25519": "<hex>", "ml_dsa_65": "<hex>"}',
            fix="ask the detectors' owner for the file",
        ) from error
    return DetectorRegistry(folder, key)


def _key(path: Path) -> DualKey:
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
            fix="use the key that the detectors are released with",
        ) from error
    return DualKey(first, second)


def _now_s() -> int:
    import time

    return int(time.time())


@click.group()
def command() -> None:
    """Check signed detectors, or go back to the version before."""


_FOLDER = click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
_NAME = click.argument("name")
_PUBLIC = click.option(
    "--public", required=True, type=click.Path(path_type=Path), help="Their public keys, JSON."
)


@command.command()
@_FOLDER
@_NAME
@_PUBLIC
def check(folder: Path, name: str, public: Path) -> None:
    """Load the current version of NAME as the monitor would, and print its card."""
    card, _ = _registry(folder, public).load(name, now_s=_now_s())
    for field in ("name", "version", "owner", "purpose", "training_data", "sha256"):
        click.echo(f"{field + ':':<15}{card[field]}")
    for figure, value in card["validation"].items():
        click.echo(f"{figure + ':':<15}{value}")


@command.command()
@_FOLDER
@_NAME
@_PUBLIC
@click.option("--key", required=True, type=click.Path(path_type=Path),
              help="The private key that signs which version is current, JSON.")  # fmt: skip
def rollback(folder: Path, name: str, public: Path, key: Path) -> None:
    """Make the version of NAME before the current one the current one."""
    version = _registry(folder, public).rollback(name, _key(key), now_s=_now_s())
    click.echo(f"{name} is at version {version}")
