"""Run the job on its device, with a deadline."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec

from interlock.errors import InterlockError
from interlock.guard.control import Control, Request, Settings, allow
from interlock.guard.result import Result, Samples
from interlock.types import Decision, Evidence, Finding, Job, Verdict

__all__ = ["NOT_SENT", "RunControl", "describe", "digest"]

#: Up to this many distinct outcomes are recorded whole; above it the most frequent and a hash.
FULL_COUNTS = 1024
TOP_COUNTS = 64
#: Up to this many numbers of an estimate are recorded whole.
FULL_VALUES = 4096
#: Jobs whose result is remembered, to see whether a seed is honoured.
REMEMBERED = 4096


#: What our own devices say of a circuit before they run anything.
NOT_SENT = frozenset({"circuit-not-isa"})


def is_ours(backend: Any) -> bool:
    """Whether a backend is our own: of others nobody knows what they ran before they failed."""
    return type(backend).__module__.startswith("interlock.backends.")


class RunSettings(Settings, frozen=True, kw_only=True):
    """Settings of `run`.

    Attributes:
        on_failure: what a device that fails or times out leads to.
        timeout_s: seconds before a job counts as hung; the policy's `timeouts.execute_s` is the
            upper bound.
    """

    on_failure: Literal["fallback", "deny"] = "fallback"
    timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 600.0


class RunControl(Control):
    """Executes the job. A failure or a time-out leads to the classical baseline."""

    id = "run"
    stage = "execute"
    phase = 1
    Settings = RunSettings

    def __init__(self) -> None:
        self._seen: dict[bytes, bytes] = {}

    def gather(self, request: Request, settings: RunSettings) -> Evidence:
        """Execute, and return what came back or how it failed."""
        request.shared["executed"] = True
        box: dict[str, Any] = {}

        def target() -> None:
            try:
                box["result"] = request.execute()
            except InterlockError as error:
                if error.code in NOT_SENT and is_ours(request.backend):
                    request.shared.pop("executed", None)
                got = f" ({error.got:.300})" if error.got else ""
                box["failed"] = {"kind": error.code, "message": error.message + got}
            except BaseException as error:  # noqa: BLE001 - a device may fail in any way
                text = f"{type(error).__name__}: {error}"
                box["failed"] = {"kind": "device-error", "message": text[:2000]}

        timeout = min(settings.timeout_s, request.timeout_s)
        if timeout >= request.timeout_s:
            target()  # the stage's own deadline already covers it
        else:
            import contextvars

            thread = threading.Thread(
                target=contextvars.copy_context().run, args=(target,), daemon=True
            )
            thread.start()
            thread.join(timeout)
            if thread.is_alive():
                return {"failed": {"kind": "timeout", "message": f"no result in {timeout:g} s"}}
        if "failed" in box:
            return {"failed": box["failed"]}
        result: Result = box["result"]
        request.result = result
        request.shared["execution_seconds"] = result.seconds
        items = [describe(item) for item in result.items]
        return {
            "level": result.level,
            "seed": result.seed,
            "seed_honoured": self._honoured(request, result, items),
            "items": items,
            **result.extra,
        }

    def _honoured(self, request: Request, result: Result, items: list[dict[str, Any]]) -> str:
        """Say whether the same job under the same seed gave the same result before.

        `yes` and `no` need a repetition within this guard; until there is one it is `not known`.
        `no` is said of a device that draws anew for each run, even if its generator was seeded, and
        of one that ran with another seed than the job was submitted with.
        """
        if result.seed is None:
            return "no seed"
        if request.job.seed not in (None, result.seed):
            return "no"
        asked = [
            (p.circuit.sha256, p.values, p.shots, p.precision, p.observables)
            for p in request.programs
        ]
        key = digest([request.job.backend, result.seed, request.job.kind, asked])
        got = digest(items)
        before = self._seen.get(key)
        if before is None:
            if len(self._seen) >= REMEMBERED:
                self._seen.clear()
            self._seen[key] = got
            return "not known"
        return "yes" if before == got else "no"

    def decide(self, job: Job, settings: RunSettings, evidence: Evidence) -> Verdict:
        """Allow when a result came back."""
        failed = evidence.get("failed")
        if failed is None:
            return allow(evidence)
        return Verdict(
            decision=Decision[settings.on_failure.upper()],
            evidence=evidence,
            findings=(
                Finding(
                    rule=f"execute.run.{failed['kind']}",
                    message="the device gave no result",
                    got=failed["message"],
                    expected="a result before the deadline",
                    fix="see the backend's status; the classical baseline answers meanwhile",
                ),
            ),
        )


def digest(value: Any) -> bytes:
    """Return the SHA-256 of a plain JSON value."""
    return hashlib.sha256(msgspec.json.encode(value)).digest()


def describe(item: Any) -> dict[str, Any]:
    """Return what the record keeps of one item of a result."""
    if isinstance(item, Samples):
        return {
            "kind": "samples",
            "shots": item.shots,
            "registers": {
                name: {"width": item.widths[name], "counts": [_counts(c) for c in rows]}
                for name, rows in item.registers.items()
            },
        }
    return {
        "kind": "estimates",
        "shape": list(item.shape),
        "values": _numbers(item.values),
        "errors": _numbers(item.errors),
    }


def _counts(counts: Mapping[str, int]) -> dict[str, Any]:
    if len(counts) <= FULL_COUNTS:
        return {"all": dict(sorted(counts.items()))}
    top = sorted(counts.items(), key=lambda kv: (-kv[1], kv[0]))[:TOP_COUNTS]
    digest = hashlib.sha256(msgspec.json.encode(counts, order="deterministic")).hexdigest()
    return {"top": dict(top), "distinct": len(counts), "sha256": digest}


def _numbers(values: Sequence[float]) -> Any:
    numbers = [float(v) for v in values]
    if len(numbers) <= FULL_VALUES:
        return numbers
    digest = hashlib.sha256(msgspec.json.encode(numbers)).hexdigest()
    return {"first": numbers[:TOP_COUNTS], "count": len(numbers), "sha256": digest}
