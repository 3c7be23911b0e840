"""What the columns of a telemetry file are: row numbers, times, sensors."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt

from interlock.monitor.frames import NO_VALUE

__all__ = ["SEQ", "TIME", "Numbering", "is_clock", "reference", "whole"]

TIME, SEQ = "t_ns", "seq"
Ints = npt.NDArray[np.int64]
#: Names of times and of row numbers that tables bring along; `t` alone may be a temperature.
CLOCK = re.compile(
    r"(unnamed: 0|__index_level_0__|index|row|"
    r"((unix|epoch|utc|wall|sample|recorded|created)[ _-]?)?"
    r"(ts|times?|timestamps?|datetime|date|epoch|clock)([ _-]?(ns|us|ms|s|sec|utc|at))?|"
    r"t[ _-](ns|us|ms|s|sec|utc))?",
    re.IGNORECASE,
)


def is_clock(name: str, column: Any) -> bool:
    """Return whether a column is a clock or a row number, not a sensor.

    By its type; or by its name, unless its numbers go down as often as a sensor's do.

    Example:
        >>> import pyarrow as pa
        >>> is_clock("time", pa.array([1.0, 2.0])), is_clock("time", pa.array([3.0, 1.0, 2.0]))
        (True, False)
    """
    import pyarrow as pa

    kind = column.type
    if pa.types.is_temporal(kind):
        return True
    if not CLOCK.fullmatch(name.strip()):
        return False
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return True
    steps = np.diff(column.to_numpy(zero_copy_only=False))
    return bool(len(steps) == 0 or (steps > 0).mean() > 0.9)


def whole(column: Any) -> Ints:
    """Return a column of whole numbers, or of times as nanoseconds.

    Raises:
        ValueError: a number is missing, not whole, or too large.
    """
    found = column.to_numpy(zero_copy_only=False)
    if found.dtype.kind == "M":
        if np.isnat(found).any():
            raise ValueError("a missing time")
        return np.asarray(found.astype("datetime64[ns]"), np.int64)
    if found.dtype.kind not in "iuf":
        raise ValueError(f"{column.type} instead of whole numbers")
    if len(found) and not (np.abs(found.astype(np.float64)) < 2.0**62).all():
        raise ValueError("a missing or too large number")
    if (found != np.rint(found)).any():
        raise ValueError("a number that is not whole")
    return np.asarray(found, np.int64)


def reference(column: npt.NDArray[Any]) -> float:
    """Return what to subtract from a column before it becomes float32; NaN while nothing is known.

    Nothing where float32 holds the column's steps; else, and while it has no steps yet, its median:
    a first reading that is a glitch must not set the scale of those that follow.

    Example:
        >>> reference(np.array([0.5, 0.25])), reference(np.array([5e9, 5e9 + 1]))
        (0.0, 5000000000.0)
    """
    if column.dtype == np.float32:
        return 0.0
    known = column.astype(np.float64)
    known = known[np.abs(known) < NO_VALUE]
    if not len(known):
        return float("nan")
    steps = np.abs(np.diff(known))
    steps = steps[steps > 0]
    error = np.median(np.abs(known - known.astype(np.float32)))
    lost = not len(steps) or error > 1e-3 * np.median(steps)
    return float(np.sort(known)[(len(known) - 1) // 2]) if lost else 0.0


class Numbering:
    """Row numbers from times: each row counts the periods since the last, at least one.

    A row whose time does not rise gets the number of the row before it: it is no new row.

    Args:
        period_ns: nominal time between rows; None takes the median of the first times.

    Example:
        >>> Numbering(10).number(np.array([100, 111, 130, 130, 120, 141])).tolist()
        [0, 1, 3, 3, 3, 4]
    """

    def __init__(self, period_ns: int | None) -> None:
        self.period_ns = period_ns
        self._last: int | None = None
        self._seq = 0

    def number(self, t_ns: Ints) -> Ints:
        """Return the numbers of the next rows."""
        if not len(t_ns):
            return t_ns
        first = int(t_ns[0]) if self._last is None else self._last
        if self.period_ns is None:
            steps = np.diff(t_ns, prepend=first)
            steps = steps[steps > 0]
            self.period_ns = int(np.median(steps)) if len(steps) else None
        newest = np.maximum.accumulate(np.concatenate([[first], t_ns]))
        gained = np.diff(newest)
        steps = np.rint(gained / (self.period_ns or 1)).astype(np.int64)
        seq = self._seq + np.cumsum(np.where(gained > 0, np.maximum(steps, 1), 0))
        self._last, self._seq = int(newest[-1]), int(seq[-1])
        return seq
