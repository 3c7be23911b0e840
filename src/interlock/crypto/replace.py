"""Reading files, and writing new ones that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from interlock.crypto.files import storage_error, sync_dir
from interlock.errors import UsageError

__all__ = ["new_file", "reading"]


@contextlib.contextmanager
def reading(path: Path) -> Iterator[BinaryIO]:
    """Open a file to read; a failure is an error of ours."""
    try:
        with path.open("rb") as handle:
            yield handle
    except OSError as error:
        raise storage_error(path, error) from error


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Write a new private file; it appears under its name only when the block ends well.

    Raises:
        UsageError: there is a file of that name.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise storage_error(path, error) from error
    try:
        with os.fdopen(fd, "wb") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        os.link(temporary, path)
        sync_dir(path.parent)
    except FileExistsError as error:
        raise UsageError(
            "there is a file of that name",
            code="file-exists",
            got=str(path),
            expected="a new name",
            fix="name another file; nothing was overwritten",
        ) from error
    except OSError as error:
        raise storage_error(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)
