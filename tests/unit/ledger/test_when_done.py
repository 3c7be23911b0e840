"""What waits for an entry is called once, when the entry is durable or has failed."""

import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from interlock.errors import StorageError
from interlock.ledger import Ledger, Pending
from interlock.ledger.sequencer import Sequencer


def test_it_is_called_once_by_whoever_commits(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "home") as ledger:
        called: list[Any] = []
        first = ledger.append("a", {}, {})
        first.when_done(lambda: called.append(first.entry))
        ledger.append("b", {}, {}).wait()
        assert called == [first.entry]
        assert first.wait().index == 0
        assert len(called) == 1


def test_it_is_called_at_once_when_the_entry_is_durable(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "home") as ledger:
        done = ledger.append("a", {}, {})
        done.wait()
        called: list[int] = []
        done.when_done(lambda: called.append(1))
        assert called == [1]


def test_it_is_called_without_anybody_waiting(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "home") as ledger:
        came = threading.Event()
        ledger.append("a", {}, {}).when_done(came.set)
        assert came.wait(10)


@pytest.mark.parametrize("error", [StorageError, KeyboardInterrupt])
def test_it_is_called_when_the_commit_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    with Ledger.open(tmp_path / "home") as ledger:
        ledger.append("a", {}, {}).wait()

        def broken() -> None:
            ledger._store.rollback()
            if error is StorageError:
                raise StorageError("full", code="storage-full", got="", expected="", fix="")
            raise error

        monkeypatch.setattr(ledger._store, "commit", broken)
        called: list[Pending] = []
        first = ledger.append("b", {}, {})
        first.when_done(lambda: called.append(first))
        with pytest.raises(error):
            ledger.append("c", {}, {}).wait()
        monkeypatch.undo()
        assert called == [first]
        with pytest.raises(StorageError):
            first.wait()


def test_it_may_itself_append_and_wait(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "home") as ledger:
        indices: list[int] = []
        first = ledger.append("a", {}, {})
        first.when_done(lambda: indices.append(ledger.append("b", {}, {}).wait().index))
        first.wait()
        assert indices == [1]


def test_many_threads_lose_no_call_and_double_none(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "home") as ledger:
        called: list[int] = []

        def work(base: int) -> None:
            for n in range(base, base + 100):
                pending = ledger.append("a", {}, {"n": n})
                pending.when_done(lambda n=n: called.append(n))  # type: ignore[misc]
                if n % 7 == 0:
                    pending.wait()

        workers = [threading.Thread(target=work, args=(k * 100,)) for k in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        ledger.append("end", {}, {}).wait()
        assert sorted(called) == list(range(400))


def test_an_interrupt_at_any_line_that_takes_or_ends_entries_leaves_none_without_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take, commit = Sequencer._take.__code__, Sequencer._commit_batch.__code__
    left, written = [0], [False]

    def trace(frame: Any, event: str, _: object) -> Any:
        if frame.f_code not in (take, commit):
            return None
        if event == "line" and (frame.f_code is take or written[0]):
            left[0] -= 1
            if not left[0]:
                raise KeyboardInterrupt
        return trace

    with Ledger.open(tmp_path / "home") as ledger:
        ledger.append("a", {}, {}).wait()
        ledger.wake.set()  # no background thread: it would take the entries
        commits = ledger._store.commit
        monkeypatch.setattr(
            ledger._store, "commit", lambda: (commits(), written.__setitem__(0, True))
        )
        line, interrupted = 0, True
        while interrupted:
            line += 1
            left[0], written[0] = line, False
            first, second = ledger.append("b", {}, {}), ledger.append("b", {}, {})
            before = sys.gettrace()
            sys.settrace(trace)
            try:
                ledger._sequencer.flush(5)
                interrupted = False
            except KeyboardInterrupt:
                pass
            finally:
                sys.settrace(before)
            ledger._sequencer.flush(5)
            assert first.done
            assert second.done
        assert line > 15
        ledger.append("c", {}, {}).wait()
        ledger.checkpoint()
        assert ledger.verify().ok


def test_an_interrupt_while_it_waits_for_its_turn_holds_up_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any) -> None:
        raise BlockingIOError

    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    with Ledger.open(tmp_path / "home") as ledger:
        ledger.append("a", {}, {}).wait()
        ledger.wake.set()
        with monkeypatch.context() as patch:
            patch.setattr("interlock.ledger.sqlite.fcntl.lockf", refused)
            patch.setattr("interlock.ledger.sqlite.time.sleep", interrupted)
            with pytest.raises(KeyboardInterrupt):
                ledger._sequencer.head(5)
        assert ledger.append("b", {}, {}).wait(2).index == 1


def test_an_error_of_any_kind_does_not_end_the_thread_that_commits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise MemoryError

    with Ledger.open(tmp_path / "home") as ledger:
        ledger.append("a", {}, {}).wait()
        told, again = threading.Event(), threading.Event()
        with monkeypatch.context() as patch:
            patch.setattr(Sequencer, "_place", broken)
            ledger.append("b", {}, {}).when_done(told.set)
            assert told.wait(10)
        ledger.append("b", {}, {}).when_done(again.set)
        assert again.wait(10)


def test_what_is_handed_in_during_a_flush_shares_a_later_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("interlock.ledger.sequencer.LINGER_S", 60.0)
    with Ledger.open(tmp_path / "home") as ledger:
        ledger.append("a", {}, {}).wait()
        commit, batches = Sequencer._commit_batch, []

        def committing(self: Sequencer, batch: list[Pending], deadline: float) -> None:
            batches.append(len(batch))
            if len(batches) < 3:
                ledger.append("late", {}, {})
            commit(self, batch, deadline)

        monkeypatch.setattr(Sequencer, "_commit_batch", committing)
        first = [ledger.append("b", {}, {}) for _ in range(3)]
        ledger._sequencer.flush(10)
        assert [one.done for one in first] == [True] * 3
        assert batches == [3]
        assert ledger.queued == 1
        ledger._sequencer.flush(10)
        assert batches == [3, 1]


def test_a_flush_ends_when_what_it_is_for_was_given_up(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "home") as ledger:
        ledger.append("a", {}, {}).wait()
        held = ledger._sequencer
        with held._mutex:
            given_up = ledger.append("b", {}, {})
            with pytest.raises(StorageError):
                given_up.wait(0.05)
        held.flush(10)
        assert ledger.queued == 0
        assert not given_up.done


def test_it_is_called_when_the_ledger_is_closed_while_the_entry_is_handed_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger.open(tmp_path / "home")
    submit = Sequencer.submit

    def late(self: Sequencer, draft: Any) -> Pending:
        ledger.close()
        return submit(self, draft)

    monkeypatch.setattr(Sequencer, "submit", late)
    called: list[int] = []
    pending = ledger.append("a", {}, {})
    pending.when_done(lambda: called.append(1))
    assert called == [1]
    with pytest.raises(StorageError) as caught:
        pending.wait(1)
    assert caught.value.code == "ledger-closed"
