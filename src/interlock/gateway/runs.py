"""Who may call itself what on a home, and what becomes of the jobs of runs that have ended.

A gateway holds a lock of its name. The gateway of one run (`interlock run --enforced`) takes only
that run's jobs; so once it has ended nobody else would, and what it left is settled: by itself, or
by the next run on the home when it was killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from interlock.errors import UsageError

if TYPE_CHECKING:
    from interlock.gateway.store import GatewayStore

__all__ = ["folder", "hold", "new_name", "remove", "settle"]

_RUN = "run-"


def new_name() -> str:
    """Return a name for the gateway of one run that no other has had."""
    return _RUN + secrets.token_hex(8)


def folder(name: str) -> Path:
    """Return where a run keeps its socket and its events."""
    return Path(tempfile.gettempdir()) / f"interlock-{name}"


def remove(name: str) -> None:
    """Remove the folder of a run that has ended, if it is still there."""
    shutil.rmtree(folder(name), ignore_errors=True)


@contextlib.contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Let one process at a time look whose locks are free."""
    lock = os.open(home / "gateways.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def hold(home: Path, name: str) -> int:
    """Take a gateway's name on a home; return the descriptor that holds it while it is open.

    Raises:
        UsageError: another process has it.
    """
    with _alone(home):
        lock = os.open(home / f"gateway-{name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise UsageError(
                f"a gateway named {name!r} runs on this home",
                code="gateway-runs",
                got=str(home),
                expected="one process for each name",
                fix="stop it, or give this one another --name",
            ) from error
    return lock


def settle(home: Path, store: GatewayStore, own: str) -> None:
    """Settle what ended runs have left, and the run that calls this, at its own end."""
    with _alone(home):
        for path in sorted(home.glob(f"gateway-{_RUN}*.lock")):
            name = path.stem.removeprefix("gateway-")
            lock = os.open(path, os.O_RDWR)
            try:
                if name != own:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    remove(name)
                store.abandon(name)
                path.unlink()
            except BlockingIOError:
                continue  # that run goes on
            finally:
                os.close(lock)
