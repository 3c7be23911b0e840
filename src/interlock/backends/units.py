"""Dates, times and names that the readers of calibrations share."""

from __future__ import annotations

import datetime as dt
from typing import Any

__all__ = ["NO_GATE", "TO_US", "seconds"]

#: Unit of a time -> microseconds; no unit is seconds.
TO_US = {"s": 1e6, "ms": 1e3, "us": 1.0, "µs": 1.0, "μs": 1.0, "ns": 1e-3, "": 1e6}
#: Operations of a device that are no gates.
NO_GATE = frozenset({"measure", "reset", "delay", "barrier"})


def seconds(date: Any) -> float | None:
    """Seconds since the epoch; a time without a zone is taken as UTC."""
    if isinstance(date, str):
        try:
            date = dt.datetime.fromisoformat(date)
        except ValueError:
            return None
    if not isinstance(date, dt.datetime):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=dt.UTC)
    return float(date.timestamp())
