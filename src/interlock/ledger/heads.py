"""Signed heads kept as files outside the database: a cheap witness on the same machine.

They show a database that was cut or swapped by somebody who did not think of them. They do not
show it when the whole home is replaced: for that a head has to be kept by somebody else.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from interlock.crypto import files
from interlock.errors import InterlockError
from interlock.ledger.note import Checkpoint, parse_note

__all__ = ["Heads"]

_KEPT = 16


class Heads:
    """The folder `checkpoints/`: the newest heads, one a file, named by size."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, checkpoint: Checkpoint, note: str) -> None:
        """Keep a head; forget all but the newest."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.write_private(self.path / f"{checkpoint.size:020d}.note", note.encode(), mode=0o644)
        for old in self._files()[:-_KEPT]:
            with contextlib.suppress(OSError):
                old.unlink()

    def has(self, size: int) -> bool:
        """Return whether a head of this size is kept."""
        return (self.path / f"{size:020d}.note").exists()

    def _files(self) -> list[Path]:
        return sorted(self.path.glob("[0-9]*.note"))

    def notes(self) -> list[tuple[Path, str]]:
        """Return the kept heads, oldest first."""
        found = []
        for path in self._files():
            try:
                found.append((path, files.read_plain(path).decode("utf-8", "replace")))
            except FileNotFoundError:
                continue  # a writer keeps the newest alone
            except OSError as error:
                found.append((path, f"({error.strerror})"))  # no note: an audit names it
        return found

    def newest(self) -> tuple[Checkpoint, str] | None:
        """Return the largest head that can be read."""
        for _, note in reversed(self.notes()):
            with contextlib.suppress(InterlockError):
                return Checkpoint.parse(parse_note(note)[0]), note
        return None
