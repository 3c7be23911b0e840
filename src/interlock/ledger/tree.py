"""The RFC 6962 Merkle tree: heads, inclusion and consistency proofs, and their verification.

Pure functions and two small accumulators, no IO. Hashing follows RFC 6962 section 2.1: a leaf is
`SHA-256(0x00 || data)`, a node `SHA-256(0x01 || left || right)`. Verification follows RFC 9162
sections 2.1.3.2 and 2.1.4.2.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from interlock.errors import InputError, IntegrityError

__all__ = [
    "EMPTY_ROOT",
    "Frontier",
    "Tree",
    "leaf_hash",
    "root_from_inclusion",
    "verify_consistency",
    "verify_inclusion",
]

_sha256 = hashlib.sha256

#: Root of the tree without entries.
EMPTY_ROOT = _sha256(b"").digest()


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of one leaf.

    Example:
        >>> leaf_hash(b"").hex()[:16]
        '6e340b9cffb37a98'
    """
    return _sha256(b"\x00" + data).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return _sha256(b"\x01" + left + right).digest()


class Frontier:
    """The right edge of a growing tree: enough to append and to know the root, log2(n) hashes.

    Example:
        >>> f = Frontier()
        >>> for data in (b"", bytes(1)):
        ...     f.append(leaf_hash(data))
        >>> f.size, f.root().hex()[:16]
        (2, 'fac54203e7cc696c')
    """

    __slots__ = ("nodes", "size")

    def __init__(self, size: int = 0, nodes: Sequence[bytes] = ()) -> None:
        if len(nodes) != size.bit_count():
            raise IntegrityError(
                "the stored edge of the tree does not fit its size",
                code="ledger-frontier",
                got=f"{len(nodes)} hashes for {size} entries",
                expected=f"{size.bit_count()} hashes",
                fix="run `interlock verify`; restore the ledger from a copy",
            )
        self.size = size
        self.nodes = list(nodes)

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash."""
        size = self.size
        nodes = self.nodes
        while size & 1:
            leaf = _sha256(b"\x01" + nodes.pop() + leaf).digest()
            size >>= 1
        nodes.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        """Return the Merkle tree head."""
        if not self.nodes:
            return EMPTY_ROOT
        root = self.nodes[-1]
        for node in reversed(self.nodes[:-1]):
            root = _node(node, root)
        return root

    def copy(self) -> Frontier:
        """Return an independent copy."""
        return Frontier(self.size, self.nodes)

    def to_bytes(self) -> bytes:
        """Return the edge as bytes, largest subtree first."""
        return b"".join(self.nodes)

    @classmethod
    def from_bytes(cls, size: int, data: bytes) -> Frontier:
        """Read what `to_bytes` wrote."""
        return cls(size, [data[i : i + 32] for i in range(0, len(data), 32)])


class Tree:
    """A whole tree in memory, 64 bytes an entry, for proofs.

    Only complete subtrees are stored: level k holds the hashes of the aligned runs of 2^k leaves.
    """

    __slots__ = ("_levels",)

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        self._levels: list[bytearray] = [bytearray()]
        for leaf in leaves:
            self.append(leaf)

    def __len__(self) -> int:
        return len(self._levels[0]) // 32

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash."""
        levels = self._levels
        levels[0] += leaf
        count = len(levels[0]) // 32
        depth = 0
        while not count & 1:
            left_right = bytes(levels[depth][-64:])
            depth += 1
            if depth == len(levels):
                levels.append(bytearray())
            levels[depth] += _sha256(b"\x01" + left_right).digest()
            count >>= 1

    def _subtree(self, start: int, end: int) -> bytes:
        width = end - start
        if width & (width - 1) == 0 and start % width == 0:
            depth = width.bit_length() - 1
            at = (start >> depth) * 32
            return bytes(self._levels[depth][at : at + 32])
        split = 1 << ((width - 1).bit_length() - 1)
        return _node(self._subtree(start, start + split), self._subtree(start + split, end))

    def root(self, size: int | None = None) -> bytes:
        """Return the head of the first `size` entries (all of them by default)."""
        size = self._size(size)
        return self._subtree(0, size) if size else EMPTY_ROOT

    def inclusion(self, index: int, size: int | None = None) -> list[bytes]:
        """Return the audit path of entry `index` in the tree of `size` entries, leaf end first."""
        size = self._size(size)
        if not 0 <= index < size:
            raise InputError(
                "no such entry in this tree",
                code="proof-index",
                got=f"entry {index}",
                expected=f"0 to {size - 1}" if size else "a tree with entries",
                fix="ask for an entry below the size of the checkpoint",
            )
        path: list[bytes] = []
        start, end = 0, size
        while end - start > 1:
            split = 1 << ((end - start - 1).bit_length() - 1)
            if index - start < split:
                path.append(self._subtree(start + split, end))
                end = start + split
            else:
                path.append(self._subtree(start, start + split))
                start += split
        path.reverse()
        return path

    def consistency(self, old: int, size: int | None = None) -> list[bytes]:
        """Return the proof that the tree of `old` entries is a prefix of the tree of `size`."""
        size = self._size(size)
        self._size(old, size)
        if old in (0, size):
            return []
        path: list[bytes] = []
        start, end, whole = 0, size, True
        while old - start != end - start:
            split = 1 << ((end - start - 1).bit_length() - 1)
            if old - start <= split:
                path.append(self._subtree(start + split, end))
                end = start + split
            else:
                path.append(self._subtree(start, start + split))
                start += split
                whole = False
        if not whole:
            path.append(self._subtree(start, end))
        path.reverse()
        return path

    def _size(self, size: int | None, limit: int | None = None) -> int:
        limit = len(self) if limit is None else limit
        if size is None:
            return limit
        if not 0 <= size <= limit:
            raise InputError(
                "the tree has no such size",
                code="proof-size",
                got=str(size),
                expected=f"0 to {limit}",
                fix="use the size of a checkpoint of this ledger",
            )
        return size


def root_from_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """Return the root an inclusion proof leads to, or None when its length is wrong."""
    if not 0 <= index < size:
        return None
    node, last, at = leaf, size - 1, index
    for sibling in path:
        if last == 0:
            return None
        if at & 1 or at == last:
            node = _sha256(b"\x01" + sibling + node).digest()
            while not at & 1 and at:
                at >>= 1
                last >>= 1
        else:
            node = _sha256(b"\x01" + node + sibling).digest()
        at >>= 1
        last >>= 1
    return node if last == 0 else None


def verify_inclusion(
    leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes
) -> None:
    """Raise unless the leaf is entry `index` of the tree with this size and root.

    Raises:
        IntegrityError: the proof does not lead to the root.
    """
    if root_from_inclusion(leaf, index, size, path) != root:
        raise IntegrityError(
            "the inclusion proof does not lead to the root",
            code="proof-inclusion",
            got=f"entry {index} of {size}, {len(path)} hashes",
            expected=f"root {root.hex()}",
            fix="fetch the entry, the proof and the checkpoint again from one source",
        )


def verify_consistency(
    old: int, size: int, old_root: bytes, root: bytes, path: Sequence[bytes]
) -> None:
    """Raise unless the tree of `old` entries is a prefix of the tree of `size` entries.

    Raises:
        IntegrityError: the two heads do not belong to one append-only history.
    """
    if not _consistent(old, size, old_root, root, path):
        raise IntegrityError(
            "the two heads do not belong to one history",
            code="proof-consistency",
            got=f"{old} -> {size}, {len(path)} hashes",
            expected="the older tree to be a prefix of the newer",
            fix="keep both checkpoints: together they are evidence of a fork",
        )


def _consistent(old: int, size: int, old_root: bytes, root: bytes, path: Sequence[bytes]) -> bool:
    if not 0 <= old <= size:
        return False
    if old == size:
        return not path and old_root == root
    if old == 0:
        return not path and old_root == EMPTY_ROOT
    hashes = list(path)
    if old & (old - 1) == 0:
        hashes.insert(0, old_root)
    if not hashes:
        return False
    at, last = old - 1, size - 1
    while at & 1:
        at >>= 1
        last >>= 1
    first = second = hashes[0]
    for node in hashes[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            first, second = _node(node, first), _node(node, second)
            while not at & 1 and at:
                at >>= 1
                last >>= 1
        else:
            second = _node(second, node)
        at >>= 1
        last >>= 1
    return first == old_root and second == root and last == 0
