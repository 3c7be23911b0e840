"""Files recorded once: the same rows again are no new data.

What was recorded is known by the file's digest, whatever its name, and by how far the row numbers
or times of its source went. Nothing tells the rows of a changed file without `seq` and `t_ns`.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

from interlock.crypto.files import storage_error
from interlock.errors import IntegrityError
from interlock.monitor.store import MonitorStore, Position

__all__ = ["check_new", "digest_of"]


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    try:
        with path.open("rb") as source:
            return hashlib.file_digest(source, "sha256").hexdigest()
    except OSError as error:
        raise storage_error(path, error) from error


def check_new(path: Path, digest: str, store: MonitorStore) -> Position:
    """Return how far its source was recorded, unless this file was.

    Raises:
        IntegrityError: it was recorded before, under this name or another.
    """
    known = store.recorded(digest)
    if known is not None:
        source, at_s = known
        raise IntegrityError(
            "this file was recorded before; nothing of it was taken",
            code="monitor-recorded",
            got=f"{path.name}, recorded as {source!r} at "
            f"{datetime.fromtimestamp(at_s, UTC).isoformat(timespec='seconds')}",
            expected="rows not seen before",
            fix="record the newer file, or look at this one without --record",
        )
    return store.position(path.stem)
