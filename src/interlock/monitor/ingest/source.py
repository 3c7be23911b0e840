"""What a source has sent: is it new, what is missing, how far is its clock off.

Replays are refused; gaps, duplicates and clock skew are counted, and skew is taken out of the
times. What waits to be scored is bounded.
"""

from __future__ import annotations

import collections
import dataclasses
from dataclasses import dataclass, field

import numpy as np

from interlock.errors import IntegrityError
from interlock.monitor.frames import Frame, StreamSpec
from interlock.monitor.ingest.assemble import GAP_ROWS

__all__ = ["Account", "BoundedBuffer", "refusal"]

SKEW_WINDOW = 64
SKEW_LIMIT_NS = 20_000_000
BUFFER_BYTES = 256 << 20


@dataclass(slots=True)
class Account:
    """What one source has sent so far, and how far its clock is off."""

    rows: int = 0
    duplicates: int = 0
    missing: int = 0
    restarts: int = 0
    refused: int = 0
    next_seq: int | None = None
    skew_ns: int = 0
    last_t_ns: int = -(1 << 62)
    clock_steps: int = 0
    _lags: collections.deque[int] = field(
        default_factory=lambda: collections.deque(maxlen=SKEW_WINDOW)
    )

    def take(self, frame: Frame, *, lag_ns: int, limit_ns: int) -> Frame:
        """Count the frame's rows; return the new ones with skew taken out of their times.

        Args:
            frame: rows whose numbers rise.
            lag_ns: from the last row's time to its arrival, less the delay expected.
            limit_ns: skew above this is taken out.

        Raises:
            IntegrityError: row numbers do not rise, or nothing is new (a replay).
        """
        if len(frame) == 0 or (np.diff(frame.seq) <= 0).any():
            raise self.refuse(frame.spec.source, "row numbers do not rise", "monitor-replay")
        expected = self.next_seq if self.next_seq is not None else int(frame.seq[0])
        fresh = frame.seq >= expected
        if not fresh.any():
            raise self.refuse(frame.spec.source, "every row was seen before", "monitor-replay")
        self.duplicates += int((~fresh).sum())
        seq, times = frame.seq[fresh], frame.t_ns[fresh]
        self.missing += int(seq[-1]) - expected + 1 - len(seq)
        self.restarts += int((np.diff(seq, prepend=expected - 1) > GAP_ROWS + 1).sum())
        self.rows += len(seq)
        self.next_seq = int(seq[-1]) + 1
        if times[0] <= self.last_t_ns or (np.diff(times) <= 0).any():
            self.clock_steps += 1
        self.last_t_ns = int(times[-1])
        self._lags.append(lag_ns)
        # Queueing only adds to the lag, so the least of the last lags is nearest to the skew.
        self.skew_ns = min(self._lags, key=abs)
        shift = self.skew_ns if abs(self.skew_ns) > limit_ns else 0
        return dataclasses.replace(frame[fresh], t_ns=times + shift)

    def refuse(self, name: str, why: str, code: str) -> IntegrityError:
        """Count a refusal and return its error."""
        self.refused += 1
        return refusal(name, why, code)


def refusal(name: str, why: str, code: str = "monitor-source") -> IntegrityError:
    """Return the error of telemetry that is not what a known source sends for the first time."""
    return IntegrityError(
        f"telemetry from {name[:80]!r} is refused",
        code=code,
        got=why,
        expected="a batch signed by a known source, with rows not seen before",
        fix="register the source, or look for someone sending in its name",
    )


class BoundedBuffer:
    """Frames waiting to be scored, bounded in rows and in bytes; a full buffer says no.

    Args:
        max_rows: rows that may wait.
        max_bytes: bytes they may take: rows of many channels are charged for all of them.

    Example:
        >>> from interlock.monitor.frames import Origin, StreamKind
        >>> spec = StreamSpec(source="s", kind=StreamKind.QUEUE, channels=("a",), period_ns=1,
        ...                   origin=Origin.SIMULATED)
        >>> buffer = BoundedBuffer(max_rows=3)
        >>> [buffer.offer(Frame.of(spec, [[0.0], [1.0]])) for _ in range(2)]
        [True, False]
    """

    def __init__(self, *, max_rows: int, max_bytes: int = BUFFER_BYTES) -> None:
        self._max, self._max_bytes = max_rows, max_bytes
        self._frames: collections.deque[Frame] = collections.deque()
        self.rows = self.bytes = 0
        self.beside = 0  # bytes that wait elsewhere and count here, such as log records
        self.turned_away = 0

    @staticmethod
    def cost(rows: int, spec: StreamSpec) -> int:
        """Return the bytes of so many rows: samples, time and number."""
        return rows * (4 * len(spec.channels) + 16)

    def holds(self, rows: int, spec: StreamSpec) -> bool:
        """Return whether so many rows fit when nothing else waits."""
        return rows <= self._max and self.cost(rows, spec) <= self._max_bytes

    def room_beside(self, size: int) -> bool:
        """Return whether so many bytes beside the rows, such as log records, would fit."""
        return self.bytes + self.beside + size <= self._max_bytes

    def room(self, rows: int, spec: StreamSpec) -> bool:
        """Return whether so many rows would fit; count a no."""
        if self.rows + rows > self._max or not self.room_beside(self.cost(rows, spec)):
            self.turned_away += 1
            return False
        return True

    def offer(self, frame: Frame) -> bool:
        """Take the frame, or return False: the sender must wait."""
        if not self.room(len(frame), frame.spec):
            return False
        self._frames.append(frame)
        self.rows += len(frame)
        self.bytes += self.cost(len(frame), frame.spec)
        return True

    def take(self) -> Frame | None:
        """Return the oldest frame, or None."""
        if not self._frames:
            return None
        frame = self._frames.popleft()
        self.rows -= len(frame)
        self.bytes -= self.cost(len(frame), frame.spec)
        return frame
