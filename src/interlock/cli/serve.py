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
@click.option("--grpc-port", default=0, help="TCP port of gRPC; none by default.")
@click.option("--grpc-socket", type=click.Path(), help="Unix socket of gRPC.")
@click.option("--cert", "certs", multiple=True, help="Name of a certificate from `certs issue`.")
@click.option("--client-ca", type=click.Path(), help="CA of client certificates.")
@click.option("--allow-classical", is_flag=True, help="Accept clients without post-quantum TLS.")
@click.option("--plain", is_flag=True, help="TCP without TLS, on loopback only.")
@click.option(
    "--database",
    envvar="INTERLOCK_DATABASE_URL",
    show_envvar=True,
    help="Database URL; SQLite in the home by default.",
)
@click.option("--workers", default=2, show_default=True, help="Jobs at once; 0 only queues.")
@click.option("--name", default="gateway", show_default=True, help="Name among several processes.")
@click.option("--no-local", is_flag=True, help="The Unix socket asks for credentials too.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="What standard error gets, as JSON lines without secrets.",
)
def command(
    home: str | None,
    policy: str | None,
    uds: str | None,
    host: str,
    port: int,
    grpc_port: int,
    grpc_socket: str | None,
    certs: tuple[str, ...],
    client_ca: str | None,
    allow_classical: bool,
    plain: bool,
    database: str | None,
    workers: int,
    name: str,
    no_local: bool,
    log_level: str,
) -> None:
    """Run the gateway: it holds the credentials, and takes everybody's jobs (mode ENFORCED)."""
    from interlock import config
    from interlock.crypto.certs import KINDS
    from interlock.crypto.tls import Files
    from interlock.gateway import logs
    from interlock.gateway.serve import Options, serve

    folder = config.home(home)
    logs.install(folder, log_level)
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
            grpc_port=grpc_port,
            grpc_uds=Path(grpc_socket).absolute() if grpc_socket else None,
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
