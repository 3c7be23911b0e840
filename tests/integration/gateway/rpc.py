"""A gRPC client of the tests: calls by name, plain values in and out."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import message_factory
from google.rpc import error_details_pb2, status_pb2

from interlock.gateway import gateway_pb2
from interlock.gateway.rpc import SERVICE, build_server, message_of, plain_of
from interlock.gateway.service import Gateway

METHODS = gateway_pb2.DESCRIPTOR.services_by_name["Gateway"].methods_by_name


def details(error: grpc.RpcError) -> tuple[str, dict[str, str]]:
    """The stable code in the status details, and what was got, expected, to be done."""
    raw = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin")
    assert raw is not None, error
    status = status_pb2.Status.FromString(raw)
    assert status.code == error.code().value[0]
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info.reason, dict(info.metadata)


class Rpc:
    def __init__(self, target: str, credentials: Any = None) -> None:
        self.channel = (
            grpc.secure_channel(target, credentials)
            if credentials
            else grpc.insecure_channel(target)
        )

    def raw(self, name: str, body: bytes, token: str = "", **options: Any) -> Any:
        method = METHODS[name]
        kind = self.channel.unary_stream if method.server_streaming else self.channel.unary_unary
        answers = message_factory.GetMessageClass(method.output_type)
        call = kind(f"/{SERVICE}/{name}", response_deserializer=answers.FromString)
        metadata = list(options.pop("metadata", ()))
        if token:
            metadata.append(("authorization", f"Bearer {token}"))
        reply = call(body, metadata=metadata, timeout=60, **options)
        if method.server_streaming:
            return [plain_of(m) for m in reply]
        return plain_of(reply)

    def __call__(self, name: str, asked: Any = None, token: str = "", **options: Any) -> Any:
        kind = message_factory.GetMessageClass(METHODS[name].input_type)
        return self.raw(name, message_of(kind, asked or {}).SerializeToString(), token, **options)

    def fails(self, name: str, asked: Any = None, token: str = "", **options: Any) -> Any:
        try:
            self(name, asked, token, **options)
        except grpc.RpcError as error:
            return error.code().name, details(error)[0]
        raise AssertionError(f"{name} was answered")


@contextmanager
def rpc_server(gateway: Gateway, folder: Path) -> Iterator[Rpc]:
    """Serve gRPC for a gateway on a Unix socket, in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> Any:
        server = build_server(gateway, None)
        server.add_insecure_port(f"unix:{folder}/grpc.sock")
        await server.start()
        return server

    server = asyncio.run_coroutine_threadsafe(start(), loop).result(30)
    client = Rpc(f"unix:{folder}/grpc.sock")
    try:
        yield client
    finally:
        client.channel.close()
        asyncio.run_coroutine_threadsafe(server.stop(1.0), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


def submission(job: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A job of REST as gRPC asks for it."""
    return json.loads(json.dumps(job)) | more
