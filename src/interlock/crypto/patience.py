"""A bound in time on a call as a whole, whatever the other side does."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

__all__ = ["within"]

T = TypeVar("T")


def within(timeout_s: float, ask: Callable[[], T]) -> T:
    """Return what a call returns, unless it takes longer.

    A socket's own time-out starts anew with every byte, so who sends one byte at a time is never
    late: the call runs in a thread that is left behind.

    Args:
        timeout_s: for everything together.
        ask: the call; it must bound each of its own waits, so that the thread ends some time.

    Raises:
        TimeoutError: no answer in time.
        Exception: what the call raised.

    Example:
        >>> within(1.0, lambda: 42)
        42
    """
    done: list[T] = []
    failed: list[Exception] = []

    def run() -> None:
        try:
            done.append(ask())
        except Exception as error:  # noqa: BLE001 (raised again in the caller's thread)
            failed.append(error)

    worker = threading.Thread(target=run, name="interlock-within", daemon=True)
    worker.start()
    worker.join(timeout_s)
    if failed:
        raise failed[0]
    if not done:
        raise TimeoutError(f"no whole answer after {timeout_s} s")
    return done[0]
