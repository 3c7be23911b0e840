"""Find the files to look into. Whatever is not an ordinary readable file is noted, never fatal."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from interlock.scan.finding import Report

__all__ = ["EXCLUDED", "Entry", "open_regular", "read_regular", "walk"]

#: Folders that hold other people's or generated files; counted, and looked into with `--all`.
EXCLUDED = frozenset({
    ".git", ".hg", ".svn", ".venv", "venv", "node_modules", "__pycache__", ".mypy_cache",
    ".ruff_cache", ".pytest_cache", ".tox", ".nox", ".hypothesis", ".import_linter_cache",
    ".eggs",
})  # fmt: skip

_KINDS = (
    (stat.S_ISFIFO, "fifo"),
    (stat.S_ISCHR, "device"),
    (stat.S_ISBLK, "device"),
    (stat.S_ISSOCK, "socket"),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One file to look into: where it is (a text, as a `Path` is slow to make), and its name."""

    place: str
    shown: str

    @property
    def path(self) -> Path:
        """Where it is."""
        return Path(self.place)


def _kind(mode: int) -> str | None:
    return next((name for test, name in _KINDS if test(mode)), None)


def open_regular(entry: Entry, report: Report, *, follow: bool = False) -> BinaryIO | None:
    """Open a file only if it is an ordinary one at the moment of opening; note it otherwise.

    Opening never blocks on a FIFO and never follows a link swapped in after the walk.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    try:
        descriptor = os.open(entry.place, flags)
    except OSError as error:
        reason = "symlink" if error.errno == errno.ELOOP else "unreadable"
        report.note(entry.shown, reason, error.strerror or "")
        return None
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        report.note(entry.shown, _kind(mode) or "not-a-file")
        return None
    return os.fdopen(descriptor, "rb")


def read_regular(path: Path, max_bytes: int = 64 * 1024 * 1024) -> bytes:
    """Read a file given by option: an ordinary one, of bounded size, without ever waiting.

    Raises:
        OSError: it is missing, a folder, a FIFO, a device, a socket, or too large.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb", closefd=True) as handle:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, f"a {_kind(mode) or 'folder'}, not an ordinary file")
        data = handle.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise OSError(errno.EFBIG, f"over {max_bytes} bytes")
    return data


def _shown(path: Path, base: Path) -> str:
    try:
        text = os.path.relpath(path, base)
    except ValueError:
        text = str(path)
    return str(path) if text.startswith("..") else text


def _unnamed(_shown: str) -> None:
    """Do nothing with a name."""


def walk(
    paths: Iterable[Path],
    report: Report,
    *,
    base: Path,
    everything: bool,
    named: Callable[[str], None] = _unnamed,
) -> Iterator[Entry]:
    """Yield the ordinary files under `paths`, each once, sorted within a folder.

    Links are not followed (their targets are scanned where they live, if they are in the tree);
    one given as an argument is. Folders are remembered by device and inode. `named` gets the
    name of everything met, folders, links and devices too.
    """
    seen: set[tuple[int, int]] = set()
    for start in paths:
        try:
            info = start.stat()
        except OSError as error:
            report.note(str(start), "missing", error.strerror or "")
            continue
        named(_shown(start, base))
        if stat.S_ISDIR(info.st_mode):
            yield from _walk_folder(start, report, base, everything, seen, named)
        elif stat.S_ISREG(info.st_mode):
            if (info.st_dev, info.st_ino) not in seen or info.st_nlink > 1:
                seen.add((info.st_dev, info.st_ino))
                yield Entry(str(start.resolve()), _shown(start, base))
        else:
            report.note(_shown(start, base), _kind(info.st_mode) or "not-a-file")


def _walk_folder(
    top: Path,
    report: Report,
    base: Path,
    everything: bool,
    seen: set[tuple[int, int]],
    named: Callable[[str], None],
) -> Iterator[Entry]:
    stack = [(str(top), _shown(top, base))]
    while stack:
        folder, shown = stack.pop()
        try:
            info = os.stat(folder)  # noqa: PTH116 - a text is all there is
            if (info.st_dev, info.st_ino) in seen:
                continue
            seen.add((info.st_dev, info.st_ino))
            with os.scandir(folder) as listing:
                items = sorted(listing, key=_name)
        except OSError as error:
            report.note(shown, "unreadable", error.strerror or "")
            continue
        within = "" if shown == "." else shown.rstrip("/") + "/"
        folders: list[tuple[str, str]] = []
        for item in items:
            inner = within + item.name
            named(inner)
            try:
                if item.is_symlink():
                    report.note(inner, "symlink", _link_detail(Path(item.path)))
                elif item.is_dir(follow_symlinks=False):
                    if item.name in EXCLUDED and not everything:
                        report.excluded[item.name] = report.excluded.get(item.name, 0) + 1
                    else:
                        folders.append((item.path, inner))
                elif item.is_file(follow_symlinks=False):
                    yield Entry(item.path, inner)
                else:
                    mode = item.stat(follow_symlinks=False).st_mode
                    report.note(inner, _kind(mode) or "not-a-file")
            except OSError as error:
                report.note(inner, "unreadable", error.strerror or "")
        stack.extend(reversed(folders))


def _name(item: os.DirEntry[str]) -> str:
    return item.name


def _link_detail(path: Path) -> str:
    try:
        path.stat()
    except OSError as error:
        return "cyclic" if error.errno == errno.ELOOP else "broken"
    return "not followed"
