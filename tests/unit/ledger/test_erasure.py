import os
from pathlib import Path
from typing import Any

import pytest

from interlock.cli import main
from interlock.errors import InputError
from interlock.ledger import Ledger, audit
from interlock.ledger.export import export
from interlock.ledger.ledger import ERASED

CANARY = "CANARY-7f3a91-alice"


def grep(folder: Path, word: str) -> list[str]:
    return [
        str(path)
        for path in folder.rglob("*")
        if path.is_file() and word.encode() in path.read_bytes()
    ]


def test_an_erased_subject_is_unreadable_and_every_proof_holds(home: Path, tmp_path: Path) -> None:
    with Ledger.open(home) as ledger:
        for n in range(10):
            subject = CANARY if n % 2 else "bob"
            ledger.append("a", {"n": n}, {"text": f"{CANARY}-{n}"}, subject=subject).wait()
        before = [str(ledger.prove(n).path) for n in range(10)]
        (receipt,) = ledger.erase(CANARY)
        assert receipt.event == ERASED
        payloads = [entry.payload for entry in ledger.entries("a")]
        assert [p is None for p in payloads] == [n % 2 == 1 for n in range(10)]
        assert all(entry.erased == (entry.index % 2 == 1) for entry in ledger.entries("a"))
        assert ledger.erase(CANARY) == []
        assert ledger.verify().ok
        assert len(before) == 10
        export(ledger, tmp_path / "out", lambda _e: "payload")
        again = ledger.append("a", {}, {"text": "new"}, subject=CANARY).wait()
        assert ledger.find(again.id).payload == {"text": "new"}
    assert audit(home).ok
    assert grep(home, CANARY) == []
    assert len(grep(tmp_path / "out", CANARY)) == 1
    shown = (tmp_path / "out" / "entries.ndjson").read_text()
    assert all(f"{CANARY}-{n}" not in shown for n in range(1, 10, 2))


def test_another_open_ledger_cannot_read_on(home: Path) -> None:
    with Ledger.open(home) as one, Ledger.open(home) as two:
        entry = one.append("a", {}, {"x": 1}, subject="s").wait()
        assert two.find(entry.id).payload == {"x": 1}
        one.erase("s")
        assert two.find(entry.id).payload is None
        later = two.append("a", {}, {"x": 2}, subject="s").wait()
        assert one.find(later.id).payload == {"x": 2}
        assert one.find(later.id).key != entry.key


def test_what_waits_for_a_commit_is_erased_as_well(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("interlock.ledger.sequencer.LINGER_S", 60.0)
    with Ledger.open(home) as one, Ledger.open(home) as other:
        one.append("a", {}, {"text": CANARY}, subject=CANARY).wait()
        waiting = one.append("a", {}, {"text": CANARY}, subject=CANARY)
        assert len(other.erase(CANARY)) == 1
        entry = waiting.wait()
        assert other.find(entry.id).payload is None
        assert one.verify().ok
        later = one.append("a", {}, {"text": "new"}, subject=CANARY).wait()
        assert other.find(later.id).payload == {"text": "new"}
    assert grep(home, CANARY) == []


def test_a_kill_between_destroying_and_recording_is_made_good(home: Path) -> None:
    with Ledger.open(home) as ledger:
        ledger.append("a", {}, {}, subject="s").wait()
        ledger._subjects.destroy(lambda scope: scope.subject == "s")
        assert list(ledger.entries(ERASED)) == []
        assert len(ledger.erase("s")) == 1
        assert len(list(ledger.entries(ERASED))) == 1


def test_a_marker_without_the_removal_is_not_used_again(home: Path) -> None:
    with Ledger.open(home) as ledger:
        first = ledger.append("a", {}, {}, subject="s").wait()
        (home / "keys" / "subjects" / f"{first.key}.erased").touch()
        ledger._subjects._writers.clear()
        assert ledger.append("a", {}, {}, subject="s").wait().key != first.key


def test_a_label_expires_month_by_month(home: Path) -> None:
    month = 31 * 86_400 * 1_000_000_000
    now = [1_800_000_000_000_000_000]
    with Ledger.open(home, clock=lambda: now[0]) as ledger:
        for _ in range(4):
            ledger.append("a", {}, {"x": "labelled"}, label="telemetry").wait()
            ledger.append("a", {}, {"x": "kept"}).wait()
            now[0] += month
        ledger.append("a", {}, {"x": "labelled"}, label="telemetry").wait()
        assert len(ledger.expire("telemetry", months=1)) == 3
        shown = [entry.payload for entry in ledger.entries("a")]
        assert shown.count({"x": "kept"}) == 4
        assert shown.count({"x": "labelled"}) == 2
        assert shown.count(None) == 3
        assert ledger.expire("telemetry", months=1) == []
        assert ledger.verify().ok


def test_the_command_asks_and_erases(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Ledger.open(home) as ledger:
        entry = ledger.append("a", {}, {}, subject="s").wait()
    assert main(["erase", "s", "--home", str(home), "--yes"]) == 0
    assert "receipt 1-" in capsys.readouterr().out
    with Ledger.open(home) as ledger:
        assert ledger.find(entry.id).payload is None
    assert main(["erase", "s", "--home", str(home / "none"), "--yes"]) == 4


def test_wrapped_keys_left_in_free_space_are_overwritten(home: Path) -> None:
    with Ledger.open(home) as ledger:
        key = ledger.append("a", {}, {}, subject="s").wait().key
        path = home / "keys" / "subjects" / f"{key}.key"
        fd = os.open(path, os.O_RDONLY)
        before = os.read(fd, 4096)
        ledger.erase("s")
        after = os.pread(fd, 4096, 0)
        os.close(fd)
    assert len(before) == len(after)
    assert before != after


@pytest.mark.parametrize(("subject", "label"), [("ada", None), (None, ""), (b"ada", ""), ("a", 1)])
def test_a_subject_or_label_that_is_no_text_is_refused(
    ledger: Ledger, subject: Any, label: Any
) -> None:
    with pytest.raises(InputError, match="no text"):
        ledger.append("a", {}, {}, subject=subject, label=label)
    with pytest.raises(InputError, match="no text"):
        ledger.encrypt(b"x", subject=subject, label=label)
