"""Writing a ledger, or the part of it that may be shown, so that others can check it alone."""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeAlias

from interlock.crypto import files
from interlock.errors import UsageError
from interlock.ledger.anchor import copy_kept
from interlock.ledger.entry import Entry
from interlock.ledger.ledger import Ledger

__all__ = ["Show", "export"]

#: How much of an entry is shown: all of it, its header, or only that it exists.
Show: TypeAlias = Literal["payload", "header", "hidden"]


def export(
    ledger: Ledger, folder: Path, show: Callable[[Entry], Show] = lambda _entry: "header"
) -> dict[str, int]:
    """Write an export into a new folder.

    Rotations of keys are always shown: without them later heads cannot be checked. A payload that
    has been erased is exported as its header.

    Args:
        ledger: the ledger; a head over all entries is signed first.
        folder: must not exist, or be empty.
        show: decides for each entry.

    Returns:
        How many entries were shown in each way.

    Raises:
        UsageError: the folder holds something.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(
            "the export folder holds something already",
            code="export-exists",
            got=str(folder),
            expected="a new or empty folder",
            fix="name another folder; nothing was overwritten",
        )
    note = ledger.checkpoint()
    head = ledger.check_note(note)
    counts = {"payload": 0, "header": 0, "hidden": 0}
    try:
        (folder / "heads").mkdir(parents=True, exist_ok=True)
        for name in ("README.txt", "verify.py"):
            resource = importlib.resources.files("interlock.ledger.offline") / name
            (folder / name).write_bytes(resource.read_bytes())
        for generation, keys in enumerate(ledger.history().until(head.size)):
            name = f"ledger.vkeys.{generation}" if generation else "ledger.vkeys"
            (folder / name).write_text("".join(f"{key}\n" for key in keys))
        copy_kept(ledger.home, folder)
        for size, text in ledger.heads():
            if size <= head.size:
                (folder / "heads" / f"{size:020d}.note").write_text(text)
        with (folder / "entries.ndjson").open("w", encoding="utf-8") as out:
            for line, how in _lines(ledger, head.size, show):
                counts[how] += 1
                out.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")
    except OSError as error:
        raise files.storage_error(folder, error) from error
    return counts


def _lines(
    ledger: Ledger, size: int, show: Callable[[Entry], Show]
) -> Iterator[tuple[dict[str, Any], Show]]:
    for entry, header, stored in ledger.raw_entries(size):
        how: Show = "header" if entry.event.startswith("ledger.") else show(entry)
        if how == "payload" and entry.erased:
            how = "header"
        if how == "hidden":
            yield {"leaf": entry.leaf_hash.hex()}, how
            continue
        line: dict[str, Any] = {"header": header.decode()}
        if how == "header":
            line["payload_sha256"] = hashlib.sha256(stored).hexdigest()
        else:
            line["stored"] = base64.b64encode(stored).decode()
            line["key"] = ledger.entry_key(entry.key, stored).hex()
            line["payload"] = entry.payload
        yield line, how
