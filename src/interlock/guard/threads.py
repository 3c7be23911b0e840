"""The threads that jobs run on, and the one that looks for jobs that hang."""

from __future__ import annotations

import atexit
import contextlib
import contextvars
import os
import queue
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import thread as _pools  # noqa: F401 - its exit must be registered first
from typing import Protocol, TypeVar

__all__ = [
    "Lane",
    "Manned",
    "Watched",
    "come_back",
    "forget",
    "in_background",
    "leave_behind",
    "more_waits",
    "run",
    "this_worker",
    "watch",
]

#: Jobs of one process that may be under way at once; more wait their turn.
LIMIT = 8
#: Seconds between two looks for jobs that hang.
POLL_S = 0.2
#: Seconds after which a job no longer keeps the others of its lane waiting.
SHARE_S = 1.0
#: Jobs of a lane whose parts are run together, and the seconds after which they no longer are.
TOGETHER, ROUNDS_S = 16, 0.06
#: Seconds at the end of the process after which it is said what is waited for.
PATIENCE_S = 2.0

T = TypeVar("T")
Task = Callable[[], None]
#: Runs a part of a job, and returns whether there is another.
Part = Callable[[], bool | None]


class Watched(Protocol):
    """A job that may hang."""

    def check(self, now: float) -> None:
        """Deal with it if it hangs. `now` is on the monotonic clock."""
        ...


class Manned(Protocol):
    """Something that a worker is at, or None."""

    worker: object


class _Pool:
    def __init__(self) -> None:
        self.lock = threading.RLock()  # a signal's handler may submit, too
        self.idle: list[_Worker] = []
        self.waiting: deque[Task] = deque()
        self.busy: set[_Worker] = set()
        self.watched: dict[int, Watched] = {}
        self.awake = threading.Event()
        self.watcher: threading.Thread | None = None
        self.pid = 0

    def start(self, task: Task, *, urgent: bool) -> None:
        with self.lock:
            if not self.pid:
                self.pid = os.getpid()
                _before_exit(self.drain)
            if len(self.busy) >= LIMIT and not urgent:
                self.waiting.append(task)
                return
            worker = self.idle.pop() if self.idle else _Worker(self)
            # In this order: one that was counted and got nothing, because of an interrupt between
            # the two, would be waited for at the end of the process.
            worker.inbox.put(task)
            self.busy.add(worker)

    def next(self, worker: _Worker) -> Task | None:
        """Return the next task for a worker that has finished one; None to be idle."""
        with self.lock:
            if self.waiting and len(self.busy) <= LIMIT:
                return self.waiting.popleft()
            self.busy.discard(worker)
            self.idle.append(worker)
            return None

    def drain(self) -> None:
        """Wait for the jobs under way, at the end of the process: each has its deadlines.

        What nobody waits for is finished and recorded all the same.
        """
        said, soon = False, time.monotonic() + PATIENCE_S
        with contextlib.suppress(KeyboardInterrupt):
            while self.busy and os.getpid() == self.pid:
                time.sleep(0.005)
                if not said and time.monotonic() > soon:
                    said = True
                    sys.stderr.write(
                        f"interlock: waiting for {len(self.busy)} jobs under way to be recorded;"
                        " Ctrl-C leaves them\n"
                    )

    def look(self) -> None:
        while True:
            self.awake.wait()
            while self.watched:
                time.sleep(POLL_S)
                now = time.monotonic()
                for watched in list(self.watched.values()):
                    # What it starts may find no thread: then it tries again. Without this one,
                    # nothing that hangs would ever end.
                    with contextlib.suppress(RuntimeError, MemoryError):
                        watched.check(now)
            self.awake.clear()
            if self.watched:
                self.awake.set()


class Lane:
    """Runs jobs one after another, on one thread at a time, in parts.

    For jobs that gain nothing from running side by side: on a simulator in this process they would
    only take the interpreter from each other. The first parts of some short jobs are run one after
    another, then their second parts, and so on: the same code again costs less than it does after a
    simulator has had the processor's caches.

    A job that has the lane for longer than `SHARE_S` goes on without it, and the next one begins:
    it may be waiting for that very one, by way of a thread of its own. So does the next one when
    an interrupt came between a thread's turn and the thread.
    """

    def __init__(self) -> None:
        self.renew()
        _lanes.add(self)

    def renew(self) -> None:
        """Begin with nothing waiting, as a forked child does."""
        self._lock = threading.RLock()
        self._turn: _Turn | None = None
        self._waiting: deque[Part] = deque()
        self._round: deque[Part] = deque()
        self._next_round: deque[Part] = deque()
        self._until = 0.0

    @property
    def waits(self) -> bool:
        """Whether there is something to run, beside what runs."""
        return bool(self._waiting or self._round or self._next_round)

    def run(self, part: Part) -> None:
        """Run a job when all that came before have been begun.

        Args:
            part: runs its next part, and returns whether there is another. It must not raise.
        """
        context = contextvars.copy_context()
        with self._lock:
            self._waiting.append(lambda: context.run(part))
            watch(self)
        if self._turn is None:
            self.pass_on(None)

    def pass_on(self, turn: _Turn | None) -> None:
        """Have another thread take what waits, if it is still this one's turn."""
        with self._lock:
            if self._turn is not turn:
                return
            self._turn = new = _Turn(self) if self.waits else None
        if new is not None:
            # An idle lane is always given a thread: the jobs under way may all be waiting for it.
            _pool.start(lambda: self._take(new), urgent=turn is None)

    def check(self, now: float) -> None:
        """Pass the lane on when what has it takes long."""
        with self._lock:
            turn = self._turn
            if turn is None and not self.waits:
                forget(self)
                return
        if self.waits and (turn is None or now > turn.since + SHARE_S):
            self.pass_on(turn)

    def _take(self, turn: _Turn) -> None:
        worker: _Worker = _here.worker
        worker.turn = turn
        part: Part | None = None
        try:
            while True:
                with self._lock:
                    if self._turn is not turn:
                        break
                    if part is not None:
                        self._next_round.append(part)
                    part = self._next()
                    if part is None:
                        self._turn = None
                        return
                    turn.since = time.monotonic()
                if not part():
                    part = None
        finally:
            worker.turn = None
        while part is not None and part():
            pass  # it went on without the lane

    def _next(self) -> Part | None:
        now = time.monotonic()
        if self._next_round and now > self._until:
            return self._next_round.popleft()  # what was begun first ends first
        if not self._round:
            self._round, self._next_round = self._next_round, self._round
        if not self._round:
            self._until = now + ROUNDS_S
            while self._waiting and len(self._round) < TOGETHER:
                self._round.append(self._waiting.popleft())
        return self._round.popleft() if self._round else None


class _Turn:
    """A thread's time in a lane."""

    __slots__ = ("lane", "since")

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.since = time.monotonic()


class _Worker:
    def __init__(self, pool: _Pool) -> None:
        self.pool = pool
        self.turn: _Turn | None = None
        self.inbox: queue.SimpleQueue[Task] = queue.SimpleQueue()
        self.left_behind = False
        threading.Thread(target=self.loop, name="interlock-job", daemon=True).start()

    def loop(self) -> None:
        _here.worker = self
        while True:
            task: Task | None = self.inbox.get()
            while task is not None:
                task()
                if self.left_behind:
                    return
                task = self.pool.next(self)


def _before_exit(call: Callable[[], None]) -> None:
    """Call something when the main thread has ended, before any thread pool is shut.

    `atexit` alone comes after the pools, which the devices need to finish their jobs.
    """
    register = getattr(threading, "_register_atexit", atexit.register)
    with contextlib.suppress(RuntimeError):  # already shutting down
        register(call)


_here = threading.local()
_pool = _Pool()
_lanes: weakref.WeakSet[Lane] = weakref.WeakSet()


def _renew() -> None:
    """Give a forked child threads of its own: it has none of its parent's."""
    global _pool
    _pool = _Pool()
    for lane in _lanes:
        lane.renew()


os.register_at_fork(after_in_child=_renew)


def run(task: Task, *, urgent: bool = False) -> None:
    """Run something on a thread of its own, in a copy of this context.

    Args:
        task: must not raise.
        urgent: do not wait until fewer than `LIMIT` jobs are under way: somebody blocks on it.
    """
    context = contextvars.copy_context()
    nested = getattr(_here, "worker", None) is not None  # a job that waits for a job
    _pool.start(lambda: context.run(task), urgent=urgent or nested)


def in_background(work: Callable[[], T]) -> Future[T]:
    """Run something on a thread of its own and return its future."""
    future: Future[T] = Future()

    def task() -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised by whoever asks for the result
            future.set_exception(error)

    run(task)
    return future


def leave_behind(walk: Manned) -> None:
    """Count the worker of a walk that was given up as gone; it ends when it comes back to life.

    One that has come back meanwhile, and may have another job, is left alone.
    """
    worker = walk.worker
    if not isinstance(worker, _Worker):
        return
    turn = worker.turn
    if turn is not None:
        turn.lane.pass_on(turn)  # first: it must not take another job of the lane
    with worker.pool.lock:
        if walk.worker is worker:
            worker.left_behind = True
            worker.pool.busy.discard(worker)


def come_back(walk: Manned) -> None:
    """Take this thread's worker off a walk that was given up."""
    worker = walk.worker
    if isinstance(worker, _Worker):
        with worker.pool.lock:
            walk.worker = None


def this_worker() -> object:
    """Return the worker that this thread is."""
    return getattr(_here, "worker", None)


def more_waits() -> bool:
    """Whether others wait in the lane that this thread has."""
    worker: _Worker | None = getattr(_here, "worker", None)
    turn = None if worker is None else worker.turn
    return turn is not None and turn.lane.waits


def watch(job: Watched) -> None:
    """Look at a job now and then until it is forgotten."""
    pool = _pool
    pool.watched[id(job)] = job
    if not pool.awake.is_set():
        with pool.lock:
            # One that an interrupt kept from starting is not there.
            if pool.watcher is None or not pool.watcher.is_alive():
                pool.watcher = threading.Thread(
                    target=pool.look, name="interlock-watch", daemon=True
                )
                pool.watcher.start()
        pool.awake.set()


def forget(job: Watched) -> None:
    """Stop looking at a job."""
    _pool.watched.pop(id(job), None)
