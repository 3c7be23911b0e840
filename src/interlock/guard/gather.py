"""Evidence at run time: each control's `gather`, under a deadline, crashes contained.

A job runs on a thread of its own. When a control takes too long, the thread is left behind with
its copy of the request, and another one walks again over the evidence there is, with "no evidence
in time" for the control that hangs. The walk is pure, so it comes to the same point, and goes on.
"""

from __future__ import annotations

import dataclasses
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from interlock.errors import InterlockError
from interlock.guard import threads
from interlock.guard.control import Request
from interlock.guard.pipeline import BASELINE, Trace, walk
from interlock.guard.policy import Bound, Policy
from interlock.types import Evidence, Outcome

__all__ = ["Gathering"]

Key = tuple[str, str, str]


class _LeftBehindError(BaseException):
    """Ends the thread of a walk that was given up, when it comes back to life."""


class _Step(msgspec.Struct):
    """What a walk is doing, and until when it may: it gathers, decides or settles.

    Attributes:
        until: on the monotonic clock, in seconds.
        limit: how long it may take, in seconds.
        gathering: the control that gathers, and under which key.
        deciding: the stage, the branch and the controls that decide.
        settling: what settles.
    """

    until: float
    limit: float
    gathering: tuple[Key, Bound] | None = None
    deciding: tuple[str, str, Sequence[Bound]] | None = None
    settling: _Settling | None = None


class _Attempt:
    """One walk over live evidence, and the settling after it. It remembers what it gathered."""

    def __init__(
        self,
        request: Request,
        policy: Policy,
        known: dict[Key, Evidence],
        gathered: dict[int, Bound],
    ) -> None:
        self.request = request
        self.policy = policy
        self.evidence = known
        self.gathered = gathered
        self._control_s = policy.timeouts.control_s
        self.trace: Trace | None = None
        self.worker: object = None
        self.step = _Step(until=time.monotonic() + self._control_s, limit=self._control_s)
        self._moving = threading.Lock()
        self._left_behind = False

    def run(self) -> bool:
        """Walk and settle; return False when it was left behind."""
        self.worker = threads.this_worker()
        try:
            self.trace = walk(self.request.job, self.policy, self)
            settling = _Settling(self, self.trace.outcome)
            self._go_on(self._control_s, settling=settling)
            settling.run()
            self._go_on(math.inf, settling=settling)
        except _LeftBehindError:
            return False
        return True

    def _go_on(self, limit: float, **does: Any) -> None:
        step = _Step(time.monotonic() + limit, limit, **does)
        with self._moving:
            if self._left_behind:
                raise _LeftBehindError
            self.step = step

    def leave_behind(self, step: _Step | None = None) -> bool:
        """Let this walk do nothing more, unless it has gone on since it was at `step`."""
        with self._moving:
            self._left_behind = step is None or self.step is step
            return self._left_behind

    def __call__(
        self, stage: str, branch: str, controls: Sequence[Bound]
    ) -> Mapping[str, Evidence]:
        """Gather for some controls of a stage; a control that is not installed gives nothing."""
        request, known = self.request, self.evidence
        request.entered.setdefault((stage, branch), time.time_ns())
        request.branch = branch
        limit = self._limit(stage, branch, controls)
        found: dict[str, Evidence] = {}
        for bound in controls:
            key = (stage, branch, bound.id)
            evidence = known.get(key)
            if evidence is None and bound.control is not None:
                self._go_on(limit, gathering=(key, bound))
                request.timeout_s = limit
                if bound.settles:
                    self.gathered[id(bound)] = bound
                evidence = known[key] = _evidence(bound, request)
            if evidence is not None:
                found[bound.id] = evidence
        self._go_on(self._control_s, deciding=(stage, branch, controls))
        return found

    def _limit(self, stage: str, branch: str, controls: Sequence[Bound]) -> float:
        """Return the seconds that each of the controls of a phase may take.

        Only the execution itself (the later phase of `execute`) and the baseline may take long.
        """
        long = branch == BASELINE or (stage == "execute" and controls[0].phase > 0)
        return self.policy.timeouts.execute_s if long else self._control_s


_encode, _decode = msgspec.json.Encoder().encode, msgspec.json.Decoder().decode


def _evidence(bound: Bound, request: Request) -> Evidence:
    assert bound.control is not None
    try:
        evidence: Any = bound.control.gather(request, bound.settings)
        # What is decided on is what is recorded: plain JSON values, nothing else.
        restored = _decode(_encode(evidence))
    except InterlockError as error:
        got = f" ({error.got})" if error.got else ""
        return {"error": f"{error.code}: {error.message}{got}"}
    except BaseException as error:  # noqa: BLE001 - whatever a control raises, the job is denied
        return {"error": f"{type(error).__name__}: {error}"[:2000]}
    return restored if isinstance(restored, dict) else {"error": "the evidence is no mapping"}


class _Settling:
    """Lets every control that gathered settle once, when the outcome is known."""

    def __init__(self, attempt: _Attempt, outcome: Outcome) -> None:
        self._request = attempt.request
        self._outcome = outcome
        self.left = list(attempt.gathered.values())
        self.faults: list[str] = []

    def run(self) -> None:
        while self.left:
            bound = self.left[0]
            try:
                assert bound.control is not None
                bound.control.settle(self._request, bound.settings, self._outcome)
            except BaseException as error:  # noqa: BLE001 - the others must settle all the same
                self.faults.append(f"{bound.id}: {type(error).__name__}: {error}"[:500])
            self.left.pop(0)

    def report(self) -> list[str]:
        """Return what went wrong so far, one line each."""
        late = [f"{bound.id}: did not settle in time" for bound in list(self.left)]
        return [*self.faults, *late]


class Gathering:
    """Walks one request along the path on live evidence, and settles when the job has ended.

    Args:
        request: the job.
        policy: decides it.
        ended: called once on the job's thread with the trace, in which a control that hangs has no
            evidence and so denies, and with what went wrong while settling, one line each.
        failed: called instead when the walk itself broke.
    """

    def __init__(
        self,
        request: Request,
        policy: Policy,
        ended: Callable[[Trace, list[str]], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._attempt = _Attempt(request, policy, {}, {})
        self._policy = policy
        self._ended = ended
        self._failed = failed

    @property
    def request(self) -> Request:
        """The request as the walk that counts has left it."""
        return self._attempt.request

    def run(self) -> None:
        """Walk, settle and tell."""
        attempt = self._attempt
        threads.watch(self)
        try:
            if not attempt.run():
                return
        except BaseException as error:  # noqa: BLE001 - raised again by whoever waits
            threads.forget(self)
            self.give_up()
            self._failed(error)
            return
        threads.forget(self)
        self._tell()

    def _tell(self) -> None:
        trace, settling = self._attempt.trace, self._attempt.step.settling
        assert trace is not None
        assert settling is not None
        self._ended(trace, settling.report())

    def check(self, now: float) -> None:
        """Leave the walk behind if it has been too long at one step, and go on without it."""
        attempt, step = self._attempt, self._attempt.step
        if now < step.until or not attempt.leave_behind(step):
            return
        threads.leave_behind(attempt.worker)
        if step.settling is not None:
            threads.forget(self)
            threads.run(self._tell, urgent=True)
        else:
            self._attempt = self._without_hung(attempt)
            threads.run(self.run, urgent=True)

    def give_up(self) -> bool:
        """Give back what an interrupted job has reserved; nothing more is done for it.

        Returns:
            False for a job that has come to its end: that is recorded all the same.
        """
        attempt = self._attempt
        if attempt.step.settling is not None or not attempt.leave_behind(attempt.step):
            return False
        threads.forget(self)
        threads.leave_behind(attempt.worker)
        settling = _Settling(attempt, Outcome.DENY)
        thread = threading.Thread(target=settling.run, daemon=True)
        thread.start()
        thread.join(attempt.policy.timeouts.control_s)
        return True

    def _without_hung(self, attempt: _Attempt) -> _Attempt:
        known = dict(attempt.evidence)
        step = attempt.step
        if step.deciding is not None:
            # One of these controls hangs while it decides; which one cannot be told.
            stage, branch, controls = step.deciding
            silent = {"error": f"no verdict in {step.limit:g} s"}
            known |= {(stage, branch, bound.id): silent for bound in controls}
        elif step.gathering is not None:
            key, _ = step.gathering
            late = f"no result in {step.limit:g} s"
            if (key[0], key[2]) == ("execute", "run"):
                known[key] = {"failed": {"kind": "timeout", "message": late}}
            else:
                known[key] = {"error": late}
        request = dataclasses.replace(attempt.request, shared=dict(attempt.request.shared))
        return _Attempt(request, self._policy, known, dict(attempt.gathered))
