"""The thread that commits what nobody waits for and signs heads at intervals."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
import weakref
from typing import Protocol

from interlock.errors import InterlockError
from interlock.ledger.sequencer import LINGER_S

__all__ = ["awake", "register", "start"]


class Ticking(Protocol):
    """What the thread looks after."""

    wake: threading.Event

    @property
    def closed(self) -> bool:
        """Whether it was closed."""

    def tick(self) -> float:
        """Do what is due; return the seconds until something may be."""

    def renew(self) -> None:
        """Begin anew in a forked child."""

    def close(self) -> None:
        """Let go."""


_open: weakref.WeakSet[Ticking] = weakref.WeakSet()
#: Ledgers with something to do. What was handed in is recorded, whoever still asks for it.
_awake: set[Ticking] = set()


def register(ledger: Ticking) -> None:
    """Close a ledger at the end of the process unless that was done before."""
    _open.add(ledger)


@atexit.register
def _close_all() -> None:
    for ledger in list(_open):
        with contextlib.suppress(InterlockError):
            ledger.close()


def _renew() -> None:
    """Leave the parent's ledgers to the parent: a forked child has not opened them."""
    inherited = [*_open]
    _open.clear()
    _awake.clear()
    for ledger in inherited:
        ledger.renew()


os.register_at_fork(after_in_child=_renew)


def awake(ledger: Ticking) -> None:
    """Keep a ledger that has just been woken until its thread has found it at rest."""
    _awake.add(ledger)


def start(ledger: Ticking) -> threading.Thread:
    """Start the thread; it keeps no ledger at rest alive and ends with it."""
    register(ledger)  # a forked child that uses it closes it, too
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
        if not wake.is_set():
            _awake.discard(ledger)
            if wake.is_set():  # by somebody, between the two
                _awake.add(ledger)
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
