"""A line at the foot of a terminal, out of the way of what others print there."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Self

__all__ = ["Foot", "has_foot"]

#: Rows below which a terminal has none to spare.
LEAST_ROWS = 4
_SAVE, _RESTORE, _UP, _CLEAR = "\x1b7", "\x1b8", "\x1b[1A", "\x1b[2K"


def has_foot(fd: int) -> bool:
    """Whether something is a terminal whose last row can be set apart."""
    try:
        rows = os.get_terminal_size(fd).lines
    except OSError:
        return False
    return rows >= LEAST_ROWS and os.environ.get("TERM", "dumb") != "dumb"


class Foot:
    """Sets the last row of a terminal apart while it is open: all else scrolls above it.

    A program may print to the same terminal at any time, and its lines and prompts stay whole.

    Args:
        fd: the terminal.
        text: of the line, until `show` gives another.
    """

    def __init__(self, fd: int, text: str) -> None:
        self._fd = fd
        self._text = text
        self._rows = 0
        self._shown = ""
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        self.show()
        return self

    def show(self, text: str | None = None) -> None:
        """Show a text and how long it has been open; without one, the time moves on."""
        self._text = text or self._text
        with contextlib.suppress(OSError):  # the terminal has gone: the jobs go on
            columns, rows = os.get_terminal_size(self._fd)
            minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
            line = f"{self._text}  {minutes}:{seconds:02}"[: columns - 1]
            if rows != self._rows:
                # Where the cursor is in the last row, a row is scrolled free and it goes above.
                top = max(rows - 1, 1)
                self._write(f"\n{_UP}{_SAVE}\x1b[1;{top}r{_RESTORE}")
            elif line == self._shown:
                return
            self._rows, self._shown = rows, line
            self._write(f"{_SAVE}\x1b[{rows};1H{_CLEAR}{line}{_RESTORE}")

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._write(f"{_SAVE}\x1b[r\x1b[{self._rows};1H{_CLEAR}{_RESTORE}")

    def _write(self, sequence: str) -> None:
        # In one call: what others write comes before it or after it, never within.
        os.write(self._fd, sequence.encode())
