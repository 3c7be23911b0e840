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
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def verify(
    context: click.Context,
    proof: Path | None,
    home: Path | None,
    keys: Path | None,
    policy: Path | None,
    as_json: bool,
) -> int:
    """Check a PROOF file, or without one the whole ledger like `interlock verify`."""
    from interlock.cli.verify import command as whole
    from interlock.ledger.check import check_proof

    if proof is None:
        result: int = context.invoke(whole, home=home, keys=keys, policy=policy, as_json=as_json)
        return result
    facts = check_proof(proof, keys or home_folder(home) / "ledger.vkeys", policy)
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
@_home
def rotate(home: Path | None) -> int:
    """Make new signing keys, endorsed by the old ones in an entry."""
    from interlock.ledger import Ledger, existing

    with Ledger.open(existing(home_folder(home))) as ledger:
        click.echo(f"generation {ledger.rotate()} of signing keys is in force")
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
