"""Ends what the policy says must not be kept: ended jobs by age, recorded payloads by label."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from interlock.access.transactions import transaction
from interlock.errors import InterlockError
from interlock.gateway.logs import FACTS, log
from interlock.gateway.store import FINAL, GatewayStore
from interlock.guard.admit.retention import RetentionSettings
from interlock.guard.policy import Policy
from interlock.ledger import Ledger

__all__ = ["Sweeper", "Swept", "settings_of", "sweep"]

EVERY_S = 3600.0
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What one sweep ended: jobs forgotten, data keys destroyed."""

    jobs: int
    keys: int


def settings_of(policy: Policy) -> RetentionSettings | None:
    """Return what the policy says of retention, or None when it says nothing."""
    for bound in policy.controls("admit"):
        if isinstance(bound.settings, RetentionSettings):
            return bound.settings
    return None


def sweep(store: GatewayStore, ledger: Ledger, settings: RetentionSettings) -> Swept:
    """Forget ended jobs that are too old and destroy data keys whose months are over; recorded.

    Args:
        store: the gateway's jobs.
        ledger: what was recorded.
        settings: of the policy in force.
    """
    jobs = 0
    if settings.results_days is not None:
        jobs = _forget(store, store.clock() - settings.results_days * DAY_S)
    keys = sum(len(ledger.expire(label, months)) for label, months in settings.months.items())
    if jobs or keys:
        ledger.append("retention", {"outcome": "ALLOW"}, {"jobs": jobs, "keys": keys}).wait(30.0)
    return Swept(jobs=jobs, keys=keys)


def _forget(store: GatewayStore, before: float) -> int:
    states = ", ".join(f"'{s}'" for s in FINAL)
    old = f"state IN ({states}) AND updated < :before"
    with transaction(store.engine) as db:
        store.serial(db)
        db.execute(
            store.text(
                "DELETE FROM gateway_intent WHERE job IN"  # noqa: S608 - constant columns
                f" (SELECT id FROM gateway_job WHERE {old})"
            ),
            {"before": before},
        )
        done = db.execute(
            store.text(f"DELETE FROM gateway_job WHERE {old}"),  # noqa: S608 - the same
            {"before": before},
        )
        return int(done.rowcount)


class Sweeper:
    """Sweeps at once and then every hour, until it is closed."""

    def __init__(self, store: GatewayStore, ledger: Ledger, settings: RetentionSettings) -> None:
        self._of = (store, ledger, settings)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="retention", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                sweep(*self._of)
            except InterlockError as error:
                # What could not be ended now is ended an hour later; somebody should look.
                log.error("retention failed", extra={FACTS: {"code": error.code}})
            if self._done.wait(EVERY_S):
                return

    def close(self) -> None:
        """Stop, and wait for a sweep that is under way."""
        self._done.set()
        self._thread.join(60.0)
