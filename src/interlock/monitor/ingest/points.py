"""Samples of many series as parallel columns: what every push protocol is decoded to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from interlock.errors import InputError

__all__ = ["MAX_BYTES", "Points", "bad_message", "room_for", "series_name"]

MAX_BYTES = 64 << 20
#: A sample without a time or a value is not kept, so each takes at least this many bytes.
SMALLEST_POINT = 11


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """Samples of many series: parallel columns; `names[code[i]]` is the metric of sample i.

    `series` tells series apart; `label(i)` writes the name of sample i's series with its labels,
    as `name{key=value,...}`. `lost` counts points without a time.
    """

    t_ns: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    series: npt.NDArray[np.uint64]
    code: npt.NDArray[np.int64]
    names: tuple[str, ...]
    label: Callable[[int], str]
    lost: int = 0

    def __len__(self) -> int:
        return len(self.t_ns)


def bad_message(what: str, got: str) -> InputError:
    """Return the error of a message that is not what it says."""
    return InputError(
        f"a {what} message cannot be decoded",
        code="monitor-wire",
        got=got,
        expected=f"well-formed {what} of at most {MAX_BYTES} bytes",
        fix="check the exporter; send smaller batches",
    )


def room_for(size: int, rows: int) -> tuple[Any, Any, Any]:
    """Return bits, their view as floats, and the table of whole numbers, for a message's size."""
    room = size // SMALLEST_POINT + 1
    bits = np.empty(room, np.uint64)
    return bits, bits.view(np.float64), np.empty((rows, room), np.int64)


def series_name(name: str, labels: dict[str, str]) -> str:
    """Return `name{key=value,...}`, keys sorted; the bare name without labels.

    Example:
        >>> series_name("t1_us", {"qubit": "3"}), series_name("mxc", {})
        ('t1_us{qubit=3}', 'mxc')
    """
    rest = ",".join(f"{k}={v}" for k, v in sorted(labels.items()))
    return f"{name}{{{rest}}}" if rest else name
