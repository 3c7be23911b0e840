"""Putting the gateway together and serving it, on TLS and on a Unix socket."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from interlock.access.identity import Issuer
from interlock.access.store import kept_in, open_database
from interlock.crypto import files
from interlock.crypto.certs import Authority, hosts
from interlock.crypto.door import doored
from interlock.crypto.tls import Files, HybridContext
from interlock.errors import InterlockError, PolicyError, SetupError, UsageError
from interlock.gateway import otlp, runs
from interlock.gateway.broker import Broker
from interlock.gateway.caps import SANDBOX
from interlock.gateway.engine import DbosEngine
from interlock.gateway.logs import FACTS, log
from interlock.gateway.retention import Sweeper, settings_of
from interlock.gateway.service import Gateway
from interlock.gateway.store import GatewayStore
from interlock.gateway.work import Worker
from interlock.guard.jobs import local_principal
from interlock.guard.policy import Policy, load_policy, parse_yaml
from interlock.guard.service import Guard
from interlock.types import Mode

__all__ = ["Options", "running", "serve"]


#: Running jobs get so long to end.
DRAIN_S = 60.0
#: How often certificates are looked at.
RENEW_S = 60.0
#: TLS handshakes under way: of one address (a proxy is one), and of all.
SHARES = {"share": 256, "most": 512}
#: Seconds a connection may take to send the headers of its first request.
HEAD_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a gateway is run.

    Attributes:
        home: folder of ledger, state, keys, credentials.
        policy: policy file or bundle.
        database: URL of the queue's database; SQLite in the home by default.
        host: address to listen on; empty for none.
        port: TCP port.
        grpc_port: TCP port of gRPC; 0 for none.
        uds: path of the Unix socket; None for none.
        grpc_uds: path of gRPC's Unix socket; None for none.
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
    grpc_port: int = 0
    uds: Path | None = None
    grpc_uds: Path | None = None
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


def isolation_of(policy: Policy) -> str:
    """Return the level of isolation that the policy asks for."""
    for bound in policy.controls("execute"):
        if bound.id == "isolation" and bound.control is not None:
            return str(bound.settings.minimum)
    return "none"


@contextlib.contextmanager
def running(options: Options) -> Iterator[tuple[Gateway, DbosEngine | None]]:
    """Put a gateway together, with its engine running, and take it apart again."""
    home = files.private_dir(options.home)
    with contextlib.ExitStack() as parts:  # taken apart in the opposite order
        lock = runs.hold(home, options.name)
        parts.callback(os.close, lock)
        run = options.name if SANDBOX in os.environ else ""
        policy = load_policy(options.policy)
        guard = Guard(policy=policy, home=home, mode=Mode.ENFORCED)
        parts.callback(guard.close)
        if sandbox := os.environ.get(SANDBOX):
            told = msgspec.json.decode(sandbox)
            guard.ledger.append("sandbox", {"level": str(told["level"])}, told)
        url = options.database or f"sqlite:///{home / 'gateway.db'}"
        store = GatewayStore(open_database(url), guard.ledger, run=run)
        # The controls of the path look revocations and approvals up in the same database.
        access = parts.enter_context(kept_in(home, options.database))
        broker = Broker(home, isolation_of(policy))
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
        if run:
            runs.settle(home, store, "")
            parts.callback(runs.settle, home, store, run)
        exporting = otlp.Exporting(options.name) if otlp.wanted() else None
        if exporting is not None:
            parts.callback(exporting.close)
        engine: DbosEngine | None = None
        if options.workers:
            worker = Worker(guard, broker, store, exporting.traces if exporting else None)
            steps = options.database or f"sqlite:///{home / 'steps.db'}"
            engine = DbosEngine(
                store=store, run=worker.run, url=steps, threads=options.workers, name=options.name
            )
            parts.callback(engine.drain, DRAIN_S)
            engine.start()
            gateway.on_submit.append(engine.wake.set)
        if exporting is not None:
            exporting.start(gateway)
        if kept := settings_of(policy):
            parts.callback(Sweeper(store, guard.ledger, kept).close)
        yield gateway, engine


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
            self.begin = self.loop.call_later(HEAD_S, self.late)

        def late(self) -> None:
            cycle: Any = self.cycle
            if cycle is None:  # no request yet: what says nothing holds no place
                self.transport.abort()

        def connection_lost(self, exc: Exception | None) -> None:
            self.begin.cancel()
            super().connection_lost(exc)

    return Protocol


def _check(options: Options) -> None:
    if options.host and not options.certificates and not options.plain:
        raise SetupError(
            "a gateway on the network needs a certificate",
            code="serve-no-certificate",
            got=f"{options.host}:{options.port}",
            expected="--cert",
            fix="interlock certs issue gateway --host NAME",
        )
    if options.plain and options.host not in ("", "127.0.0.1", "::1", "localhost"):
        raise UsageError(
            "without TLS the gateway listens on loopback only",
            code="serve-plain",
            got=options.host,
            expected="127.0.0.1",
            fix="give --cert, or listen on 127.0.0.1",
        )


def _unix(path: Path) -> socket.socket:
    files.private_dir(path.parent)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    path.chmod(0o600)
    listener.listen(128)
    return listener


def _context(options: Options, gateway: Gateway, alpn: str = "") -> HybridContext | None:
    def group(name: str, client: str) -> None:
        gateway.count("tls", name)
        gateway.guard.ledger.append("tls", {"group": name}, {"client": client})

    if options.plain:
        return None
    made = HybridContext(
        options.certificates,
        client_authority=options.client_authority,
        allow_classical=options.allow_classical,
        on_handshake=group,
        alpn=alpn,
    )
    threading.Thread(
        target=_renew, args=(options, made), name="interlock-certs", daemon=True
    ).start()
    return made


def _renew(options: Options, context: HybridContext) -> None:
    """Rotate the certificates that this home's own CA issued, and take up what is new."""
    folder = options.home / "certs"
    own = [f.chain for f in options.certificates if f.chain.parent == folder]
    while True:
        with contextlib.suppress(InterlockError, OSError):
            if own:
                Authority(folder).rotate()
            context.renew()
        time.sleep(RENEW_S)


def _server(config: Any, listener: socket.socket, context: HybridContext | None) -> Any:
    """Return an HTTP server that leaves signals alone, and bounds TLS handshakes.

    uvicorn's own raises the signal again once it has stopped, which would end the process before
    the running jobs have ended and the ledger has signed its head.
    """
    import uvicorn

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    return doored(Server, listener, context, **SHARES)(config) if context else Server(config)


def _rest(
    options: Options, gateway: Gateway, listeners: list[tuple[socket.socket, bool]]
) -> list[tuple[Any, list[socket.socket]]]:
    """Return the HTTP servers, each with the listeners that it takes connections from itself."""
    import uvicorn

    from interlock.gateway.rest import build_app

    app = build_app(gateway)
    servers = []
    for listener, on_socket in listeners:
        context = None if on_socket else _context(options, gateway)
        config = uvicorn.Config(
            app,
            http=_protocol(on_socket),
            lifespan="off",
            log_config=None,  # uvicorn's own handlers would pass the redactor by
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=20,
            limit_concurrency=2000,
        )
        server = _server(config, listener, context)
        servers.append((server, [] if context else [listener]))
    return servers


@contextlib.asynccontextmanager
async def _grpc(options: Options, gateway: Gateway) -> AsyncIterator[None]:
    """Serve gRPC meanwhile, where it was asked for."""
    if not options.grpc_port and options.grpc_uds is None:
        yield
        return
    from interlock.gateway.front import Front
    from interlock.gateway.rpc import build_server

    servers: list[Any] = []
    async with contextlib.AsyncExitStack() as stack:
        if options.grpc_uds is not None:
            files.private_dir(options.grpc_uds.parent)
            servers.append(build_server(gateway, None))
            servers[-1].add_insecure_port(f"unix:{options.grpc_uds}")
            stack.callback(options.grpc_uds.unlink, missing_ok=True)
        if options.grpc_port:
            inner = files.private_dir(options.home / "run") / f"grpc-{os.getpid()}.sock"
            front = Front(inner, _context(options, gateway, alpn="h2"), **SHARES)
            # What the certificates say we are called; without TLS that is loopback.
            found = [name for pair in options.certificates for name in hosts(pair)]
            names = frozenset(found or ("localhost", "127.0.0.1", "::1"))
            servers.append(build_server(gateway, front.peers, names))
            servers[-1].add_insecure_port(f"unix:{inner}")
            stack.callback(inner.unlink, missing_ok=True)
            await front.listen(socket.create_server((options.host, options.grpc_port)))
            stack.push_async_callback(front.close)
        for server in servers:
            await server.start()
            stack.push_async_callback(server.stop, 20.0)
        yield


def _listening(options: Options) -> dict[str, str]:
    found = {
        "name": options.name,
        "rest": f"{options.host}:{options.port}" if options.host else "",
        "grpc": f"{options.host}:{options.grpc_port}" if options.grpc_port else "",
        "socket": str(options.uds or ""),
    }
    return {k: v for k, v in found.items() if v}


def serve(options: Options, started: threading.Event | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then drain."""
    import asyncio

    try:
        import uvloop
    except ImportError as error:
        raise SetupError(
            "the gateway needs its extra",
            code="extra-missing",
            got=str(error),
            expected="fastapi, uvicorn, httptools, uvloop, grpcio",
            fix="pip install 'interlock[gateway]'",
        ) from error
    _check(options)
    files.private_dir(options.home)
    listeners: list[tuple[socket.socket, bool]] = []
    if options.host:
        listeners.append((socket.create_server((options.host, options.port)), False))
    if options.uds is not None:
        listeners.append((_unix(options.uds), True))
    with running(options) as (gateway, _engine):
        servers = _rest(options, gateway, listeners)
        # What is here now stays: without this, looking it all through stops every request for
        # 60 to 120 ms of CPU, each time the collector does.
        gc.collect()
        gc.freeze()

        async def main() -> None:
            stop = asyncio.Event()
            with contextlib.suppress(ValueError, RuntimeError):  # not in the main thread
                for number in (signal.SIGTERM, signal.SIGINT):
                    asyncio.get_running_loop().add_signal_handler(number, stop.set)
            async with _grpc(options, gateway):
                tasks = [asyncio.create_task(s.serve(sockets=at)) for s, at in servers]
                while not any(t.done() for t in tasks) and not all(s.started for s, _ in servers):
                    await asyncio.sleep(0.01)
                if started is not None:
                    started.set()
                log.info("serving", extra={FACTS: _listening(options)})
                asked = asyncio.create_task(stop.wait())
                await asyncio.wait([asked, *tasks], return_when=asyncio.FIRST_COMPLETED)
                asked.cancel()
                gateway.ready = False
                log.info("draining")
                for server, _ in servers:
                    server.should_exit = True
                await asyncio.gather(*tasks)

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())
        gc.unfreeze()
    for listener, _ in listeners:
        listener.close()
    if options.uds is not None:
        options.uds.unlink(missing_ok=True)
