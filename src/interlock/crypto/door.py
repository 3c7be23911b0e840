"""A server's door: TCP connections whose TLS handshake has a deadline and each address a share.

A connection that never begins its handshake costs its sender nothing, and no server protocol sees
it. Here it is counted: an address that opens more than its share loses its own oldest, and when
all places are taken the address with the most loses its oldest, so that many half-open connections
shut out nobody else.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import socket
from collections.abc import Callable, Iterable
from typing import Any, cast

__all__ = ["HANDSHAKE_S", "Door", "doored", "end_surplus", "surplus"]

HANDSHAKE_S = 10.0
#: Handshakes at a time: of one address, and of all.
PER_ADDRESS, ALL = 16, 256
#: Seconds to wait when the process has no descriptor left for a connection.
_NO_ROOM_S = 0.1


def surplus(addresses: Iterable[str], *, share: int, most: int) -> int | None:
    """Return the place of the connection to end, None when there are not too many.

    Args:
        addresses: of the connections, oldest first; the last is the newest.
        share: connections an address may have.
        most: connections all together may have.

    Example:
        >>> surplus(["a", "b", "a"], share=2, most=2)
        0
    """
    found = list(addresses)
    count = collections.Counter(found)
    if count[found[-1]] > share:
        return found.index(found[-1])
    if len(found) > most:
        return found.index(count.most_common(1)[0][0])
    return None


def end_surplus(open_: dict[asyncio.Task[None], str], *, share: int, most: int) -> None:
    """Cancel and forget the connection that is too many, if one is; task -> address."""
    place = surplus(open_.values(), share=share, most=most)
    if place is not None:
        task = list(open_)[place]
        del open_[task]  # now: until it has ended the next call would find it again
        task.cancel()


def doored(base: Any, listener: socket.socket, context: Any, **shares: int) -> Any:
    """Return uvicorn's server class `base` with a door before its own listener.

    It is served with `sockets=[]`, and `listener` is the caller's to close.
    """

    class Doored(base):  # type: ignore[misc]
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)

            def make() -> asyncio.Protocol:
                kind: Any = self.config.http_protocol_class
                state = self.lifespan.state
                made = kind(config=self.config, server_state=self.server_state, app_state=state)
                return cast(asyncio.Protocol, made)

            door = Door(listener, make, context=context, **shares)
            self.door = asyncio.create_task(door.run())

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            self.door.cancel()
            await asyncio.gather(self.door, return_exceptions=True)
            await super().shutdown(sockets)

    return Doored


class Door:
    """Takes connections of a listening socket and hands them to protocols.

    Args:
        listener: bound and listening.
        make: makes the protocol of a connection; it is connected once the handshake is done.
        context: TLS; None for none, then nothing is waited for.
        share: handshakes an address may have under way.
        most: handshakes all together may have.
    """

    def __init__(
        self,
        listener: socket.socket,
        make: Callable[[], asyncio.Protocol],
        *,
        context: Any = None,
        share: int = PER_ADDRESS,
        most: int = ALL,
    ) -> None:
        self._listener, self._make, self._context = listener, make, context
        self._share, self._most = share, most
        self._opening: dict[asyncio.Task[None], str] = {}

    async def run(self) -> None:
        """Take connections until cancelled; handshakes under way are ended then."""
        loop = asyncio.get_running_loop()
        self._listener.setblocking(False)
        try:
            while True:
                try:
                    sock, address = await loop.sock_accept(self._listener)
                except OSError:  # no descriptor left, or the peer has gone already
                    await asyncio.sleep(_NO_ROOM_S)
                    continue
                task = loop.create_task(self._open(sock))
                self._opening[task] = str(address[0])
                task.add_done_callback(lambda done: self._opening.pop(done, None))
                await asyncio.sleep(0)  # a task that never ran could not close its connection
                end_surplus(self._opening, share=self._share, most=self._most)
        finally:
            for task in tuple(self._opening):
                task.cancel()
            await asyncio.gather(*self._opening, return_exceptions=True)

    async def _open(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        done = False
        try:
            with contextlib.suppress(OSError, asyncio.TimeoutError):
                await asyncio.get_running_loop().connect_accepted_socket(
                    self._make,
                    sock,
                    ssl=self._context,
                    ssl_handshake_timeout=HANDSHAKE_S if self._context else None,
                )
                done = True
        finally:
            if not done:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)  # the transport closes the descriptor
