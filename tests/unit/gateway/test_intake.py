"""Group commit of what comes in: who is written with whom, and that nobody waits for nothing."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest

from interlock.errors import StorageError
from interlock.gateway import intake
from interlock.gateway.intake import Answer, Intake
from interlock.gateway.store import GatewayStore, NewJob
from interlock.ledger import Ledger


def job(name: str) -> NewJob:
    return NewJob(
        id=name, tenant="t", owner="o", principal="{}", credential="{}", kind="sample",
        backend="b", priority=5, cost=1.0, idem=name, digest="", body="", bucket="t/o", rate=1.0,
        burst=1.0, subject="t/o", label="", keyed=False, method="key", max_queued=1, trace="",
    )  # fmt: skip


class Kept:
    """A store and a ledger that remember what was written together, and by which thread."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.threads: set[int] = set()
        self.refuse = 0
        self.appended = 0

    def add(self, jobs: Sequence[NewJob], tell: Callable[[Any], None]) -> list[Answer]:
        self.threads.add(threading.get_ident())
        self.batches.append([j.id for j in jobs])
        if self.refuse:
            self.refuse -= 1
            raise StorageError("full", code="database", got="", expected="", fix="")
        out: list[Answer] = [("new", j.id) for j in jobs]
        tell(out)
        return out

    def append(self, *_: Any, **__: Any) -> Any:
        self.appended += 1
        return self

    def wait(self, _: float) -> None:
        pass


def made(monkeypatch: pytest.MonkeyPatch, gather_s: float) -> tuple[Intake, Kept]:
    monkeypatch.setattr(intake, "GATHER_S", gather_s)
    kept = Kept()
    return Intake(cast(GatewayStore, kept), cast(Ledger, kept)), kept


async def client(taken: Intake, name: str, count: int) -> list[Answer]:
    return [await taken.add(job(f"{name}{i}")) for i in range(count)]


def test_clients_that_take_turns_come_to_be_written_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken, kept = made(monkeypatch, 60.0)

    async def both() -> None:
        early = asyncio.create_task(client(taken, "a", 5))
        while not kept.batches:
            await asyncio.sleep(0)
        await asyncio.gather(early, client(taken, "b", 4))

    asyncio.run(asyncio.wait_for(both(), 30))
    assert kept.batches[0] == ["a0"]
    assert [sorted(b) for b in kept.batches[1:]] == [[f"a{i + 1}", f"b{i}"] for i in range(4)]
    assert len(kept.threads) == 1
    assert kept.appended == 5


def test_a_single_client_waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    taken, kept = made(monkeypatch, 3600.0)
    asyncio.run(asyncio.wait_for(client(taken, "a", 20), 30))
    assert kept.batches == [[f"a{i}"] for i in range(20)]


def test_who_stays_away_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    taken, kept = made(monkeypatch, 0.01)

    async def run() -> list[Answer]:
        await asyncio.gather(*(client(taken, str(n), 1) for n in range(8)))
        return await client(taken, "last", 3)

    assert [a[1] for a in asyncio.run(asyncio.wait_for(run(), 30))] == ["last0", "last1", "last2"]
    assert kept.batches[-3:] == [["last0"], ["last1"], ["last2"]]
    assert sum(len(b) for b in kept.batches) == 11


def test_a_failed_write_fails_its_own_jobs_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    taken, kept = made(monkeypatch, 0.01)
    kept.refuse = 1

    async def run() -> list[Any]:
        first = await asyncio.gather(
            *(taken.add(job(str(n))) for n in range(4)), return_exceptions=True
        )
        return [*first, await taken.add(job("later"))]

    answers = asyncio.run(asyncio.wait_for(run(), 30))
    assert [type(a) for a in answers[:4]] == [StorageError] * 4
    assert answers[4] == ("new", "later")


def test_a_client_that_gives_up_while_gathering_harms_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken, kept = made(monkeypatch, 0.05)

    async def run() -> Answer:
        await asyncio.gather(*(taken.add(job(str(n))) for n in range(3)))
        gone = asyncio.create_task(taken.add(job("gone")))
        await asyncio.sleep(0)
        gone.cancel()
        return await taken.add(job("stays"))

    assert asyncio.run(asyncio.wait_for(run(), 30)) == ("new", "stays")
    assert kept.batches[-1] == ["gone", "stays"]  # written: its sender may ask with the same key
