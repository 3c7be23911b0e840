"""The TLS listener of gRPC: hybrid key agreement, as for REST, which grpcio cannot enforce itself.

It ends TLS with the gateway's own context and hands the bytes to the gRPC server over a Unix
socket in a private folder. Each connection has a name of its own there, under which the server
finds the client certificate that this listener has verified.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
from pathlib import Path
from typing import Any

from interlock.crypto.door import Door
from interlock.crypto.tls import HybridContext

__all__ = ["Front"]

_CHUNK = 65_536


class Front:
    """Takes TLS connections for a gRPC server.

    Args:
        inner: the server's Unix socket.
        context: TLS; None for plain loopback.
        shares: bounds on handshakes under way, as `crypto.door.Door` has them.
    """

    def __init__(self, inner: Path, context: HybridContext | None, **shares: int) -> None:
        self._inner = str(inner)
        self._context, self._shares = context, shares
        #: name of a connection -> SPIFFE id and digest of its client certificate.
        self.peers: dict[str, tuple[str, str]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._listener: socket.socket | None = None
        self._door: asyncio.Task[None] | None = None

    async def listen(self, listener: socket.socket) -> None:
        """Begin to take connections."""
        self._listener = listener
        door = Door(listener, self._protocol, context=self._context, **self._shares)
        self._door = asyncio.create_task(door.run())

    def _protocol(self) -> asyncio.Protocol:
        reader = asyncio.StreamReader(limit=_CHUNK)
        return asyncio.StreamReaderProtocol(reader, self._connected)

    async def close(self) -> None:
        """Take no more connections and end those that are open."""
        ending = (*self._tasks, self._door) if self._door is not None else tuple(self._tasks)
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        if self._listener is not None:
            self._listener.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        shown = writer.get_extra_info("ssl_object")
        name = f"interlock-{os.getpid()}-{secrets.token_hex(16)}"
        self.peers[f"unix-abstract:{name}"] = shown.workload() if shown is not None else ("", "")
        try:
            inner = socket.socket(socket.AF_UNIX)
            inner.bind("\0" + name)
            inner.setblocking(False)
            await asyncio.get_running_loop().sock_connect(inner, self._inner)
            back, forth = await asyncio.open_unix_connection(sock=inner, limit=_CHUNK)
            try:
                ways = [
                    asyncio.create_task(_pipe(reader, forth)),
                    asyncio.create_task(_pipe(back, writer)),
                ]
                try:
                    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for way in ways:
                        way.cancel()
                    await asyncio.gather(*ways, return_exceptions=True)
            finally:
                forth.close()
        except OSError:
            pass  # the server stops: the connection ends
        finally:
            writer.close()
            # The name goes last: a call of this connection never finds another's certificate.
            self.peers.pop(f"unix-abstract:{name}", None)
            self._tasks.discard(task)


async def _pipe(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(_CHUNK):
            target.write(data)
            await target.drain()
