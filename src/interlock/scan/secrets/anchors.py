"""Find where any of many short literals occurs, in one pass over a block.

Each literal is cut to its first four bytes. A block is lower-cased and read as pairs of bytes, once
from its first byte and once from its second. Each pair is looked up in a table of 32-bit masks, and
a position survives only when its first pair and its second belong to one group of literals. The
cost is a few nanoseconds a byte whatever the number of literals, and never depends on the content
in the way a backtracking expression does. Survivors are compared with the whole literal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

__all__ = ["AnchorSet"]

_LOWER = bytes.maketrans(bytes(range(65, 91)), bytes(range(97, 123)))
_BUCKETS = 32
_PAIR = 65536


class AnchorSet:
    """A fixed set of lower-case literals of at least three bytes.

    Example:
        >>> found = AnchorSet([b"akia", b"ghp_"]).find(b"x AKIA y ghp_ z")
        >>> [(pos, anchor.decode()) for pos, anchor in found]
        [(2, 'akia'), (9, 'ghp_')]
    """

    def __init__(self, anchors: Iterable[bytes]) -> None:
        self.anchors = tuple(sorted({a.lower() for a in anchors}))
        if any(len(a) < 3 for a in self.anchors):
            raise ValueError("an anchor has at least three bytes")
        self._first = np.zeros(_PAIR, dtype=np.uint32)
        self._second = np.zeros(_PAIR, dtype=np.uint32)
        self._by_head: dict[bytes, list[bytes]] = {}
        for number, anchor in enumerate(self.anchors):
            # neighbours in the alphabet share a bit: the groups then have few pairs each
            bit = np.uint32(1 << (number * _BUCKETS // len(self.anchors)))
            self._first[anchor[0] | anchor[1] << 8] |= bit
            lasts = range(256) if len(anchor) == 3 else (anchor[3],)
            for last in lasts:
                self._second[anchor[2] | last << 8] |= bit
            self._by_head.setdefault(anchor[:3], []).append(anchor)

    def find(self, block: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield each (offset, anchor), ordered by offset; letters match in either case."""
        low = block.translate(_LOWER)
        size = len(low)
        if size < 3:
            return
        low += b"\0\0\0" if size % 2 else b"\0\0"
        even = np.frombuffer(low, dtype="<u2", count=len(low) // 2)
        odd = np.frombuffer(low, dtype="<u2", count=(len(low) - 1) // 2, offset=1)
        places = [2 * index for index in self._survivors(even)]
        places += [2 * index + 1 for index in self._survivors(odd)]
        places.sort()
        for offset in places:
            for anchor in self._by_head.get(low[offset : offset + 3], ()):
                if low.startswith(anchor, offset):
                    yield offset, anchor

    def _survivors(self, pairs: npt.NDArray[np.uint16]) -> list[int]:
        hits = self._first.take(pairs[:-1])
        hits &= self._second.take(pairs[1:])
        found: list[int] = (hits != 0).nonzero()[0].tolist()
        return found
