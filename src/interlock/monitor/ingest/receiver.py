"""What a listener does with one request: who sent it, is it new, which rows does it close.

No socket here. A request that is answered with success is in the buffer and, with `state`, its
number and times outlast a restart; a request that finds the buffer full changes nothing and may
come again.
"""

from __future__ import annotations

import collections
import contextlib
import fcntl
import json
import os
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from interlock.crypto.files import read_private, storage_error, write_private
from interlock.errors import InputError, InterlockError, SetupError, StorageError
from interlock.monitor.frames import Frame, StreamKind
from interlock.monitor.ingest.assemble import RowAssembler, fill_gaps
from interlock.monitor.ingest.events import EventMemory
from interlock.monitor.ingest.otlp import MAX_RECORDS, LogEvent, decode_logs, decode_metrics
from interlock.monitor.ingest.points import MAX_BYTES, Points
from interlock.monitor.ingest.remote_write import decode_remote_write
from interlock.monitor.ingest.source import (
    BUFFER_BYTES,
    SKEW_LIMIT_NS,
    Account,
    BoundedBuffer,
    refusal,
)
from interlock.monitor.ingest.sources import Source, authenticate, claimed

__all__ = ["LOGS", "METRICS", "REMOTE_WRITE", "BusyError", "Receiver", "busy"]

METRICS, LOGS, REMOTE_WRITE = "/v1/metrics", "/v1/logs", "/api/v1/write"
AHEAD_NS = 300 * 10**9
MAX_SERIES = 65_536


class BusyError(InterlockError):
    """The buffer is full: the sender must wait and send the same again."""

    exit_code = 13
    retry_after_s: float = 1.0


def busy(got: str, expected: str) -> BusyError:
    """Return the refusal of a request for which there is no room now."""
    return BusyError(
        "the listener's buffer is full",
        code="monitor-busy",
        got=f"{got} waiting",
        expected=expected,
        fix="send the same again later; nothing of it was taken",
    )


class _Stream:
    """One source's way from samples to rows."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.spec = source.spec()
        self.rows = RowAssembler(self.spec)
        self.account = Account()
        self.number = -1
        self.unknown = 0
        self.given: int | None = None
        self._channel = {name: k for k, name in enumerate(source.channels)}
        self._of_series: dict[int, int] = {}

    def channels(self, points: Points) -> np.ndarray:
        """Return each sample's channel, -1 for a series the source did not promise."""
        series, first, code = np.unique(points.series, return_index=True, return_inverse=True)
        found = np.full(len(series), -1, np.int64)
        for k, (name, at) in enumerate(zip(series.tolist(), first.tolist(), strict=True)):
            known = self._of_series.get(name)
            if known is None:
                known = self._channel.get(points.label(at), -1)
                if len(self._of_series) < MAX_SERIES:
                    self._of_series[name] = known
            found[k] = known
        return found[code]


def _unpacked(headers: Mapping[str, str], body: bytes) -> bytes:
    encoding = headers.get("content-encoding", "identity").lower()
    if encoding in ("identity", "", "snappy"):
        return body
    try:
        if encoding not in ("gzip", "deflate"):
            raise ValueError(f"content-encoding {encoding[:20]}")
        unpack = zlib.decompressobj(47)
        raw = unpack.decompress(body, MAX_BYTES + 1)
        if len(raw) > MAX_BYTES or not unpack.eof:
            raise ValueError("too large, or cut")
    except (zlib.error, ValueError) as error:
        raise InputError(
            "a request body cannot be unpacked",
            code="monitor-wire",
            got=str(error),
            expected=f"identity, gzip or deflate, at most {MAX_BYTES} bytes unpacked",
            fix="send smaller batches",
        ) from error
    return raw


def _hold(state: Path) -> int:
    """Return the descriptor that holds the state file's lock."""
    path = state.with_name(state.name + ".lock")
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise storage_error(path, error) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise SetupError(
            "another listener has this home",
            code="monitor-listen-home",
            got=str(path),
            expected="one listener a home: a second would take the same requests again",
            fix="stop the other one, or send to it",
        ) from error
    return fd


class Receiver:
    """Takes requests of known sources; gives rows to whoever watches.

    Args:
        sources: who may send.
        buffer_rows: rows that may wait; a full buffer answers `BusyError`.
        state: file with the highest numbers seen, against replays after a restart. One receiver at
            a time has it, until `close`: another would take what this one has seen.
        clock_ns: the receiver's clock.

    Raises:
        SetupError: another receiver has the state file.
    """

    def __init__(
        self,
        sources: Iterable[Source],
        *,
        buffer_rows: int = 1_000_000,
        state: Path | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.streams = {s.source: _Stream(s) for s in sources}
        self._sources = {name: stream.source for name, stream in self.streams.items()}
        self._buffer = BoundedBuffer(max_rows=buffer_rows)
        self._state, self._clock_ns = state, clock_ns
        self._lock, self._counting = threading.Lock(), threading.Lock()
        self.ready = threading.Event()
        self.refused: collections.Counter[str] = collections.Counter()
        self.events: collections.deque[tuple[str, LogEvent]] = collections.deque()
        self._held = -1 if state is None else _hold(state)
        try:
            self._restore()
            # Another name than the state's own, so that a damaged one can be told and removed.
            past = None if state is None else state.with_name(state.name + ".events")
            self._past = EventMemory(past)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let another receiver have the state file."""
        held, self._held = self._held, -1
        if held >= 0:
            os.close(held)

    def _restore(self) -> None:
        raw = read_private(self._state) if self._state is not None else None
        if raw is None:
            return
        try:
            for name, (number, floor) in json.loads(raw).items():
                if stream := self.streams.get(name):
                    stream.number = int(number)
                    stream.rows.floor = stream.account.next_seq = floor
        except (ValueError, TypeError, AttributeError) as error:
            raise StorageError(
                "the listener's state file is damaged",
                code="monitor-listen-state",
                got=f"{type(error).__name__}: {error}",
                expected="source -> [number, row]",
                fix="find out why; deleting it lets old requests be replayed once",
            ) from error

    def _save(self) -> None:
        if self._state is not None:
            seen = {n: [s.number, s.account.next_seq] for n, s in self.streams.items()}
            write_private(self._state, json.dumps(seen).encode())

    @staticmethod
    def warm() -> None:
        """Compile the decoders, so that no sender waits for that."""
        decode_metrics(b"")
        decode_remote_write(b"\x00")

    def claimed(self, headers: Mapping[str, str]) -> bool:
        """Return whether the headers prove who sends; they may also need the body for that.

        Raises:
            IntegrityError: whatever the body, nobody known sends this.
        """
        with self._counted():
            return claimed(self._sources, headers)[1] is None

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        try:
            yield
        except InterlockError as error:
            with self._counting:
                self.refused[error.code] += 1
            raise

    def push(self, path: str, headers: Mapping[str, str], body: bytes) -> int:
        """Take one request; return how many of its samples nobody asked for.

        Raises:
            IntegrityError: an unknown or spoofed source, or a replay.
            InputError: the message is not well formed, or its times lie ahead.
            BusyError: the buffer is full.
        """
        with self._lock, self._counted():
            return self._push(path, headers, body, self._clock_ns())

    def _push(self, path: str, headers: Mapping[str, str], body: bytes, now_ns: int) -> int:
        source, number = authenticate(self._sources, path, headers, body)
        stream = self.streams[source.source]
        if number is not None and number <= stream.number:
            raise stream.account.refuse(
                source.source, f"number {number} after {stream.number}", "monitor-replay"
            )
        raw = _unpacked(headers, body)
        if path == LOGS:
            lost = self._take_events(source, decode_logs(raw), now_ns)
        else:
            decode = decode_remote_write if path == REMOTE_WRITE else decode_metrics
            lost = self._take_points(stream, decode(raw), now_ns)
        stream.number = stream.number if number is None else number
        self._save()
        self.ready.set()
        return lost

    def _take_points(self, stream: _Stream, points: Points, now_ns: int) -> int:
        name = stream.source.source
        channel = stream.channels(points)
        keep = (channel >= 0) & (points.t_ns > 0)
        if len(points) and int(points.t_ns.max()) > now_ns + AHEAD_NS:
            ahead = (int(points.t_ns.max()) - now_ns) / 1e9
            raise stream.account.refuse(name, f"times {ahead:.0f} s ahead", "monitor-clock")
        rows = stream.rows.most_rows(points.t_ns[keep])
        if not self._buffer.holds(rows, stream.spec):
            stream.account.refused += 1
            raise InputError(
                f"a batch of {name!r} makes more rows than the buffer holds",
                code="monitor-batch-rows",
                got=f"{rows} rows of {len(stream.spec.channels)} channels, missing ones included",
                expected="rows that fit when nothing else waits",
                fix="check period_ms against the times sent; send smaller batches",
            )
        if not self._buffer.room(rows, stream.spec):
            raise busy(f"{self._buffer.rows} rows", "room for the batch")
        before = stream.rows.duplicates
        frame, new = stream.rows.add(points.t_ns[keep], channel[keep], points.values[keep])
        stream.account.duplicates += stream.rows.duplicates - before
        if keep.any() and not new:
            raise stream.account.refuse(name, "every sample was seen before", "monitor-replay")
        unknown = len(points) - int(keep.sum()) + points.lost
        stream.unknown += unknown
        if frame is not None:
            lag = now_ns - int(points.t_ns[keep].max())
            frame = stream.account.take(frame, lag_ns=lag, limit_ns=SKEW_LIMIT_NS)
            filled = fill_gaps(frame, stream.given)
            stream.given = int(frame.seq[-1]) + 1
            self._buffer.offer(filled)
        return unknown

    def _take_events(self, source: Source, events: list[LogEvent], now_ns: int) -> int:
        if source.kind is not StreamKind.AUDIT:
            raise refusal(source.source, "logs from a source that is no audit log")
        if len(self.events) + len(events) > MAX_RECORDS:
            raise busy(f"{len(self.events)} records", f"at most {MAX_RECORDS}")
        size = sum(event.cost for event in events)
        if size > BUFFER_BYTES:
            raise InputError(
                f"a batch of {source.source!r} is larger than the buffer",
                code="monitor-batch-rows",
                got=f"log records of {size} B",
                expected=f"at most {BUFFER_BYTES} B",
                fix="send smaller batches",
            )
        if not self._buffer.room_beside(size):
            raise busy(f"{self._buffer.beside} B of log records", f"{size} B free beside the rows")
        account = self.streams[source.source].account
        # Alone: refusing the batch would let one record from the future hide the others.
        timely = [event for event in events if event.t_ns <= now_ns + AHEAD_NS]
        ahead = len(events) - len(timely)
        account.refused += ahead
        fresh = self._past.fresh(source.source, timely)
        account.duplicates += len(timely) - len(fresh)
        self._past.take(source.source, fresh)
        self.events.extend((source.source, event) for event in fresh)
        self._buffer.beside += sum(event.cost for event in fresh)
        if ahead and ahead == len(events):
            raise refusal(source.source, "every record lies ahead", "monitor-clock")
        if events and not fresh:
            raise account.refuse(source.source, "every record was seen before", "monitor-replay")
        return ahead

    def take(self) -> Frame | None:
        """Return the oldest rows that wait, missing ones as NaN, or None."""
        with self._lock:
            frame = self._buffer.take()
            if frame is None:
                self.ready.clear()
            return frame

    def flush(self) -> None:
        """Close the rows that are open: nothing more will come for them."""
        with self._lock:
            for stream in self.streams.values():
                frame = stream.rows.flush()
                if frame is None:
                    continue
                last = stream.account.take(
                    frame, lag_ns=stream.account.skew_ns, limit_ns=SKEW_LIMIT_NS
                )
                self._buffer.offer(fill_gaps(last, stream.given))
            self._save()

    def take_events(self) -> list[tuple[str, LogEvent]]:
        """Return the log records that wait, each with its source."""
        with self._lock:
            found = list(self.events)
            self.events.clear()
            self._buffer.beside = 0
        return found

    @property
    def waiting_rows(self) -> int:
        """Rows in the buffer."""
        return self._buffer.rows
