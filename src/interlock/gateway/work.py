"""One job of the queue, taken along the guarded path, with a record of every call to a provider."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from interlock.errors import BackendError, HeldError, InterlockError, RefusedError, StorageError
from interlock.gateway.broker import Broker, Opened, run, with_native
from interlock.gateway.logs import log
from interlock.gateway.store import GatewayStore, JobRow
from interlock.gateway.traces import Traces
from interlock.gateway.wire import Submission, programs_of, result_out
from interlock.guard.events import EVENTS, emit, job_line
from interlock.guard.jobs import JobEvent, Released
from interlock.guard.remote import result_of
from interlock.guard.result import Result
from interlock.guard.service import Guard
from interlock.types import Principal

__all__ = ["Worker"]

#: An attempt that ends because a database is away is taken up again, so often altogether.
ATTEMPTS = 5
PATIENCE_S = 20.0
T = TypeVar("T")


class Worker:
    """Runs jobs. One for a process; its threads share it.

    Args:
        guard: takes jobs along the path, in mode ENFORCED.
        broker: runs circuits.
        store: the queue.
        traces: makes spans of each job, or None.
    """

    def __init__(
        self, guard: Guard, broker: Broker, store: GatewayStore, traces: Traces | None = None
    ) -> None:
        # Here, on a thread that stays: Qiskit 2.6 crashes the process (a segmentation fault in
        # `CircuitData`) when the thread that imported it first has ended and others go on with it.
        with contextlib.suppress(ImportError):
            importlib.import_module("qiskit.circuit")
            importlib.import_module("qiskit_aer")
        self.guard = guard
        self.broker = broker
        self.store = store
        self.traces = traces
        self._events: dict[str, JobEvent] = {}
        guard.observers.append(self._note)

    def _note(self, event: JobEvent) -> None:
        self._events[event.job.id] = event
        if os.environ.get(EVENTS):
            emit(job_line(event))

    def run(self, row: JobRow) -> tuple[str, dict[str, Any]]:
        """Run a job and return its final state and outcome; refusals and faults are outcomes.

        Raises:
            StorageError: a database is away, and the job may be attempted again.
        """
        taken_ns = time.time_ns()
        state, outcome = self._run(row)
        event = self._events.pop(row.id, None)
        if "receipt" in outcome:
            outcome["line"] = None if event is None else job_line(event)
        if self.traces is not None:
            try:
                self.traces.tell(row, taken_ns, event, outcome["outcome"])
            except Exception as error:  # noqa: BLE001 - the job stands, traced or not
                log.warning("a job could not be traced", exc_info=error)
        return state, outcome

    def _run(self, row: JobRow) -> tuple[str, dict[str, Any]]:
        try:
            submission = msgspec.json.decode(
                self.store.opened(f"body/{row.id}", row.body), type=Submission
            )
            programs = with_native(programs_of(submission))
            opened = self.broker.open(row.backend, row.tenant)
            released = self.guard.submit(
                programs,
                kind=submission.kind,
                backend_name=row.backend,
                backend=opened.backend,
                execute=lambda: self._execute(row, opened, submission, programs),
                seed=submission.seed,
                labels=submission.labels,
                isolation=opened.level,
                principal=msgspec.json.decode(row.principal, type=Principal),
                job_id=row.id,
                pipeline=submission.pipeline,
                credential=json.loads(row.credential),
            )
        except StorageError as error:
            if row.attempt < ATTEMPTS:
                raise
            return "failed", failed(error)
        except Exception as error:  # noqa: BLE001 - a broken job must not end the worker
            return "failed", failed(error)
        return "done", released_view(released)

    def _execute(
        self, row: JobRow, opened: Opened, submission: Submission, programs: Any
    ) -> Result:
        """Call the provider at most once for a job, unless a second call is harmless."""
        state, recorded = _patiently(lambda: self.store.intend(row.id, row.attempt))
        if state == "answered" and recorded is not None:
            return result_of(json.loads(recorded))
        if state == "sent" and not opened.replayable:
            raise BackendError(
                "an earlier attempt called the provider and its answer was lost",
                code="execution-uncertain",
                got=f"job {row.id}, attempt {row.attempt}",
                expected="an answer on record, or a backend where a second run is harmless",
                fix="look the job up at the provider; submit it again if it never ran",
            )
        result = run(opened, submission.kind, programs, submission.seed)
        answer = json.dumps(result_out(result))
        _patiently(lambda: self.store.answered(row.id, answer))
        return result


def released_view(released: Released) -> dict[str, Any]:
    """Return a job that was released as its outcome."""
    return {
        "outcome": released.receipt.outcome,
        "receipt": released.receipt.as_dict(),
        "result": result_out(released.result),
    }


def failed(error: Exception) -> dict[str, Any]:
    """Return a job that was refused or broke as its outcome; a foreign error by its type alone."""
    if isinstance(error, RefusedError):
        held = isinstance(error, HeldError)
        outcome = {"outcome": "HOLD" if held else "DENY", "error": error.as_dict()}
        if error.receipt is not None:
            outcome["receipt"] = error.receipt.as_dict()
        return outcome
    if not isinstance(error, InterlockError):
        error = BackendError(
            "the job could not be run",
            code="job-failed",
            got=type(error).__name__,
            expected="a circuit that the backend can run",
            fix="see the gateway's log",
        )
    return {"outcome": "FAILED", "error": error.as_dict()}


def _patiently(call: Callable[[], T]) -> T:
    """Outwait a restart of the database: an answer that was paid for must not be lost to it."""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            return call()
        except StorageError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def outcome_view(outcome: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return an outcome without the result, for lists and events."""
    if outcome is None:
        return None
    return {k: v for k, v in outcome.items() if k != "result"}
