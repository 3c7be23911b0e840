"""The gRPC interface: the calls of `interlock.gateway.calls`, in the messages of gateway.proto.

A refused call ends with the gRPC status that fits, and carries `google.rpc.Status` with an
`ErrorInfo`: its `reason` is the stable code, its metadata what was got, expected and to be done.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import grpc
import msgspec
from google.protobuf import any_pb2, message_factory
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from interlock.access.identity import Credentials, Identity, UnauthenticatedError
from interlock.errors import InputError, InterlockError, InternalError
from interlock.gateway import gateway_pb2
from interlock.gateway.calls import (
    Approval,
    Calls,
    JobName,
    JobQuery,
    NamedTenantSettings,
    ReceiptName,
    ResultRequest,
    Revocation,
    StageName,
    converted,
)
from interlock.gateway.errors import LimitedError, status_of
from interlock.gateway.service import Gateway
from interlock.gateway.wire import MAX_BODY

__all__ = ["SERVICE", "build_server", "message_of", "plain_of"]

_DESCRIPTOR: Any = gateway_pb2.DESCRIPTOR.services_by_name["Gateway"]
SERVICE: str = _DESCRIPTOR.full_name
_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.ALREADY_EXISTS,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
}
MAX_CALLS = 2000
Peers = Mapping[str, tuple[str, str]]


def plain_of(message: Any) -> Any:
    """Return a message as plain values: what is not set is left out, `x_json` is read as `x`.

    Raises:
        InputError: a `_json` field holds none.
    """
    if message.DESCRIPTOR.name == "Row":
        return list(message.numbers)
    out: dict[str, Any] = {}
    for field, value in message.ListFields():
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            out[field.name] = dict(value)
        elif field.message_type is not None:
            out[field.name] = [plain_of(v) for v in value]
        elif field.name.endswith("_json"):
            try:
                out[field.name.removesuffix("_json")] = msgspec.json.decode(value)
            except (msgspec.DecodeError, RecursionError) as error:
                raise InputError(
                    "the request cannot be read",
                    code="request-format",
                    got=f"{field.name}: {error}"[:300],
                    expected="JSON",
                    fix="see docs/reference/gateway.md",
                ) from error
        else:
            out[field.name] = list(value) if field.is_repeated else value
    return out


def message_of(kind: Any, plain: Mapping[str, Any]) -> Any:
    """Return plain values as a message of a class; the inverse of `plain_of`."""
    fields: dict[str, Any] = {}
    for field in kind.DESCRIPTOR.fields:
        value = plain.get(field.name.removesuffix("_json"))
        if value is None:
            continue
        if field.name.endswith("_json"):
            fields[field.name] = json.dumps(value)
        elif field.message_type is None or field.message_type.GetOptions().map_entry:
            fields[field.name] = value
        else:
            inner = message_factory.GetMessageClass(field.message_type)
            row = field.message_type.name == "Row"
            fields[field.name] = [inner(numbers=v) if row else message_of(inner, v) for v in value]
    return kind(**fields)


async def _refuse(context: Any, error: InterlockError) -> None:
    facts = {k: str(v) for k, v in error.as_dict().items() if k in ("got", "expected", "fix") and v}
    info = error_details_pb2.ErrorInfo(reason=error.code, domain="interlock", metadata=facts)
    details = [any_pb2.Any()]
    details[0].Pack(info)
    if isinstance(error, LimitedError):
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(int(error.retry_after_s * 1000))
        details.append(any_pb2.Any())
        details[1].Pack(retry)
    code = _CODES[status_of(error)]
    status = status_pb2.Status(code=code.value[0], message=error.message, details=details)
    trailing = (("grpc-status-details-bin", status.SerializeToString()),)
    await context.abort(code, error.message, trailing_metadata=trailing)


class _Service:
    """One method for each call: takes who asks and plain values, returns plain values."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.calls = Calls(gateway)

    async def submit(self, who: Identity, asked: dict[str, Any], trace: str) -> dict[str, Any]:
        key = asked.pop("idempotency_key", "")
        view, new = await self.gateway.submit(who, msgspec.json.encode(asked), key, trace)
        return {**view, "created": new}

    async def get_job(self, who: Identity, asked: Any) -> dict[str, Any]:
        return await self.calls.job(who, converted(asked, JobName))

    async def list_jobs(self, who: Identity, asked: Any) -> dict[str, Any]:
        return await self.calls.jobs(who, converted(asked, JobQuery))

    def watch(self, who: Identity, asked: Any) -> AsyncIterator[dict[str, Any]]:
        return self.calls.watch(who, converted(asked, JobName))

    async def get_result(
        self, who: Identity, asked: Any, again: Callable[[], Awaitable[Identity]]
    ) -> dict[str, Any]:
        outcome = await self.calls.result(who, converted(asked, ResultRequest), again)
        return {"pending": outcome is None, "outcome": outcome}

    async def cancel(self, who: Identity, asked: Any) -> dict[str, Any]:
        return await self.calls.cancel(who, converted(asked, JobName))

    async def get_receipt(self, who: Identity, asked: Any) -> dict[str, Any]:
        return await self.calls.receipt(who, converted(asked, ReceiptName))

    async def list_backends(self, who: Identity, _: Any) -> dict[str, Any]:
        return await self.calls.backends(who)

    async def list_approvals(self, who: Identity, _: Any) -> dict[str, Any]:
        return await self.calls.approvals(who)

    async def approve(self, who: Identity, asked: Any) -> dict[str, Any]:
        return {"statement": await self.calls.approve(who, converted(asked, Approval))}

    async def revoke(self, who: Identity, asked: Any) -> dict[str, Any]:
        return await self.calls.revoke(who, converted(asked, Revocation))

    async def enter_stage(self, who: Identity, asked: Any) -> dict[str, Any]:
        return await self.calls.enter(who, converted(asked, StageName))

    async def get_policy(self, who: Identity, _: Any) -> dict[str, Any]:
        return await self.calls.policy(who)

    async def get_tenant(self, who: Identity, _: Any) -> dict[str, Any]:
        return await self.calls.tenant(who)

    async def set_tenant(self, who: Identity, asked: Any) -> dict[str, Any]:
        wanted = converted(asked, NamedTenantSettings)
        return await self.calls.set_tenant(who, wanted.name, wanted)

    async def get_ledger(self, who: Identity, _: Any) -> dict[str, Any]:
        return await self.calls.ledger(who)


def _snake(name: str) -> str:
    return "".join("_" + c.lower() if c.isupper() else c for c in name).lstrip("_")


class _Handlers:
    def __init__(self, gateway: Gateway, peers: Peers | None, hosts: frozenset[str]) -> None:
        self.gateway = gateway
        self.service = _Service(gateway)
        self.peers = peers
        self.hosts = hosts

    def credentials(self, context: Any, path: str) -> Credentials:
        """Return what a call carries; a connection that no listener vouches for carries nothing."""
        told = {k: v for k, v in context.invocation_metadata() or () if isinstance(v, str)}
        uri = digest = ""
        if self.peers is not None:
            known = self.peers.get(context.peer())
            if known is None:
                raise UnauthenticatedError(
                    "who asks could not be shown",
                    code="unauthenticated",
                    got="a connection that no listener of the gateway vouches for",
                    expected="a call through the TLS listener",
                    fix="connect to the gateway's gRPC port",
                )
            uri, digest = known
        return Credentials(
            authorization=told.get("authorization", ""),
            dpop=told.get("dpop", ""),
            method="POST",
            url=path,
            hosts=self.hosts,
            certificate_uri=uri,
            certificate_sha256=digest,
        )

    async def who(self, context: Any, path: str) -> Identity:
        return await self.service.calls.who(
            self.credentials(context, path), on_socket=self.peers is None
        )

    async def guarded(self, context: Any, work: Callable[[], Awaitable[Any]]) -> Any:
        try:
            return await work()
        except InterlockError as error:
            await _refuse(context, error)
        except (grpc.aio.AbortError, GeneratorExit):
            raise
        except Exception as error:  # noqa: BLE001 - told without what it holds
            self.gateway.fault(error, "gRPC")
            await _refuse(
                context,
                InternalError(
                    "the gateway failed",
                    code="gateway-fault",
                    got=type(error).__name__,
                    expected="an answer",
                    fix="tell the operator the time and the call",
                ),
            )

    def read(self, kind: Any, raw: bytes) -> Any:
        try:
            return plain_of(kind.FromString(raw))
        except DecodeError as error:
            raise InputError(
                "the request cannot be read",
                code="request-format",
                got=f"{len(raw)} B that are no {kind.DESCRIPTOR.name}",
                expected="a message of gateway.proto",
                fix="generate the client from the gateway's own proto file",
            ) from error

    def method(self, described: Any) -> Any:
        """Return the handler of one method of the service's description."""
        path = f"/{SERVICE}/{described.name}"
        asks = message_factory.GetMessageClass(described.input_type)
        answers = message_factory.GetMessageClass(described.output_type)

        async def unary(raw: bytes, context: Any) -> Any:
            async def work() -> Any:
                if described.name == "Health":
                    return answers(ready=await self.service.calls.ready())
                who = await self.who(context, path)
                asked = self.read(asks, raw)
                more: list[Any] = []
                if described.name == "Submit":
                    told = dict(context.invocation_metadata() or ())
                    more = [str(told.get("traceparent", ""))]
                if described.name == "GetResult":
                    more = [lambda: self.who(context, path)]
                return message_of(
                    answers, await getattr(self.service, _snake(described.name))(who, asked, *more)
                )

            return await self.guarded(context, work)

        async def stream(raw: bytes, context: Any) -> Any:
            async def work() -> None:
                who = await self.who(context, path)
                async for view in self.service.watch(who, self.read(asks, raw)):
                    await context.write(message_of(answers, view))

            await self.guarded(context, work)

        # The raw bytes come here, so that what cannot be read is the caller's fault, not ours.
        make = (
            grpc.unary_stream_rpc_method_handler
            if described.server_streaming
            else grpc.unary_unary_rpc_method_handler
        )
        handler = stream if described.server_streaming else unary
        return make(handler, response_serializer=answers.SerializeToString)


def build_server(
    gateway: Gateway, peers: Peers | None, hosts: frozenset[str] = frozenset({"localhost"})
) -> Any:
    """Return a gRPC server on the running event loop, without a listener.

    Args:
        gateway: what it serves.
        peers: connection -> (SPIFFE id, certificate digest), kept by the TLS listener; every other
            connection is refused. None for a Unix socket that only its owner can reach.
        hosts: names under which it is called, of which a DPoP proof must name one.
    """
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", MAX_BODY + 65_536),
            ("grpc.max_metadata_size", 32_768),
            ("grpc.so_reuseport", 0),
        ],
        maximum_concurrent_rpcs=MAX_CALLS,
    )
    handlers = _Handlers(gateway, peers, hosts)
    methods = {m.name: handlers.method(m) for m in _DESCRIPTOR.methods}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    return server
