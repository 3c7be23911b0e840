"""Find where any of many short literals occurs, in one pass over a block.

Each literal is known by four of its bytes, those that are least common in text. A block is
lower-cased and read as pairs of bytes, once from its first byte and once from its second. Each pair
is looked up in a table of 32-bit masks, and a position survives only when its first pair and its
second belong to one group of literals. The cost is a few nanoseconds a byte whatever the number of
literals, and never depends on the content in the way a backtracking expression does. Survivors
are compared with the whole literal.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

__all__ = ["AnchorSet"]

_LOWER = bytes.maketrans(bytes(range(65, 91)), bytes(range(97, 123)))
_BUCKETS = 32
_PAIR = 65536


#: How often a byte stands in text and code, in parts of a thousand or so; the others are rare.
_COMMON = dict(
    zip(
        b" etaoinsrldcumphf_gy=-.,()b0v1w\"'x2/k:3j\n*qz",
        (
            *(160, 80, 62, 52, 48, 47, 46, 45, 44, 32, 28, 26, 22, 22, 20, 14, 16, 18, 13, 11),
            *(12, 30, 14, 14, 12, 12, 12, 11, 8, 8, 6, 12, 12, 10, 6, 6, 6, 8, 4, 2, 30, 8, 2, 2),
        ),
        strict=False,
    )
)


def _rarest(anchor: bytes) -> tuple[bytes, int]:
    """Return the four bytes of a literal that text holds least often, and where they stand.

    >>> _rarest(b"classiq"), _rarest(b"abc")
    ((b'ssiq', 3), (b'abc', 0))
    """
    return min(
        ((anchor[i : i + 4], i) for i in range(max(1, len(anchor) - 3))),
        key=lambda cut: (math.prod(_COMMON.get(byte, 1) for byte in cut[0]), cut[1]),
    )


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
        self._by_head: dict[bytes, list[tuple[bytes, int]]] = {}
        cuts = sorted((_rarest(anchor), anchor) for anchor in self.anchors)
        for number, ((head, start), anchor) in enumerate(cuts):
            # neighbours in the alphabet share a bit: the groups then have few pairs each
            bit = np.uint32(1 << (number * _BUCKETS // len(cuts)))
            self._first[head[0] | head[1] << 8] |= bit
            lasts = range(256) if len(head) == 3 else (head[3],)
            for last in lasts:
                self._second[head[2] | last << 8] |= bit
            self._by_head.setdefault(head[:3], []).append((anchor, start))

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
        found = [
            (place - start, anchor)
            for place in places
            for anchor, start in self._by_head.get(low[place : place + 3], ())
            if place >= start and low.startswith(anchor, place - start, size)
        ]
        found.sort()
        yield from found

    def _survivors(self, pairs: npt.NDArray[np.uint16]) -> list[int]:
        hits = self._first.take(pairs[:-1])
        hits &= self._second.take(pairs[1:])
        found: list[int] = (hits != 0).nonzero()[0].tolist()
        return found
