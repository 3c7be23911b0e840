"""`interlock firmware`: release images, decide what a device may boot, check what it measured."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

    from interlock.monitor.firmware import Device, Image
    from interlock.monitor.firmware.repository import FirmwareRepository

__all__ = ["command"]

ONLINE = ("targets", "snapshot", "timestamp")


@click.group()
def command() -> None:
    """Release signed firmware, decide what a device may boot, check its measured boot.

    DEVICE is the folder in which a device keeps what it trusts and whether it is quarantined.
    """


_FILE = click.Path(path_type=Path)
_REPOSITORY = click.argument("repository", type=click.Path(path_type=Path, file_okay=False))
_DEVICE = click.argument("device", type=click.Path(path_type=Path, file_okay=False))
_KNOWN = click.argument("device", type=click.Path(path_type=Path, file_okay=False, exists=True))
_IMAGE = click.argument("image", type=_FILE)
_KEYS = click.option("--keys", required=True, type=click.Path(path_type=Path, file_okay=False),
                     help="Folder with a private key file a role.")  # fmt: skip


def _read(path: Path) -> bytes:
    from interlock.crypto.files import read_plain
    from interlock.errors import InputError
    from interlock.monitor.firmware.repository import MAX_IMAGE_BYTES

    try:
        return read_plain(path, max_bytes=MAX_IMAGE_BYTES)
    except OSError as error:
        raise InputError(
            f"file {path.name} cannot be read",
            code="monitor-firmware-file",
            got=str(error),
            expected=f"a plain file of at most {MAX_IMAGE_BYTES >> 20} MiB",
            fix="name the file",
        ) from error


@contextlib.contextmanager
def _stored(folder: Path) -> Iterator[None]:
    """Say what is wrong with the disk instead of showing a traceback."""
    from interlock.crypto.files import storage_error

    try:
        yield
    except OSError as error:
        raise storage_error(folder, error) from error


def _image(path: Path, name: str | None) -> Image:
    from interlock.monitor.firmware import Image

    name = path.name if name is None else name
    if not name or len(name) > 100 or "/" in name or not name.isprintable():
        raise click.UsageError(f"--name {name!r} is no name of a file")
    return Image(name=name, data=_read(path))


def _repository(folder: Path, keys: Path, roles: tuple[str, ...]) -> FirmwareRepository:
    """Open the repository with the keys of these roles, which its root has to know."""
    from interlock.cli.detector import private_key
    from interlock.errors import InputError
    from interlock.monitor.firmware.repository import FirmwareRepository

    held = {role: private_key(keys / f"{role}.json") for role in roles}
    repository = FirmwareRepository(folder, held)
    if unknown := repository.unknown():
        raise InputError(
            "the root of this repository does not know these keys",
            code="monitor-detector-key",
            got=f"the keys of {', '.join(unknown)} in {keys}",
            expected="the keys this repository was made with",
            fix="use their folder, or rotate the keys from Python",
        )
    return repository


def _device(folder: Path) -> Device:
    from interlock.monitor.firmware import Device
    from interlock.monitor.signed import DualPublic

    # No single manifests here, so no key that could sign one: what is current the root says.
    nobody = DualPublic(ed25519="", ml_dsa_65="")
    return Device(_name(folder), nobody, folder / "state.json")


def _name(device: Path) -> str:
    return device.resolve().name


@command.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
def keys(folder: Path) -> None:
    """Make the four roles' keys in FOLDER; move root.json to where nothing is online."""
    from interlock.cli.detector import write_key
    from interlock.monitor.firmware.repository import ROLES

    paths = [folder / f"{role}.json" for role in ROLES]
    for path in paths:
        if path.exists():
            raise click.UsageError(f"{path} exists; a key is never written over")
    with _stored(folder):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path in paths:
            write_key(path)
    click.echo(f"wrote {', '.join(p.name for p in paths)} to {folder}, for their owner alone")


@command.command()
@_REPOSITORY
@_IMAGE
@_KEYS
@click.option("--name", help="The image's name; its file's by default.")
def publish(repository: Path, image: Path, keys: Path, name: str | None) -> None:
    """Make IMAGE the current one of its name in REPOSITORY, which is made where there is none."""
    from interlock.monitor.firmware.repository import ROLES

    made = _image(image, name)
    first = repository / "metadata" / "1.root.json"
    with _stored(repository):
        _repository(repository, keys, ONLINE if first.exists() else ROLES).publish(made)
    click.echo(f"{made.name} is the current image; devices trust it by {first}")


@command.command()
@_REPOSITORY
@_KEYS
def refresh(repository: Path, keys: Path) -> None:
    """Sign a fresh timestamp; due every day, or devices refuse to boot.

    What else is in the last quarter of its term is signed again if its key is in --keys.
    """
    from interlock.monitor.firmware.repository import DAYS, ROLES

    if not (repository / "metadata" / "1.root.json").exists():
        raise click.UsageError(f"{repository} is no firmware repository; `publish` makes one")
    held = tuple(r for r in ROLES if r == "timestamp" or (keys / f"{r}.json").exists())
    with _stored(repository):
        opened = _repository(repository, keys, held)
        opened.refresh()
        left = opened.expiries()
    click.echo("signed a fresh timestamp, good for a day")
    for role, days in left.items():
        if role != "timestamp" and days < DAYS[role] / 4:
            said = f"in {days:.1f} days" if days > 0 else "already: devices refuse to boot"
            click.echo(f"the {role} statement runs out {said}; `refresh` with {role}.json in --keys"
                       " signs it again", err=True)  # fmt: skip


@command.command()
@_DEVICE
@_IMAGE
@click.option("--root", required=True, type=_FILE, help="The first root, built into the device.")
@click.option("--source", required=True,
              type=click.Path(path_type=Path, file_okay=False, exists=True),
              help="The owner's repository, or a copy of it.")  # fmt: skip
@click.option("--name", help="The image's name; its file's by default.")
def boot(device: Path, image: Path, root: Path, source: Path, name: str | None) -> None:
    """Say whether DEVICE may boot IMAGE; if not, it is quarantined."""
    import time

    from interlock.monitor.firmware.repository import FirmwareClient

    wanted = _image(image, name)
    first = _read(root)
    with _stored(device):
        client = FirmwareClient(device / "trusted", root=first, source=source)
        _device(device).boot(wanted, client, now_s=int(time.time()))
    click.echo(f"{wanted.name} is the current image: {_name(device)} may boot it")


@command.command()
@_KNOWN
@click.argument("measured", type=_FILE, nargs=-1, required=True)
@click.option("--quote", required=True, type=_FILE, help="What the TPM attested (TPMS_ATTEST).")
@click.option("--signature", required=True, type=_FILE, help="Its signature, ECDSA in DER.")
@click.option("--key", required=True, type=_FILE, help="The TPM's attestation key, PEM.")
@click.option("--nonce", required=True, help="The nonce the TPM was asked with, in hexadecimal.")
@click.option("--pcr", default=10, show_default=True, type=click.IntRange(0, 23),
              help="The register that was quoted.")  # fmt: skip
def attest(
    device: Path, measured: tuple[Path, ...], quote: Path, signature: Path, key: Path, nonce: str,
    pcr: int,
) -> int:  # fmt: skip
    """Check that DEVICE booted the files MEASURED, in this order; if not, it is quarantined.

    Exit code 9 when it did and is quarantined for something else.
    """
    from interlock.monitor.firmware import EventLog, Quote

    try:
        asked = bytes.fromhex(nonce)
    except ValueError:
        asked = b""
    if len(asked) < 8:
        raise click.UsageError("--nonce takes at least 8 bytes in hexadecimal")
    log = EventLog()
    for path in measured:
        log.measure(path.name, _read(path))
    answer = Quote(attest=_read(quote), signature=_read(signature))
    pem = _read(key)
    with _stored(device):
        found = _device(device)
        found.attest(answer, log, key_pem=pem, nonce=asked, pcr=pcr)
        reason = found.quarantined
    if reason is not None:
        click.echo(f"{_name(device)} booted what it should, and stays quarantined")
        return 9
    click.echo(f"{_name(device)} booted what it should")
    return 0


@command.command()
@_KNOWN
def status(device: Path) -> Any:
    """Say whether DEVICE is quarantined (exit code 9), and why."""
    from interlock.cli.show import printable

    reason = _device(device).quarantined
    click.echo("in service" if reason is None else f"quarantined: {printable(reason)}")
    return 0 if reason is None else 9


@command.command()
@_KNOWN
@click.argument("reason")
def quarantine(device: Path, reason: str) -> None:
    """Stop DEVICE until `lift`; REASON is shown to whoever asks."""
    if not reason.strip():
        raise click.UsageError("a quarantine needs a reason")
    with _stored(device):
        _device(device).quarantine(reason)
    click.echo(f"{_name(device)} boots nothing until `interlock firmware lift {device}`")


@command.command()
@_KNOWN
def lift(device: Path) -> None:
    """End DEVICE's quarantine: its owner's decision, once the cause is known."""
    found = _device(device)
    reason = found.quarantined
    if reason is None:
        raise click.UsageError(f"{_name(device)} is not quarantined")
    found.lift()
    click.echo(f"{_name(device)} is in service again")
