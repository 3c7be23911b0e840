"""`interlock qkd`: keys from a key management entity, sealed updates, a simulated link."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from interlock.config import home as home_folder

_path = click.Path(path_type=Path)
_OPTIONS = (
    click.option("--kme", "url", help="https address of the KME."),
    click.option("--cert", "certificate", type=_path, help="Certificate of this SAE, PEM."),
    click.option("--key", "private_key", type=_path, help="Its private key, PEM."),
    click.option("--authority", type=_path, help="Authorities of the KME's certificate, PEM."),
)
_policy = click.option(
    "--policy",
    type=click.Choice(["required", "optional"]),
    required=True,
    help="required: without a QKD key nothing is done. optional: the signature decides, and what "
    "is missing is said.",
)


def _kme(function: Callable[..., int]) -> Callable[..., int]:
    @functools.wraps(function)
    def call(**values: Any) -> int:
        given = {n: values.pop(n) for n in ("url", "certificate", "private_key", "authority")}
        return function(client=_client(given), **values)

    for option in _OPTIONS:
        call = option(call)
    return call


def _client(given: dict[str, Any]) -> Any:
    from interlock.crypto.qkd.client import QkdClient

    if not any(given.values()):
        return None
    if missing := [name for name, value in given.items() if not value]:
        names = {"url": "--kme", "certificate": "--cert", "private_key": "--key"}
        wanted = ", ".join(names.get(name, "--" + name) for name in missing)
        raise click.UsageError(f"a KME needs {wanted} as well")
    return QkdClient(given.pop("url"), **given)


def _needed(client: Any) -> Any:
    if client is None:
        raise click.UsageError("name the KME: --kme, --cert, --key, --authority")
    return client


@click.group()
def command() -> None:
    """Keys from a QKD network (ETSI GS QKD 014), as a second layer beside the signatures."""


@command.command()
@click.argument("sae")
@_kme
def status(client: Any, sae: str) -> int:
    """Print what the KME says of the keys shared with SAE."""
    click.echo(json.dumps(_needed(client).status(sae), indent=1))
    return 0


@command.command()
@click.argument("sae")
@click.argument("folder", type=_path)
@click.option(
    "--number", default=1, show_default=True, type=click.IntRange(1, 1000), help="Keys to take."
)
@click.option(
    "--bits", default=256, show_default=True, type=click.IntRange(8), help="Size of each key."
)
@click.option("--id", "ids", multiple=True, help="Fetch these keys, which SAE took; each once.")
@_kme
def keys(client: Any, sae: str, folder: Path, number: int, bits: int, ids: tuple[str, ...]) -> int:
    """Take fresh keys to use towards SAE, or fetch those SAE took (--id), into FOLDER.

    Only ids are printed. Each key is a file that only you can read; use it once.
    """
    from interlock.crypto import files

    kme = _needed(client)
    files.private_dir(folder)
    found = kme.dec_keys(sae, list(ids)) if ids else kme.enc_keys(sae, number=number, size=bits)
    for one in found:
        # The id is the KME's word: it names no path.
        name = one.id if one.id.replace("-", "").isalnum() else one.id.encode().hex()
        files.write_private(folder / f"{name}.key", one.key)
        click.echo(one.id)
    return 0


@command.command()
@click.argument("file", type=_path)
@click.argument("sae")
@_policy
@_kme
@click.option("--home", type=_path, help="Folder of the signing keys.")
def seal(client: Any, file: Path, sae: str, policy: Any, home: Path | None) -> int:
    """Sign FILE and authenticate it with a QKD key shared with SAE; writes FILE.sealed."""
    from interlock.crypto import files
    from interlock.crypto.dsse import ArtefactSigner
    from interlock.crypto.keys import KeyStore
    from interlock.crypto.qkd.update import seal_update

    data = _read(file)
    root = home_folder(home)
    signer = ArtefactSigner(KeyStore(root / "keys"))
    (root / "artefact.keys").write_text(signer.public_text())
    envelope = seal_update(data, {"name": file.name}, signer, kme=client, slave=sae, policy=policy)
    target = file.with_name(file.name + ".sealed")
    files.write_private(target, envelope.encode(), mode=0o644)
    click.echo(f"sealed  {target}, public keys {root / 'artefact.keys'}")
    _tell(_absence(envelope))
    return 0


@command.command("open")
@click.argument("file", type=_path)
@click.argument("sae")
@click.option("--keys", type=_path, required=True, help="The sender's public keys.")
@_policy
@_kme
def open_(client: Any, file: Path, sae: str, keys: Path, policy: Any) -> int:
    """Check FILE against FILE.sealed, which SAE made."""
    from interlock.crypto.dsse import read_keys
    from interlock.crypto.qkd.update import open_update

    envelope = _read(file.with_name(file.name + ".sealed")).decode("utf-8", "replace")
    opened = open_update(
        _read(file), envelope, read_keys(keys), kme=client, master=sae, policy=policy
    )
    click.echo(f"signed  {json.dumps(dict(opened.header))}")
    _tell(opened.qkd)
    return 0


def _absence(envelope: str) -> str:
    import base64

    body = json.loads(base64.b64decode(json.loads(envelope)["payload"]))
    return "used" if body["qkd"] else f"absent: {body['qkd_absent']}"


def _tell(state: str) -> None:
    """Say what became of the QKD layer; loudly when it is not there."""
    there = state in ("used", "verified")
    click.echo(f"qkd     {state}" if there else f"WARNING: no QKD layer: {state}", err=not there)


def _read(path: Path) -> bytes:
    from interlock.crypto.files import read_plain, storage_error

    try:
        return read_plain(path, max_bytes=None)
    except OSError as error:
        raise storage_error(path, error) from error


@command.command()
@click.argument("protocol", type=click.Choice(["bb84", "e91"]), default="bb84")
@click.option(
    "--pulses",
    default=100_000,
    show_default=True,
    type=click.IntRange(1, 10_000_000),
    help="Photons or pairs sent.",
)
@click.option(
    "--transmission",
    default=0.5,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Share that arrives.",
)
@click.option(
    "--noise",
    default=0.01,
    show_default=True,
    type=click.FloatRange(0, 0.5),
    help="Error rate of the link.",
)
@click.option(
    "--intercept",
    default=0.0,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Share measured and sent on.",
)
@click.option("--seed", type=int, help="Repeat a run.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def simulate(protocol: str, seed: int | None, as_json: bool, **settings: Any) -> int:
    """Simulate a link with an eavesdropper; 1 when it aborts. Gives bits, never a key."""
    import numpy as np

    from interlock.crypto.qkd import link

    run = link.simulate_bb84 if protocol == "bb84" else link.simulate_e91
    result = run(link.LinkSettings(**settings), np.random.default_rng(seed))
    if as_json:
        document = {
            "label": result.label,
            "protocol": protocol,
            "sifted": result.sifted,
            "qber": result.qber,
            "qber_bound": result.qber_bound,
            "chsh": result.chsh,
            "aborted": result.aborted or None,
            "simulated_bits": int(result.bits.size),
        }
        click.echo(json.dumps(document, indent=1))
        return int(bool(result.aborted))
    click.echo(f"SIMULATION of {protocol}: the bits are no key")
    click.echo(f"sifted     {result.sifted}")
    click.echo(f"QBER       {result.qber:.4f}, at most {result.qber_bound:.4f} in the rest")
    if result.chsh is not None:
        click.echo(f"S          {result.chsh:.3f}")
    if result.aborted:
        click.echo(f"ABORTED    {result.aborted}")
        return 1
    click.echo(f"left       {result.bits.size} simulated bits after privacy amplification")
    return 0
