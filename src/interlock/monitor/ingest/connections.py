"""A listener's connections: a deadline for each request, and a share for each peer.

A connection that sends nothing, or a byte a minute, costs its sender nothing. So a request has to
be in by a deadline, and a peer that opens more connections than its share loses its own oldest
unfinished one: slow connections shut out nobody else.
"""

from __future__ import annotations

import collections
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from interlock.monitor.ingest.receiver import busy

__all__ = ["BODY_S", "CONNECTIONS", "HEAD_S", "PER_PEER", "Unproven", "bounded_protocol"]

HEAD_S, BODY_S = 10.0, 30.0
#: All connections, one less than uvicorn answers with 503; and those of one address.
CONNECTIONS, PER_PEER = 63, 16
#: Bytes of bodies whose sender is not proven yet: of one address, and of all.
UNPROVEN_PEER, UNPROVEN = 32 << 20, 128 << 20


class Unproven:
    """Counts the bytes of bodies that are being read before their signature can be checked."""

    def __init__(self) -> None:
        self._held: collections.Counter[str] = collections.Counter()

    @contextlib.contextmanager
    def charged(self, peer: str) -> Iterator[Callable[[int], None]]:
        """Give what charges `peer` for the bytes of one body, until its request is answered.

        Raises:
            BusyError: the peer, or all together, hold too much.
        """
        mine = 0

        def charge(size: int) -> None:
            nonlocal mine
            mine += size
            self._held[peer] += size
            if self._held[peer] > UNPROVEN_PEER or self._held.total() > UNPROVEN:
                raise busy(f"{self._held[peer]} B of unproven bodies", f"at most {UNPROVEN_PEER} B")

        try:
            yield charge
        finally:
            self._held[peer] -= mine
            if not self._held[peer]:
                del self._held[peer]


def bounded_protocol() -> type:
    """Return uvicorn's HTTP protocol with deadlines and shares."""
    from uvicorn.protocols.http.auto import AutoHTTPProtocol

    base: Any = AutoHTTPProtocol

    class Bounded(base):  # type: ignore[misc]
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.born = time.monotonic()
            self.timer: Any = None
            self.wait()
            here = self.client and self.client[0]
            peers = [c for c in self.connections if (c.client and c.client[0]) == here]
            for group, most in ((peers, PER_PEER), (list(self.connections), CONNECTIONS)):
                if len(group) > most:
                    idle = [c for c in group if c is not self and c.unfinished()]
                    (min(idle, key=lambda c: c.born) if idle else self).drop()

        def unfinished(self) -> bool:
            """Return whether no request of this connection is in and waits for its answer."""
            cycle = self.cycle
            return bool(cycle is None or cycle.response_complete or cycle.more_body)

        def drop(self) -> None:
            self.connections.discard(self)
            self.transport.abort()

        def wait(self) -> None:
            """Give the next request its time."""
            self.stop()
            self.timer = self.loop.call_later(HEAD_S, self.late, BODY_S)

        def stop(self) -> None:
            if self.timer is not None:
                self.timer.cancel()

        def late(self, more_s: float) -> None:
            if self.cycle is None or self.cycle.response_complete:
                self.drop()
            elif self.cycle.more_body and more_s:
                self.timer = self.loop.call_later(more_s, self.late, 0.0)
            elif self.cycle.more_body:
                self.drop()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self.wait()

        def connection_lost(self, exc: Exception | None) -> None:
            self.stop()
            super().connection_lost(exc)

    return Bounded
