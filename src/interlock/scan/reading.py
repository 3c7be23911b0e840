"""What is read of a file, and as what: text in which encoding, or no text."""

from __future__ import annotations

import codecs
from typing import IO

from interlock.scan.archives import Reader

__all__ = ["Copied", "Prefixed", "coding_of", "decoded", "is_binary", "read_up_to", "valid_utf8"]

_FIRST = 64 * 1024
_CONTROLS = bytes(set(range(32)) - set(b"\b\t\n\f\r\x1b"))
_UTF = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class Copied:
    """A reader that keeps what it hands out."""

    def __init__(self, inner: Reader, copy: IO[bytes]) -> None:
        self._inner, self._copy = inner, copy

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes."""
        data = self._inner.read(size)
        self._copy.write(data)
        return data


class Prefixed:
    """Bytes already read, then the rest of a reader."""

    def __init__(self, head: bytes, rest: Reader) -> None:
        self._head, self._rest = head, rest

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes."""
        if not self._head:
            return self._rest.read(size)
        if size < 0:
            out, self._head = self._head, b""
            return out + self._rest.read(-1)
        out, self._head = self._head[:size], self._head[size:]
        if len(out) < size:
            out += self._rest.read(size - len(out))
        return out


def read_up_to(reader: Reader, limit: int) -> bytes:
    """Return what a reader has, up to a number of bytes."""
    blocks, size, want = [], 0, _FIRST
    while size < limit:
        block = reader.read(min(limit - size, want))
        if not block:
            break
        blocks.append(block)
        size, want = size + len(block), 1 << 20
    return b"".join(blocks)


def is_binary(head: bytes) -> bool:
    r"""Zero bytes, and more than text with holes in it: a log cut while it was open has them too.

    >>> is_binary(b"\0\0\0token = 1"), is_binary(b"\x7fELF\2\1\1\0")
    (False, True)
    """
    if b"\0" not in head:
        return False
    held = head.replace(b"\0", b"")
    try:
        codecs.getincrementaldecoder("utf-8")().decode(held)
    except UnicodeDecodeError:
        return True
    return len(held.translate(None, _CONTROLS)) < len(held)


def coding_of(head: bytes) -> str | None:
    r"""Name the encoding when it is not UTF-8: by its mark, or by one byte of each pair being zero.

    A program has zeros on either side, and control characters: it is no text.

    >>> coding_of("key = 1".encode("utf-16-le")), coding_of("key = 1".encode("utf-16-be"))
    ('utf-16-le', 'utf-16-be')
    >>> coding_of(b"\x7fELF\2\1\1" + bytes(9) + b"\3\0\x3e\0\1\0\0\0" + bytes(40))
    """
    marked = next((name for bom, name in _UTF if head.startswith(bom)), None)
    if marked is not None or len(head) < 4 or b"\0" not in head:
        return marked
    for first, name in ((1, "utf-16-le"), (0, "utf-16-be")):
        zeros, others = head[first::2], head[1 - first :: 2]
        wide = zeros.count(0) > len(zeros) * 4 // 5
        if wide and not others.count(0) and len(others.translate(None, _CONTROLS)) == len(others):
            return name
    return None


def valid_utf8(raw: bytes) -> bool:
    """Whether bytes are UTF-8."""
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def decoded(raw: bytes) -> bytes:
    """Return text in the encoding its mark names as UTF-8; other text as it is."""
    for bom, name in _UTF:
        if raw.startswith(bom):
            return raw.decode(name, "replace").encode()
    return raw
