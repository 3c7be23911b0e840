"""The sockets of a listener: OTLP and Prometheus remote write over HTTP, OTLP over gRPC.

Both speak TLS with a hybrid post-quantum group, or plainly on loopback. A full buffer answers 503
with `retry-after` (gRPC: UNAVAILABLE), which exporters retry.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from interlock.crypto.door import doored
from interlock.crypto.tls import Files, HybridContext
from interlock.errors import InputError, InterlockError, SetupError, StorageError, UsageError
from interlock.monitor.ingest.connections import BODY_S, HEAD_S, Unproven, bounded_protocol
from interlock.monitor.ingest.receiver import LOGS, METRICS, REMOTE_WRITE, BusyError, Receiver
from interlock.monitor.ingest.relay import relay
from interlock.monitor.ingest.source import refusal
from interlock.monitor.ingest.sources import NAME

__all__ = ["grpc_listener", "http_listener"]

MAX_BODY = 16 << 20
#: a body that is read although nobody known can have sent it
SMALL_BODY = 64 << 10
PROTOBUF = "application/x-protobuf"
METHODS = {
    "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export": METRICS,
    "/opentelemetry.proto.collector.logs.v1.LogsService/Export": LOGS,
}


def _field(number: int, value: int | bytes) -> bytes:
    """Return one protobuf field: a number, or bytes."""

    def varint(n: int) -> bytes:
        out = bytearray()
        while n > 127:
            out.append(n & 127 | 128)
            n >>= 7
        return bytes([*out, n])

    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def _accepted(lost: int) -> bytes:
    """Return an Export...ServiceResponse: empty, or a partial success."""
    if not lost:
        return b""
    return _field(1, _field(1, lost) + _field(2, b"series this source did not register"))


def _status(error: InterlockError) -> int:
    if isinstance(error, BusyError | StorageError | SetupError):
        return 503
    return {"monitor-source": 401, "monitor-replay": 409}.get(error.code, 400)


async def _body(
    receive: Any, charge: Callable[[int], None] | None = None, most: int = MAX_BODY
) -> bytes:
    parts, size = [], 0
    while True:
        event = await receive()
        parts.append(event.get("body", b""))
        size += len(parts[-1])
        if charge:
            charge(len(parts[-1]))
        if size > most or event["type"] == "http.disconnect":
            raise InputError(
                "a request body is too large or cut",
                code="monitor-wire",
                got=f"{size} bytes",
                expected=f"at most {most} bytes",
                fix="send smaller batches",
            )
        if not event.get("more_body"):
            return b"".join(parts)


def _app(receiver: Receiver) -> Any:
    unproven = Unproven()

    async def taken(scope: Any, headers: dict[str, str], receive: Any) -> int:
        peer = str((scope.get("client") or ("",))[0])
        with contextlib.ExitStack() as stack:
            try:
                proven = receiver.claimed(headers)
            except InterlockError:
                with contextlib.suppress(InputError):  # what is small is read: an answer is heard
                    await _body(receive, most=SMALL_BODY)
                raise
            charge = None if proven else stack.enter_context(unproven.charged(peer))
            body = await _body(receive, charge)
            return await asyncio.to_thread(receiver.push, scope["path"], headers, body)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        path, more = scope["path"], []
        kind, _, form = headers.get("content-type", "").partition(";")
        if path not in (METRICS, LOGS, REMOTE_WRITE):
            status, reply = 404, b""
        elif scope["method"] != "POST":
            status, reply = 405, b""
        elif kind.strip() != PROTOBUF or (path == REMOTE_WRITE and "write.v2" in form):
            # Remote write 2.0 read as 1.0 is an empty message; told 415, a sender goes back to 1.0.
            status, reply = 415, b""
        else:
            try:
                lost = await taken(scope, headers, receive)
                status, reply = (204, b"") if path == REMOTE_WRITE else (200, _accepted(lost))
            except InterlockError as error:
                status = _status(error)
                # a google.rpc.Status: the message names the code and nothing of others
                reply = _field(2, f"{error.code}: {error.message}; {error.got}".encode()[:512])
                if isinstance(error, BusyError):
                    more = [(b"retry-after", b"1")]
        start = [(b"content-type", PROTOBUF.encode()), *more]
        await send({"type": "http.response.start", "status": status, "headers": start})
        await send({"type": "http.response.body", "body": reply})

    return app


def _check(host: str, certificates: tuple[Files, ...]) -> None:
    if not certificates and host not in ("127.0.0.1", "::1", "localhost"):
        raise UsageError(
            "without TLS a listener takes loopback only",
            code="monitor-listen-plain",
            got=host,
            expected="127.0.0.1, or a certificate",
            fix="interlock certs issue NAME --host HOST, then --cert NAME",
        )


def _extra(error: ImportError) -> SetupError:
    return SetupError(
        "listening for telemetry needs uvicorn, and grpcio for gRPC",
        code="monitor-extra",
        got=str(error),
        expected="the extra `monitor-listen`",
        fix="pip install 'interlock[monitor-listen]'",
    )


def _bound(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port))
    except OSError as error:
        raise SetupError(
            "the listener cannot take its address",
            code="monitor-listen-address",
            got=f"{host}:{port}: {error.strerror or error}",
            expected="a free port of this machine",
            fix="choose another --host or --port",
        ) from error


@contextlib.contextmanager
def http_listener(
    receiver: Receiver,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    certificates: tuple[Files, ...] = (),
) -> Iterator[int]:
    """Serve OTLP (`/v1/metrics`, `/v1/logs`) and remote write (`/api/v1/write`); give the port.

    Raises:
        UsageError: no certificate and not loopback.
        SetupError: the extra is missing, or the address is taken.
    """
    _check(host, certificates)
    try:
        import uvicorn
    except ImportError as error:
        raise _extra(error) from error
    receiver.warm()
    listener = _bound(host, port)
    context = HybridContext(certificates) if certificates else None
    server = doored(uvicorn.Server, listener, context)(
        uvicorn.Config(
            _app(receiver),
            http=bounded_protocol(),
            ws="none",
            lifespan="off",
            log_level="critical",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=64,
            timeout_graceful_shutdown=5,
        )
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": []}, daemon=True)
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.005)
        yield int(listener.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


@contextlib.contextmanager
def grpc_listener(
    receiver: Receiver,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    certificates: tuple[Files, ...] = (),
) -> Iterator[int]:
    """Serve OTLP over gRPC, for sources with a token; give the port.

    Raises:
        UsageError: no certificate and not loopback.
        SetupError: the extra is missing, or the address is taken.
    """
    _check(host, certificates)
    try:
        import grpc
    except ImportError as error:
        raise _extra(error) from error
    from concurrent.futures import ThreadPoolExecutor

    receiver.warm()

    codes = {
        503: grpc.StatusCode.UNAVAILABLE,
        401: grpc.StatusCode.UNAUTHENTICATED,
        409: grpc.StatusCode.ALREADY_EXISTS,
        400: grpc.StatusCode.INVALID_ARGUMENT,
    }

    def abort(context: Any, error: InterlockError) -> None:
        context.abort(codes[_status(error)], f"{error.code}: {error.message}; {error.got}")

    def handler(called: Any) -> Any:
        path = METHODS.get(called.method)
        if path is None:
            return None
        headers = {k: v for k, v in called.invocation_metadata if isinstance(v, str)}
        headers.pop("content-encoding", None)  # gRPC has unpacked the message
        try:
            if not receiver.claimed(headers):
                raise refusal(headers.get(NAME, ""), "no token: gRPC takes no signed requests")
        except InterlockError as error:
            refused = error  # as if the message were a stream: none of it is read
            return grpc.stream_unary_rpc_method_handler(lambda _, context: abort(context, refused))

        def call(body: bytes, context: Any) -> bytes:
            try:
                return _accepted(receiver.push(path, headers, body))
            except InterlockError as error:
                abort(context, error)
                raise

        return grpc.unary_unary_rpc_method_handler(call)

    class Handlers(grpc.GenericRpcHandler):  # type: ignore[misc, unused-ignore]
        def service(self, handler_call_details: Any) -> Any:
            return handler(handler_call_details)

    server = grpc.server(
        ThreadPoolExecutor(16),
        options=[
            ("grpc.max_receive_message_length", MAX_BODY),
            # A call whose message never comes holds a thread; exporters connect again.
            ("grpc.max_connection_age_ms", round(BODY_S * 1000)),
            ("grpc.max_connection_age_grace_ms", round(HEAD_S * 1000)),
            # One that asks nothing, too; the relay ends what answers no farewell.
            ("grpc.max_connection_idle_ms", round(HEAD_S * 800)),
            ("grpc.max_concurrent_streams", 4),
            ("grpc.server_handshake_timeout_ms", round(HEAD_S * 1000)),
        ],
        maximum_concurrent_rpcs=64,
    )
    server.add_generic_rpc_handlers([Handlers()])
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="interlock-")))
        inner = folder / "grpc.sock"
        server.add_insecure_port(f"unix:{inner}")
        listener = stack.enter_context(_bound(host, port))
        server.start()
        stack.callback(lambda: server.stop(2).wait(5))
        context = HybridContext(certificates, alpn="h2") if certificates else None
        stack.enter_context(relay(listener, inner, context))
        yield int(listener.getsockname()[1])
