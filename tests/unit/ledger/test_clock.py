"""Clocks that cannot be right, on a ledger that has no entry to compare with, and from outside."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from interlock.cli import main
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


#: The `interlock` command on a machine whose clock is off by the seconds that the first word says.
ELSEWHERE = """
import sys, time
off, here = float(sys.argv[1]), time.time
time.time = lambda: here() + off
from interlock.cli import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture
def witness(tmp_path: Path, home: Path) -> Iterator[Callable[[float], tuple[str, Path]]]:
    """Starts `interlock witness` as a process; gives its address and its public keys."""
    running: list[subprocess.Popen[str]] = []

    def start(off_s: float) -> tuple[str, Path]:
        folder = tmp_path / f"witness{len(running)}"
        words = [
            *("witness", "--home", str(folder), "--name", f"w{len(running)}.example"),
            *("--log", str(home / "ledger.vkeys"), "--port", "0"),
        ]
        process = subprocess.Popen(
            [sys.executable, "-c", ELSEWHERE, str(off_s), *words],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        running.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        return line.split(" on ")[1].split(",")[0], folder / "witness.vkeys"

    yield start
    for process in running:
        process.terminate()
        process.wait(20)


@pytest.mark.enable_socket
@pytest.mark.parametrize(("off_s", "code"), [(0, 0), (3000, 0), (-7300, 7), (7300, 7)])
def test_a_witness_whose_clock_is_off_is_said_by_the_commands(
    filled: Path,
    witness: Callable[[float], tuple[str, Path]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    off_s: float,
    code: int,
) -> None:
    url, keys = witness(off_s)
    ask = ["ledger", "witness", url, "--keys", str(keys), "--home", str(filled)]
    assert main(ask) == code
    out, err = capsys.readouterr()
    assert ("clock-drift" in err) == (code == 7)
    assert ("w0.example" in (err if code else out)) is True
    # The answer is kept either way: a ledger ahead of its witness is named by `verify` as well.
    lines = keys.read_text().split()
    names = [f"witness w{n} {key}" for n, key in enumerate(lines)]
    members = " ".join(f"w{n}" for n in range(len(lines)))
    logs = [f"log {key}" for key in (filled / "ledger.vkeys").read_text().split()]
    policy = tmp_path / "policy"
    policy.write_text("\n".join([*logs, *names, f"group all all {members}", "quorum all", ""]))
    ahead = off_s < -3600
    assert main(["verify", "--home", str(filled), "--policy", str(policy)]) == (7 if ahead else 0)
    assert ("clock-ahead" in capsys.readouterr().out) == ahead
