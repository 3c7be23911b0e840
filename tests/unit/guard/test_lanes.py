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


class Walk:
    """Something that a worker is at."""

    def __init__(self, worker: object = None) -> None:
        self.worker = worker


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
    threads.leave_behind(Walk(workers[0]))
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


def parts(name: str, count: int, said: list[str], pause_s: float = 0.0) -> Any:
    """A job of some parts that says when each is run."""
    left = iter(range(count))

    def part() -> bool:
        number = next(left)
        said.append(f"{name}{number}")
        time.sleep(pause_s)
        return number + 1 < count

    return part


def behind_a_gate(lane: Lane) -> threading.Event:
    inside, gate = threading.Event(), threading.Event()

    def waits() -> None:
        inside.set()
        gate.wait(PATIENCE_S)

    lane.run(waits)
    assert inside.wait(PATIENCE_S)
    return gate


def test_short_jobs_are_run_part_by_part_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "ROUNDS_S", PATIENCE_S)
    lane, done = Lane(), threading.Event()
    said: list[str] = []
    gate = behind_a_gate(lane)
    for name in "abc":
        lane.run(parts(name, 3, said))
    lane.run(done.set)
    gate.set()
    assert done.wait(PATIENCE_S)
    lane_is_empty(lane)
    assert said == ["a0", "b0", "c0", "a1", "b1", "c1", "a2", "b2", "c2"]


def lane_is_empty(lane: Lane) -> None:
    end = time.monotonic() + PATIENCE_S
    while (lane.waits or lane._turn is not None) and time.monotonic() < end:
        time.sleep(0.001)
    assert not lane.waits


def test_no_more_than_some_are_taken_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "ROUNDS_S", PATIENCE_S)
    monkeypatch.setattr(threads, "TOGETHER", 2)
    lane = Lane()
    said: list[str] = []
    gate = behind_a_gate(lane)
    for name in "abcd":
        lane.run(parts(name, 2, said))
    gate.set()
    lane_is_empty(lane)
    assert said == ["a0", "b0", "a1", "b1", "c0", "d0", "c1", "d1"]


def test_of_long_jobs_each_ends_before_the_next_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "ROUNDS_S", 0.0)
    lane = Lane()
    said: list[str] = []
    gate = behind_a_gate(lane)
    for name in "ab":
        lane.run(parts(name, 3, said, 0.01))
    gate.set()
    lane_is_empty(lane)
    assert said == ["a0", "a1", "a2", "b0", "b1", "b2"]


def test_what_was_begun_goes_on_elsewhere_when_another_part_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threads, "ROUNDS_S", PATIENCE_S)
    lane, hung, freed = Lane(), threading.Event(), threading.Event()
    said: list[str] = []
    steps = iter((True, True, False))

    def hangs() -> bool:
        more = next(steps)
        said.append("hangs")
        if said.count("hangs") == 2:
            hung.set()
            freed.wait(PATIENCE_S)
        return more

    gate = behind_a_gate(lane)
    lane.run(parts("a", 3, said))
    lane.run(hangs)
    lane.run(parts("b", 3, said))
    gate.set()
    assert hung.wait(PATIENCE_S)
    lane_is_empty(lane)  # after SHARE_S another thread has the lane
    assert sorted(said) == ["a0", "a1", "a2", "b0", "b1", "b2", "hangs", "hangs"]
    freed.set()  # it goes on without the lane, to its end
    end = time.monotonic() + PATIENCE_S
    while said.count("hangs") < 3 and time.monotonic() < end:
        time.sleep(0.001)
    assert said.count("hangs") == 3


def test_parts_of_one_job_share_its_context() -> None:
    lane, done = Lane(), threading.Event()
    who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="")
    seen: list[str] = []
    steps = iter((True, False))

    def part() -> bool:
        more = next(steps)
        seen.append(who.get())
        who.set("mine")
        if not more:
            done.set()
        return more

    lane.run(part)
    assert done.wait(PATIENCE_S)
    assert seen == ["", "mine"]


def test_jobs_that_all_wait_for_an_idle_lane_do_not_keep_it_from_its_thread() -> None:
    lane, done = Lane(), threading.Event()
    for _ in range(threads.LIMIT):
        threads.run(lambda: not done.wait(PATIENCE_S))  # type: ignore[arg-type, return-value]
    lane.run(done.set)
    assert done.wait(PATIENCE_S / 2)


def test_one_that_cannot_be_dealt_with_does_not_end_the_watch() -> None:
    class NoThread:
        def __init__(self) -> None:
            self.looks = 0
            self.again = threading.Event()

        def check(self, now: float) -> None:
            self.looks += 1
            if self.looks > 1:
                self.again.set()
            raise RuntimeError("can't start new thread")

    job = NoThread()
    threads.watch(job)
    try:
        assert job.again.wait(PATIENCE_S)
    finally:
        threads.forget(job)


def test_a_worker_that_has_come_back_meanwhile_is_not_left_behind() -> None:
    walk, steps = Walk(), threading.Event()
    workers: list[Any] = []
    goes_on, ended = threading.Event(), threading.Event()

    def task() -> None:
        walk.worker = threads.this_worker()
        workers.append(walk.worker)
        threads.come_back(walk)
        steps.set()
        goes_on.wait(PATIENCE_S)
        ended.set()

    class Late:
        """Sees the worker as it was before it came back."""

        looks = 0

        @property
        def worker(self) -> object:
            self.looks += 1
            return worker if self.looks == 1 else walk.worker

    threads.run(task)
    assert steps.wait(PATIENCE_S)
    (worker,) = workers
    threads.leave_behind(Late())  # type: ignore[arg-type]
    assert worker in threads._pool.busy  # the end of the process waits for what it does
    goes_on.set()
    assert ended.wait(PATIENCE_S)
    end = time.monotonic() + PATIENCE_S
    while worker in threads._pool.busy and time.monotonic() < end:
        time.sleep(0.001)
    assert worker not in threads._pool.busy
    assert not worker.left_behind
