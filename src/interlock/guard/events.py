"""What a guarded program tells whoever runs it: one JSON line a job, appended to a file.

`interlock run` gives the file, the policy, the home and the fallback in the environment, and reads
the lines while the program runs. The ledger, not this file, is the record.
"""

from __future__ import annotations

import json
import os
import re
import sys
import threading
from pathlib import Path
from typing import Any

from interlock import config
from interlock.guard.answers import answer
from interlock.guard.execute.run import NOT_SENT
from interlock.guard.jobs import JobEvent
from interlock.guard.remote import RemoteGuard
from interlock.guard.service import Guard
from interlock.types import Outcome

__all__ = [
    "EVENTS",
    "FALLBACK",
    "POLICY",
    "job_line",
    "read_event",
    "run_fallback",
    "run_guard",
    "tell_run",
    "unguarded",
]

EVENTS = "INTERLOCK_EVENTS"
FALLBACK = "INTERLOCK_FALLBACK"
PIPELINE = "INTERLOCK_PIPELINE"
POLICY = "INTERLOCK_POLICY"
TOKEN = "INTERLOCK_TOKEN"  # noqa: S105 - the name of a variable
URL = "INTERLOCK_URL"

_lock = threading.Lock()
_guard: Guard | None = None


def _renew() -> None:
    """Give a forked child a lock that nobody holds."""
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_renew)
_remote: RemoteGuard | None = None


def gateway_guard() -> RemoteGuard | None:
    """Return the guard of a program that runs against a gateway, or None."""
    global _remote
    url = os.environ.get(URL)
    if url and _remote is None:
        _remote = RemoteGuard(
            url,
            token=os.environ.get(TOKEN),
            pipeline=os.environ.get(PIPELINE) or "default",
            on_line=emit if os.environ.get(EVENTS) else None,
        )
    return _remote


def run_guard() -> Guard:
    """Return the one guard of this guarded program."""
    global _guard
    if _guard is None:
        _guard = Guard(
            policy=os.environ.get(POLICY) or None,
            pipeline=os.environ.get(PIPELINE) or "default",
            observers=[_tell],
        )
    _answer()
    return _guard


def _answer() -> None:
    path = os.environ.get(EVENTS)
    if path:
        answer(Path(path).parent)


def _tell(event: JobEvent) -> None:
    _answer()
    emit(job_line(event))


def tell_run(guard: Guard) -> None:
    """Let a guard of the program's own tell the run of its jobs, as the run's own guard does.

    Not one with another home: the run looks its jobs up in the ledger of its own.
    """
    if os.environ.get(EVENTS) and not os.environ.get(URL) and guard.recorded_in(config.home()):
        guard.observers.append(_tell)
        _answer()


def run_fallback() -> Any:
    """Return the fallback `interlock run --fallback module:function` names, or None.

    Raises:
        InterlockError: it cannot be imported.
    """
    name = os.environ.get(FALLBACK)
    if not name:
        return None
    from importlib import import_module

    from interlock.errors import UsageError

    module, _, attribute = name.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(
            "the fallback cannot be imported",
            code="fallback-import",
            got=f"{name}: {error}",
            expected="module:function",
            fix="check the name; the module must be importable from the program's folder",
        ) from error


def job_line(event: JobEvent) -> dict[str, Any]:
    """Return the public facts of a finished job: what the line, the JSON and the report show."""
    receipt = event.receipt
    evidence = {
        f"{s.stage}.{c.control}": c.verdict.evidence for s in event.trace.stages for c in s.controls
    }
    fidelity = evidence.get("health.fidelity", {})
    calibration = evidence.get("health.calibration", {})
    interval = evidence.get("validate.interval", {})
    budget = evidence.get("admit.budget", {})
    run = evidence.get("execute.run")
    released = receipt.outcome == Outcome.RELEASE.value  # what was kept back is not told
    # A device that failed or hangs may have taken the shots: only what never got there is saved.
    failed = (run or {}).get("failed", {}).get("kind")
    executed = run is not None and failed not in NOT_SENT
    alarms = [
        f"{f.message}: {f.got}"
        for s in event.trace.stages
        for c in s.controls
        if c.control == "fallbacks"
        for f in c.verdict.findings
    ]
    return {
        "event": "job",
        "outcome": receipt.outcome,
        "mode": receipt.mode,
        "rule": receipt.rule,
        "reason": receipt.reason,
        "job": receipt.job,
        "within": event.within,
        "receipt": receipt.id,
        "backend": event.job.backend,
        "circuits": len(event.job.circuits),
        "shots": int(budget.get("shots", event.job.total_shots)),
        "cost_usd": budget.get("cost_usd", 0.0),
        "executed": executed,
        "predicted_fidelity": fidelity.get("predicted"),
        "calibration_age_h": calibration.get("age_h"),
        "device_kind": calibration.get("kind"),
        "interval": interval.get("headline") if released else None,
        "alarms": alarms,
        "seconds": round(event.seconds, 6),
        "execution_seconds": round(event.execution_seconds, 6),
    }


def unguarded(what: str, where: str) -> None:
    """Record that something reached a device without going the guarded path."""
    from interlock.guard.hooks.autoguard import INSIDE

    if gateway_guard() is not None:
        # In a sandbox: there is no ledger here, and nothing that could reach a provider.
        emit({"event": "unguarded", "what": what, "where": where, "receipt": ""})
        return
    token = INSIDE.set(True)
    try:
        entry = (
            run_guard()
            .ledger.append("unguarded", {"outcome": "UNGUARDED"}, {"what": what, "where": where})
            .wait(30.0)
        )
    finally:
        INSIDE.reset(token)
    emit({"event": "unguarded", "what": what, "where": where, "receipt": entry.id})


def emit(line: dict[str, Any]) -> None:
    """Append one event; a program that nobody listens to says it on standard error."""
    path = os.environ.get(EVENTS)
    text = json.dumps(line, separators=(",", ":")) + "\n"
    if not path:
        sys.stderr.write(text)
        return
    try:
        with _lock:
            # Not waiting: somebody may have put a pipe there.
            fd = os.open(Path(path), os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK)
            try:
                os.write(fd, text.encode())
            finally:
                os.close(fd)
    except OSError as error:
        # The job is on record already: what it tells whoever watches must not undo it.
        sys.stderr.write(f"interlock: an event could not be told ({error}); the ledger has it\n")


_JOB: dict[str, type | tuple[type, ...]] = {
    "outcome": str, "mode": str, "job": str, "receipt": str, "backend": str, "shots": int,
    "executed": bool, "alarms": list, "cost_usd": (int, float), "seconds": (int, float),
    "execution_seconds": (int, float),
}  # fmt: skip
_OPTIONAL: dict[str, type | tuple[type, ...]] = {
    "rule": str, "reason": str, "within": str, "interval": str, "device_kind": str,
    "predicted_fidelity": (int, float), "calibration_age_h": (int, float),
}  # fmt: skip
_RECEIPT = re.compile(r"(0|[1-9][0-9]{0,15})-[a-z2-7]{10}")


def read_event(text: str) -> dict[str, Any] | None:
    """Return an event line as it was told, None for anything else.

    The program can write to the file too, and can die in the middle of a line.
    """
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(line, dict):
        return None
    if line.get("event") == "loaded":
        return line
    if line.get("event") == "unguarded":
        told = all(isinstance(line.get(k), str) for k in ("what", "where", "receipt"))
        return line if told else None
    if line.get("event") != "job" or not all(
        isinstance(line.get(key), kind) for key, kind in _JOB.items()
    ):
        return None
    if any(
        k not in line or not (line[k] is None or isinstance(line[k], t))
        for k, t in _OPTIONAL.items()
    ):
        return None
    numbers = [line[k] for k in ("shots", "cost_usd", "seconds", "execution_seconds")]
    sound = all(0 <= n < float("inf") for n in numbers) and _RECEIPT.fullmatch(line["receipt"])
    known = line["outcome"] in {o.value for o in Outcome}
    return line if sound and known and all(isinstance(a, str) for a in line["alarms"]) else None
