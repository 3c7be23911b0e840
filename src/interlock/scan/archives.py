"""Look inside archives without unpacking to disk, within limits that a bomb cannot pass."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol, Self, cast

from interlock.scan.finding import Report

__all__ = ["ArchiveLimits", "Budget", "Reader", "kind_of", "members", "plain_name", "unreadable"]

_CONTENT = "(content)"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveLimits:
    """How far to look into one archive.

    Attributes:
        max_bytes: unpacked bytes over all members and levels.
        max_members: members over all levels.
        max_depth: archives inside archives.
        max_ratio: unpacked bytes for each packed byte, once 16 MiB are unpacked.
    """

    max_bytes: int = 512 * 1024 * 1024
    max_members: int = 20_000
    max_depth: int = 3
    max_ratio: int = 200


@dataclass(slots=True)
class Budget:
    """What one outer archive has used up; shared by the archives inside it."""

    limits: ArchiveLimits
    packed: int
    unpacked: int = 0
    count: int = 0
    broken: int = 0

    def spend(self, size: int) -> None:
        """Count unpacked bytes.

        Raises:
            OverflowError: a limit is passed.
        """
        self.unpacked += size
        if self.unpacked > self.limits.max_bytes:
            raise OverflowError(f"more than {self.limits.max_bytes} bytes unpacked")
        bulky = self.unpacked > 16 * 1024 * 1024
        if bulky and self.unpacked > self.packed * self.limits.max_ratio:
            raise OverflowError(f"unpacks to more than {self.limits.max_ratio} times its size")


class Reader(Protocol):
    """Anything that hands out bytes."""

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes, or all that is left."""


class _Metered:
    """A reader that charges what it hands out to the budget."""

    def __init__(self, inner: Reader, budget: Budget) -> None:
        self._inner, self._budget = inner, budget

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes."""
        data = self._inner.read(size if size >= 0 else 64 * 1024 * 1024)
        self._budget.spend(len(data))
        return data


#: Errors that mean the archive is broken or not ours to open.
BROKEN = (
    zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError,
    ValueError, NotImplementedError, RuntimeError, KeyError, IndexError,
)  # fmt: skip

_ATTRIBUTES = (
    tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)  # fmt: skip
_MAX_ATTRIBUTES = 1024 * 1024


_UNREADABLE = (
    (b"7z\xbc\xaf\x27\x1c", "7-Zip"), (b"Rar!", "RAR"), (b"\x28\xb5\x2f\xfd", "Zstandard"),
    (b"\x04\x22\x4d\x18", "LZ4"), (b"LZIP", "lzip"), (b"\x1f\x9d", "compress"),
    (b"MSCF\0\0\0\0", "cabinet"), (b"!<arch>\ndebian", "Debian package"),
    (b"\xed\xab\xee\xdb", "RPM package"),
)  # fmt: skip


def kind_of(head: bytes, name: str) -> str | None:
    """Name the archive format by its first bytes.

    Example:
        >>> kind_of(b"PK" + bytes([3, 4]), "a.whl"), kind_of(b"plain", "a.txt")
        ('zip', None)
    """
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return "zip"
    if head[257:262] == b"ustar":
        return "tar"
    low = name.lower()
    tarred = low.endswith((".tgz", ".tbz2", ".txz")) or ".tar." in low
    for magic, kind in ((b"\x1f\x8b", "gz"), (b"BZh", "bz2"), (b"\xfd7zXZ\0", "xz")):
        if head.startswith(magic):
            return "tar" if tarred else kind
    if _lzma_alone(head):
        return "tar" if tarred else "xz"
    return "other" if unreadable(head) else None


def _lzma_alone(head: bytes) -> bool:
    """The old format of LZMA has no mark: usual properties, a small dictionary, a likely size."""
    size = head[5:13]
    likely = size == b"\xff" * 8 or int.from_bytes(size, "little") < 1 << 40
    return head.startswith(b"\x5d\0\0") and len(size) == 8 and likely


def plain_name(shown: str) -> str:
    """Return the name that decides what a member is: of a packed single file, the one it had.

    Example:
        >>> plain_name("a/n.ipynb.gz!(content)"), plain_name("a.zip!n.py")
        ('a/n.ipynb', 'a.zip!n.py')
    """
    outer, mark, inner = shown.rpartition("!")
    return outer.rpartition(".")[0] or outer if mark and inner == _CONTENT else shown


def unreadable(head: bytes) -> str:
    """Name a packed format that nothing here opens, or return an empty string.

    Example:
        >>> unreadable(b"Rar!" + bytes(9)), unreadable(b"plain")
        ('RAR', '')
    """
    return next((name for magic, name in _UNREADABLE if head.startswith(magic)), "")


def members(
    handle: BinaryIO, kind: str, shown: str, budget: Budget, report: Report
) -> Iterator[tuple[str, Reader]]:
    """Yield (name, reader) of each file in the archive; note what could not be looked into."""
    if kind == "other":
        handle.seek(0)
        detail = f"{unreadable(handle.read(16))}: nothing here unpacks it; unpack it and scan that"
        report.note(shown, "archive-format", detail)
        budget.broken += 1
        return
    opened = {"zip": _zip, "tar": _tar}.get(kind, _single)
    try:
        for name, reader in opened(handle, kind, budget):
            budget.count += 1
            if budget.count > budget.limits.max_members:
                report.note(shown, "archive-limit", f"more than {budget.limits.max_members} files")
                return
            if reader is None:
                report.note(f"{shown}!{name}", "archive-member", "encrypted or not a file")
                continue
            yield name, reader
    except OverflowError as error:
        report.note(shown, "archive-limit", str(error))
    except BROKEN as error:
        report.note(shown, "broken-archive", f"{type(error).__name__}: {error}"[:120])
        budget.broken += 1


def _zip(handle: BinaryIO, _kind: str, budget: Budget) -> Iterator[tuple[str, Reader | None]]:
    with zipfile.ZipFile(handle) as archive:
        for info in archive.infolist():
            if info.is_dir():
                continue
            if info.flag_bits & 1:
                yield info.filename, None
                continue
            with archive.open(info) as member:
                yield info.filename, _Metered(member, budget)


class _Header(tarfile.TarInfo):
    """A header whose long name or extended attributes must be short: they are held in memory."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Read a header.

        Raises:
            OverflowError: it announces more than a MiB of attributes.
        """
        header = super().frombuf(buf, encoding, errors)
        if header.type in _ATTRIBUTES and header.size > _MAX_ATTRIBUTES:
            raise OverflowError(f"a tar header of {header.size} bytes")
        return header


def _tar(handle: BinaryIO, _kind: str, budget: Budget) -> Iterator[tuple[str, Reader | None]]:
    head = handle.read(6)
    handle.seek(0)
    plain: Reader = handle
    if head.startswith(b"\x1f\x8b"):
        plain = gzip.GzipFile(fileobj=handle)
    elif head.startswith(b"BZh"):
        plain = bz2.BZ2File(handle)
    elif head.startswith((b"\xfd7zXZ\0", b"\x5d\0\0")):
        plain = lzma.LZMAFile(handle)  # noqa: SIM115 - the handle is the caller's
    # the stream is charged beneath tarfile: headers and skipped members cost as much as files
    stream = cast(BinaryIO, _Metered(plain, budget))
    with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Header) as archive:
        for info in archive:
            if info.isdir():
                continue
            yield info.name, archive.extractfile(info) if info.isreg() else None


def _single(handle: BinaryIO, kind: str, budget: Budget) -> Iterator[tuple[str, Reader | None]]:
    if kind == "gz":
        with gzip.open(handle) as packed:
            yield _CONTENT, _Metered(packed, budget)
    elif kind == "bz2":
        with bz2.open(handle) as bzipped:
            yield _CONTENT, _Metered(bzipped, budget)
    else:
        with lzma.open(handle) as xzipped:
            yield _CONTENT, _Metered(xzipped, budget)
