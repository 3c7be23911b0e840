"""Typed streams and frames: what a sensor promises, and a run of its samples."""

from __future__ import annotations

import dataclasses
import enum
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from interlock.errors import InputError

__all__ = ["NO_VALUE", "Frame", "Origin", "StreamKind", "StreamSpec"]

MAX_CHANNELS = 4096
#: From here on a number is none: instruments send 9.9e37 and 9.91e37 for it (IEEE 488.2, SCPI).
NO_VALUE = 9.8e37


class Origin(enum.StrEnum):
    """Where samples come from. Cloud backends expose no pulses, so those say one of these.

    A file does not say it by itself: its reader does, or it stays unknown.
    """

    SIMULATED = "simulated"
    LAB_DRIVER = "lab-driver"
    CLOUD_API = "cloud-api"
    UNKNOWN = "unknown"


class StreamKind(enum.StrEnum):
    """What a stream measures."""

    PULSE = "pulse"
    TEMPERATURE = "temperature"
    MAGNETOMETER = "magnetometer"
    CALIBRATION = "calibration"
    QUEUE = "queue"
    AUDIT = "audit"


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSpec:
    """What one source promises to send.

    Args:
        source: the source's id; its key signs its batches.
        kind: what is measured.
        channels: channel names, in column order.
        period_ns: nominal time between rows; gaps and skew are counted against it.
        origin: simulated, from a lab driver, or from a cloud interface.
    """

    source: str
    kind: StreamKind
    channels: tuple[str, ...]
    period_ns: int
    origin: Origin

    def __post_init__(self) -> None:
        if not 1 <= len(self.channels) <= MAX_CHANNELS or len(set(self.channels)) != len(
            self.channels
        ):
            raise InputError(
                f"stream {self.source!r} has a bad channel list",
                code="monitor-channels",
                got=f"{len(self.channels)} names, {len(set(self.channels))} distinct",
                expected=f"1 to {MAX_CHANNELS} distinct names",
                fix="name each channel once",
            )
        if self.period_ns <= 0:
            raise InputError(
                f"stream {self.source!r} has no positive period",
                code="monitor-period",
                got=str(self.period_ns),
                expected="nanoseconds > 0",
                fix="set period_ns to the nominal sampling period",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """Rows of one stream: `values[i, c]` is channel c at `t_ns[i]`, row number `seq[i]`.

    Missing samples are NaN, never left out. `reference[c]`, where there is one, was subtracted from
    channel c before its samples became float32, so that small steps of large numbers (1 Hz of
    5 GHz) are not rounded away; `original` has it added again.

    Example:
        >>> spec = StreamSpec(source="fridge", kind=StreamKind.TEMPERATURE, channels=("mxc",),
        ...                   period_ns=10**9, origin=Origin.SIMULATED)
        >>> frame = Frame.of(spec, np.array([[0.011], [0.012]]))
        >>> frame.values.shape, frame.t_ns.tolist()
        ((2, 1), [0, 1000000000])
    """

    spec: StreamSpec
    t_ns: npt.NDArray[np.int64]
    seq: npt.NDArray[np.int64]
    values: npt.NDArray[np.float32]
    reference: npt.NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        rows = len(self.t_ns)
        if self.values.shape != (rows, len(self.spec.channels)) or len(self.seq) != rows:
            raise InputError(
                f"frame of {self.spec.source!r} does not fit its stream",
                code="monitor-frame",
                got=f"values {self.values.shape}, {rows} times, {len(self.seq)} numbers",
                expected=f"values (rows, {len(self.spec.channels)})",
                fix="send one value a channel a row; NaN where a sample is missing",
            )

    @classmethod
    def of(
        cls, spec: StreamSpec, values: npt.ArrayLike, *, start_ns: int = 0, first_seq: int = 0
    ) -> Frame:
        """Make a frame with evenly spaced times from values (rows, channels)."""
        array = np.atleast_2d(np.asarray(values, dtype=np.float32))
        seq = np.arange(first_seq, first_seq + len(array), dtype=np.int64)
        return cls(
            spec=spec,
            t_ns=start_ns + (seq - first_seq) * spec.period_ns,
            seq=seq,
            values=np.ascontiguousarray(array),
        )

    @property
    def original(self) -> npt.NDArray[np.float64]:
        """The samples as they were sent."""
        found: npt.NDArray[np.float64] = self.values.astype(np.float64)
        return found if self.reference is None else found + np.nan_to_num(self.reference)

    def known(self) -> Frame:
        """Return the frame with NaN for what an instrument sends in place of a number."""
        none = np.abs(self.values) >= NO_VALUE
        if not none.any():
            return self
        return dataclasses.replace(self, values=np.where(none, np.float32(np.nan), self.values))

    def __len__(self) -> int:
        return len(self.t_ns)

    def __getitem__(self, rows: slice | npt.NDArray[np.bool_]) -> Frame:
        """Return some of the rows."""
        return dataclasses.replace(
            self, t_ns=self.t_ns[rows], seq=self.seq[rows], values=self.values[rows]
        )
