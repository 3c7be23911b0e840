"""The durable engine: jobs survive the process that runs them.

The queue lives in the gateway's store; the engine takes jobs from it and makes each a workflow of
two steps, run and settle. A step that finished is not repeated after a crash. An attempt holds a
lease; when its worker dies, the job goes back to the queue and a later attempt has the right to it.
"""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from interlock.errors import InterlockError, SetupError
from interlock.gateway.logs import FACTS, log, quiet_dbos
from interlock.gateway.store import GatewayStore, JobRow

__all__ = ["DbosEngine", "Engine"]

LEASE_S = 30.0
#: Raise it when the steps change: what an older version began is then taken up anew.
VERSION = "interlock-gateway-1"
Run = Callable[[JobRow], tuple[str, dict[str, Any]]]


class Engine(Protocol):
    """Runs the jobs of the queue."""

    def start(self) -> None:
        """Begin to take jobs."""

    def drain(self, timeout_s: float) -> bool:
        """Take no more, wait for what runs; return whether all ended."""


@dataclass(kw_only=True)
class DbosEngine:
    """The engine on DBOS.

    Args:
        store: the queue.
        run: runs one job and returns its final state and outcome.
        url: database of the workflow's steps.
        threads: jobs at once in this process.
        name: of this worker; another process must have another.
        lease_s: how long a worker may be silent before its jobs go to others.
    """

    store: GatewayStore
    run: Run
    url: str
    threads: int = 2
    name: str = field(default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}")
    lease_s: float = LEASE_S
    poll_s: float = 0.02

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._active: dict[str, tuple[str, int]] = {}
        self._lock = threading.Lock()
        self._dispatcher: threading.Thread | None = None
        self._workflow: Any = None
        self.wake = threading.Event()

    def start(self) -> None:
        """Open the workflow database, take up what this worker had begun, and begin."""
        try:
            from dbos import DBOS, DBOSPortableJSONSerializer
        except ImportError as error:
            raise SetupError(
                "durable jobs need DBOS",
                code="extra-missing",
                got=str(error),
                expected="the package dbos",
                fix="pip install 'interlock[gateway]'",
            ) from error
        if self.url.startswith("sqlite:///"):
            # DBOS does not set it, and is twenty times slower without.
            with sqlite3.connect(self.url.removeprefix("sqlite:///")) as db:
                db.execute("PRAGMA journal_mode=WAL")
        quiet_dbos()
        self._dbos = DBOS(
            config={
                "name": "interlock",
                "system_database_url": self.url,
                "application_version": VERSION,
                "executor_id": self.name,
                "serializer": DBOSPortableJSONSerializer(),
                "log_level": "ERROR",
                "max_executor_threads": self.threads + 4,
                "use_listen_notify": False,
            }
        )

        @DBOS.step(name="run")
        def run_step(job: dict[str, Any]) -> dict[str, Any]:
            row = msgspec.convert(job, JobRow)
            if not self.store.holds(row.id, row.attempt):
                return {"state": "superseded", "outcome": ""}
            state, outcome = self.run(row)
            # Sealed: what a step returns is kept in the workflow's own database.
            owner, what = f"{row.tenant}/{row.owner}", f"outcome/{row.id}"
            sealed = self.store.sealed_like(row.body, owner, what, json.dumps(outcome))
            return {"state": state, "outcome": sealed}

        @DBOS.step(name="settle")
        def settle_step(job: dict[str, Any], done: dict[str, Any]) -> bool:
            outcome = json.loads(self.store.opened(f"outcome/{job['id']}", done["outcome"]))
            return self.store.finish(job["id"], job["attempt"], done["state"], outcome)

        @DBOS.workflow(name="job")
        def workflow(job: dict[str, Any]) -> bool:
            try:
                done = run_step(job)
                return done["state"] != "superseded" and settle_step(job, done)
            except InterlockError as error:
                # The database is away. The lease runs out, and a later attempt takes the job up.
                log.warning("an attempt was given up", extra={FACTS: {"code": error.code}})
                return False
            finally:
                with self._lock:
                    self._active.pop(f"{job['id']}-{job['attempt']}", None)
                self.wake.set()

        self._workflow = workflow
        # Nobody else has this name: what it had taken before is free, and old attempts are void.
        self.store.take_back(self.name)
        DBOS.launch()
        self._dispatcher = threading.Thread(
            target=self._dispatch, name="interlock-dispatch", daemon=True
        )
        self._dispatcher.start()
        threading.Thread(target=self._beat, name="interlock-lease", daemon=True).start()

    def _dispatch(self) -> None:
        from dbos import DBOS, SetWorkflowID

        while not self._stop.is_set():
            self.wake.clear()
            key = ""
            try:
                with self._lock:
                    busy = len(self._active) >= self.threads
                row = None if busy else self.store.claim(self.name, self.lease_s)
                if row is None:
                    self.wake.wait(self.poll_s)
                    continue
                key = f"{row.id}-{row.attempt}"
                with self._lock:
                    self._active[key] = (row.id, row.attempt)
                with SetWorkflowID(key):
                    DBOS.start_workflow(self._workflow, msgspec.to_builtins(row))
            except Exception:  # noqa: BLE001 - a database is away; what was taken comes back by lease
                with self._lock:
                    self._active.pop(key, None)
                self._stop.wait(1.0)

    def _beat(self) -> None:
        while not self._stop.wait(self.lease_s / 3):
            try:
                self.store.renew(self._held(), self.lease_s)
            except InterlockError:
                continue

    def _held(self) -> list[tuple[str, int]]:
        with self._lock:
            return list(self._active.values())

    @property
    def active(self) -> int:
        """Jobs that run now in this process."""
        with self._lock:
            return len(self._active)

    def drain(self, timeout_s: float) -> bool:
        """Take no more jobs, wait for what runs, and let go; return whether all ended."""
        from dbos import DBOS

        end = time.monotonic() + timeout_s
        dispatcher = self._dispatcher
        stopping = self._stop
        stopping.set()
        self.wake.set()
        if dispatcher is not None:
            dispatcher.join(timeout_s)
        while self.active and time.monotonic() < end:
            time.sleep(0.02)
            try:
                self.store.renew(self._held(), self.lease_s)
            except InterlockError:
                break
        done = not self.active
        DBOS.destroy(destroy_registry=True)
        return done
