"""The standard streams of a sandboxed program.

Whoever holds a descriptor of a file can open the file anew through `/proc/self/fd`, with every
right its user has: a log to append to could be emptied, a file to read from written. So a file is
not handed in; a pipe is, and its bytes are carried on out here.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading

__all__ = ["Streams"]

_REOPENED = (stat.S_IFREG, stat.S_IFDIR, stat.S_IFBLK)
_CHUNK = 1 << 16


class Streams:
    """Standard input, output and error for a program, none of them a file of the host.

    Args:
        stdout: where its standard output goes, or None for this process's own.

    Attributes:
        given: descriptor 0, 1, 2 -> the descriptor to start the program with.
    """

    def __init__(self, stdout: int | None = None) -> None:
        self.given: dict[int, int] = {}
        self._pumps: list[threading.Thread] = []
        outputs: dict[tuple[int, int], int] = {}
        for number, fd in enumerate((0, 1 if stdout is None else stdout, 2)):
            try:
                found = os.fstat(fd)
            except OSError:  # closed
                self.given[number] = os.open(os.devnull, os.O_RDWR)
                continue
            file = (found.st_dev, found.st_ino)
            if stat.S_IFMT(found.st_mode) not in _REOPENED:
                self.given[number] = os.dup(fd)
            elif number and file in outputs:  # both into one file: in one order
                self.given[number] = os.dup(outputs[file])
            else:
                read, write = os.pipe()
                carried = (read, os.dup(fd)) if number else (os.dup(fd), write)
                self.given[number] = write if number else read
                if number:
                    outputs[file] = write
                self._pumps.append(threading.Thread(target=_pump, args=carried, daemon=True))

    def started(self) -> None:
        """Let go of what the program alone has now, and begin to carry."""
        for fd in self.given.values():
            os.close(fd)
        for pump in self._pumps:
            pump.start()

    def wait(self, timeout_s: float) -> None:
        """Wait until what the ended program said has arrived."""
        for pump in self._pumps:
            pump.join(timeout_s)


def _pump(source: int, target: int) -> None:
    with contextlib.suppress(OSError):
        while chunk := os.read(source, _CHUNK):
            while chunk:
                chunk = chunk[os.write(target, chunk) :]
    os.close(source)
    os.close(target)
