"""The folder of a run, and what killed runs have left of theirs."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path

__all__ = ["RunFolder"]

_PREFIX = "interlock-events-"
#: A folder that is younger may not have been locked yet.
_YOUNG_S = 60.0


class RunFolder:
    """A folder in the place for temporary files, until it is closed.

    It is locked for as long as this process or a program that `lock` was passed to is there. What
    is found unlocked was left by a run that was killed, with its program, and is removed.

    Attributes:
        path: the folder.
        lock: a descriptor that holds the lock.
    """

    def __init__(self) -> None:
        _tidy()
        self._folder = tempfile.TemporaryDirectory(prefix=_PREFIX)
        self.path = Path(self._folder.name)
        self.lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(self.lock, fcntl.LOCK_EX)

    def close(self) -> None:
        """Remove it."""
        os.close(self.lock)
        self._folder.cleanup()


def _tidy() -> None:
    for path in Path(tempfile.gettempdir()).glob(_PREFIX + "*"):
        with contextlib.suppress(OSError):  # another user's, or it was removed meanwhile
            found = path.lstat()
            if found.st_uid != os.getuid() or time.time() - found.st_mtime < _YOUNG_S:
                continue
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(lock)
