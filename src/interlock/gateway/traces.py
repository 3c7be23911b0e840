"""One trace a job: a span for the job, its time in the queue, and each stage it went through.

`docs/reference/metrics.md` lists the names. What a tenant sent is in no attribute: no principal,
no tenant, no circuit, no label, no name that a client chose.
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
from typing import Any

from interlock.gateway.rows import JobRow
from interlock.guard.jobs import JobEvent
from interlock.guard.pipeline import STAGES
from interlock.types import Decision

__all__ = ["ATTRIBUTES", "SPANS", "Traces", "traceparent"]

#: Name of each span -> what it lasts.
SPANS = {
    "quantum.job": "from its submission to its outcome",
    "quantum.queue": "from its submission until a worker took it",
    **{f"quantum.{stage}": f"the stage `{stage}`" for stage in STAGES},
}
#: Every attribute that a span can have.
ATTRIBUTES = (
    "quantum.job.id", "quantum.job.attempt", "quantum.job.kind", "quantum.job.outcome",
    "quantum.backend", "quantum.mode", "quantum.policy.sha256", "quantum.receipt.id",
    "quantum.stage", "quantum.branch", "quantum.verdict", "quantum.rule",
)  # fmt: skip
_PARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_RULE = re.compile(r"[a-z0-9._-]{1,120}")


def traceparent(header: str) -> str:
    """Return a W3C `traceparent` as it came, or empty when it is none.

    Example:
        >>> traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")[:5]
        '00-4b'
        >>> traceparent("ada's trace")
        ''
    """
    return header if _PARENT.fullmatch(header) else ""


def trace_id_of(job: str) -> int:
    """Return the trace of a job whose client named none: the same at every attempt."""
    return int.from_bytes(hashlib.sha256(f"interlock trace\n{job}".encode()).digest()[:16])


class Traces:
    """Makes the spans of a job when it has ended.

    Args:
        provider: the SDK's tracer provider; the ids of its traces come from here.
    """

    def __init__(self, provider: Any) -> None:
        from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

        here = self._here = threading.local()

        class Ids(RandomIdGenerator):
            def generate_trace_id(self) -> int:
                return int(here.trace)

            def is_trace_id_random(self) -> bool:
                return False

        provider.id_generator = Ids()
        self._tracer = provider.get_tracer("interlock.gateway")

    def tell(self, row: JobRow, taken_ns: int, event: JobEvent | None, outcome: str) -> None:
        """Make the spans of one attempt at a job.

        Args:
            row: the job.
            taken_ns: when a worker took it, in nanoseconds since the epoch.
            event: how it went through the stages; None when it did not come so far.
            outcome: as the client is told.
        """
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        parent = TraceContextTextMapPropagator().extract({"traceparent": row.trace})
        self._here.trace = trace_id_of(row.id)
        ended = time.time_ns()
        created = min(int(row.created * 1e9), taken_ns)
        job = self._tracer.start_span(
            "quantum.job",
            parent,
            kind=SpanKind.CONSUMER,
            start_time=created,
            attributes={
                "quantum.job.id": row.id,
                "quantum.job.attempt": row.attempt,
                "quantum.job.kind": row.kind,
                "quantum.job.outcome": outcome,
            },
        )
        within = set_span_in_context(job, parent)
        self._span("quantum.queue", within, created, taken_ns)
        if event is not None:
            # Only now: before, the name is what the client wrote.
            job.set_attribute("quantum.backend", event.job.backend)
            job.set_attribute("quantum.mode", event.receipt.mode)
            job.set_attribute("quantum.policy.sha256", event.receipt.policy_sha256)
            job.set_attribute("quantum.receipt.id", event.receipt.id)
            self._stages(within, event, taken_ns, ended)
        else:
            job.set_status(Status(StatusCode.ERROR))
        job.end(ended)

    def _stages(self, within: Any, event: JobEvent, taken_ns: int, ended: int) -> None:
        records = event.trace.stages
        starts = [event.entered.get((r.stage, r.branch), 0) for r in records]
        last = taken_ns
        for index, record in enumerate(records):
            start = last = max(last, starts[index])
            later = [s for s in starts[index + 1 :] if s]
            end = max(start, later[0] if later else ended)
            facts = {
                "quantum.stage": record.stage,
                "quantum.branch": record.branch,
                "quantum.verdict": record.decision.name,
            }
            if record.decision is not Decision.ALLOW and record.findings:
                rule = record.findings[0].rule
                facts["quantum.rule"] = rule if _RULE.fullmatch(rule) else "other"
            self._span(f"quantum.{record.stage}", within, start, end, facts)

    def _span(
        self, name: str, within: Any, start: int, end: int, facts: dict[str, str] | None = None
    ) -> None:
        self._tracer.start_span(name, within, start_time=start, attributes=facts).end(end)
