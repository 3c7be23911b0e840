"""`interlock zones`."""

from __future__ import annotations

from pathlib import Path

import click

_flows = click.option(
    "--flows", type=click.Path(path_type=Path), help="Flow file; the shipped one by default."
)


@click.group()
def command() -> None:
    """Which process may talk to which: one file, and the firewalls made from it."""


@command.command()
def show() -> int:
    """Print the shipped flow file, to begin with."""
    from interlock.gateway.zones.flows import SHIPPED

    click.echo(SHIPPED.read_text("utf-8"), nl=False)
    return 0


@command.command()
@_flows
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write to.")
def render(flows: Path | None, out: Path) -> int:
    """Write systemd units, nftables rules and Kubernetes NetworkPolicies."""
    from interlock.crypto import files
    from interlock.gateway.zones.flows import load
    from interlock.gateway.zones.render import render as made

    found = made(load(flows))
    for name, text in found.items():
        try:
            (out / name).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise files.storage_error(out, error) from error
        files.write_private(out / name, text.encode(), mode=0o644)
    click.echo(f"wrote {len(found)} files to {out}")
    return 0


@command.command()
@_flows
@click.option(
    "--rendered", type=click.Path(path_type=Path), help="Files in use: each must be as made now."
)
def check(flows: Path | None, rendered: Path | None) -> int:
    """Check a flow file, and whether the files in use still follow from it.

    Exit code 3 when the flow file is wrong, 7 when a file in use differs.
    """
    from interlock.gateway.zones.flows import load
    from interlock.gateway.zones.render import render as made

    found = load(flows)
    click.echo(
        f"OK: {len(found.zones)} zones, {len(found.places)} places, {len(found.flows)} flows"
    )
    if rendered is None:
        return 0
    expected = made(found)
    there = {
        str(p.relative_to(rendered))
        for folder in ("kubernetes", "nftables", "systemd")
        for p in (rendered / folder).glob("*")
    }
    wrong = sorted(there - set(expected))
    for name in sorted(expected):
        path = rendered / name
        if not path.is_file() or path.read_bytes() != expected[name].encode():
            wrong.append(name)
    for name in wrong:
        click.echo(f"DIFFERS {name}")
    return 7 if wrong else 0
