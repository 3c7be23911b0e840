"""`interlock weights`: sign and check weights and chains of training checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from interlock.config import home as home_folder

_path = click.Path(path_type=Path)


@click.group()
def command() -> None:
    """Sign and check weights (safetensors, ONNX) and chains of training checkpoints."""


@command.command()
@click.argument("folder", type=_path)
@click.option("--name", required=True, help="Name of the model.")
@click.option("--version", required=True, type=click.IntRange(min=0), help="Version, a number.")
@click.option("--parent", type=_path, help="Folder of the checkpoint before.")
@click.option("--fact", "facts", multiple=True, help="name=value to sign along, several times.")
@click.option("--home", type=_path, help="Folder of the keys.")
def sign(
    folder: Path,
    name: str,
    version: int,
    parent: Path | None,
    facts: tuple[str, ...],
    home: Path | None,
) -> int:
    """Sign the weights in FOLDER with Ed25519 and ML-DSA-65."""
    from interlock.crypto.dsse import ArtefactSigner
    from interlock.crypto.keys import KeyStore
    from interlock.crypto.weights import sign_folder, verify_folder
    from interlock.errors import UsageError

    pairs: dict[str, Any] = dict(fact.partition("=")[::2] for fact in facts)
    if reserved := {"v", "version", "parent"} & set(pairs):
        raise UsageError(
            "this fact has an option of its own",
            code="weights-fact",
            got=", ".join(sorted(reserved)),
            expected="another name",
            fix="use --version and --parent",
        )
    root = home_folder(home)
    signer = ArtefactSigner(KeyStore(root / "keys"))
    before = verify_folder(parent, signer.public).id if parent else None
    signed = sign_folder(folder, signer, name=name, version=version, parent=before, facts=pairs)
    keys = root / "artefact.keys"
    keys.write_text(signer.public_text())
    click.echo(f"signed  {signed.name} version {signed.version}, {len(signed.digests)} files")
    click.echo(f"id      {signed.id}")
    click.echo(f"keys    {keys}")
    return 0


@command.command()
@click.argument("folder", type=_path)
@click.option("--keys", type=_path, help="Trusted keys; those of the home by default.")
@click.option("--name", help="Name of the model expected.")
@click.option("--min-version", default=0, help="Lowest version accepted.")
@click.option("--home", type=_path, help="Folder of the keys.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def verify(
    folder: Path,
    keys: Path | None,
    name: str | None,
    min_version: int,
    home: Path | None,
    as_json: bool,
) -> int:
    """Check that FOLDER holds exactly the weights that were signed."""
    from interlock.crypto.dsse import read_keys
    from interlock.crypto.weights import verify_folder

    trusted = read_keys(keys or home_folder(home) / "artefact.keys")
    signed = verify_folder(folder, trusted, name=name, min_version=min_version)
    if as_json:
        facts = {"name": signed.name, "version": signed.version, "parent": signed.parent}
        click.echo(json.dumps({**facts, "id": signed.id, "files": dict(signed.digests)}, indent=1))
    else:
        click.echo(f"OK: {signed.name} version {signed.version}, {len(signed.digests)} files")
    return 0


@command.command()
@click.argument("folders", type=_path, nargs=-1, required=True)
@click.option("--keys", type=_path, help="Trusted keys; those of the home by default.")
@click.option("--home", type=_path, help="Folder of the keys.")
def chain(folders: tuple[Path, ...], keys: Path | None, home: Path | None) -> int:
    """Check checkpoints, oldest first: each as signed, each the child of the one before."""
    from interlock.crypto.dsse import read_keys
    from interlock.crypto.weights import check_chain

    report = check_chain(folders, read_keys(keys or home_folder(home) / "artefact.keys"))
    for fault in report.faults:
        click.echo(f"FAULT {fault.kind}: {fault.where}: {fault.detail}")
    if report.ok:
        click.echo(f"OK: {len(report.checkpoints)} checkpoints, one history")
        return 0
    click.echo(f"last good checkpoint: {report.last_good or 'none'}")
    return 7
