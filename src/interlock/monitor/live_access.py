"""Audit logs as a listener receives them: judged by the recorded profiles while they come."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable

from interlock.errors import InterlockError
from interlock.monitor.access import AuditEvent, Tighten, pseudonym
from interlock.monitor.access_record import AccessWatch
from interlock.monitor.ingest.otlp import LogEvent

__all__ = ["LiveAccess", "event_of"]

KEEP_EVENTS = 100_000
KEEP_S = 7200.0
FIELDS = ("principal", "role", "action", "target", "allowed")


def event_of(record: LogEvent, key: bytes) -> AuditEvent | None:
    """Return a log record as an audit event, its principal a pseudonym; None without the fields.

    The attributes `principal`, `role`, `action`, `target` and `allowed` (true or false) are read.

    Example:
        >>> record = LogEvent(t_ns=10**9, severity="", body="", attributes={
        ...     "principal": "ada", "role": "r", "action": "get", "target": "x", "allowed": "True"})
        >>> event_of(record, b"k" * 32).allowed
        True
    """
    found = record.attributes
    allowed = found.get("allowed", "").lower()
    if any(f not in found for f in FIELDS) or allowed not in ("true", "false"):
        return None
    return AuditEvent(
        t_s=record.t_ns / 1e9,
        principal=pseudonym(key, found["principal"]),
        role=found["role"],
        action=found["action"],
        target=found["target"],
        allowed=allowed == "true",
    )


class LiveAccess:
    """Keeps the events of the last two hours and judges them as they come.

    Args:
        watch: judges by the profile on record and keeps standings.
        key: of the pseudonyms.
    """

    def __init__(self, watch: AccessWatch, key: bytes) -> None:
        self._watch, self._key = watch, key
        self._events: collections.deque[AuditEvent] = collections.deque(maxlen=KEEP_EVENTS)
        self._told: dict[tuple[str, int], Tighten] = {}
        self.unread = self.unjudged = 0

    def take(
        self,
        records: Iterable[tuple[str, LogEvent]],
        tell: Callable[[str, int, Tighten, str], None],
        failed: Callable[[InterlockError], None] = lambda _error: None,
    ) -> None:
        """Take records; tell each principal-hour that asks for more than it did before.

        Records that cannot be judged, as there is no profile on record, are counted and `failed`
        is told why. They wait with the others, and are judged when a profile is there.
        """
        fresh = []
        for _, record in records:
            event = event_of(record, self._key)
            if event is None:
                self.unread += 1
            else:
                fresh.append(event)
        if not fresh:
            return
        # No record's time decides whether another of its batch is judged: that comes afterwards.
        self._events.extend(fresh)
        try:
            judged = self._watch.judge(list(self._events))
        except InterlockError as error:
            self.unjudged += len(fresh)
            failed(error)
            return
        finally:
            newest = max(e.t_s for e in fresh)
            kept = [e for e in self._events if e.t_s > newest - KEEP_S]
            self._events = collections.deque(kept, maxlen=KEEP_EVENTS)
        self._told = {k: v for k, v in self._told.items() if k in judged}
        for (who, hour), (step, field) in judged.items():
            if step > self._told.get((who, hour), Tighten.NONE):
                self._told[who, hour] = step
                tell(who, hour, step, field)
