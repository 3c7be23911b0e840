"""Evidence at run time: each control's `gather`, under a deadline, crashes contained.

The walk runs on a helper thread. When a control takes too long, its thread is left behind with its
own copy of the request, and the walk starts again over the evidence there is, with "no evidence
in time" for the control that hangs. The walk is pure, so it comes to the same point, and goes on.
"""

from __future__ import annotations

import contextvars
import dataclasses
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from interlock.errors import InterlockError
from interlock.guard.control import Control, Request
from interlock.guard.pipeline import BASELINE, Trace, walk
from interlock.guard.policy import Bound, Policy
from interlock.types import Evidence, Outcome

__all__ = ["Gathering"]

Key = tuple[str, str, str]
#: Seconds between two looks at what a walk is doing.
POLL_S = 0.2


class _Helper:
    """A thread that does one thing at a time; one that hangs is left behind."""

    def __init__(self) -> None:
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        threading.Thread(target=self._loop, name="interlock-gather", daemon=True).start()

    def _loop(self) -> None:
        while True:
            self._inbox.get()()

    def start(self, task: Callable[[], None]) -> None:
        self._inbox.put(task)


_idle: list[_Helper] = []
#: A forked child has none of its parent's threads.
os.register_at_fork(after_in_child=_idle.clear)


class _Attempt:
    """One walk over live evidence. Its source remembers what it gathered."""

    def __init__(self, request: Request, policy: Policy, known: dict[Key, Evidence]) -> None:
        self.request = request
        self.policy = policy
        self.evidence = known
        self.gathered: dict[int, Bound] = {}
        self.busy: tuple[Key, float, float] | None = None
        self.deciding: tuple[tuple[Key, ...], float] = ((), time.monotonic())
        self.trace: Trace | None = None
        self.error: BaseException | None = None
        self.done = threading.Event()

    def run(self) -> None:
        try:
            self.trace = walk(self.request.job, self.policy, self)
        except BaseException as error:  # noqa: BLE001 - raised again by whoever waits
            self.error = error
        finally:
            self.done.set()

    def __call__(
        self, stage: str, branch: str, controls: Sequence[Bound]
    ) -> Mapping[str, Evidence]:
        """Gather for some controls of a stage; a control that is not installed gives nothing."""
        found: dict[str, Evidence] = {}
        for bound in controls:
            key = (stage, branch, bound.id)
            if key not in self.evidence and bound.control is not None:
                self._gather(key, bound)
            if key in self.evidence:
                found[bound.id] = self.evidence[key]
        self.deciding = (tuple((stage, branch, b.id) for b in controls), time.monotonic())
        return found

    def _gather(self, key: Key, bound: Bound) -> None:
        stage, branch, _ = key
        timeouts = self.policy.timeouts
        # Only the execution itself (the later phase of `execute`) and the baseline may take long.
        long = branch == BASELINE or (stage == "execute" and bound.phase > 0)
        limit = timeouts.execute_s if long else timeouts.control_s
        self.request.branch = branch
        self.request.timeout_s = limit
        self.gathered[id(bound)] = bound
        self.busy = (key, time.monotonic() + limit, limit)
        self.evidence[key] = _evidence(bound, self.request)
        self.busy = None


def _evidence(bound: Bound, request: Request) -> Evidence:
    assert bound.control is not None
    try:
        evidence: Any = bound.control.gather(request, bound.settings)
        # What is decided on is what is recorded: plain JSON values, nothing else.
        restored = msgspec.json.decode(msgspec.json.encode(evidence))
    except InterlockError as error:
        got = f" ({error.got})" if error.got else ""
        return {"error": f"{error.code}: {error.message}{got}"}
    except BaseException as error:  # noqa: BLE001 - whatever a control raises, the job is denied
        return {"error": f"{type(error).__name__}: {error}"[:2000]}
    return restored if isinstance(restored, dict) else {"error": "the evidence is no mapping"}


class Gathering:
    """Walks one request along the path on live evidence, and settles when the job has ended."""

    def __init__(self, request: Request, policy: Policy) -> None:
        self._attempt = _Attempt(request, policy, {})
        self._policy = policy
        self._gathered: dict[int, Bound] = {}

    @property
    def request(self) -> Request:
        """The request as the walk that counts has left it."""
        return self._attempt.request

    def walk(self) -> Trace:
        """Return the trace; a control that hangs has no evidence and so denies."""
        while True:
            attempt = self._attempt
            helper = _idle.pop() if _idle else _Helper()
            context = contextvars.copy_context()
            helper.start(lambda a=attempt, c=context: c.run(a.run))  # type: ignore[misc]
            finished = self._wait(attempt)
            self._gathered |= attempt.gathered
            if finished:
                _idle.append(helper)
                if attempt.error is not None:
                    raise attempt.error
                assert attempt.trace is not None
                return attempt.trace
            self._attempt = self._without_hung(attempt)

    @staticmethod
    def _wait(attempt: _Attempt) -> bool:
        while True:
            busy, deciding = attempt.busy, attempt.deciding
            limit = attempt.policy.timeouts.control_s
            until = busy[1] if busy else deciding[1] + limit
            # The walk goes on meanwhile, to controls with less time: look again soon.
            if attempt.done.wait(min(max(until - time.monotonic(), 0.001), POLL_S)):
                return True
            same = attempt.busy is busy and attempt.deciding is deciding
            if same and time.monotonic() >= until:
                return False

    def _without_hung(self, attempt: _Attempt) -> _Attempt:
        known = dict(attempt.evidence)
        if attempt.busy is None:
            # One of these controls hangs while it decides; which one cannot be told.
            late = f"no verdict in {self._policy.timeouts.control_s:g} s"
            known |= {key: {"error": late} for key in attempt.deciding[0]}
        else:
            (stage, branch, control), _, limit = attempt.busy
            late = f"no result in {limit:g} s"
            if (stage, control) == ("execute", "run"):
                known[stage, branch, control] = {"failed": {"kind": "timeout", "message": late}}
            else:
                known[stage, branch, control] = {"error": late}
        request = dataclasses.replace(attempt.request, shared=dict(attempt.request.shared))
        return _Attempt(request, self._policy, known)

    def settle(self, outcome: Outcome) -> list[str]:
        """Let every control that gathered settle; return what went wrong, one line each."""
        faults: list[str] = []
        waiting = [
            bound
            for bound in self._gathered.values()
            if bound.control is not None and type(bound.control).settle is not Control.settle
        ]
        if not waiting:
            return faults
        done = threading.Event()
        left = list(waiting)

        def task() -> None:
            while left:
                self._settle(left[0], outcome, faults)
                left.pop(0)
            done.set()

        helper = _idle.pop() if _idle else _Helper()
        helper.start(task)
        if done.wait(self._policy.timeouts.control_s):
            _idle.append(helper)
            return faults
        return [*faults, *(f"{bound.id}: did not settle in time" for bound in list(left))]

    def _settle(self, bound: Bound, outcome: Outcome, faults: list[str]) -> None:
        try:
            assert bound.control is not None
            bound.control.settle(self.request, bound.settings, outcome)
        except BaseException as error:  # noqa: BLE001 - the others must settle all the same
            faults.append(f"{bound.id}: {type(error).__name__}: {error}"[:500])
