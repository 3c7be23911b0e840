"""Asking the governor. No answer, a late answer or a strange one means no."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from pathlib import Path
from typing import Any

import msgspec

from interlock.errors import BackendError
from interlock.guard.govern.governor.server import MAX_MESSAGE, folder

__all__ = ["Client"]


class Client:
    """One connection to a governor's socket; used by several threads, one request at a time.

    Args:
        home: the home the governor serves.
        which: `orders` or `admin`.
        timeout_s: how long to wait for an answer.
    """

    def __init__(self, home: Path, which: str = "orders", *, timeout_s: float = 1.0) -> None:
        self._path = folder(home) / f"{which}.sock"
        self._timeout = timeout_s
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._owner = 0

    def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        """Send one request and return the answer.

        Raises:
            BackendError: there is none (`governor-down`).
        """
        data = msgspec.json.encode(message)
        with self._lock:
            try:
                if len(data) > MAX_MESSAGE:
                    raise OSError(f"{len(data)} bytes are more than {MAX_MESSAGE}")
                answer = msgspec.json.decode(self._exchange(data))
                if not isinstance(answer, dict):
                    raise OSError("the answer is no object")
            except (OSError, msgspec.DecodeError) as error:
                # A late answer must not be taken for that of the next question.
                self._close()
                raise BackendError(
                    "the governor did not answer",
                    code="governor-down",
                    got=f"{type(error).__name__}: {error}",
                    expected=f"an answer on {self._path} in {self._timeout:g} s",
                    fix="start it with `interlock governor serve`; until then nothing may act",
                ) from error
            return answer

    def _exchange(self, data: bytes) -> bytes:
        if self._owner != os.getpid():
            self._close()  # after a fork, two would read each other's answers
        kept = self._socket is not None
        try:
            return self._once(data)
        except (BrokenPipeError, ConnectionResetError):
            if not kept:
                raise
            # The governor was started again. The same id gets the same answer, so asking twice
            # counts once.
            self._close()
            return self._once(data)

    def _once(self, data: bytes) -> bytes:
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._owner = os.getpid()
            self._socket.settimeout(self._timeout)
            self._socket.connect(str(self._path))
        self._socket.send(data)
        answer = self._socket.recv(MAX_MESSAGE)
        if not answer:
            raise ConnectionResetError("the connection was closed")
        return answer

    def _close(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
            self._socket = None

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._close()
