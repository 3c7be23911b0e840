"""`interlock ledger`: heads, proofs, exports, witnesses, time-stamps, rotation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from interlock.config import home as home_folder

_home: Callable[[Any], Any] = click.option(
    "--home", type=click.Path(path_type=Path), help="Folder of the ledger."
)
_path = click.Path(path_type=Path)


@click.group()
def command() -> None:
    """Heads, proofs, exports, witnesses, time-stamps, rotation of keys."""


@command.command()
@_home
def head(home: Path | None) -> int:
    """Print a signed head of everything recorded (a C2SP checkpoint)."""
    from interlock.ledger import Ledger, existing

    with Ledger.open(existing(home_folder(home))) as ledger:
        click.echo(ledger.checkpoint(), nl=False)
    return 0


@command.command()
@click.argument("receipt")
@_home
def prove(receipt: str, home: Path | None) -> int:
    """Print a proof that RECEIPT is in the ledger (a C2SP tlog-proof)."""
    from interlock.ledger import Ledger, existing

    with Ledger.open(existing(home_folder(home))) as ledger:
        click.echo(str(ledger.prove(ledger.find(receipt).index)), nl=False)
    return 0


@command.command()
@click.argument("proof", type=_path, required=False)
@_home
@click.option("--keys", type=_path, help="Public keys to trust (a vkeys file).")
@click.option("--policy", type=_path, help="Witness policy (c2sp.org/tlog-policy).")
@click.option("--tsa-roots", type=_path, help="Root certificates, PEM: check time-stamps, too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def verify(
    context: click.Context,
    proof: Path | None,
    home: Path | None,
    keys: Path | None,
    policy: Path | None,
    tsa_roots: Path | None,
    as_json: bool,
) -> int:
    """Check a PROOF file, or without one the whole ledger like `interlock verify`."""
    from interlock.cli.verify import command as whole
    from interlock.errors import UsageError
    from interlock.ledger.check import check_proof

    if proof is None:
        result: int = context.invoke(
            whole, home=home, keys=keys, policy=policy, tsa_roots=tsa_roots, as_json=as_json
        )
        return result
    if tsa_roots is not None:
        raise UsageError(
            "a proof carries no time-stamps",
            code="proof-stamps",
            got=f"--tsa-roots with {proof}",
            expected="a proof alone, or --tsa-roots for the whole ledger",
            fix="run `interlock ledger verify --tsa-roots FILE` without PROOF",
        )
    facts = check_proof(proof, home_folder(home), keys, policy)
    if as_json:
        click.echo(json.dumps(facts, indent=1))
    else:
        click.echo(f"OK: entry {facts['index']} is in {facts['origin']}, {facts['size']} entries")
        click.echo(f"    cosigned by {', '.join(facts['witnesses']) or 'no witness asked for'}")
    return 0


@command.command()
@click.argument("folder", type=_path)
@_home
@click.option("--payloads", is_flag=True, help="Show payloads, not only headers.")
def export(folder: Path, home: Path | None, payloads: bool) -> int:
    """Write the whole ledger into FOLDER with a verifier that needs no Interlock."""
    from interlock.ledger import Ledger, existing
    from interlock.ledger.export import export as write

    with Ledger.open(existing(home_folder(home))) as ledger:
        counts = write(ledger, folder, lambda _entry: "payload" if payloads else "header")
    shown = ", ".join(f"{count} {how}" for how, count in counts.items())
    click.echo(f"wrote {folder}: {shown}; check it with `python {folder / 'verify.py'}`")
    return 0


@command.command()
@click.argument("url")
@click.option("--keys", type=_path, required=True, help="The witness's keys (witness.vkeys).")
@click.option("--timeout", default=10.0, show_default=True, help="Seconds for each answer.")
@_home
def witness(url: str, keys: Path, timeout: float, home: Path | None) -> int:
    """Have the witness at URL cosign the newest head."""
    from interlock.ledger import Ledger, existing
    from interlock.ledger.identity import read_vkeys

    with Ledger.open(existing(home_folder(home))) as ledger:
        click.echo(ledger.cosign(url, read_vkeys(keys), timeout_s=timeout), nl=False)
    return 0


@command.command()
@click.option("--tsa", required=True, help="Address of an RFC 3161 authority.")
@click.option("--roots", type=_path, required=True, help="Its root certificates, PEM.")
@_home
def anchor(tsa: str, roots: Path, home: Path | None) -> int:
    """Have a time-stamping authority stamp the newest head."""
    from interlock.ledger import Ledger, existing

    with Ledger.open(existing(home_folder(home))) as ledger:
        stamped = ledger.anchor(tsa, roots)
    click.echo(f"stamped at {stamped.time.isoformat()}")
    return 0


@command.command()
@click.option("--request", type=_path, help="Only write what the root has to sign to this file.")
@click.option("--authorised", type=_path, help="The root's authorisation of that request.")
@_home
def rotate(request: Path | None, authorised: Path | None, home: Path | None) -> int:
    """Make new signing keys, endorsed in an entry: by the root if there is one, or the old keys."""
    from interlock.ledger import Ledger, existing

    with Ledger.open(existing(home_folder(home))) as ledger:
        if request is not None:
            return _write(request, ledger.rotation_request())
        generation = ledger.rotate(_read(authorised))
        click.echo(f"generation {generation} of signing keys is in force")
    return 0


def _read(path: Path | None) -> bytes | None:
    from interlock.crypto.files import storage_error

    try:
        return None if path is None else path.read_bytes()
    except OSError as error:
        raise storage_error(path or Path(), error) from error


def _write(path: Path, data: bytes) -> int:
    from interlock.crypto.files import write_private

    write_private(path, data, mode=0o644)
    click.echo(f"wrote {path}; sign it where the root is: interlock ledger root sign")
    return 0


@command.group()
def root() -> None:
    """Two keys kept off this machine, without which signing keys cannot be replaced."""


@root.command()
@click.argument("folder", type=_path)
@click.option(
    "--keeper",
    type=click.Choice(["file", "passphrase", "pkcs11", "tpm"]),
    default="passphrase",
    show_default=True,
    help="What seals the keys, as in `interlock keys keep`.",
)
def make(folder: Path, keeper: str) -> int:
    """Make a root in FOLDER, on a machine or medium that stays offline."""
    from interlock.ledger.root import make_root

    make_root(folder, keeper)
    click.echo(f"made the root in {folder}; take {folder / 'root.pub'} to the ledger, only that")
    return 0


@root.command()
@click.argument("folder", type=_path)
@click.argument("request", type=_path)
@click.argument("authorisation", type=_path)
def sign(folder: Path, request: Path, authorisation: Path) -> int:
    """Sign REQUEST with the root in FOLDER; write the AUTHORISATION."""
    from interlock.crypto.files import write_private
    from interlock.ledger.root import authorise

    text = _read(request) or b""
    signed = authorise(folder, text)
    write_private(authorisation, signed, mode=0o644)
    click.echo(text.decode(), nl=False)
    click.echo(f"signed; take {authorisation} to the ledger")
    return 0


@root.command()
@click.argument("public", type=_path)
@click.option("--request", type=_path, help="Only write what the present root has to sign.")
@click.option("--authorised", type=_path, help="The present root's authorisation of that request.")
@_home
def enrol(public: Path, request: Path | None, authorised: Path | None, home: Path | None) -> int:
    """Put the root with the public keys PUBLIC in force; from here on it alone rotates keys."""
    from interlock.ledger import Ledger, existing
    from interlock.ledger.root import parse_root

    keys = parse_root((_read(public) or b"").decode("utf-8", "replace"))
    with Ledger.open(existing(home_folder(home))) as ledger:
        if request is not None:
            return _write(request, ledger.root_request(keys))
        number = ledger.enrol(keys, _read(authorised))
    click.echo(f"root {number} is in force")
    return 0


@command.command()
@click.argument("label")
@click.option("--months", type=click.IntRange(min=0), required=True, help="Whole months kept.")
@_home
def expire(label: str, months: int, home: Path | None) -> int:
    """End the retention of LABEL: destroy the keys of months older than --months."""
    from interlock.ledger import Ledger, existing

    with Ledger.open(existing(home_folder(home))) as ledger:
        receipts = ledger.expire(label, months)
    click.echo(f"{len(receipts)} data keys destroyed")
    return 0
