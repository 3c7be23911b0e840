"""Taking jobs in: what comes at one moment is written in one transaction and recorded together.

The record of the ledger is begun before the queue's transaction is committed, so that both reach
the disk at the same time; the answer waits for both. A record whose transaction then fails tells
of a job that was asked for and never made; its sender was told that it failed.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from interlock.gateway.store import GatewayStore, NewJob
from interlock.ledger import Ledger

__all__ = ["Intake"]

Answer = tuple[str, str | float]
TIMEOUT_S = 30.0
#: Jobs in one record of the ledger.
RECORD = 100
#: Longest wait for those who sent jobs at the same time before; nobody waits for himself alone.
GATHER_S = 0.008
_POOL = 4096


class Intake:
    """Writes submissions by group commit.

    Args:
        store: the queue.
        ledger: where what came in is recorded.
    """

    def __init__(self, store: GatewayStore, ledger: Ledger) -> None:
        self._store = store
        self._ledger = ledger
        self._waiting: list[tuple[NewJob, asyncio.Future[Answer]]] = []
        self._flushing = False
        self._crowd = 0
        self._gathered: asyncio.Future[None] | None = None
        # One thread: the databases' page caches are a connection's own.
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="interlock-intake")
        self._random = b""

    def token(self, size: int = 8) -> str:
        """Return random hex digits; the system is asked for many at a time."""
        if len(self._random) < size:
            self._random = secrets.token_bytes(_POOL)
        out, self._random = self._random[:size], self._random[size:]
        return out.hex()

    async def add(self, job: NewJob) -> Answer:
        """Write a job with whatever else comes in meanwhile; see `GatewayStore.add`."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        self._waiting.append((job, future))
        gathered = self._gathered
        if gathered is not None and len(self._waiting) >= self._crowd:
            _settle(gathered, None)
        if not self._flushing:
            self._flushing = True
            task = loop.create_task(self._flush())
            task.add_done_callback(lambda t: t.exception())
        return await future

    async def _flush(self) -> None:
        try:
            loop = asyncio.get_running_loop()
            while self._waiting:
                await self._gather(loop)
                batch, self._waiting = self._waiting, []
                answers: list[Any]
                try:
                    jobs = [job for job, _ in batch]
                    answers = await loop.run_in_executor(self._writer, self._write, jobs)
                except Exception as error:  # noqa: BLE001 - handed to every waiter
                    answers = [error] * len(batch)
                self._crowd = len(batch) + len(self._waiting)
                for (_, future), answer in zip(batch, answers, strict=True):
                    _settle(future, answer)
        finally:
            self._flushing = False

    async def _gather(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait until as many are here as were under way at the end of the last batch.

        Those who have just been answered are about to send their next job: one commit for all is
        half the work of two that take turns.
        """
        if len(self._waiting) >= self._crowd:
            return
        gathered = self._gathered = loop.create_future()
        timer = loop.call_later(GATHER_S, _settle, gathered, None)
        try:
            await gathered
        finally:
            timer.cancel()
            self._gathered = None

    def _write(self, jobs: list[NewJob]) -> list[Answer]:
        pending: list[Any] = []
        done = self._store.add(jobs, lambda found: pending.extend(self._record(jobs, found)))
        for record in pending:
            record.wait(TIMEOUT_S)
        return done

    def _record(self, jobs: Sequence[NewJob], done: Sequence[Answer]) -> list[Any]:
        """Record what is new: one entry for each principal, whose data can be erased alone."""
        groups: dict[tuple[str, ...], list[NewJob]] = {}
        for job, (result, _) in zip(jobs, done, strict=True):
            if result == "new":
                name = (job.tenant, job.principal, job.method, job.subject, job.label)
                groups.setdefault(name, []).append(job)
        out = []
        for (tenant, principal, method, subject, label), theirs in groups.items():
            for start in range(0, len(theirs), RECORD):
                some = theirs[start : start + RECORD]
                body = {
                    "principal": json.loads(principal),
                    "method": method,
                    "jobs": [{"job": j.id, "backend": j.backend, "digest": j.digest} for j in some],
                }
                header: dict[str, str | int | bool | None] = {"tenant": tenant, "jobs": len(some)}
                out.append(self._ledger.append("queue", header, body, subject=subject, label=label))
        return out


def _settle(future: asyncio.Future[Any], answer: Any) -> None:
    """Answer a waiter on its own event loop."""

    def settle() -> None:
        if future.done():
            return
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)

    loop = future.get_loop()
    if loop is asyncio.get_running_loop():
        settle()
    else:
        loop.call_soon_threadsafe(settle)
