"""Where things are kept."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["home"]


def home(path: str | Path | None = None) -> Path:
    """Return the folder of ledger, state and keys.

    Args:
        path: wins over everything when given.

    Returns:
        `path`, else `$INTERLOCK_HOME`, else `~/.interlock`.

    Example:
        >>> home("/tmp/lab").name
        'lab'
    """
    chosen = path or os.environ.get("INTERLOCK_HOME") or Path.home() / ".interlock"
    return Path(chosen).expanduser().absolute()
