"""Putting the gateway together and serving it, on TLS and on a Unix socket."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from interlock.access.identity import Issuer
from interlock.access.store import AccessStore, open_database, store_of
from interlock.crypto import files
from interlock.crypto.tls import Files, HybridContext
from interlock.errors import PolicyError, SetupError, UsageError
from interlock.gateway.broker import Broker
from interlock.gateway.engine import DbosEngine
from interlock.gateway.service import Gateway
from interlock.gateway.store import GatewayStore
from interlock.gateway.work import Worker
from interlock.guard.policy import load_policy, parse_yaml
from interlock.guard.service import Guard, local_principal
from interlock.types import Mode

__all__ = ["Options", "running", "serve"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a gateway is run.

    Attributes:
        home: folder of ledger, state, keys, credentials.
        policy: policy file or bundle.
        database: URL of the queue's database; SQLite in the home by default.
        host: address to listen on; empty for none.
        port: TCP port.
        uds: path of the Unix socket; None for none.
        certificates: of the TLS listener.
        client_authority: CA of client certificates.
        allow_classical: accept classical key agreement.
        plain: serve TCP without TLS, on loopback only.
        workers: jobs at once; 0 only queues.
        name: of this process among several on one database.
        local: whether the owner of the home may use the Unix socket without a credential.
    """

    home: Path
    policy: str | None = None
    database: str | None = None
    host: str = ""
    port: int = 8443
    uds: Path | None = None
    certificates: tuple[Files, ...] = ()
    client_authority: Path | None = None
    allow_classical: bool = False
    plain: bool = False
    workers: int = 2
    name: str = "gateway"
    local: bool = True


def issuers_of(home: Path) -> tuple[Issuer, ...]:
    """Read `identity.yaml`: the identity providers that are trusted."""
    path = home / "identity.yaml"
    if not path.exists():
        return ()
    try:
        raw = parse_yaml(path.read_text("utf-8"), str(path))
        return tuple(msgspec.convert(raw["issuers"], list[Issuer]))
    except (OSError, KeyError, TypeError, msgspec.ValidationError) as error:
        raise PolicyError(
            "the list of identity providers is wrong",
            code="identity-file",
            got=f"{type(error).__name__}: {error}",
            expected="issuers: [{issuer: ..., audience: ..., jwks_uri: ...}]",
            fix=f"mend {path}",
        ) from error


@contextlib.contextmanager
def running(options: Options) -> Iterator[tuple[Gateway, DbosEngine | None]]:
    """Put a gateway together, with its engine running, and take it apart again."""
    home = files.private_dir(options.home)
    lock = os.open(home / f"gateway-{options.name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    engine: DbosEngine | None = None
    guard: Guard | None = None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(
                f"a gateway named {options.name!r} runs on this home",
                code="gateway-runs",
                got=str(home),
                expected="one process for each name",
                fix="stop it, or give this one another --name",
            ) from error
        policy = load_policy(options.policy)
        guard = Guard(policy=policy, home=home, mode=Mode.ENFORCED)
        url = options.database or f"sqlite:///{home / 'gateway.db'}"
        store = GatewayStore(open_database(url))
        access = AccessStore(open_database(url)) if options.database else store_of(home)
        broker = Broker(home)
        gateway = Gateway(
            home=home,
            policy=policy,
            guard=guard,
            store=store,
            access=access,
            broker=broker,
            issuers=issuers_of(home),
            local=local_principal() if options.local else None,
        )
        if options.workers:
            worker = Worker(guard, broker, store)
            steps = options.database or f"sqlite:///{home / 'steps.db'}"
            engine = DbosEngine(
                store=store, run=worker.run, url=steps, threads=options.workers, name=options.name
            )
            engine.start()
            gateway.on_submit.append(engine.wake.set)
        yield gateway, engine
    finally:
        if engine is not None:
            engine.drain(60.0)
        if guard is not None:
            guard.close()
        os.close(lock)


def _protocol(on_socket: bool) -> type:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    class Protocol(HttpToolsProtocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            shown = transport.get_extra_info("ssl_object")
            state: dict[str, Any] = {**self.app_state, "on_socket": on_socket}
            if shown is not None and hasattr(shown, "workload"):
                state |= {"tls": shown.workload(), "group": shown.group}
            self.app_state = state

    return Protocol


def _always(context: HybridContext) -> Any:
    return lambda _config, _default: context


def _listen(options: Options) -> list[tuple[socket.socket, bool]]:
    listeners: list[tuple[socket.socket, bool]] = []
    if options.host:
        if not options.certificates and not options.plain:
            raise SetupError(
                "a gateway on the network needs a certificate",
                code="serve-no-certificate",
                got=f"{options.host}:{options.port}",
                expected="--cert",
                fix="interlock certs issue gateway --host NAME",
            )
        if options.plain and options.host not in ("127.0.0.1", "::1", "localhost"):
            raise UsageError(
                "without TLS the gateway listens on loopback only",
                code="serve-plain",
                got=options.host,
                expected="127.0.0.1",
                fix="give --cert, or listen on 127.0.0.1",
            )
        listeners.append((socket.create_server((options.host, options.port)), False))
    if options.uds is not None:
        files.private_dir(options.uds.parent)
        options.uds.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(options.uds))
        options.uds.chmod(0o600)
        listener.listen(128)
        listeners.append((listener, True))
    return listeners


def serve(options: Options, started: threading.Event | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then drain."""
    try:
        import uvicorn

        from interlock.gateway.rest import build_app
    except ImportError as error:
        raise SetupError(
            "the gateway needs its extra",
            code="extra-missing",
            got=str(error),
            expected="fastapi, uvicorn, httptools",
            fix="pip install 'interlock[gateway]'",
        ) from error
    import asyncio

    files.private_dir(options.home)
    listeners = _listen(options)
    with running(options) as (gateway, _engine):
        app = build_app(gateway)

        def group(name: str, client: str) -> None:
            gateway.count("tls", name)
            gateway.guard.ledger.append("tls", {"group": name}, {"client": client})

        servers = []
        for _, on_socket in listeners:
            context = None
            if not on_socket and not options.plain:
                context = HybridContext(
                    options.certificates,
                    client_authority=options.client_authority,
                    allow_classical=options.allow_classical,
                    on_handshake=group,
                )
            config = uvicorn.Config(
                app,
                http=_protocol(on_socket),
                loop="asyncio" if on_socket else "auto",
                lifespan="off",
                log_level="warning",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=20,
                limit_concurrency=2000,
                ssl_context_factory=_always(context) if context else None,
            )
            servers.append(uvicorn.Server(config))

        async def main() -> None:
            tasks = [
                asyncio.create_task(server.serve(sockets=[listener]))
                for server, (listener, _) in zip(servers, listeners, strict=True)
            ]
            while not all(s.started or t.done() for s, t in zip(servers, tasks, strict=True)):
                await asyncio.sleep(0.01)
            if started is not None:
                started.set()
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            gateway.ready = False
            for server in servers:
                server.should_exit = True
            await asyncio.gather(*tasks)

        asyncio.run(main())
    if options.uds is not None:
        options.uds.unlink(missing_ok=True)
