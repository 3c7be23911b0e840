"""Whether the Python of a guarded program can still be interrupted.

Some simulators (Aer) hold Python's lock while they compute: until they are done a program can
neither take Ctrl-C nor say what it waits for. So each guarded process answers a datagram on a
thread of its own, and whoever runs the program says it for those that do not answer.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["answer", "silent"]

_SUFFIX = ".answers"
#: Longer than a busy Python takes to let another of its threads run.
WAIT_S = 1.0
PAUSE_S = 0.05

_answering = 0


def answer(folder: Path) -> None:
    """Let this process answer from now on, unless it does already; what cannot be is left."""
    global _answering
    if _answering == os.getpid():
        return
    _answering = os.getpid()  # a fork has none of its parent's threads
    with contextlib.suppress(OSError), _short(folder) as near:
        inbox = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        inbox.bind(f"{near}/{os.getpid()}{_SUFFIX}")
        threading.Thread(target=_loop, args=(inbox,), name="interlock-answers", daemon=True).start()


@contextlib.contextmanager
def _short(folder: Path) -> Iterator[str]:
    """Lend a short path to a folder: a socket's may have 107 characters."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def _loop(inbox: socket.socket) -> None:
    while True:
        # Nobody waits for it any more, or who asks has no address.
        with contextlib.suppress(OSError, TypeError):
            inbox.sendto(str(os.getpid()).encode(), inbox.recvfrom(16)[1])


def silent(folder: Path) -> list[int]:
    """Return the processes that run and have not answered in time.

    Args:
        folder: what they were told to answer in.
    """
    asked = {int(p.stem): p.name for p in folder.glob(f"*{_SUFFIX}") if p.stem.isdecimal()}
    if not asked:
        return []
    end = time.monotonic() + WAIT_S
    kind = socket.AF_UNIX, socket.SOCK_DGRAM
    with contextlib.closing(socket.socket(*kind)) as outbox, _short(folder) as near:
        outbox.bind("")  # Linux gives it an address of its own
        while asked and time.monotonic() < end:
            for pid, name in list(asked.items()):
                try:
                    outbox.setblocking(False)
                    outbox.sendto(b"?", f"{near}/{name}")
                except BlockingIOError:
                    pass  # it has questions enough
                except OSError:
                    del asked[pid]  # it has ended
            outbox.settimeout(PAUSE_S)
            with contextlib.suppress(OSError, ValueError):
                while True:
                    asked.pop(int(outbox.recv(16)), None)
                    outbox.setblocking(False)
    return sorted(asked)
