"""`interlock governor`: limits signed by a person, held by a process of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from interlock import config
from interlock.errors import InputError, RefusedError

HOME = click.option("--home", type=click.Path(), help="Folder of ledger, state and keys.")
KEYS = click.option("--keys", type=click.Path(), required=True, help="The person's key folder.")


@click.group()
def command() -> None:
    """Sign a risk appetite, serve it out of process, override it by two people."""


def _load(path: str) -> Any:
    import msgspec

    try:
        return msgspec.json.decode(Path(path).read_bytes())
    except (OSError, msgspec.DecodeError) as error:
        raise InputError(
            "the document cannot be read",
            code="governor-document",
            got=f"{path}: {error}",
            expected="JSON",
            fix="see docs/how-to/govern-orders.md",
        ) from error


def _save(path: Path, value: Any) -> None:
    import msgspec

    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_suffix(".new")
    fresh.write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n")
    fresh.replace(path)


@command.command()
@click.argument("name")
@KEYS
def key(name: str, keys: str) -> None:
    """Print the public keys of NAME, made the first time, to hand to the administrator."""
    import msgspec

    from interlock.crypto.keys import KeyStore
    from interlock.guard.govern.governor.appetite import public_keys

    public = public_keys(KeyStore(Path(keys)), name)
    click.echo(msgspec.json.encode({name: public}).decode())


@command.command()
@click.argument("public", type=click.Path(exists=True))
@HOME
def trust(public: str, home: str | None) -> None:
    """Trust the people whose public keys are in the file PUBLIC."""
    from interlock.guard.govern.governor.server import folder

    path = folder(config.home(home)) / "signers.json"
    known = _load(str(path)) if path.exists() else {}
    fresh = _load(public)
    for name, keys in fresh.items():
        if known.get(name, keys) != keys:
            raise InputError(
                f"{name} is trusted with other keys already",
                code="governor-signer",
                got="new keys",
                expected="the keys on file",
                fix=f"take {name} out of {path} on purpose first",
            )
    _save(path, {**known, **fresh})
    click.echo("trusted: " + ", ".join(sorted({**known, **fresh})))


@command.command()
@click.argument("document", type=click.Path(exists=True))
@click.option("--as", "name", required=True, help="Who signs.")
@KEYS
@click.option(
    "--kind",
    type=click.Choice(["appetite", "override"]),
    required=True,
    help="What the document is.",
)
@click.option("--out", type=click.Path(), required=True, help="Where to write it.")
def sign(document: str, name: str, keys: str, kind: str, out: str) -> None:
    """Sign DOCUMENT (a body, or one that others signed) as a named person."""
    import msgspec

    from interlock.crypto.keys import KeyStore
    from interlock.guard.govern.governor import appetite

    raw = _load(document)
    others = raw.get("signatures", {}) if isinstance(raw, dict) and "body" in raw else {}
    body = raw["body"] if isinstance(raw, dict) and "body" in raw else raw
    struct = appetite.Appetite if kind == "appetite" else appetite.Override
    try:
        checked: Any = msgspec.convert(body, struct, strict=True)
    except msgspec.ValidationError as error:
        raise InputError(
            f"this is no {kind}",
            code="governor-document",
            got=str(error),
            expected=f"the keys of {struct.__name__}",
            fix="see docs/how-to/govern-orders.md",
        ) from error
    _save(Path(out), appetite.sign(KeyStore(Path(keys)), name, checked, others))
    click.echo(f"signed by {', '.join(sorted({*others, name}))}")


@command.command()
@HOME
def serve(home: str | None) -> None:
    """Hold the limits until the process is ended; nothing passes while it is not there."""
    from interlock.guard.govern.governor.server import Governor
    from interlock.guard.govern.governor.server import serve as run
    from interlock.ledger import Ledger

    where = config.home(home)

    def record(what: dict[str, Any], names: tuple[str, ...]) -> None:
        kind = next(iter(what))
        ledger = Ledger.open(where)
        try:
            ledger.append(kind, {"signed_by": ", ".join(names)}, what).wait(10.0)
        finally:
            ledger.close()

    governor = Governor(where, record=record)
    signed = ", ".join(governor.signed_by)
    appetite = governor.engine.appetite
    try:
        run(
            governor,
            lambda: click.echo(
                f"governing {appetite.name} v{appetite.version}, signed by {signed}"
            ),
        )
    finally:
        governor.close()


def _ask(home: str | None, message: dict[str, Any]) -> dict[str, Any]:
    from interlock.guard.govern.governor.client import Client

    answer = Client(config.home(home), "admin", timeout_s=15.0).ask(message)
    if not answer.get("ok"):
        raise RefusedError(
            "the governor refused",
            code="governor-refused",
            got=str(answer.get("why")),
            expected="a document it can take",
            fix="see docs/how-to/govern-orders.md",
        )
    return answer


@command.command()
@HOME
def status(home: str | None) -> None:
    """Print limits in use as JSON."""
    import msgspec

    click.echo(msgspec.json.encode(_ask(home, {"status": True})).decode())


@command.command()
@click.argument("document", type=click.Path(exists=True))
@HOME
def override(document: str, home: str | None) -> None:
    """Raise a limit for a time, by a DOCUMENT two overriders signed. It goes on the ledger."""
    answer = _ask(home, {"override": _load(document)})
    click.echo(f"in force for {answer['until_s']:g} s")


@command.command()
@click.argument("document", type=click.Path(exists=True))
@HOME
def adopt(document: str, home: str | None) -> None:
    """Take a newer signed appetite without a restart."""
    from interlock.guard.govern.governor.server import folder

    signed = _load(document)
    _ask(home, {"appetite": signed})
    _save(folder(config.home(home)) / "appetite.json", signed)
    click.echo("adopted")
