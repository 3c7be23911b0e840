"""Signals that come to `interlock run`: who has had them, who is still to get them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Protocol

__all__ = ["Ends", "family", "passing_on"]

#: One signal to a process and to its group, as `timeout` sends it, is one; seconds apart.
ECHO_S = 0.5
#: How long `cat` may take to end.
CAT_S = 0.2

_WAITING = (
    b"interlock: interrupted; waiting for the device's job under way."
    b" Ctrl-C again ends the program without it\n"
)


class Ends(Protocol):
    """A guarded program that can be asked to end."""

    def ask(self, number: int) -> None:
        """Pass a signal on to it."""
        ...

    def kill(self) -> None:
        """End it at once."""
        ...

    def silent(self) -> list[int]:
        """Return its processes that cannot take a signal now: a device's job holds them."""
        ...


class _Group:
    """Tells whether a signal went to the whole process group: one that did ended a `cat` in it."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        # It ends with this process, too: nobody else has the other end of the pipe.
        self._cat = subprocess.Popen(
            ["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL  # noqa: S607
        )  # fmt: skip

    def had(self) -> bool:
        try:
            self._cat.wait(CAT_S)
        except subprocess.TimeoutExpired:
            return False
        self.close()
        self._start()
        return True

    def close(self) -> None:
        assert self._cat.stdin is not None
        self._cat.stdin.close()
        self._cat.wait()


@contextlib.contextmanager
def passing_on(program: Ends) -> Iterator[None]:
    """Pass SIGINT, SIGTERM and SIGHUP on to a program; the second one ends it at once.

    Ctrl-C goes to the whole process group, and so to the program, which deals with it as it likes:
    it is not told twice. Only one of its processes that cannot even take it, because a device's job
    holds Python's lock, is ended by the second. A signal that was ignored stays ignored.
    """
    group = _Group()
    handler = _handler(program, group.had)
    before = {
        number: signal.signal(number, handler)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, one in before.items():
            signal.signal(number, one)
        group.close()


def _handler(
    program: Ends, group_had: Callable[[], bool]
) -> Callable[[int, FrameType | None], None]:
    asked = warned = False
    last = -ECHO_S

    def handle(number: int, _frame: FrameType | None) -> None:
        nonlocal asked, warned, last
        now, past = time.monotonic(), last
        last = now
        if now - past < ECHO_S:
            return
        if not group_had():
            if asked:
                program.kill()
                return
            asked = True
            program.ask(number)
        held = program.silent()
        if held and warned:
            for pid in held:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        elif held:
            warned = True
            # Not through Python's streams: this may have come in the middle of a write to them.
            os.write(2, _WAITING)

    return handle


def family(pid: int) -> list[int]:
    """Return a process of this group and its descendants in it: those that Ctrl-C would reach."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            # After the name, which may hold anything: state, parent, group.
            _, parent, group = path.read_text(errors="replace").rpartition(")")[2].split()[:3]
            if int(group) == os.getpgrp():
                children.setdefault(int(parent), []).append(int(path.parent.name))
    found, at = [pid], 0
    while at < len(found):
        found += children.get(found[at], [])
        at += 1
    return found
