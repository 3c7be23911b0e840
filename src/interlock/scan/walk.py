"""Find the files to look into. Whatever is not an ordinary readable file is noted, never fatal."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from interlock.scan.finding import Report

__all__ = ["EXCLUDED", "Entry", "open_regular", "walk"]

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
    """One file to look into: where it is, and how reports name it."""

    path: Path
    shown: str


def _kind(mode: int) -> str | None:
    return next((name for test, name in _KINDS if test(mode)), None)


def open_regular(entry: Entry, report: Report, *, follow: bool = False) -> BinaryIO | None:
    """Open a file only if it is an ordinary one at the moment of opening; note it otherwise.

    Opening never blocks on a FIFO and never follows a link swapped in after the walk.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    try:
        descriptor = os.open(entry.path, flags)
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


def _shown(path: Path, base: Path) -> str:
    try:
        text = os.path.relpath(path, base)
    except ValueError:
        text = str(path)
    return str(path) if text.startswith("..") else text


def walk(paths: Iterable[Path], report: Report, *, base: Path, everything: bool) -> Iterator[Entry]:
    """Yield the ordinary files under `paths`, each once, sorted within a folder.

    Links are not followed (their targets are scanned where they live, if they are in the tree);
    one given as an argument is. Folders are remembered by device and inode.
    """
    seen: set[tuple[int, int]] = set()
    for start in paths:
        try:
            info = start.stat()
        except OSError as error:
            report.note(str(start), "missing", error.strerror or "")
            continue
        if stat.S_ISDIR(info.st_mode):
            yield from _walk_folder(start, report, base, everything, seen)
        elif stat.S_ISREG(info.st_mode):
            if (info.st_dev, info.st_ino) not in seen or info.st_nlink > 1:
                seen.add((info.st_dev, info.st_ino))
                yield Entry(start.resolve(), _shown(start, base))
        else:
            report.note(_shown(start, base), _kind(info.st_mode) or "not-a-file")


def _walk_folder(
    top: Path, report: Report, base: Path, everything: bool, seen: set[tuple[int, int]]
) -> Iterator[Entry]:
    stack = [top]
    while stack:
        folder = stack.pop()
        try:
            info = folder.stat()
            if (info.st_dev, info.st_ino) in seen:
                continue
            seen.add((info.st_dev, info.st_ino))
            with os.scandir(folder) as listing:
                items = sorted(listing, key=lambda item: item.name)
        except OSError as error:
            report.note(_shown(folder, base), "unreadable", error.strerror or "")
            continue
        folders: list[Path] = []
        for item in items:
            path = folder / item.name
            try:
                mode = item.stat(follow_symlinks=False).st_mode
            except OSError as error:
                report.note(_shown(path, base), "unreadable", error.strerror or "")
                continue
            if stat.S_ISLNK(mode):
                report.note(_shown(path, base), "symlink", _link_detail(path))
            elif stat.S_ISDIR(mode):
                if item.name in EXCLUDED and not everything:
                    report.excluded[item.name] = report.excluded.get(item.name, 0) + 1
                else:
                    folders.append(path)
            elif stat.S_ISREG(mode):
                yield Entry(path, _shown(path, base))
            else:
                report.note(_shown(path, base), _kind(mode) or "not-a-file")
        stack.extend(reversed(folders))


def _link_detail(path: Path) -> str:
    try:
        path.stat()
    except OSError as error:
        return "cyclic" if error.errno == errno.ELOOP else "broken"
    return "not followed"
