"""Whether a machine's clock can be right, by what there is to compare it with.

No machine knows the time by itself. A ledger with entries has its last one; a new ledger has the
date of this release and of the files it was installed as; an authority or a witness that is asked
brings a clock of its own.
"""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from pathlib import Path

from interlock.errors import IntegrityError
from interlock.ledger.entry import format_time

__all__ = ["DRIFT_NS", "check_against", "check_first", "check_next"]

_SECOND_NS = 1_000_000_000
_DAY_NS = 86_400 * _SECOND_NS
#: No clock before this was right when this code ran: it was written then.
_WRITTEN_NS = int(datetime(2026, 6, 1, tzinfo=UTC).timestamp()) * _SECOND_NS
#: A clock may lag behind the last entry by this much (it is then held at the last entry's time).
_BACK_NS = 10 * _SECOND_NS
#: ... and run ahead of it by this much.
_AHEAD_NS = 400 * _DAY_NS
#: A new ledger may be begun this long before the newest file of the installation (files can be
#: copied from a machine that runs ahead) ...
_BEFORE_NS = 400 * _DAY_NS
#: ... and this long after it: who installed nothing for longer is told to.
_AFTER_NS = 5 * 366 * _DAY_NS
#: How far the clock of an authority or a witness may be from this machine's.
DRIFT_NS = 3600 * _SECOND_NS


def check_next(now_ns: int, last_ns: int) -> None:
    """Raise unless an entry after one of `last_ns` can be of now.

    Raises:
        IntegrityError: the clock went back, or more than 400 days on.
    """
    if not last_ns - _BACK_NS <= now_ns <= last_ns + _AHEAD_NS:
        raise IntegrityError(
            "the clock of this machine does not fit the ledger; the entry was not recorded",
            code="clock-wrong",
            got=format_time(now_ns),
            expected=f"at or after the last entry, {format_time(last_ns)}, and within 400 days",
            fix="set the clock; if the ledger rested for longer, begin a new one",
        )


def check_first(now_ns: int) -> None:
    """Raise unless a ledger can begin now, by the date of this installation.

    Raises:
        IntegrityError: that is long before these files were there, or years after any of them.
    """
    newest_ns = _installed_ns()
    if not newest_ns - _BEFORE_NS <= now_ns <= newest_ns + _AFTER_NS:
        raise IntegrityError(
            "the clock of this machine cannot be right; the ledger was not begun",
            code="clock-wrong",
            got=format_time(now_ns),
            expected=f"near the newest file of this installation, {format_time(newest_ns)}: at "
            "most 400 days before or 5 years after",
            fix="set the clock; if it is right, install Interlock again: its files get that date",
        )


def check_against(other_ns: int, now_ns: int, who: str) -> None:
    """Raise unless this machine's clock agrees with one from outside, within an hour.

    Raises:
        IntegrityError: it does not.
    """
    if abs(other_ns - now_ns) > DRIFT_NS:
        raise IntegrityError(
            f"the clock of this machine and that of {who} do not agree; what it signed is kept",
            code="clock-drift",
            got=f"{format_time(now_ns)} here",
            expected=f"within an hour of {format_time(other_ns)}, as {who} says",
            fix="set whichever clock is wrong; if it is this one, the times of the newest entries "
            "are wrong as well: begin a new ledger when they are years off",
        )


def _installed_ns() -> int:
    found = [_WRITTEN_NS]
    with contextlib.suppress(OSError):
        found += [path.stat().st_mtime_ns for path in Path(__file__).parent.iterdir()]
    return max(found)
