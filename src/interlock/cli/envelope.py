"""`interlock envelope`: encrypt files to a key and open them."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import click

from interlock.config import home as home_folder

_path = click.Path(path_type=Path)
_home = click.option("--home", type=_path, help="Folder of the keys.")
_SUITES = ["x25519-mlkem768", "cnsa"]  # of crypto.suites, which a test holds it against
_suite = click.option(
    "--suite",
    type=click.Choice(_SUITES),
    help="Algorithms, those of the home by default; cnsa is ML-KEM-1024 with SHA-384.",
)


@click.group()
def command() -> None:
    """Encrypt files to a key and open them: X25519 + ML-KEM-768, AES-256-GCM."""


@command.command()
@_suite
@_home
def key(suite: str | None, home: Path | None) -> int:
    """Print the public key of this home, making it the first time."""
    from interlock.crypto.keys import KeyStore
    from interlock.crypto.suites import chosen

    suite = suite or chosen(home_folder(home), "envelopes")
    private = KeyStore(home_folder(home) / "keys").kem_key(f"envelope-{suite}", suite)
    click.echo(f"{suite}:{base64.b64encode(private.public_bytes).decode()}")
    return 0


@command.command()
@click.argument("source", type=_path)
@click.argument("target", type=_path)
@click.option("--to", type=_path, help="File with the recipient's key; this home's by default.")
@click.option("--context", required=True, help="What the data is; needed again to open it.")
@click.option(
    "--suite",
    type=click.Choice(_SUITES),
    help="Algorithms, those of the home by default; with --to those of that key, or refused.",
)
@_home
def seal(
    source: Path, target: Path, to: Path | None, context: str, suite: str | None, home: Path | None
) -> int:
    """Encrypt the file SOURCE into the new file TARGET."""
    from interlock.crypto.envelope import seal_stream
    from interlock.crypto.kem import parse_public
    from interlock.crypto.keys import KeyStore
    from interlock.crypto.replace import new_file, reading
    from interlock.crypto.suites import chosen
    from interlock.errors import UsageError

    if to is None:
        store = KeyStore(home_folder(home) / "keys")
        name = suite or chosen(home_folder(home), "envelopes")
        recipient = store.kem_key(f"envelope-{name}", name).public()
    else:
        with reading(to) as lines:
            recipient = parse_public(lines.read(1 << 16))
    if suite not in (None, recipient.suite):
        raise UsageError(
            "the recipient's key is of another suite; nothing was sealed",
            code="envelope-suite",
            got=f"a key of {recipient.suite}",
            expected=f"a key of {suite}",
            fix=f"ask for their key: interlock envelope key --suite {suite}",
        )
    with reading(source) as plain, new_file(target) as out:
        seal_stream(plain, out, recipient, context=context)
    click.echo(f"sealed {os.fspath(target)} with {recipient.suite}")
    return 0


@command.command("open")
@click.argument("source", type=_path)
@click.argument("target", type=_path)
@click.option("--context", required=True, help="What the data is, as it was sealed.")
@click.option("--suite", type=click.Choice(_SUITES), help="Refuse an envelope of another suite.")
@_home
def open_(source: Path, target: Path, context: str, suite: str | None, home: Path | None) -> int:
    """Decrypt the file SOURCE into the new file TARGET; nothing is left of a changed one."""
    from interlock.crypto.envelope import open_stream, suite_of
    from interlock.crypto.keys import KeyStore
    from interlock.crypto.replace import new_file, reading
    from interlock.errors import UsageError

    with reading(source) as sealed, new_file(target) as out:
        found = suite_of(sealed)  # its own, whatever the home has chosen since
        if suite not in (None, found):
            raise UsageError(
                "the envelope is of another suite; it was not opened",
                code="envelope-suite",
                got=found,
                expected=str(suite),
                fix="leave out --suite to open it all the same",
            )
        private = KeyStore(home_folder(home) / "keys").kem_key(f"envelope-{found}", found)
        for piece in open_stream(sealed, private, context=context):
            out.write(piece)
    click.echo(f"opened {os.fspath(target)}")
    return 0
