"""`interlock serve`: the gateway."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option("--home", type=click.Path(), help="Folder of ledger, state, keys, credentials.")
@click.option("--policy", type=click.Path(), help="Policy file or signed bundle.")
@click.option("--socket", "uds", type=click.Path(), help="Unix socket to listen on.")
@click.option("--host", default="", help="Address to listen on.")
@click.option("--port", default=8443, show_default=True, help="TCP port.")
@click.option("--cert", "certs", multiple=True, help="Name of a certificate from `certs issue`.")
@click.option("--client-ca", type=click.Path(), help="CA of client certificates.")
@click.option("--allow-classical", is_flag=True, help="Accept clients without post-quantum TLS.")
@click.option("--plain", is_flag=True, help="TCP without TLS, on loopback only.")
@click.option("--database", help="Database URL; SQLite in the home by default.")
@click.option("--workers", default=2, show_default=True, help="Jobs at once; 0 only queues.")
@click.option("--name", default="gateway", show_default=True, help="Name among several processes.")
@click.option("--no-local", is_flag=True, help="The Unix socket asks for credentials too.")
def command(
    home: str | None,
    policy: str | None,
    uds: str | None,
    host: str,
    port: int,
    certs: tuple[str, ...],
    client_ca: str | None,
    allow_classical: bool,
    plain: bool,
    database: str | None,
    workers: int,
    name: str,
    no_local: bool,
) -> None:
    """Run the gateway: it holds the credentials, and takes everybody's jobs (mode ENFORCED)."""
    from interlock import config
    from interlock.crypto.certs import KINDS
    from interlock.crypto.tls import Files
    from interlock.gateway.serve import Options, serve

    folder = config.home(home)
    found = [
        Files(chain=folder / "certs" / f"{n}-{k}.pem", key=folder / "certs" / f"{n}-{k}.key")
        for n in certs
        for k in KINDS
    ]
    serve(
        Options(
            home=folder,
            policy=policy,
            database=database,
            host=host,
            port=port,
            uds=Path(uds).absolute()
            if uds
            else (None if host else folder / "run" / "gateway.sock"),
            certificates=tuple(f for f in found if f.chain.exists()),
            client_authority=Path(client_ca) if client_ca else None,
            allow_classical=allow_classical,
            plain=plain,
            workers=workers,
            name=name,
            local=not no_local,
        )
    )
