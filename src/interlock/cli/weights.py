"""`interlock weights`: sign and check weights and chains of training checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from interlock.config import home as home_folder

_path = click.Path(path_type=Path)


def named_values(given: tuple[str, ...]) -> dict[str, Any]:
    """Return what `name=value` options say.

    Raises:
        UsageError: one has no `=` or no name, or a name is given twice.
    """
    from interlock.errors import UsageError

    pairs: dict[str, Any] = {}
    for fact in given:
        name, equals, value = fact.partition("=")
        if not equals or not name or name in pairs:
            raise UsageError(
                "a fact is a name and a value",
                code="weights-fact",
                got=repr(fact),
                expected="name=value, each name once",
                fix="write for instance loss=0.12",
            )
        pairs[name] = value
    return pairs


@click.group()
def command() -> None:
    """Sign and check weights (safetensors, ONNX) and chains of training checkpoints."""


@command.command()
@click.argument("folder", type=_path)
@click.option("--name", required=True, help="Name of the model.")
@click.option("--version", required=True, type=click.IntRange(min=0), help="Version, a number.")
@click.option("--parent", type=_path, help="Folder of the checkpoint before.")
@click.option("--fact", "facts", multiple=True, help="name=value to sign along, several times.")
@click.option("--replace", is_flag=True, help="Replace a signature that is there already.")
@click.option("--home", type=_path, help="Folder of the keys.")
def sign(
    folder: Path,
    name: str,
    version: int,
    parent: Path | None,
    facts: tuple[str, ...],
    replace: bool,
    home: Path | None,
) -> int:
    """Sign the weights in FOLDER with Ed25519 and ML-DSA-65, or what `keys use` chose."""
    from interlock.crypto.dsse import ArtefactSigner
    from interlock.crypto.keys import KeyStore
    from interlock.crypto.weights import SIGNATURE_FILE, sign_folder, verify_folder
    from interlock.errors import UsageError

    pairs = named_values(facts)
    if reserved := {"v", "version", "parent"} & set(pairs):
        raise UsageError(
            "this fact has an option of its own",
            code="weights-fact",
            got=", ".join(sorted(reserved)),
            expected="another name",
            fix="use --version and --parent",
        )
    if not replace and (folder / SIGNATURE_FILE).exists():
        raise UsageError(
            "these weights are signed already",
            code="weights-signed",
            got=str(folder / SIGNATURE_FILE),
            expected="a folder without a signature",
            fix="pass --replace to sign them anew; nothing was overwritten",
        )
    root = home_folder(home)
    signer = ArtefactSigner(KeyStore(root / "keys"))
    before = verify_folder(parent, signer.trusted).id if parent else None
    signed = sign_folder(folder, signer, name=name, version=version, parent=before, facts=pairs)
    keys = root / "artefact.keys"
    keys.write_text(signer.trusted_text())
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
    from interlock.cli.show import printable
    from interlock.crypto.dsse import read_keys
    from interlock.crypto.weights import verify_folder

    trusted = read_keys(keys or home_folder(home) / "artefact.keys")
    signed = verify_folder(folder, trusted, name=name, min_version=min_version)
    if as_json:
        facts = {"name": signed.name, "version": signed.version, "parent": signed.parent}
        click.echo(json.dumps({**facts, "id": signed.id, "files": dict(signed.digests)}, indent=1))
    else:
        text = f"OK: {signed.name} version {signed.version}, {len(signed.digests)} files"
        click.echo(printable(text))
    return 0


@command.command()
@click.argument("folders", type=_path, nargs=-1, required=True)
@click.option("--keys", type=_path, help="Trusted keys; those of the home by default.")
@click.option("--home", type=_path, help="Folder of the keys.")
def chain(folders: tuple[Path, ...], keys: Path | None, home: Path | None) -> int:
    """Check checkpoints, oldest first: each as signed, each the child of the one before."""
    from interlock.cli.show import printable
    from interlock.crypto.dsse import read_keys
    from interlock.crypto.weights import check_chain

    report = check_chain(folders, read_keys(keys or home_folder(home) / "artefact.keys"))
    for fault in report.faults:
        click.echo(printable(f"FAULT {fault.kind}: {fault.where}: {fault.detail}"))
    if report.ok:
        click.echo(f"OK: {len(report.checkpoints)} checkpoints, one history")
        return 0
    click.echo(f"last good checkpoint: {report.last_good or 'none'}")
    return 7
