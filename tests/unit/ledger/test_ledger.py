import os
import threading
from pathlib import Path

import pytest

from interlock.errors import InputError, IntegrityError, SetupError, StorageError
from interlock.ledger import Ledger
from interlock.ledger.identity import read_vkeys


def test_an_entry_comes_back_as_it_was_given(ledger: Ledger) -> None:
    payload = {"counts": {"00": 512, "11": 512}, "s": "é\u2028", "f": [0.1, 1e-300], "none": None}
    entry = ledger.append("execute", {"job": "j1", "n": 3, "ok": True, "x": None}, payload).wait()
    found = ledger.find(entry.id)
    assert found.payload == payload
    assert dict(found.header) == {"job": "j1", "n": 3, "ok": True, "x": None}
    assert (found.index, found.event, found.id, found.time) == (
        0,
        "execute",
        entry.id,
        entry.time,
    )
    assert found.leaf_hash == entry.leaf_hash


def test_entries_are_filtered_by_event_and_start(ledger: Ledger) -> None:
    for n in range(6):
        ledger.append("a" if n % 2 else "b", {"n": n}, {}).wait()
    assert [e.header["n"] for e in ledger.entries("a")] == [1, 3, 5]
    assert [e.index for e in ledger.entries(start=4)] == [4, 5]
    assert len(ledger) == 6


def test_appends_before_the_first_wait_share_one_commit(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = []
    commit = ledger._store.commit
    monkeypatch.setattr(ledger._store, "commit", lambda: (commits.append(1), commit()))
    pending = [ledger.append("a", {"n": n}, {}) for n in range(5)]
    assert [p.wait().index for p in pending] == [0, 1, 2, 3, 4]
    assert len(commits) == 1


def test_what_nobody_waits_for_is_recorded_soon(ledger: Ledger) -> None:
    pending = ledger.append("a", {}, {})
    deadline = threading.Event()
    for _ in range(200):
        if pending.done:
            break
        deadline.wait(0.01)
    assert len(ledger) == 1


def test_threads_share_one_gapless_order(ledger: Ledger) -> None:
    found: list[int] = []

    def work(worker: int) -> None:
        entries = (ledger.append("a", {"w": worker, "n": n}, {}).wait() for n in range(50))
        found.extend(entry.index for entry in entries)

    threads = [threading.Thread(target=work, args=(w,)) for w in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(400))
    assert ledger.verify().ok


@pytest.mark.parametrize(
    ("event", "header", "payload"),
    [
        ("Bad Event", {}, {}),
        ("a", {"a b": 1}, {}),
        ("a", {"x": 1.5}, {}),
        ("a", {"x": 2**53}, {}),
        ("a", {"x": "\ud800"}, {}),
        ("a", {"x": "y" * 70_000}, {}),
        ("a", {}, {"x": float("nan")}),
        ("a", {}, {"x": {1, 2}}),
        ("a", {}, {"x": object()}),
        ("a", {}, {"x": "\ud800"}),
    ],
)
def test_what_cannot_be_recorded_exactly_is_refused(
    ledger: Ledger, event: str, header: dict[str, object], payload: dict[str, object]
) -> None:
    with pytest.raises(InputError) as caught:
        ledger.append(event, header, payload)  # type: ignore[arg-type]
    assert caught.value.code == "ledger-entry"
    assert len(ledger) == 0


def test_a_receipt_of_another_ledger_is_not_found(ledger: Ledger, tmp_path: Path) -> None:
    ledger.append("a", {}, {}).wait()
    with Ledger.open(tmp_path / "other") as other:
        foreign = other.append("a", {}, {}).wait().id
    with pytest.raises(InputError, match="no such receipt"):
        ledger.find(foreign)
    with pytest.raises(InputError, match="not a receipt id"):
        ledger.find("../../etc/passwd")


def test_the_order_goes_on_after_reopening(home: Path) -> None:
    for n in range(3):
        with Ledger.open(home) as ledger:
            assert ledger.append("a", {"n": n}, {"n": n}).wait().index == n
            assert ledger.verify().ok
    with Ledger.open(home) as ledger:
        assert [e.payload for e in ledger.entries()] == [{"n": 0}, {"n": 1}, {"n": 2}]


def test_a_proof_verifies_with_the_public_keys_alone(filled: Path) -> None:
    keys = read_vkeys(filled / "ledger.vkeys")
    with Ledger.open(filled) as ledger:
        for entry in ledger.entries():
            proof = type(ledger.prove(0)).parse(str(ledger.prove(entry.index)))
            assert proof.verify(entry.leaf_hash, keys).size == 20
        with pytest.raises(IntegrityError) as caught:
            ledger.prove(3).verify(entry.leaf_hash, keys)
        assert caught.value.code == "proof-inclusion"
        with pytest.raises(InputError):
            ledger.prove(20)


def test_a_checkpoint_is_not_signed_again_without_new_entries(ledger: Ledger) -> None:
    ledger.append("a", {}, {}).wait()
    first = ledger.checkpoint()
    assert ledger.checkpoint() == first
    ledger.append("a", {}, {}).wait()
    assert ledger.checkpoint() != first


def test_a_closed_ledger_takes_nothing(home: Path) -> None:
    ledger = Ledger.open(home)
    ledger.close()
    ledger.close()
    with pytest.raises(StorageError, match="closed"):
        ledger.append("a", {}, {})


def test_a_clock_that_is_far_off_is_refused_and_a_small_step_back_is_held(home: Path) -> None:
    second = 1_000_000_000
    now = [1_800_000_000 * second]
    with Ledger.open(home, clock=lambda: now[0]) as ledger:
        first = ledger.append("a", {}, {}).wait()
        now[0] -= 3 * second
        assert ledger.append("a", {}, {}).wait().time == first.time
        for years in (-10, 10):
            now[0] = (1_800_000_000 + years * 31_557_600) * second
            with pytest.raises(IntegrityError) as caught:
                ledger.append("a", {}, {}).wait()
            assert caught.value.code == "clock-wrong"
        now[0] = 1_800_000_100 * second
        assert ledger.append("a", {}, {}).wait().index == 2
        assert ledger.verify().ok


def test_keys_that_others_can_read_are_refused(filled: Path) -> None:
    (filled / "keys" / "kek").chmod(0o644)
    with pytest.raises(SetupError) as caught:
        Ledger.open(filled)
    assert caught.value.code == "key-permissions"
    assert "0644" in (caught.value.got or "")


def test_a_lost_key_encryption_key_is_not_replaced(filled: Path) -> None:
    (filled / "keys" / "kek").unlink()
    with pytest.raises(StorageError, match="gone"):
        Ledger.open(filled)
    assert not (filled / "keys" / "kek").exists()


def test_a_ledger_is_not_used_across_a_fork(ledger: Ledger) -> None:
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            ledger.append("a", {}, {}).wait(2)
            os.write(write, b"recorded")
        except StorageError as error:
            os.write(write, error.code.encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(read, 100) == b"ledger-forked"
    assert ledger.append("a", {}, {}).wait().index == 0


def test_payloads_are_encrypted_and_the_subject_is_not_named(home: Path) -> None:
    with Ledger.open(home) as ledger:
        ledger.append("a", {}, {"secret": "CANARY-PAYLOAD"}, subject="CANARY-SUBJECT").wait()
    for path in home.rglob("*"):
        if path.is_file():
            assert b"CANARY" not in path.read_bytes(), path


def test_an_interrupt_in_the_writing_thread_leaves_nobody_waiting(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = ledger._store.begin

    def interrupted(_deadline: float) -> None:
        raise KeyboardInterrupt

    ledger.wake.set()  # no background thread: it would take the interrupt
    monkeypatch.setattr(ledger._store, "begin", interrupted)
    first, second = ledger.append("a", {}, {}), ledger.append("a", {}, {})
    with pytest.raises(KeyboardInterrupt):
        first.wait(5)
    with pytest.raises(StorageError) as caught:
        second.wait(5)
    assert caught.value.code == "ledger-interrupted"
    monkeypatch.setattr(ledger._store, "begin", begin)
    assert ledger.append("a", {}, {}).wait().index == 0
