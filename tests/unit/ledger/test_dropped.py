"""What is queued is recorded once: when nobody keeps the ledger, and by the parent of a fork."""

import gc
import os
import signal
import time
from pathlib import Path

import pytest

from interlock.errors import StorageError
from interlock.ledger import Ledger, background

PATIENCE_S = 20.0


def test_entries_of_a_ledger_that_nobody_keeps_are_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("interlock.ledger.sequencer.LINGER_S", 1.0)
    ledger = Ledger.open(tmp_path / "home")
    for _ in range(3):
        ledger.append("a", {}, {})
    del ledger
    gc.collect()
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        with Ledger.read(tmp_path / "home") as reader:
            if len(reader) == 3:
                return
        time.sleep(0.05)
    pytest.fail("entries were lost")


def test_a_ledger_at_rest_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interlock.ledger.ledger._QUIET_S", 0.1)
    before = set(background._open)
    Ledger.open(tmp_path / "home").append("a", {}, {})
    deadline = time.monotonic() + PATIENCE_S
    while set(background._open) - before:
        assert time.monotonic() < deadline
        time.sleep(0.05)
        gc.collect()


@pytest.mark.alone
def test_a_forked_child_leaves_what_is_queued_to_its_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("interlock.ledger.sequencer.LINGER_S", 60.0)
    with Ledger.open(tmp_path / "home") as ledger:
        ledger.append("a", {}, {}).wait()
        ledger.append("b", {"job": "1"}, {})
        # As another thread that commits would hold it.
        with ledger._sequencer._mutex:
            child = os.fork()
            if not child:
                signal.alarm(int(PATIENCE_S))
                background._close_all()
                os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        child = os.fork()
        if not child:
            background._close_all()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    with Ledger.read(tmp_path / "home") as reader:
        assert [entry.event for entry in reader.entries()] == ["a", "b"]
    assert ledger.verify().ok


@pytest.mark.alone
def test_a_forked_child_is_refused_the_ledger_of_its_parent_at_once(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "home") as ledger:
        ledger.append("a", {}, {}).wait()
        with ledger._sequencer._mutex:
            child = os.fork()
            if not child:
                signal.alarm(int(PATIENCE_S))
                try:
                    ledger.append("child", {}, {}).wait(PATIENCE_S)
                except StorageError as error:
                    os._exit(0 if error.code == "ledger-forked" else 2)
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        ledger.append("b", {}, {}).wait()
        assert [entry.event for entry in ledger.entries()] == ["a", "b"]
