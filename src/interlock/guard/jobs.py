"""What a job is to whoever submits it: options, labels, the wait for its result, its end."""

from __future__ import annotations

import contextlib
import os
import pwd
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from contextvars import ContextVar
from typing import Any, Required, TypedDict

import msgspec

from interlock.errors import BackendError
from interlock.guard.pipeline import Trace
from interlock.guard.record import Receipt
from interlock.guard.result import Result
from interlock.guard.threads import Lane
from interlock.types import Job, Principal

__all__ = [
    "WITHIN",
    "Awaited",
    "JobEvent",
    "JobOptions",
    "Released",
    "labels_in_force",
    "local_principal",
]


class Released(msgspec.Struct, frozen=True, kw_only=True):
    """A result that went the whole path."""

    result: Result
    receipt: Receipt
    trace: Trace


class JobEvent(msgspec.Struct, frozen=True, kw_only=True):
    """What observers are told when a job has ended.

    The thread may be the one that hands over other jobs, so an observer waits for none. `seconds`
    are those the job took, without its waits for others: for its turn, and for a shared commit.
    """

    receipt: Receipt
    job: Job
    trace: Trace
    seconds: float
    execution_seconds: float
    result: Result | None
    #: Id of the job that this one ran within, as when a guarded object runs in a guarded program.
    within: str | None = None
    #: When each (stage, branch) was entered, in nanoseconds since the epoch.
    entered: Mapping[tuple[str, str], int] = msgspec.field(default_factory=dict)


#: The job that is executing: a job within it, as when a guarded object runs in a guarded program,
#: carries the same data.
WITHIN: ContextVar[Job | None] = ContextVar("interlock_within", default=None)


def labels_in_force(labels: Sequence[str]) -> tuple[str, ...]:
    """Return the labels of a job: its own, and those of the job it runs within."""
    around = WITHIN.get()
    return tuple(dict.fromkeys((*labels, *(around.labels if around else ()))))


class JobOptions(TypedDict, total=False):
    """What a job is, besides its circuits.

    Attributes:
        kind: sample, estimate or run.
        backend_name: as the policy and the ledger name it.
        execute: runs the programs on the device.
        backend: the SDK's backend or sampler, or None.
        baseline: computes the classical answer, or None.
        decode: turns a result into named fields, or None.
        seed: of a simulator, or None.
        options: how the device is asked to run, as plain values.
        labels: data labels.
        isolation: level the device runs the job at.
        principal: who submits, when it is not the guard's own principal.
        job_id: when the job has an id already.
        pipeline: when it is not the guard's own.
        credential: ids of the token and key that were shown, so that they can be revoked.
        lane: of jobs that run one after another, or None.
    """

    kind: Required[str]
    backend_name: Required[str]
    execute: Required[Callable[[], Result]]
    backend: Any
    baseline: Callable[[], Result] | None
    decode: Callable[[Result], Mapping[str, Any]] | None
    seed: int | None
    options: Mapping[str, Any]
    labels: Sequence[str]
    isolation: str
    principal: Principal | None
    job_id: str | None
    pipeline: str | None
    credential: Mapping[str, str] | None
    lane: Lane | None


class Awaited(Future[Released]):
    """The result of a job. Whoever is interrupted while waiting for it gives the job up."""

    give_up: Callable[[], bool]

    def __init__(self) -> None:
        super().__init__()
        self._pid = os.getpid()

    def result(self, timeout: float | None = None) -> Released:
        """Return the result; an interrupt (not a time-out) ends the wait and the job."""
        if os.getpid() != self._pid and not self.done():
            raise _forked()
        try:
            return super().result(timeout)
        except BaseException:
            interrupted = timeout is None and not self.done()
            if interrupted and not self.cancel() and self.give_up():
                with contextlib.suppress(InvalidStateError):
                    self.set_exception(_interrupted())
            raise


def _forked() -> BackendError:
    return BackendError(
        "the job is under way in the process that submitted it",
        code="job-forked",
        got="a wait for it in a forked child, which has none of its parent's threads",
        expected="a wait where it was submitted",
        fix="ask for the result before the fork, or submit the job in the child",
    )


def _interrupted() -> BackendError:
    return BackendError(
        "the job was interrupted; its result is not released",
        code="job-interrupted",
        got="an interrupt while somebody waited for it",
        expected="an undisturbed job",
        fix="the device may go on with it and charge for it; submit it again if it is needed",
    )


def local_principal() -> Principal:
    """Return the principal of an embedded guard: the operating system's user."""
    # Not getpass.getuser(): that believes $LOGNAME, and a new name would be a new budget.
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = f"uid-{os.getuid()}"
    return Principal(id=name)
