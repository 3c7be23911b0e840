"""Files recorded twice, and log records seen before."""

import json

import pytest

from interlock.cli import main
from interlock.errors import InterlockError, StorageError
from interlock.monitor.ingest.events import EventMemory
from interlock.monitor.ingest.otlp import LogEvent
from interlock.monitor.store import MonitorStore


def event(t_ns, body="b"):
    return LogEvent(t_ns=t_ns, severity="", body=body, attributes={})


def test_what_falls_out_of_the_memory_is_no_new_record(tmp_path):
    path = tmp_path / "events"
    memory = EventMemory(path, keep=10)
    events = [event(t) for t in range(1, 101)]
    for one in events:
        assert memory.fresh("a", [one]) == [one]
        memory.take("a", [one])
    for known in (memory, EventMemory(path, keep=10)):
        assert known.fresh("a", events) == []
        assert known.fresh("a", [event(90, "late")]) == []  # cannot be told from a copy
        assert len(known.fresh("a", [event(95, "late")])) == 1
        assert len(known.fresh("b", events)) == 100
    assert len(path.read_bytes().splitlines()) < 40


def test_records_that_cannot_be_written_are_not_remembered(tmp_path, monkeypatch):
    path = tmp_path / "events"
    memory = EventMemory(path)
    memory.take("a", [event(1)])
    before = path.read_bytes()

    def full(fd, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("interlock.monitor.ingest.events.os.write", full)
    with pytest.raises(StorageError):
        memory.take("a", [event(2)])
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert len(memory.fresh("a", [event(2)])) == 1
    assert memory.fresh("a", [event(1)]) == []


def test_a_damaged_list_is_no_empty_list(tmp_path):
    (tmp_path / "events").write_text("[]\n")
    (tmp_path / "events").chmod(0o600)
    with pytest.raises(InterlockError) as caught:
        EventMemory(tmp_path / "events")
    assert caught.value.code == "monitor-listen-state"


def write(path, first, count, *, column="seq"):
    step = 1 if column == "seq" else 1_000_000
    with path.open("w") as out:
        for k in range(first, first + count):
            row = {"v": (k * 2654435761 % 1000) / 1000}
            out.write(json.dumps({column: k * step, **row} if column else row) + "\n")
    return path


def watch(path, home, capsys):
    code = main(["monitor", str(path), "--record", "--json", "--home", str(home)])
    out, err = capsys.readouterr()
    return code, json.loads(out.splitlines()[-1]) if code == 0 else err


@pytest.mark.parametrize("column", ["seq", "t_ns"])
def test_rows_recorded_before_are_left_out(tmp_path, capsys, column):
    home = tmp_path / "home"
    path = write(tmp_path / "fridge.ndjson", 0, 300, column=column)
    assert watch(path, home, capsys)[1]["rows"] == 300
    copy = tmp_path / "other-name.ndjson"
    copy.write_bytes(path.read_bytes())
    for same in (path, copy):
        code, err = watch(same, home, capsys)
        assert code != 0
        assert "monitor-recorded" in err
        assert "fridge" in err
    write(path, 0, 400, column=column)  # the file has grown
    code, found = watch(path, home, capsys)
    assert (code, found["rows"], found["duplicates"]) == (0, 100, 300)
    write(path, 100, 200, column=column)  # a part of what was seen
    code, err = watch(path, home, capsys)
    assert code != 0
    assert "monitor-replay" in err
    assert len(MonitorStore(home).sources()) == 1
    # Looked at without a record nothing is refused.
    assert main(["monitor", str(copy), "--home", str(home)]) == 0


def test_without_numbers_only_the_same_file_is_known(tmp_path, capsys):
    home = tmp_path / "home"
    path = write(tmp_path / "fridge.ndjson", 0, 300, column="")
    assert watch(path, home, capsys)[0] == 0
    assert watch(path, home, capsys)[0] != 0
    assert watch(write(path, 0, 301, column=""), home, capsys)[1]["rows"] == 301


def test_a_file_that_ends_in_an_error_is_not_recorded(tmp_path, capsys):
    home = tmp_path / "home"
    path = write(tmp_path / "fridge.ndjson", 0, 10)
    with path.open("a") as out:
        out.write("nonsense\n")
    assert watch(path, home, capsys)[0] != 0
    assert MonitorStore(home).position("fridge").next_seq is None
