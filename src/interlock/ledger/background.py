"""The thread that commits what nobody waits for and signs heads at intervals."""

from __future__ import annotations

import atexit
import contextlib
import threading
import time
import weakref
from typing import Protocol

from interlock.errors import InterlockError
from interlock.ledger.sequencer import LINGER_S

__all__ = ["register", "start"]


class Ticking(Protocol):
    """What the thread looks after."""

    wake: threading.Event

    @property
    def closed(self) -> bool:
        """Whether it was closed."""

    def tick(self) -> float:
        """Do what is due; return the seconds until something may be."""

    def close(self) -> None:
        """Let go."""


_open: weakref.WeakSet[Ticking] = weakref.WeakSet()


def register(ledger: Ticking) -> None:
    """Close a ledger at the end of the process unless that was done before."""
    _open.add(ledger)


@atexit.register
def _close_all() -> None:
    for ledger in list(_open):
        with contextlib.suppress(InterlockError):
            ledger.close()


def start(ledger: Ticking) -> threading.Thread:
    """Start the thread; it keeps no ledger alive and ends with it."""
    thread = threading.Thread(
        target=_run, args=(weakref.ref(ledger),), name="interlock-ledger", daemon=True
    )
    thread.start()
    return thread


def _run(reference: weakref.ref[Ticking]) -> None:
    pause = LINGER_S
    while True:
        ledger = reference()
        if ledger is None or ledger.closed:
            return
        wake = ledger.wake
        del ledger
        if not wake.wait(1.0):
            continue
        time.sleep(pause)
        pause = LINGER_S
        ledger = reference()
        if ledger is not None and not ledger.closed:
            # Its entries have the error. Without this thread, others would wait for ever.
            with contextlib.suppress(Exception):
                pause = ledger.tick()
