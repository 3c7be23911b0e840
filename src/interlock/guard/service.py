"""The guard: the one place a job enters and a result leaves.

A result leaves only as a `Released` object, and only `Guard.submit` makes one, after the whole
path has allowed it and the ledger has said that its record is on disk.
"""

from __future__ import annotations

import math
import os
import secrets
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Unpack

import msgspec
from msgspec.structs import replace

from interlock import config
from interlock.backends.calibration import Calibration
from interlock.errors import DeniedError, HeldError, InterlockError
from interlock.guard import threads
from interlock.guard.control import Program, Request
from interlock.guard.gather import Gathering
from interlock.guard.intake import bindings_of, checked, is_finite
from interlock.guard.jobs import (
    WITHIN,
    Awaited,
    JobEvent,
    JobOptions,
    Released,
    labels_in_force,
    local_principal,
)
from interlock.guard.pipeline import Trace, walk
from interlock.guard.policy import Policy, load_policy
from interlock.guard.record import (
    FORMAT,
    Receipt,
    Scope,
    refusal,
    scope_of,
    session_id,
    session_payload,
    told,
    trace_payload,
)
from interlock.guard.result import Result
from interlock.guard.state import State
from interlock.ledger import Entry, Ledger, Pending
from interlock.types import CircuitFacts, Finding, Job, Mode, Outcome, Principal

__all__ = ["Guard"]

#: Seconds to wait for the ledger to say that a record is on disk.
LEDGER_TIMEOUT_S = 30.0
#: Qubits and shots from which a job takes long beside the record of its intent.
WIDE, MANY = 12, 50_000
#: Entries that jobs of one lane let come together for one commit: an intent and an end each.
TOGETHER = 2 * threads.TOGETHER
#: Circuits of which is remembered whether their numbers are finite.
REMEMBERED = 4096


class _Running:
    """A job under way, and the future of its result."""

    def __init__(self, guard: Guard, request: Request, policy: Policy, started: float) -> None:
        self.future = Awaited()
        self.gathering = Gathering(request, policy, self._ended, self._failed)
        self.future.give_up = self.gathering.give_up
        self._guard = guard
        self._started = started
        self._begun = False
        self._queued = time.perf_counter()

    def run(self) -> None:
        while self.part():
            pass

    def part(self) -> bool:
        """Do the next part; return whether there is more to do."""
        # What others took before its turn is no time of this job.
        self._started += time.perf_counter() - self._queued
        if not self._begun and not self.future.set_running_or_notify_cancel():
            return False
        self._begun = True
        more = self.gathering.part()
        self._queued = time.perf_counter()
        return more

    def _ended(self, trace: Trace, faults: list[str]) -> None:
        try:
            pending = self._guard._record(self.gathering.request, trace, faults)
        except BaseException as error:  # noqa: BLE001 - raised by whoever asks for the result
            self._failed(error)
            return
        if threads.more_waits() and self._guard.ledger.queued < TOGETHER:
            self._queued = time.perf_counter()
            pending.when_done(lambda: self._shared(trace, pending))
        else:
            self._finish(trace, pending)

    def _shared(self, trace: Trace, pending: Pending) -> None:
        # Nor is the wait for the others of a commit.
        self._started += time.perf_counter() - self._queued
        self._finish(trace, pending)

    def _finish(self, trace: Trace, pending: Pending) -> None:
        """Hand over what was released, once its record is on the disk."""
        try:
            released = self._guard._end(self.gathering.request, trace, pending, self._started)
        except BaseException as error:  # noqa: BLE001 - raised by whoever asks for the result
            self._failed(error)
        else:
            self._hand_over(lambda: self.future.set_result(released))

    def _failed(self, error: BaseException) -> None:
        self._hand_over(lambda: self.future.set_exception(error))

    def _hand_over(self, give: Callable[[], None]) -> None:
        try:
            give()
        except BaseException:  # noqa: BLE001 - a callback's `sys.exit` must not end this thread
            if not self.future.done():
                give()
        # What the job was made with goes now, without waiting for the garbage collector.
        self.future.give_up = _over
        del self.gathering


def _over() -> bool:
    """Give up a job that has ended: there is nothing to give back."""
    return False


@dataclass(kw_only=True)
class Guard:
    """Takes jobs along the guarded path and records each one.

    Args:
        policy: see `load_policy`.
        home: folder of ledger, state and keys; see `interlock.config.home`.
        principal: who submits.
        mode: ADVISORY unless a gateway says otherwise.
        pipeline: name of the calling program, under which releases are counted.
        clock: wall-clock seconds since the epoch.

    Raises:
        PolicyError: the policy is wrong.
        StorageError: the home cannot be used.
    """

    policy: Policy | Mapping[str, Any] | str | Path | None = None
    home: Path | str | None = None
    principal: Principal | None = None
    mode: Mode = Mode.ADVISORY
    pipeline: str = "default"
    clock: Callable[[], float] = time.time
    observers: list[Callable[[JobEvent], None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._policy = load_policy(self.policy)
        self._home = config.home(self.home)
        self._principal = self.principal or local_principal()
        self._open()
        self._policy.prepare()

    def _open(self) -> None:
        self._pid = os.getpid()
        self.state = State(self._home)
        self.ledger = Ledger.open(self._home)
        self._lock = threading.RLock()  # a signal's handler may submit, too
        self._session: str | None = None
        self._circuits: set[tuple[str, str, str]] = set()
        self._finite: dict[tuple[str, str], bool] = {}

    def submit(self, programs: Sequence[Program], **options: Unpack[JobOptions]) -> Released:
        """Take one job along the path and wait for its end.

        Args:
            programs: the circuits with their values.
            options: see `JobOptions`.

        Raises:
            DeniedError: the path denied it; the receipt is in `receipt`.
            HeldError: it waits for an approval.
            StorageError: it could not be recorded, so nothing was released.
        """
        running = self._begin(programs, options)
        threads.run(running.run, urgent=True)
        return running.future.result()

    def start(self, programs: Sequence[Program], **options: Unpack[JobOptions]) -> Future[Released]:
        """Take one job along the path on a thread of its own; see `submit`.

        At most eight jobs of a process are under way at once; a future that has not begun can be
        cancelled.
        """
        running = self._begin(programs, options)
        # A job within a job must not wait for the one that waits for it. It may come from a thread
        # of that job, which has its context and is no worker.
        nested = threads.this_worker() is not None or WITHIN.get() is not None
        lane = options.get("lane")
        if lane is None or nested:
            threads.run(running.run, urgent=nested)
        else:
            lane.run(running.part)
        return running.future

    def _begin(self, programs: Sequence[Program], options: JobOptions) -> _Running:
        started = time.perf_counter()
        checked(programs, options["kind"])
        request = self._request(programs, options, self._job(programs, options))
        request.execute = self._intent_then(options["execute"], request)
        return _Running(self, request, self._policy, started)

    def _request(self, programs: Sequence[Program], options: JobOptions, job: Job) -> Request:
        if os.getpid() != self._pid:
            self._open()  # a forked child has its parent's handles but not its threads
        request = Request(
            job=job,
            programs=tuple(programs),
            backend=options.get("backend"),
            execute=options["execute"],
            baseline=options.get("baseline"),
            decode=options.get("decode"),
            isolation=options.get("isolation", "none"),
            home=self._home,
            state=self.state,
            now=self.clock,
        )
        request.shared |= {"policy": self._policy.sha256, "session": self._ensure_session()}
        around = WITHIN.get()
        request.shared["within"] = around.id if around else None
        request.shared["credential"] = dict(options.get("credential") or {})
        return request

    def recorded_in(self, home: Path) -> bool:
        """Whether a home is the one of this guard, with its ledger."""
        return self._home.resolve() == home.resolve()

    def refuse(
        self, error: InterlockError, *, kind: str, backend_name: str, labels: Sequence[str] = ()
    ) -> Receipt:
        """Put on record that a job was refused before the path, and return the receipt.

        Args:
            error: why; its code is the rule, `admit.intake.CODE`.
            kind: sample, estimate or run.
            backend_name: as the policy and the ledger name it.
            labels: data labels.

        Raises:
            StorageError: it could not be recorded.
        """
        started = time.perf_counter()
        refused = Finding(
            rule=f"admit.intake.{error.code}",
            message=error.message,
            got=error.got,
            expected=error.expected,
            fix=error.fix,
        )
        options: JobOptions = {
            "kind": kind,
            "backend_name": backend_name,
            "execute": _never,
            "labels": labels,
        }
        request = self._request((), options, replace(self._job((), options), refused=refused))
        trace = walk(request.job, self._policy, lambda _: {})
        entry = self._record(request, trace, []).wait(LEDGER_TIMEOUT_S)
        receipt = self._receipt(request.job, trace, entry, None)
        self._tell(request.job, trace, receipt, None, started, request)
        return receipt

    def _end(self, request: Request, trace: Trace, pending: Pending, started: float) -> Released:
        """Wait for the record, tell the observers, and hand over what was released.

        Raises:
            DeniedError: the path denied it.
            HeldError: it waits for an approval.
            StorageError: it could not be recorded.
        """
        job = request.job
        entry = pending.wait(LEDGER_TIMEOUT_S)
        released = trace.outcome in (Outcome.RELEASE, Outcome.FALLBACK)
        result = request.result if released else None
        receipt = self._receipt(job, trace, entry, result)
        self._tell(job, trace, receipt, result, started, request)
        # What was refused must not be found in the frames of the exception.
        request.result = None
        request.execute = _never  # it holds the request
        if trace.outcome is Outcome.DENY:
            raise refusal(DeniedError, "job-denied", trace, receipt)
        if trace.outcome is Outcome.HOLD:
            raise refusal(HeldError, "job-held", trace, receipt)
        assert result is not None  # the release stage allowed it, so there is one
        return Released(result=result, receipt=receipt, trace=trace)

    def _job(self, programs: Sequence[Program], options: JobOptions) -> Job:
        now = self.clock()
        return Job(
            id=options.get("job_id") or f"{int(now * 1000):012x}{secrets.token_hex(8)}",
            kind=options["kind"],
            principal=options.get("principal") or self._principal,
            mode=self.mode,
            backend=options["backend_name"],
            circuits=tuple([self._facts(p) for p in programs]),
            submitted_at=datetime.fromtimestamp(now, UTC).isoformat(),
            pipeline=options.get("pipeline") or self.pipeline,
            seed=options.get("seed"),
            labels=labels_in_force(options.get("labels", ())),
            options=options.get("options", {}),
        )

    def _facts(self, program: Program) -> CircuitFacts:
        circuit, values = program.circuit, program.values
        key = circuit.sha256, str(circuit.global_phase)
        finite = self._finite.get(key)
        if finite is None:
            if len(self._finite) >= REMEMBERED:
                self._finite.clear()
            finite = self._finite[key] = is_finite(circuit)
        if finite and program.parameters:
            finite = all(math.isfinite(v) for row in values for v in row)
        facts: CircuitFacts = circuit.facts(
            bindings=max(len(values), 1), shots=program.shots, precision=program.precision
        )
        if finite and program.executions is None:
            return facts
        return replace(facts, executions=program.executions, finite=finite)

    def _ensure_session(self) -> str:
        with self._lock:
            if self._session is None:
                payload = session_payload(self._policy)
                session = session_id(payload)
                # On the disk before any job of it: a full disk leaves no job without its session.
                self.ledger.append("session", {"session": session}, payload).wait()
                self._session = session
            return self._session

    def _intent_then(self, execute: Callable[[], Result], request: Request) -> Callable[[], Result]:
        """Record what is about to run before it runs, so that a crash leaves a trace of it.

        The record of the intent is on disk within the ledger's group-commit time. A job that
        costs money waits for that, and one that takes long anyway: a simulator may hold Python's
        lock, and so the record, until it is done. Another one runs meanwhile, and its own record,
        which is always waited for, comes after the intent.
        """

        def run() -> Result:
            scope = scope_of(request.job.principal, request.job.labels)
            for program in request.programs:
                self._record_circuit(program, scope)
            intent = {
                "format": FORMAT,
                "job": request.job,
                "bindings": bindings_of(request.programs),
            }
            pending = self.ledger.append(
                "admit", {"job": request.job.id}, msgspec.json.encode(intent), **scope
            )
            wide = max(p.circuit.num_qubits for p in request.programs) >= WIDE
            if wide or request.job.total_shots >= MANY or request.shared.get("cost_usd"):
                pending.wait(LEDGER_TIMEOUT_S)
            token = WITHIN.set(request.job)
            try:
                return execute()
            finally:
                WITHIN.reset(token)

        return run

    def _record_circuit(self, program: Program, scope: Scope) -> None:
        sha = program.circuit.sha256
        # Once for each subject: what one of them has erased, another's jobs still need.
        known_as = sha, scope["subject"], scope["label"]
        with self._lock:
            known = known_as in self._circuits
            self._circuits.add(known_as)
        if not known:
            self.ledger.append(
                "circuit",
                {"circuit": sha},
                {"circuit": msgspec.json.decode(program.circuit.to_json())},
                **scope,
            )

    def _record_calibration(self, request: Request) -> None:
        """Keep each calibration in force once, whole: what was decided on it can be looked into."""
        calibration = request.shared.get("calibration")
        if not isinstance(calibration, Calibration) or calibration.kind in ("ideal", "model"):
            return
        known_as = "calibration", calibration.id, ""
        with self._lock:
            known = known_as in self._circuits
            self._circuits.add(known_as)
        if not known:
            payload = {"calibration": calibration.to_json().decode()}
            self.ledger.append("calibration", {"calibration": calibration.id}, payload)

    def _record(self, request: Request, trace: Trace, faults: list[str]) -> Pending:
        """Hand the ledger how a job ended."""
        job = request.job
        self._record_calibration(request)
        payload = {
            "format": FORMAT,
            "session": request.shared["session"],
            "policy": self._policy.sha256,
            "job": job,
            "trace": trace_payload(trace),
            "settle_faults": faults,
        }
        header = {"job": job.id, "outcome": trace.outcome.value, "policy": self._policy.sha256}
        body = msgspec.json.encode(payload)
        scope = scope_of(job.principal, job.labels)
        return self.ledger.append(trace.ended_at, header, body, **scope)

    def _receipt(self, job: Job, trace: Trace, entry: Entry, result: Result | None) -> Receipt:
        rule, reason = told(trace)
        return Receipt(
            id=entry.id,
            job=job.id,
            outcome=trace.outcome.value,
            mode=job.mode.value,
            rule=rule,
            reason=reason,
            policy_sha256=self._policy.sha256,
            index=entry.index,
            leaf_sha256=entry.leaf_hash.hex(),
            exact=result is not None and result.extra.get("exact") is True,
        )

    def _tell(
        self,
        job: Job,
        trace: Trace,
        receipt: Receipt,
        result: Result | None,
        started: float,
        request: Request,
    ) -> None:
        if not self.observers:
            return
        event = JobEvent(
            receipt=receipt,
            job=job,
            trace=trace,
            seconds=time.perf_counter() - started,
            execution_seconds=float(request.shared.get("execution_seconds", 0.0)),
            result=result,
            within=request.shared["within"],
            entered=dict(request.entered),
        )
        for observer in self.observers:
            try:
                observer(event)
            except Exception as error:  # noqa: BLE001 - the job is recorded and paid; it stands
                sys.stderr.write(
                    f"interlock: an observer failed ({type(error).__name__}: {error})\n"
                )

    def __deepcopy__(self, memo: dict[int, Any]) -> Guard:
        """Return the guard itself: copies of what it guards share ledger and budgets."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle what the guard was made with; another process opens the same home anew.

        Observers and a clock of one's own stay behind.
        """
        home, document = str(self._home), dict(self._policy.document)
        return _reopened, (document, home, self.principal, self.mode, self.pipeline)

    def close(self) -> None:
        """Sign a checkpoint over all records and close the ledger."""
        self.ledger.close()


def _reopened(
    document: Mapping[str, Any], home: str, principal: Principal | None, mode: Mode, pipeline: str
) -> Guard:
    return Guard(policy=document, home=home, principal=principal, mode=mode, pipeline=pipeline)


def _never() -> Result:
    raise AssertionError("a refused job is not executed")
