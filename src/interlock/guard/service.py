"""The guard: the one place a job enters and a result leaves.

A result leaves only as a `Released` object, and only `Guard.submit` makes one, after the whole
path has allowed it and the ledger has said that its record is on disk.
"""

from __future__ import annotations

import math
import os
import pwd
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from interlock import config
from interlock.errors import DeniedError, HeldError, InputError
from interlock.guard.control import Program, Request
from interlock.guard.gather import Gathering
from interlock.guard.pipeline import Trace
from interlock.guard.policy import Policy, load_policy
from interlock.guard.record import (
    FORMAT,
    Receipt,
    job_payload,
    session_id,
    session_payload,
    trace_payload,
)
from interlock.guard.result import Result
from interlock.guard.state import State
from interlock.ledger import Entry, Ledger
from interlock.types import CircuitFacts, Finding, Job, Mode, Outcome, Principal

__all__ = ["Guard", "JobEvent", "Released", "local_principal"]

#: Seconds to wait for the ledger to say that a record is on disk.
LEDGER_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """A result that went the whole path."""

    result: Result
    receipt: Receipt
    trace: Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEvent:
    """What observers are told when a job has ended."""

    receipt: Receipt
    job: Job
    trace: Trace
    seconds: float
    execution_seconds: float
    result: Result | None


def local_principal() -> Principal:
    """Return the principal of an embedded guard: the operating system's user."""
    # Not getpass.getuser(): that believes $LOGNAME, and a new name would be a new budget.
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = f"uid-{os.getuid()}"
    return Principal(id=name)


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

    def _open(self) -> None:
        self._pid = os.getpid()
        self.state = State(self._home)
        self.ledger = Ledger.open(self._home)
        self._lock = threading.Lock()
        self._session: str | None = None
        self._circuits: set[str] = set()

    def submit(
        self,
        programs: Sequence[Program],
        *,
        kind: str,
        backend_name: str,
        execute: Callable[[], Result],
        backend: Any = None,
        baseline: Callable[[], Result] | None = None,
        decode: Callable[[Result], Mapping[str, Any]] | None = None,
        seed: int | None = None,
        labels: Sequence[str] = (),
        isolation: str = "none",
        principal: Principal | None = None,
        job_id: str | None = None,
        pipeline: str | None = None,
        credential: Mapping[str, str] | None = None,
    ) -> Released:
        """Take one job along the path.

        Args:
            programs: the circuits with their values.
            kind: sample, estimate or run.
            backend_name: as the policy and the ledger name it.
            execute: runs the programs on the device.
            backend: the SDK's backend or sampler, or None.
            baseline: computes the classical answer, or None.
            decode: turns a result into named fields, or None.
            seed: of a simulator, or None.
            labels: data labels.
            isolation: level the device runs the job at.
            principal: who submits, when it is not the guard's own principal.
            job_id: when the job has an id already.
            pipeline: when it is not the guard's own.
            credential: ids of the token and key that were shown, so that they can be revoked.

        Raises:
            DeniedError: the path denied it; the receipt is in `receipt`.
            HeldError: it waits for an approval.
            StorageError: it could not be recorded, so nothing was released.
        """
        started = time.perf_counter()
        if os.getpid() != self._pid:
            self._open()  # a forked child has its parent's handles but not its threads
        _checked(programs, kind)
        job = self._job(programs, kind, backend_name, seed, labels, principal, job_id, pipeline)
        request = Request(
            job=job,
            programs=tuple(programs),
            backend=backend,
            execute=execute,
            baseline=baseline,
            decode=decode,
            isolation=isolation,
            home=self._home,
            state=self.state,
            now=self.clock,
        )
        request.execute = self._intent_then(execute, request)
        request.shared |= {"policy": self._policy.sha256, "session": self._ensure_session()}
        request.shared["credential"] = dict(credential or {})
        gathering = Gathering(request, self._policy)
        trace: Trace | None = None
        try:
            trace = gathering.walk()
        finally:
            faults = gathering.settle(trace.outcome if trace else Outcome.DENY)
        request = gathering.request
        entry = self._record(job, trace, request, faults)
        receipt = self._receipt(job, trace, entry)
        released = trace.outcome in (Outcome.RELEASE, Outcome.FALLBACK)
        result = request.result if released else None
        self._tell(job, trace, receipt, result, started, request)
        # What was refused must not be found in the frames of the exception.
        request.result = None
        if trace.outcome is Outcome.DENY:
            raise _refusal(DeniedError, "job-denied", trace, receipt)
        if trace.outcome is Outcome.HOLD:
            raise _refusal(HeldError, "job-held", trace, receipt)
        assert result is not None  # the release stage allowed it, so there is one
        return Released(result=result, receipt=receipt, trace=trace)

    def _job(
        self,
        programs: Sequence[Program],
        kind: str,
        backend_name: str,
        seed: int | None,
        labels: Sequence[str],
        principal: Principal | None,
        job_id: str | None,
        pipeline: str | None,
    ) -> Job:
        now = self.clock()
        return Job(
            id=job_id or f"{int(now * 1000):012x}{secrets.token_hex(8)}",
            kind=kind,
            principal=principal or self._principal,
            mode=self.mode,
            backend=backend_name,
            circuits=tuple(_facts(p) for p in programs),
            submitted_at=datetime.fromtimestamp(now, UTC).isoformat(),
            pipeline=pipeline or self.pipeline,
            seed=seed,
            labels=tuple(labels),
        )

    def _ensure_session(self) -> str:
        with self._lock:
            if self._session is None:
                payload = session_payload(self._policy)
                self._session = session_id(payload)
                self.ledger.append("session", {"session": self._session}, payload)
            return self._session

    def _intent_then(self, execute: Callable[[], Result], request: Request) -> Callable[[], Result]:
        """Record what is about to run before it runs, so that a crash leaves a trace of it.

        The record of the intent is on disk within the ledger's group-commit time. A job that
        costs money waits for that; one that is free runs meanwhile, and its own record, which is
        always waited for, comes after the intent.
        """

        def run() -> Result:
            for program in request.programs:
                self._record_circuit(program)
            intent = {
                "format": FORMAT,
                "job": job_payload(request.job),
                "bindings": _bindings(request.programs),
            }
            pending = self.ledger.append(
                "admit", {"job": request.job.id}, msgspec.json.encode(intent)
            )
            if request.shared.get("cost_usd"):
                pending.wait(LEDGER_TIMEOUT_S)
            return execute()

        return run

    def _record_circuit(self, program: Program) -> None:
        sha = program.circuit.sha256
        with self._lock:
            known = sha in self._circuits
            self._circuits.add(sha)
        if not known:
            self.ledger.append(
                "circuit",
                {"circuit": sha},
                {"circuit": msgspec.json.decode(program.circuit.to_json())},
            )

    def _record(self, job: Job, trace: Trace, request: Request, faults: list[str]) -> Entry:
        payload = {
            "format": FORMAT,
            "session": request.shared["session"],
            "policy": self._policy.sha256,
            "job": job_payload(job),
            "trace": trace_payload(trace),
            "settle_faults": faults,
        }
        header = {"job": job.id, "outcome": trace.outcome.value, "policy": self._policy.sha256}
        pending = self.ledger.append(trace.ended_at, header, msgspec.json.encode(payload))
        return pending.wait(LEDGER_TIMEOUT_S)

    def _receipt(self, job: Job, trace: Trace, entry: Entry) -> Receipt:
        cause = trace.cause
        return Receipt(
            id=entry.id,
            job=job.id,
            outcome=trace.outcome.value,
            mode=job.mode.value,
            rule=cause.rule if cause else None,
            reason=_reason(cause),
            policy_sha256=self._policy.sha256,
            index=entry.index,
            leaf_sha256=entry.leaf_hash.hex(),
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
        )
        for observer in self.observers:
            observer(event)

    def close(self) -> None:
        """Sign a checkpoint over all records and close the ledger."""
        self.ledger.close()


def _checked(programs: Sequence[Program], kind: str) -> None:
    """Refuse shots and precisions that are none, before anything is reserved.

    Raises:
        InputError: says which circuit.
    """
    for index, program in enumerate(programs):
        shots, precision = program.shots, program.precision
        least = 0 if kind == "estimate" else 1
        whole = isinstance(shots, int) and not isinstance(shots, bool) and shots >= least
        exact = precision is None or (isinstance(precision, float) and precision >= 0)
        if not whole or not exact or precision == math.inf:
            raise InputError(
                f"circuit {index} asks for a number of shots or a precision that is none",
                code="job-shots",
                got=f"shots {shots!r}, precision {precision!r}",
                expected="shots: a whole number >= 1; precision: a finite number >= 0",
                fix="pass for instance shots=1024",
            )


def _facts(program: Program) -> CircuitFacts:
    facts: CircuitFacts = program.circuit.facts(
        bindings=max(len(program.values), 1), shots=program.shots, precision=program.precision
    )
    return facts


def _bindings(programs: Sequence[Program]) -> list[dict[str, Any]]:
    return [
        {
            "circuit": p.circuit.sha256,
            "parameters": list(p.parameters),
            "values": [[float(v) for v in row] for row in p.values],
            "observables": list(p.observables),
        }
        for p in programs
    ]


def _reason(finding: Finding | None) -> str | None:
    if finding is None:
        return None
    return finding.message + (f" (got {finding.got})" if finding.got else "")


def _refusal(
    kind: type[DeniedError | HeldError], code: str, trace: Trace, receipt: Receipt
) -> DeniedError | HeldError:
    cause, first = trace.cause, trace.fell_back
    where = f" at {cause.location}" if cause and cause.location else ""
    if first is not None and first is not cause:
        where += f"; it fell back because {first.rule}: {_reason(first)}"
    error = kind(
        f"{receipt.outcome}({receipt.rule}): {receipt.reason}{where}",
        code=code,
        got=cause.got if cause else None,
        expected=cause.expected if cause else None,
        fix=(f"{cause.fix}; " if cause and cause.fix else "") + f"interlock explain {receipt.id}",
    )
    error.receipt = receipt
    return error
