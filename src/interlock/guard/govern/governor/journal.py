"""The governor's memory: an append-only file, on disk before an answer leaves.

One line a record: CRC-32 in hex, a blank, JSON. A line cut short at the very end is a write that
was never answered, so it is dropped; damage anywhere else stops the governor from starting.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from interlock.errors import IntegrityError, StorageError
from interlock.guard.govern.governor.appetite import Appetite, Override
from interlock.guard.govern.governor.engine import Engine

__all__ = ["Journal", "replay"]

#: Records after which the file is replaced by a snapshot.
COMPACT_AFTER = 200_000


def _line(record: Mapping[str, Any]) -> bytes:
    body = msgspec.json.encode(record)
    return b"%08x " % zlib.crc32(body) + body + b"\n"


class Journal:
    """An exclusive, append-only file of records.

    Raises:
        StorageError: another governor has it, or the disk fails.
        IntegrityError: it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = os.open(path.with_suffix(".lock"), os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise StorageError(
                "another governor holds this journal",
                code="governor-running",
                got=str(path),
                expected="one governor a home",
                fix="end the other one first",
            ) from error
        try:
            self.records = list(self._read())
            self._file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        except BaseException:
            os.close(self._lock)
            raise
        self.count = len(self.records)

    def _read(self) -> Iterator[dict[str, Any]]:
        if not self.path.exists():
            return
        data = self.path.read_bytes()
        good = data.rfind(b"\n") + 1
        lines = data[:good].split(b"\n")[:-1]
        for number, line in enumerate(lines, 1):
            record: Any = None
            with contextlib.suppress(ValueError, msgspec.DecodeError):
                if int(line[:8], 16) == zlib.crc32(line[9:]):
                    record = msgspec.json.decode(line[9:])
            if not isinstance(record, dict):
                raise IntegrityError(
                    "the governor's journal is damaged",
                    code="governor-journal",
                    got=f"{self.path}, line {number} of {len(lines)}",
                    expected="lines with the right checksum",
                    fix="keep the file as evidence; restore it, or start a new home on purpose",
                )
            yield record
        if good < len(data):
            with self.path.open("r+b") as file:
                file.truncate(good)
                os.fsync(file.fileno())

    def append(self, records: list[dict[str, Any]]) -> None:
        """Write records and wait until they are on disk.

        Raises:
            StorageError: they are not; the caller must not answer, and must stop.
        """
        data = b"".join(map(_line, records))
        try:
            if os.write(self._file, data) != len(data):
                raise OSError("short write")
            os.fdatasync(self._file)
        except OSError as error:
            raise StorageError(
                "the governor cannot persist its decisions",
                code="governor-persist",
                got=str(error),
                expected="a disk that takes them",
                fix="free some space; the governor has stopped, so nothing passes",
            ) from error
        self.count += len(records)

    def compact(self, engine: Engine) -> None:
        """Replace the file by one snapshot, durably."""
        fresh = self.path.with_suffix(".new")
        with fresh.open("wb") as file:
            file.write(_line({"kind": "snapshot", "state": engine.snapshot()}))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.path)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        os.close(self._file)
        self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        self.count = 1

    def close(self) -> None:
        """Close the file and release the lock."""
        os.close(self._file)
        os.close(self._lock)


def replay(records: list[dict[str, Any]], appetite: Appetite) -> tuple[Engine, str]:
    """Return the engine the records lead to, and the boot they ended in.

    Raises:
        IntegrityError: a recorded answer is not the one the engine gives.
    """
    engine, boot = Engine(appetite), ""
    for record in records:
        kind = record["kind"]
        if kind == "snapshot":
            engine = Engine.restore(record["state"])
        elif kind == "start":
            boot = record["boot"]
        elif kind == "appetite":
            engine.adopt(msgspec.convert(record["body"], Appetite))
        elif kind == "mark":
            engine.mark(record["t"], record["prices"], record["equity"])
        elif kind == "override":
            engine.override(record["t"], msgspec.convert(record["body"], Override))
        elif kind == "orders":
            answer = engine.decide(
                record["t"], record["id"], record["orders"], stopped=record["stopped"]
            )
            if answer["rule"] != record["rule"]:
                raise IntegrityError(
                    "the governor's journal does not replay",
                    code="governor-journal",
                    got=f"{record['id']}: {answer['rule']} now, {record['rule']} on record",
                    expected="the recorded answer",
                    fix="use the version that wrote it; keep the file as evidence",
                )
    return engine, boot
