"""`interlock bom`."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from interlock.cli.keys import existing_keys
from interlock.cli.weights import named_values
from interlock.config import home as home_folder

_path = click.Path(path_type=Path)


@click.command()
@click.argument("kind", type=click.Choice(["crypto", "software", "model"]))
@click.argument("folder", type=_path, required=False)
@click.option(
    "--keys", type=_path, help="Keys that signed the model; those of the home by default."
)
@click.option("--quantum", multiple=True, help="name=value of the quantum part, several times.")
@click.option("--home", type=_path, help="Folder of the keys.")
def command(
    kind: str, folder: Path | None, keys: Path | None, quantum: tuple[str, ...], home: Path | None
) -> int:
    """Print a bill of materials (CycloneDX 1.7): crypto, software, or of the model in FOLDER."""
    from interlock.crypto.bom import cbom, mlbom, sbom
    from interlock.crypto.dsse import read_keys
    from interlock.crypto.keys import KeyStore
    from interlock.crypto.weights import verify_folder

    now = datetime.now(UTC)
    document: dict[str, Any]
    if kind == "crypto":
        document = cbom(KeyStore(existing_keys(home)).inventory(), now)
    elif kind == "software":
        document = sbom(now)
    else:
        if folder is None:
            raise click.UsageError("give the folder of the signed model")
        trusted = read_keys(keys or home_folder(home) / "artefact.keys")
        document = mlbom(verify_folder(folder, trusted), now, named_values(quantum))
    click.echo(json.dumps(document, indent=1))
    return 0
