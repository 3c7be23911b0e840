"""Clocks that cannot be right, on a ledger that has no entry to compare with, and from outside."""

import time
from pathlib import Path

import pytest

from interlock.errors import IntegrityError
from interlock.ledger import Ledger, audit, clock
from interlock.ledger.entry import format_time
from interlock.ledger.report import Report

DAY = 86_400 * 10**9
YEAR = 366 * DAY


@pytest.mark.parametrize("years", [-10, -2, 6, 10])
def test_no_ledger_begins_by_a_clock_that_is_years_off(home: Path, years: int) -> None:
    now = [time.time_ns() + years * YEAR]
    with Ledger.open(home, clock=lambda: now[0]) as ledger:
        for _ in range(2):
            with pytest.raises(IntegrityError, match="not begun") as caught:
                ledger.append("a", {}, {}).wait()
            assert caught.value.code == "clock-wrong"
            assert caught.value.got == format_time(now[0] // 1000 * 1000)
        with pytest.raises(IntegrityError, match="not begun"):
            ledger.rotate()
        assert len(ledger) == 0
        now[0] = time.time_ns()  # set right, it goes on without reopening
        assert ledger.append("a", {}, {}).wait().index == 0
    assert audit(home).ok


@pytest.mark.parametrize("days", [-300, 0, 4 * 366])
def test_a_clock_that_may_be_right_begins_a_ledger(home: Path, days: int) -> None:
    with Ledger.open(home, clock=lambda: time.time_ns() + days * DAY) as ledger:
        assert ledger.append("a", {}, {}).wait().index == 0


def test_files_without_dates_leave_the_date_of_the_release(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(_path: Path) -> None:
        raise OSError

    monkeypatch.setattr(Path, "iterdir", unreadable)
    clock.check_first(clock._WRITTEN_NS)
    with pytest.raises(IntegrityError):
        clock.check_first(clock._WRITTEN_NS - 401 * DAY)
    with pytest.raises(IntegrityError):
        clock.check_first(clock._WRITTEN_NS + 6 * YEAR)


def test_a_clock_from_outside_that_disagrees_is_said() -> None:
    now = time.time_ns()
    for off in (0, clock.DRIFT_NS, -clock.DRIFT_NS):
        clock.check_against(now + off, now, "w")
    for off in (clock.DRIFT_NS + 1, -clock.DRIFT_NS - 1, 10 * YEAR):
        with pytest.raises(IntegrityError, match="do not agree") as caught:
            clock.check_against(now + off, now, "w")
        assert caught.value.code == "clock-drift"


def test_entries_later_than_they_were_seen_are_a_fault(filled: Path) -> None:
    report = audit(filled)
    assert set(report.times) >= {10, 20}
    now = time.time_ns()
    report.hold_clock(20, now, "w")
    report.hold_clock(7, 0, "w")  # no head of that size: nothing is known
    assert report.ok
    report.hold_clock(20, now - 2 * clock.DRIFT_NS, "w")
    assert [(f.kind, f.where) for f in report.faults] == [("clock-ahead", "the first 20 entries")]


def test_a_time_that_cannot_be_read_is_a_fault() -> None:
    report = Report(times={1: "yesterday", 2: ""})
    report.hold_clock(1, 0, "w")
    report.hold_clock(2, 0, "w")  # no entry under it could be read: a fault already
    assert [(f.kind, f.got) for f in report.faults] == [("unreadable", "yesterday")]
