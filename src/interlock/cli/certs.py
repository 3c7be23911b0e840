"""`interlock certs`: issue, show and rotate certificates."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def command() -> None:
    """Issue, show and rotate certificates."""


@command.command()
@click.argument("name")
@click.option("--host", "hosts", multiple=True, help="Name or address of a server; repeatable.")
@click.option("--workload", default="", help="TENANT/KIND/ID that a client speaks as.")
@click.option(
    "--kind",
    type=click.Choice(["ml-dsa-65", "ecdsa-p256"]),
    default="ml-dsa-65",
    help="ML-DSA for services, ECDSA for browsers.",
)
@click.option(
    "--days",
    type=click.FloatRange(min=0.01, max=825),
    default=7.0,
    show_default=True,
    help="Lifetime; rotation is to issue it again.",
)
@click.option("--home", type=click.Path(), help="Folder of ledger, state and keys.")
def issue(
    name: str, hosts: tuple[str, ...], workload: str, kind: str, days: float, home: str | None
) -> None:
    """Issue a certificate NAME, or issue it again: the old one is replaced."""
    from interlock import config
    from interlock.crypto import files
    from interlock.crypto.certs import Authority, expires

    authority = Authority(files.private_dir(config.home(home)) / "certs")
    made = authority.issue(name, kind=kind, hosts=hosts, workload=workload, days=days)
    click.echo(f"certificate {made.chain}\nkey         {made.key}")
    click.echo(f"trust       {authority.bundle_file()}\nexpires     {expires(made).isoformat()}")


@command.command()
@click.option(
    "--left",
    type=click.FloatRange(min=0.0, max=1.0),
    default=1 / 3,
    help="Renew what has less than this share of its lifetime left; a third by default.",
)
@click.option("--home", type=click.Path(), help="Folder of ledger, state and keys.")
def rotate(left: float, home: str | None) -> None:
    """Issue anew what is about to end; a gateway that runs takes it up by itself."""
    from interlock import config
    from interlock.crypto import files
    from interlock.crypto.certs import Authority, expires

    done = Authority(files.private_dir(config.home(home)) / "certs").rotate(left=left)
    for made in done:
        click.echo(f"{expires(made).isoformat()}  {made.chain.name}")
    click.echo(f"{len(done)} renewed")


@command.command()
@click.option("--home", type=click.Path(), help="Folder of ledger, state and keys.")
def show(home: str | None) -> None:
    """Show every certificate and when it ends."""
    from interlock import config
    from interlock.crypto.certs import expires
    from interlock.crypto.tls import Files

    for chain in sorted((config.home(home) / "certs").glob("*.pem")):
        end = expires(Files(chain=chain, key=Path()))
        click.echo(f"{end.isoformat()}  {chain.name}")
