"""The way to the gRPC server: TLS with a hybrid group and a share for each address.

grpcio bounds neither the connections of an address nor its key agreement. So it listens on a Unix
socket in a private folder, and this relay takes the connections, ends TLS and passes the bytes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from interlock.crypto.door import Door, end_surplus
from interlock.monitor.ingest import connections
from interlock.monitor.ingest.connections import CONNECTIONS, PER_PEER

__all__ = ["relay"]

_CHUNK = 65_536


class _Relay:
    def __init__(self, inner: Path, listener: socket.socket, context: Any) -> None:
        self._inner = str(inner)
        self._open: dict[asyncio.Task[None], str] = {}
        self._door = Door(listener, self._protocol, context=context)

    def _protocol(self) -> asyncio.Protocol:
        reader = asyncio.StreamReader(limit=_CHUNK)
        return asyncio.StreamReaderProtocol(reader, self._connected)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._pass(reader, writer))
        self._open[task] = str((writer.get_extra_info("peername") or ("",))[0])

        def ended(_: asyncio.Task[None]) -> None:
            self._open.pop(task, None)
            writer.transport.abort()  # here: a task that is cancelled at once never runs

        task.add_done_callback(ended)
        end_surplus(self._open, share=PER_PEER, most=CONNECTIONS)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ways: list[asyncio.Task[None]] = []
        forth: asyncio.StreamWriter | None = None
        try:
            back, forth = await asyncio.open_unix_connection(self._inner, limit=_CHUNK)
            heard = _Heard()
            ways += [
                asyncio.create_task(_pipe(a, b, heard))
                for a, b in ((reader, forth), (back, writer))
            ]
            while not any(way.done() for way in ways) and (left := heard.left_s()) > 0:
                await asyncio.wait(ways, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        except OSError:
            pass  # the server stops: the connection ends
        finally:
            for way in ways:
                way.cancel()
            if forth is not None:
                forth.transport.abort()
            await asyncio.gather(*ways, return_exceptions=True)

    async def run(self, stop: asyncio.Event) -> None:
        door = asyncio.create_task(self._door.run())
        await stop.wait()
        for task in (door, *self._open):
            task.cancel()
        await asyncio.gather(door, *self._open, return_exceptions=True)


class _Heard:
    """When a connection last said something, either way: one that is silent holds no place."""

    def __init__(self) -> None:
        self.at = time.monotonic()

    def left_s(self) -> float:
        return self.at + connections.HEAD_S - time.monotonic()


async def _pipe(source: asyncio.StreamReader, target: asyncio.StreamWriter, heard: _Heard) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(_CHUNK):
            heard.at = time.monotonic()
            target.write(data)
            await target.drain()


@contextlib.contextmanager
def relay(listener: socket.socket, inner: Path, context: Any) -> Iterator[None]:
    """Pass connections of a listening socket on to the Unix socket `inner`, in a thread.

    Args:
        listener: bound and listening.
        inner: the gRPC server's socket.
        context: TLS; None for plain loopback.
    """
    loop, stop = asyncio.new_event_loop(), asyncio.Event()

    def serve() -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(_Relay(inner, listener, context).run(stop))
        finally:
            loop.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        listener.close()
