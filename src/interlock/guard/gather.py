"""Evidence at run time: each control's `gather`, under a deadline, crashes contained.

A job runs on a thread of its own. When a control takes too long, the thread is left behind with
its copy of the request, and another one walks again over the evidence there is, with "no evidence
in time" for the control that hangs. The walk is pure, so it comes to the same point, and goes on.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from interlock.errors import InterlockError
from interlock.guard import threads
from interlock.guard.control import Request
from interlock.guard.pipeline import BASELINE, QUANTUM, Asked, Trace, way
from interlock.guard.policy import Bound, Policy
from interlock.types import Evidence, Outcome

__all__ = ["Gathering"]

#: Stage, branch and number of a phase.
Key = tuple[str, str, int]

_encode, _decode = msgspec.json.Encoder().encode, msgspec.json.Decoder().decode


class _LeftBehindError(BaseException):
    """Ends the thread of a walk that was given up, when it comes back to life."""


class _Step(msgspec.Struct, gc=False):
    """What a walk is doing, and until when it may: it gathers, decides or settles.

    Attributes:
        until: on the monotonic clock, in seconds.
        limit: how long it may take, in seconds.
        key: the phase that is gathered for or decided.
        controls: the one that gathers, or those that decide.
        deciding: whether they decide.
        settling: whether it settles, or has.
    """

    until: float
    limit: float
    key: Key | None = None
    controls: Sequence[Bound] = ()
    deciding: bool = False
    settling: bool = False


#: Between two parts of a walk.
_PAUSED = _Step(math.inf, math.inf)


class _Attempt:
    """One walk over live evidence, and the settling after it. It remembers what it gathered.

    It pauses before and after the execution: so the parts of several jobs can be done together.

    Attributes:
        turn: holds the step the walk is at. The walk takes it out to go on, and whoever leaves the
            walk behind takes it out too; taking is one atomic operation, so only one of them can.
    """

    def __init__(
        self,
        request: Request,
        policy: Policy,
        known: dict[Key, dict[str, Evidence]],
        gathered: dict[int, Bound],
    ) -> None:
        self.request = request
        self.policy = policy
        self.evidence = known
        self.gathered = gathered
        self._control_s = policy.timeouts.control_s
        self.trace: Trace | None = None
        self.worker: object = None
        self.settling: _Settling | None = None
        self._way = way(request.job, policy)
        self._asked: Asked | None = None
        self._found: Mapping[str, Evidence] | None = None
        self.turn = [_PAUSED]

    def part(self) -> bool:
        """Walk to the next pause, or to the end and settle; return whether there is more.

        Raises:
            _LeftBehindError: somebody has given it up.
        """
        self.worker = threads.this_worker()
        asked, found = self._asked, self._found
        until = time.monotonic() + self._control_s
        if asked is None or found is None:
            self._go_on(_Step(until, self._control_s))
        else:
            self._go_on(_Step(until, self._control_s, asked[:3], asked.controls, True))
        while True:
            if asked is not None and found is None:
                found = self._gather(asked)
                if _executes(asked):
                    return self._pause(asked, found)
            try:
                asked, found = self._way.send(found), None
            except StopIteration as end:
                self.trace = end.value
                break
            if _executes(asked):
                return self._pause(asked, found)
        self.settling = _Settling(self, self.trace.outcome)
        until = time.monotonic() + self._control_s
        self._go_on(_Step(until, self._control_s, settling=True))
        self.settling.run()
        self._go_on(_Step(math.inf, math.inf, settling=True))
        return False

    def _pause(self, asked: Asked, found: Mapping[str, Evidence] | None) -> bool:
        self._asked, self._found = asked, found
        self.worker = None
        self._go_on(_PAUSED)
        return True

    def _go_on(self, step: _Step) -> None:
        if _taken(self.turn) is None:
            raise _LeftBehindError
        self.turn = [step]

    def _gather(self, asked: Asked) -> Mapping[str, Evidence]:
        """Gather for some controls of a stage; a control that is not installed gives nothing."""
        request = self.request
        # Only the execution itself and the baseline may take long.
        long = asked.branch == BASELINE or _executes(asked)
        request.timeout_s = limit = self.policy.timeouts.execute_s if long else self._control_s
        request.entered.setdefault(asked[:2], time.time_ns())
        request.branch = asked.branch
        key: Key = asked[:3]
        found = self.evidence.setdefault(key, {})
        turn, now = self.turn, time.monotonic
        try:
            for bound in asked.controls:
                if bound.control is None or bound.id in found:
                    continue
                turn.pop()
                self.turn = turn = [_Step(now() + limit, limit, key, (bound,))]
                if bound.settles:
                    self.gathered[id(bound)] = bound
                found[bound.id] = _evidence(bound, request)
            turn.pop()
        except IndexError:  # somebody else has taken the turn
            raise _LeftBehindError from None
        self.turn = [_Step(now() + self._control_s, self._control_s, key, asked.controls, True)]
        return found


def _executes(asked: Asked) -> bool:
    """Whether it is the later phase of `execute` that is asked: the execution itself."""
    return asked.phase > 0 and asked.stage == "execute" and asked.branch == QUANTUM


def _taken(turn: list[_Step]) -> _Step | None:
    """Take the step out of a turn, if nobody has."""
    try:
        return turn.pop()
    except IndexError:
        return None


def _evidence(bound: Bound, request: Request) -> Evidence:
    assert bound.control is not None
    try:
        # What is decided on is what is recorded: plain JSON values, nothing else.
        restored = _decode(_encode(bound.control.gather(request, bound.settings)))
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
        self._given_up = False

    @property
    def request(self) -> Request:
        """The request as the walk that counts has left it."""
        return self._attempt.request

    def run(self) -> None:
        """Walk, settle and tell."""
        while self.part():
            pass

    def part(self) -> bool:
        """Walk to before the execution, to after it, or settle and tell; whether there is more."""
        attempt = self._attempt
        threads.watch(self)
        try:
            if attempt.part():
                return True
        except _LeftBehindError:
            threads.come_back(attempt)
            if self._given_up:
                threads.forget(self)  # it was given up between two parts
            return False
        except BaseException as error:  # noqa: BLE001 - raised again by whoever waits
            threads.forget(self)
            self.give_up()
            self._failed(error)
            return False
        threads.forget(self)
        self._tell()
        return False

    def _tell(self) -> None:
        trace, settling = self._attempt.trace, self._attempt.settling
        assert trace is not None
        assert settling is not None
        self._ended(trace, settling.report())

    def check(self, now: float) -> None:
        """Leave the walk behind if it has been too long at one step, and go on without it."""
        attempt = self._attempt
        turn = attempt.turn
        step = next(iter(turn), None)
        if step is None or now < step.until or not _taken(turn):
            return
        threads.leave_behind(attempt)
        if step.settling:
            threads.forget(self)
            threads.run(self._tell, urgent=True)
        else:
            self._attempt = self._without_hung(attempt, step)
            threads.run(self.run, urgent=True)

    def give_up(self) -> bool:
        """Give back what an interrupted job has reserved; nothing more is done for it.

        Returns:
            False for a job that has come to its end: that is recorded all the same.
        """
        attempt = self._attempt
        turn = attempt.turn
        step = next(iter(turn), None)
        if step is None or step.settling or not _taken(turn):
            return False
        self._given_up = True
        threads.forget(self)
        threads.leave_behind(attempt)
        settling = _Settling(attempt, Outcome.DENY)
        thread = threading.Thread(target=settling.run, daemon=True)
        thread.start()
        thread.join(attempt.policy.timeouts.control_s)
        return True

    def _without_hung(self, attempt: _Attempt, step: _Step) -> _Attempt:
        known = {key: dict(found) for key, found in attempt.evidence.items()}
        if step.key is not None:
            late = f"no {'verdict' if step.deciding else 'result'} in {step.limit:g} s"
            # When they decide, which one of them hangs cannot be told.
            silent: Evidence = {"error": late}
            if not step.deciding and (step.key[0], step.controls[0].id) == ("execute", "run"):
                silent = {"failed": {"kind": "timeout", "message": late}}
            known.setdefault(step.key, {}).update({b.id: silent for b in step.controls})
        request = replace(attempt.request, shared=dict(attempt.request.shared))
        return _Attempt(request, self._policy, known, dict(attempt.gathered))
