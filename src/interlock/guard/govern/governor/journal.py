"""The governor's memory: lines that are only ever added, on disk before an answer leaves.

One line a write: CRC-32 in hex, a blank, a JSON list of records (older files: one record). After
the last line come zeros, written ahead, so that adding a line changes no size and the disk need
not commit the file system's own journal. A last line that is cut short or has holes of zeros is a
write that was never answered, so it is dropped; damage anywhere else stops the governor from
starting.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from interlock.errors import IntegrityError, StorageError
from interlock.guard.govern.governor.appetite import Appetite, Override
from interlock.guard.govern.governor.engine import Engine

__all__ = ["Journal", "replay"]

#: Records after which the file is replaced by a snapshot.
COMPACT_AFTER = 200_000
#: Zeros written ahead at a time.
AHEAD = 1 << 20
#: A write returns when it is on disk: one system call, and less wait than a write and fdatasync.
DURABLE = os.O_DSYNC


def _line(records: Sequence[Mapping[str, Any]]) -> bytes:
    body = msgspec.json.encode(records)
    return b"%08x " % zlib.crc32(body) + body + b"\n"


def _parsed(line: bytes) -> list[dict[str, Any]] | None:
    """Return the records of a line, None when it is damaged."""
    with contextlib.suppress(ValueError, msgspec.DecodeError, RecursionError):
        if int(line[:8], 16) == zlib.crc32(line[9:]):
            records = msgspec.json.decode(line[9:])
            records = [records] if isinstance(records, dict) else records
            if isinstance(records, list) and all(isinstance(r, dict) for r in records):
                return records
    return None


class Journal:
    """An exclusive file of records, each write on disk before it returns.

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
            self.records, self._end = self._read()
            self._file = os.open(path, os.O_CREAT | os.O_WRONLY | DURABLE, 0o600)
            self._size = os.fstat(self._file).st_size
            if self._end != self._size:
                # What is left of a torn line goes before anything is added behind it.
                if self._end:
                    os.pwrite(self._file, b"\n", self._end - 1)
                os.pwrite(self._file, bytes(max(self._size - self._end, 0)), self._end)
                os.fdatasync(self._file)
                self._size = max(self._size, self._end)
            self.write_ahead()
        except BaseException:
            os.close(self._lock)
            raise
        self.count = len(self.records)

    def _read(self) -> tuple[list[dict[str, Any]], int]:
        """Return the records and where the next line goes."""
        if not self.path.exists():
            return [], 0
        data = self.path.read_bytes().rstrip(b"\0")
        *lines, rest = data.split(b"\n")
        found: list[dict[str, Any]] = []
        end = 0
        for number, line in enumerate(lines, 1):
            records = _parsed(line)
            if records is None:
                # Holes of zeros are a torn write, and that was the last: none began before it was
                # on disk.
                if b"\0" in line and number == len(lines) and not rest:
                    return found, end
                raise _damaged(self.path, number)
            found += records
            end += len(line) + 1
        if _parsed(rest[:-1]) is not None:
            raise _damaged(self.path, len(lines) + 1)
        records = _parsed(rest)
        return (found, end) if records is None else (found + records, end + len(rest) + 1)

    def write_ahead(self) -> None:
        """Write zeros ahead when less than half of them are left; call it when nobody waits."""
        if self._size - self._end < AHEAD // 2:
            # A full disk is told when a record finds no room.
            with contextlib.suppress(OSError):
                os.pwrite(self._file, bytes(AHEAD), self._size)
                os.fsync(self._file)
                self._size += AHEAD

    def append(self, records: list[dict[str, Any]]) -> None:
        """Write records and wait until they are on disk.

        Raises:
            StorageError: they are not; the caller must not answer, and must stop.
        """
        data = _line(records)
        try:
            if os.pwrite(self._file, data, self._end) != len(data):
                raise OSError("short write")
        except OSError as error:
            raise StorageError(
                "the governor cannot persist its decisions",
                code="governor-persist",
                got=str(error),
                expected="a disk that takes them",
                fix="free some space; the governor has stopped, so nothing passes",
            ) from error
        self._end += len(data)
        self._size = max(self._size, self._end)
        self.count += len(records)

    def compact(self, engine: Engine, start: dict[str, Any]) -> None:
        """Replace the file by one snapshot and the start it goes on from, durably."""
        fresh = self.path.with_suffix(".new")
        with fresh.open("wb") as file:
            file.write(_line([{"kind": "snapshot", "state": engine.snapshot()}, start]))
            end = file.tell()
            file.write(bytes(AHEAD))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.path)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        os.close(self._file)
        self._file = os.open(self.path, os.O_WRONLY | DURABLE)
        self._end, self._size = end, end + AHEAD
        self.count = 2

    def close(self) -> None:
        """Close the file and release the lock."""
        os.close(self._file)
        os.close(self._lock)


def _damaged(path: Path, number: int) -> IntegrityError:
    return IntegrityError(
        "the governor's journal is damaged",
        code="governor-journal",
        got=f"{path}, line {number}",
        expected="lines with the right checksum",
        fix="keep the file as evidence; restore it, or start a new home on purpose",
    )


def replay(records: list[dict[str, Any]], appetite: Appetite) -> tuple[Engine, str, int | None]:
    """Return the engine the records lead to, the boot they ended in, and its clock's offset.

    Raises:
        IntegrityError: a recorded answer is not the one the engine gives.
    """
    engine, boot, offset = Engine(appetite), "", None
    for record in records:
        kind = record["kind"]
        if kind == "snapshot":
            engine = Engine.restore(record["state"])
        elif kind == "start":
            boot, offset = record["boot"], record.get("offset")
            if record.get("lapsed"):
                engine.lapse()
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
    return engine, boot, offset
