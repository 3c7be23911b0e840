"""`interlock witness`."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import click


@click.command()
@click.option("--home", type=click.Path(path_type=Path), required=True, help="Keys and state.")
@click.option("--name", required=True, help="Name of the witness, like witness.example.org/w1.")
@click.option(
    "--log",
    "logs",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    help="Public keys of a ledger (its ledger.vkeys); several times for several ledgers.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8731, show_default=True, help="Port to listen on; 0 for any.")
def command(home: Path, name: str, logs: tuple[Path, ...], host: str, port: int) -> int:
    """Serve a witness (c2sp.org/tlog-witness) that cosigns only consistent checkpoints.

    Run it on another machine, under another administrator than the ledger: that is what it adds.
    """
    from interlock.ledger.identity import read_vkeys
    from interlock.ledger.witness import Witness, serve

    known = {}
    for path in logs:
        keys = read_vkeys(path)
        known[keys[0].name] = keys
    witness = Witness(home, name, known)
    server = serve(witness, host, port)
    address = f"http://{server.server_address[0]!s}:{server.server_address[1]}"
    # A process that is the first of its container ignores SIGTERM unless it says what to do.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    click.echo(f"witness {name} on {address}, keys in {home / 'witness.vkeys'}")
    try:
        server.serve_forever()
    finally:
        server.server_close()
    return 0
