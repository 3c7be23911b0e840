"""Jobs of one lane run one after another; one that hangs does not hold the others."""

import contextvars
import os
import threading
import time
from typing import Any

import pytest

from interlock.guard import threads
from interlock.guard.threads import Lane

PATIENCE_S = 20.0


def test_tasks_run_in_order_and_never_two_at_once() -> None:
    lane, done, order = Lane(), threading.Event(), []
    inside, most = [0], [0]

    def task(number: int) -> None:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.001)
        order.append(number)
        inside[0] -= 1
        if number == 49:
            done.set()

    for number in range(50):
        lane.run(lambda n=number: task(n))  # type: ignore[misc]
    assert done.wait(PATIENCE_S)
    assert order == list(range(50))
    assert most == [1]


def test_each_runs_in_the_context_it_was_handed_in_with() -> None:
    lane, done, seen = Lane(), threading.Event(), []
    who: contextvars.ContextVar[str] = contextvars.ContextVar("who")
    for name in ("ada", "bob"):
        who.set(name)
        lane.run(lambda: seen.append(who.get()))
    lane.run(done.set)
    assert done.wait(PATIENCE_S)
    assert seen == ["ada", "bob"]


def test_one_that_is_left_behind_gives_the_lane_to_the_next() -> None:
    lane, hung, freed, done = Lane(), threading.Event(), threading.Event(), threading.Event()
    workers: list[object] = []

    def hangs() -> None:
        workers.append(threads.this_worker())
        hung.set()
        freed.wait(PATIENCE_S)

    lane.run(hangs)
    lane.run(done.set)
    assert hung.wait(PATIENCE_S)
    assert not done.wait(0.05)
    threads.leave_behind(workers[0])
    assert done.wait(PATIENCE_S)
    freed.set()
    again = threading.Event()
    lane.run(again.set)
    assert again.wait(PATIENCE_S)


def test_a_task_knows_whether_others_wait() -> None:
    lane, go, done, said = Lane(), threading.Event(), threading.Event(), []

    def task() -> None:
        go.wait(PATIENCE_S)
        said.append(threads.more_waits())

    lane.run(task)
    lane.run(task)
    lane.run(done.set)
    go.set()
    assert done.wait(PATIENCE_S)
    assert said == [True, True]
    assert not threads.more_waits()


def test_a_forked_child_has_a_lane_of_its_own() -> None:
    lane, hung, freed = Lane(), threading.Event(), threading.Event()

    def hangs() -> None:
        hung.set()
        freed.wait(PATIENCE_S)

    lane.run(hangs)
    assert hung.wait(PATIENCE_S)
    child = os.fork()
    if not child:
        ran = threading.Event()
        lane.run(ran.set)
        os._exit(0 if ran.wait(PATIENCE_S) else 1)
    freed.set()
    assert os.waitpid(child, 0)[1] == 0


def test_a_task_may_wait_for_one_behind_it() -> None:
    lane, behind, done = Lane(), threading.Event(), threading.Event()

    def waits() -> None:
        thread = threading.Thread(target=lambda: lane.run(behind.set))
        thread.start()
        if behind.wait(PATIENCE_S):
            done.set()

    lane.run(waits)
    assert done.wait(PATIENCE_S)
    again = threading.Event()
    lane.run(again.set)
    assert again.wait(PATIENCE_S)


def test_an_interrupt_before_a_turn_begins_does_not_hold_those_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    lane, ran = Lane(), threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr(threads._pool, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            lane.run(lambda: None)
    lane.run(ran.set)
    assert ran.wait(PATIENCE_S)


def test_a_thread_that_an_interrupt_kept_from_starting_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = threads._Pool()
    pool.pid = os.getpid()  # nothing is registered for the end of this process

    def interrupted(_: threads._Worker) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(threads, "_Worker", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pool.start(lambda: None, urgent=False)
    assert not pool.busy
    ran = threading.Event()
    pool.start(ran.set, urgent=False)
    assert ran.wait(PATIENCE_S)


def test_a_signal_handler_may_run_something_while_its_thread_does() -> None:
    lane, ran = Lane(), threading.Event()

    def handled() -> None:
        lane.run(ran.set)

    thread = threading.Thread(target=lambda: _within(lane, handled), daemon=True)
    thread.start()
    assert ran.wait(PATIENCE_S)


def _within(lane: Lane, handler: Any) -> None:
    with lane._lock, threads._pool.lock:
        handler()
