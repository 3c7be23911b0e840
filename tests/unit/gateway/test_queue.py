import base64
import os
import secrets
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlencode

import pytest

from interlock.access.store import open_database
from interlock.errors import InputError, IntegrityError, StorageError, UsageError
from interlock.gateway import runs
from interlock.gateway.store import GatewayStore, NewJob, Tenant
from interlock.ledger import Ledger


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[GatewayStore]:
    url = f"sqlite:///{tmp_path / 'q.db'}"
    if request.param == "postgresql":
        import psycopg.conninfo

        given = psycopg.conninfo.conninfo_to_dict(request.getfixturevalue("database"))
        url = f"postgresql+psycopg://?{urlencode(given)}"
    with Ledger.open(tmp_path / "home") as ledger:
        made = GatewayStore(open_database(url), ledger, clock)
        yield made
        made.engine.dispose()


def job(tenant: str, *, cost: float = 1.0, priority: int = 5, idem: str = "") -> NewJob:
    return NewJob(
        id=secrets.token_hex(8), tenant=tenant, owner="o", principal="{}", credential="{}",
        kind="sample", backend="b", priority=priority, cost=cost,
        idem=idem or secrets.token_hex(8), digest="d", body="{}", bucket=f"{tenant}/o",
        subject=f"{tenant}/o\np-17", label="health",
        rate=1e6, burst=1e6,
    )  # fmt: skip


def jain(shares: list[float]) -> float:
    return sum(shares) ** 2 / (len(shares) * sum(s * s for s in shares))


def serve(store: GatewayStore, count: int) -> Counter[str]:
    served: Counter[str] = Counter()
    for _ in range(count):
        row = store.claim("w", 30)
        assert row is not None
        served[row.tenant] += 1
        assert store.finish(row.id, row.attempt, "done", {})
    return served


def test_one_greedy_and_nine_normal_tenants_share_alike(store: GatewayStore) -> None:
    store.add([job("greedy") for _ in range(600)])
    for n in range(9):
        store.add([job(f"t{n}") for _ in range(20)])
    served = serve(store, 100)
    assert jain([served[t] for t in ["greedy", *[f"t{n}" for n in range(9)]]]) >= 0.95
    assert min(served.values()) >= 9


def test_weights_and_costs_count(store: GatewayStore) -> None:
    store.set_tenant(Tenant(name="a", weight=3.0))
    store.set_tenant(Tenant(name="b", weight=1.0))
    store.add([job("a") for _ in range(80)] + [job("b") for _ in range(80)])
    served = serve(store, 80)
    assert 57 <= served["a"] <= 63
    store.add([job("big", cost=10.0) for _ in range(50)] + [job("small") for _ in range(50)])
    store.drop_tenant("a")
    store.drop_tenant("b")
    served = serve(store, 44)
    assert served["small"] >= 8 * served["big"]


def test_a_tenant_that_was_away_saves_up_no_share(store: GatewayStore) -> None:
    store.add([job("early") for _ in range(60)])
    serve(store, 30)
    store.add([job("late") for _ in range(60)])
    served = serve(store, 20)
    assert abs(served["early"] - served["late"]) <= 2


def test_priority_then_age_within_a_tenant(store: GatewayStore, clock: Clock) -> None:
    order = []
    for name, priority in (("old", 5), ("new", 5), ("urgent", 9)):
        clock.now += 1
        store.add([job("a", priority=priority, idem=name)])
    ids = {row.id: row for row in store.jobs("a", owner=None, state=None, before=1e12, limit=9)}
    for _ in range(3):
        row = store.claim("w", 30)
        assert row is not None
        order.append((ids[row.id].priority, ids[row.id].created))
    assert [p for p, _ in order] == [9, 5, 5]
    assert order[1][1] < order[2][1]


def test_quotas_and_maintenance_windows_hold(store: GatewayStore, clock: Clock) -> None:
    store.set_tenant(Tenant(name="a", max_running=1, max_queued=3))
    assert [r for r, _ in store.add([job("a") for _ in range(5)])] == ["new"] * 3 + ["full"] * 2
    first = store.claim("w", 30)
    assert first is not None
    assert store.claim("w", 30) is None
    store.set_tenant(Tenant(name="a", windows=((clock.now - 1, clock.now + 60),)))
    assert store.claim("w", 30) is None
    clock.now += 61
    assert store.claim("w", 300) is not None


def test_a_dead_workers_job_comes_back_and_its_late_answer_counts_for_nothing(
    store: GatewayStore, clock: Clock
) -> None:
    store.add([job("a")])
    dead = store.claim("dead", 30)
    assert dead is not None
    assert store.claim("other", 30) is None
    clock.now += 31
    again = store.claim("other", 30)
    assert again is not None
    assert (again.id, again.attempt) == (dead.id, 2)
    assert not store.holds(dead.id, dead.attempt)
    assert not store.finish(dead.id, dead.attempt, "done", {"outcome": "RELEASE"})
    assert store.finish(again.id, again.attempt, "failed", {"outcome": "DENY"})
    row = store.job(dead.id, "a")
    assert row is not None
    assert row.outcome == {"outcome": "DENY"}
    assert store.job(dead.id, "b") is None


def test_a_provider_call_is_recorded_before_and_after(store: GatewayStore) -> None:
    store.add([job("a")])
    row = store.claim("w", 30)
    assert row is not None
    assert store.intend(row.id, 1) == ("first", None)
    assert store.intend(row.id, 2) == ("sent", None)
    store.answered(row.id, "{}")
    assert store.intend(row.id, 3) == ("answered", "{}")


def test_a_database_that_is_away_is_a_storage_error(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "home") as ledger, pytest.raises(StorageError):
        GatewayStore(open_database("sqlite:////nonexistent/folder/x.db"), ledger)


def columns(store: GatewayStore, job_id: str) -> list[str]:
    jobs = store.read("SELECT body, outcome FROM gateway_job WHERE id = :id", id=job_id)
    return [
        *jobs[0],
        *store.read("SELECT result FROM gateway_intent WHERE job = :id", id=job_id)[0],
    ]


def test_what_a_job_holds_is_encrypted_bound_to_it_and_erased_with_its_owner(
    store: GatewayStore,
) -> None:
    names = []
    for tenant in ("a", "b"):
        new = replace(job(tenant), body='{"circuit": "CANARY"}')
        store.add([new])
        row = store.claim("w", 30)
        assert row is not None
        assert store.opened(f"body/{row.id}", row.body) == new.body
        store.intend(row.id, 1)
        store.answered(row.id, '{"counts": "CANARY"}')
        assert store.intend(row.id, 2)[1] == '{"counts": "CANARY"}'
        assert store.finish(row.id, 1, "done", {"result": "CANARY"})
        names.append(new.id)
        assert not any(b"CANARY" in base64.b64decode(text) for text in columns(store, new.id))
    first, second = names
    body, outcome, _ = columns(store, first)
    with pytest.raises(IntegrityError):
        store.opened(f"body/{second}", body)
    with pytest.raises(IntegrityError):
        store.opened(f"body/{first}", outcome)
    for bad in ("", "{}", '{"circuit": 1}', body[:-8], body[:60] + "AAAA" + body[64:]):
        with pytest.raises(IntegrityError):
            store.opened(f"body/{first}", bad)
    assert isinstance(store.vault, Ledger)
    assert store.vault.scope_of(base64.b64decode(body)) == ("a/o\np-17", "health")
    store.vault.erase("a/o")
    gone, kept = store.job(first, "a"), store.job(second, "b")
    assert gone is not None
    assert gone.outcome == {"outcome": "ERASED"}
    assert kept is not None
    assert kept.outcome == {"result": "CANARY"}
    with pytest.raises(InputError) as caught:
        store.opened(f"body/{first}", gone.body)
    assert caught.value.code == "job-erased"


def test_a_runs_jobs_are_taken_by_that_run_alone_and_settled_after_it(
    store: GatewayStore,
) -> None:
    of = {name: GatewayStore(store.engine, store.vault, store.clock, run=name) for name in "ab"}
    of["a"].add([job("t"), job("t")])
    store.add([job("t")])
    assert of["b"].claim("w", 30) is None
    taken, open_to_all = of["a"].claim("w", 30), store.claim("w", 30)
    assert taken is not None
    assert open_to_all is not None
    assert (taken.run, open_to_all.run) == ("a", "")
    assert store.claim("w", 30) is None
    store.abandon("b")
    assert store.counts() == {"running": 2, "queued": 1}
    store.abandon("a")
    assert store.counts() == {"running": 1, "failed": 1, "cancelled": 1}
    settled = store.job(taken.id, "t")
    assert settled is not None
    assert settled.outcome is not None
    assert settled.outcome["error"]["code"] == "execution-uncertain"


def test_a_runs_lapsed_lease_is_that_runs_own(store: GatewayStore, clock: Clock) -> None:
    run = GatewayStore(store.engine, store.vault, clock, run="a")
    run.add([job("t")])
    assert run.claim("w", 30) is not None
    clock.now += 31
    assert store.claim("v", 30) is None
    assert store.counts() == {"running": 1}
    assert run.claim("w", 30) is not None


def test_only_what_ended_runs_left_is_settled(store: GatewayStore, tmp_path: Path) -> None:
    ended, going = runs.new_name(), runs.new_name()
    for name in (ended, going):
        GatewayStore(store.engine, store.vault, store.clock, run=name).add([job(name)])
    os.close(runs.hold(tmp_path, ended))
    lock = runs.hold(tmp_path, going)
    with pytest.raises(UsageError) as caught:
        runs.hold(tmp_path, going)
    assert caught.value.code == "gateway-runs"
    runs.settle(tmp_path, store, "")
    assert (store.counts(ended), store.counts(going)) == ({"cancelled": 1}, {"queued": 1})
    assert [p.name for p in tmp_path.glob("gateway-*")] == [f"gateway-{going}.lock"]
    runs.settle(tmp_path, store, going)
    assert store.counts(going) == {"cancelled": 1}
    os.close(lock)
