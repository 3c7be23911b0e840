"""Who sent this, is it new, and what is missing: the gate every pushed batch passes.

A batch carries its source, the numbers of its rows and an Ed25519 signature over header and
samples. Unknown sources, wrong signatures and replays are refused; gaps, duplicates and clock skew
are counted, and skew is taken out of the times.
"""

from __future__ import annotations

import collections
import hashlib
from dataclasses import dataclass, field

import numpy as np

from interlock.crypto import signing
from interlock.errors import IntegrityError
from interlock.monitor.frames import Frame, StreamSpec

__all__ = ["Account", "BoundedBuffer", "SourceGate", "sign_frame"]

SKEW_WINDOW = 64


def _digest(frame: Frame) -> bytes:
    spec = frame.spec
    text = "\x00".join(
        (spec.source, spec.kind, spec.origin, str(spec.period_ns), *spec.channels)
    ).encode()
    h = hashlib.sha256(len(text).to_bytes(8, "big") + text)
    for column in (frame.t_ns, frame.seq, frame.values):
        h.update(np.ascontiguousarray(column).tobytes())
    return b"interlock-telemetry-batch-v1\x00" + h.digest()


def sign_frame(frame: Frame, key: signing.PrivateKey) -> bytes:
    """Return the source's signature over a frame."""
    return key.sign(_digest(frame))


@dataclass(slots=True)
class Account:
    """What one source has sent so far."""

    rows: int = 0
    duplicates: int = 0
    missing: int = 0
    refused: int = 0
    next_seq: int | None = None
    skew_ns: int = 0
    last_t_ns: int = -(1 << 62)
    clock_steps: int = 0
    _lags: collections.deque[int] = field(
        default_factory=lambda: collections.deque(maxlen=SKEW_WINDOW)
    )


class SourceGate:
    """Admits frames of known sources; keeps one `Account` a source.

    Args:
        sources: source id -> its stream and its raw Ed25519 public key.
        delay_ns: transport delay expected of an unskewed source.
        skew_limit_ns: skew above this is taken out of the times.
    """

    def __init__(
        self,
        sources: dict[str, tuple[StreamSpec, bytes]],
        *,
        delay_ns: int = 0,
        skew_limit_ns: int = 20_000_000,
    ) -> None:
        self._sources = dict(sources)
        self._delay_ns = delay_ns
        self._limit_ns = skew_limit_ns
        self.accounts = {name: Account() for name in sources}

    def accept(self, frame: Frame, signature: bytes, *, received_ns: int) -> Frame:
        """Return the frame's new rows with skew taken out of their times.

        Raises:
            IntegrityError: unknown or changed source, wrong signature, or nothing new (a replay).
        """
        name = frame.spec.source
        known = self._sources.get(name)
        if known is None or known[0] != frame.spec:
            raise self._refuse(name, "unknown source or changed stream", "monitor-source")
        account = self.accounts[name]
        try:
            signing.verify("ed25519", known[1], signature, _digest(frame))
        except IntegrityError as error:
            account.refused += 1
            raise self._refuse(name, "wrong signature", "monitor-source") from error
        if len(frame) == 0 or (np.diff(frame.seq) <= 0).any():
            account.refused += 1
            raise self._refuse(name, "row numbers do not rise", "monitor-replay")
        fresh = frame.seq >= (account.next_seq if account.next_seq is not None else frame.seq[0])
        if not fresh.any():
            account.refused += 1
            raise self._refuse(name, "every row was seen before", "monitor-replay")
        account.duplicates += int((~fresh).sum())
        seq = frame.seq[fresh]
        expected = account.next_seq if account.next_seq is not None else int(seq[0])
        account.missing += int(seq[-1]) - expected + 1 - len(seq)
        account.rows += len(seq)
        account.next_seq = int(seq[-1]) + 1
        times = frame.t_ns[fresh]
        if times[0] <= account.last_t_ns or (np.diff(times) <= 0).any():
            account.clock_steps += 1
        account.last_t_ns = int(times[-1])
        account._lags.append(received_ns - int(times[-1]) - self._delay_ns)
        # Queueing only adds to the lag, so the least of the last lags is nearest to the skew.
        account.skew_ns = min(account._lags, key=abs) if account._lags else 0
        shift = account.skew_ns if abs(account.skew_ns) > self._limit_ns else 0
        return Frame(spec=frame.spec, t_ns=times + shift, seq=seq, values=frame.values[fresh])

    @staticmethod
    def _refuse(name: str, why: str, code: str) -> IntegrityError:
        return IntegrityError(
            f"telemetry from {name!r} is refused",
            code=code,
            got=why,
            expected="a batch signed by a known source, with rows not seen before",
            fix="register the source, or look for someone sending in its name",
        )


class BoundedBuffer:
    """Frames waiting to be scored, at most `max_rows`; a full buffer says no.

    Example:
        >>> from interlock.monitor.frames import Origin, StreamKind
        >>> spec = StreamSpec(source="s", kind=StreamKind.QUEUE, channels=("a",), period_ns=1,
        ...                   origin=Origin.SIMULATED)
        >>> buffer = BoundedBuffer(max_rows=3)
        >>> [buffer.offer(Frame.of(spec, [[0.0], [1.0]])) for _ in range(2)]
        [True, False]
    """

    def __init__(self, *, max_rows: int) -> None:
        self._max = max_rows
        self._frames: collections.deque[Frame] = collections.deque()
        self.rows = 0
        self.turned_away = 0

    def offer(self, frame: Frame) -> bool:
        """Take the frame, or return False: the sender must wait."""
        if self.rows + len(frame) > self._max:
            self.turned_away += 1
            return False
        self._frames.append(frame)
        self.rows += len(frame)
        return True

    def take(self) -> Frame | None:
        """Return the oldest frame, or None."""
        if not self._frames:
            return None
        frame = self._frames.popleft()
        self.rows -= len(frame)
        return frame
