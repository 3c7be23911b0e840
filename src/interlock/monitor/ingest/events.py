"""Which log records were taken before, over restarts: the memory against replayed audit logs.

The newest records are remembered by digest. What falls out of the memory raises its source's
floor: a record at or before it can no longer be told from a copy and counts as one.
"""

from __future__ import annotations

import collections
import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from interlock.crypto.files import read_private, storage_error, write_private
from interlock.errors import StorageError
from interlock.monitor.ingest.otlp import LogEvent

__all__ = ["EventMemory"]

KEEP = 100_000


class EventMemory:
    """The records of a listener that were taken.

    Args:
        path: where they outlast a restart; None keeps them in memory only.
        keep: how many are remembered.

    Raises:
        StorageError: the file is damaged.

    Example:
        >>> event = LogEvent(t_ns=1, severity="", body="b", attributes={})
        >>> memory = EventMemory(None)
        >>> [len(memory.fresh("s", [event])), memory.take("s", [event]), memory.fresh("s", [event])]
        [1, None, []]
    """

    def __init__(self, path: Path | None, *, keep: int = KEEP) -> None:
        self._path, self._keep = path, keep
        self._seen: collections.OrderedDict[str, tuple[str, int]] = collections.OrderedDict()
        self._floors: dict[str, int] = {}
        self._lines = 0
        if path is not None:
            self._restore(path)

    def _restore(self, path: Path) -> None:
        raw = read_private(path)
        if raw is None:
            return
        # A crash cuts the last line; its records were not acknowledged.
        lines = raw.decode("utf-8", "replace").split("\n")[:-1]
        try:
            if lines:
                self._floors = {str(k): int(v) for k, v in json.loads(lines[0]).items()}
            for line in lines[1:]:
                digest, source, t_ns = json.loads(line)
                self._remember(str(digest), str(source), int(t_ns))
        except (ValueError, TypeError, AttributeError) as error:
            raise StorageError(
                "the listener's list of log records is damaged",
                code="monitor-listen-state",
                got=f"{type(error).__name__}: {error}",
                expected=f"the lines that the listener wrote to {path.name}",
                fix="find out why; deleting it lets old log records be replayed once",
            ) from error
        self._compact()

    def _remember(self, digest: str, source: str, t_ns: int) -> None:
        self._seen[digest] = (source, t_ns)
        if len(self._seen) > self._keep:
            _, (name, old_ns) = self._seen.popitem(last=False)
            self._floors[name] = max(self._floors.get(name, old_ns), old_ns)

    @staticmethod
    def _digest(source: str, event: LogEvent) -> str:
        text = f"{source}\x00{event.t_ns}\x00{event.body}\x00{event.attributes}"
        return hashlib.sha256(text.encode()).hexdigest()

    def fresh(self, source: str, events: Iterable[LogEvent]) -> list[LogEvent]:
        """Return the records that were not taken before, each once."""
        floor = self._floors.get(source)
        found: dict[str, LogEvent] = {}
        for event in events:
            digest = self._digest(source, event)
            if digest not in self._seen and (floor is None or event.t_ns > floor):
                found.setdefault(digest, event)
        return list(found.values())

    def take(self, source: str, events: Iterable[LogEvent]) -> None:
        """Remember records; they are on the disk on return.

        Raises:
            StorageError: they cannot be written; none is remembered.
        """
        rows = [(self._digest(source, event), source, event.t_ns) for event in events]
        if self._path is not None and rows:
            if not self._lines:
                self._compact()
            text = "".join(json.dumps(row) + "\n" for row in rows)
            self._append(self._path, text.encode())
            self._lines += len(rows)
        for row in rows:
            self._remember(*row)
        if self._lines > 2 * self._keep:
            self._compact()

    @staticmethod
    def _append(path: Path, data: bytes) -> None:
        try:
            fd = os.open(path, os.O_WRONLY | os.O_APPEND)
            try:
                before = os.fstat(fd).st_size
                try:
                    written = os.write(fd, data)
                    if written != len(data):
                        raise OSError(f"{written} of {len(data)} B written")
                    os.fsync(fd)
                except OSError:
                    os.ftruncate(fd, before)
                    raise
            finally:
                os.close(fd)
        except OSError as error:
            raise storage_error(path, error) from error

    def _compact(self) -> None:
        if self._path is None:
            return
        rows = ((digest, *told) for digest, told in self._seen.items())
        lines = [json.dumps(self._floors), *map(json.dumps, rows)]
        write_private(self._path, "".join(f"{line}\n" for line in lines).encode())
        self._lines = len(lines)
