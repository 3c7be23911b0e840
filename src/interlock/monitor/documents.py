"""Small files that people write, YAML or JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from interlock.crypto.files import read_plain

__all__ = ["read_document"]


def read_document(path: Path, kind: Any) -> Any:
    """Return what a file of at most 1 MiB holds: JSON by its suffix, else YAML.

    Args:
        path: the file; a pipe or a device is refused, not waited for.
        kind: the type to hold it to.

    Raises:
        OSError: it cannot be read, is no plain file, or is larger.
        ValueError: it holds something else (also as msgspec's errors).
        RecursionError: it is nested too deep.
    """
    decode: Any = msgspec.json.decode if path.suffix == ".json" else msgspec.yaml.decode
    return decode(read_plain(path), type=kind)
