"""Retention: labels without an answer are refused; what is too old is gone, the rest stays."""

from pathlib import Path
from typing import Any

import pytest

from interlock.access.store import open_database
from interlock.gateway.retention import Sweeper, Swept, sweep
from interlock.gateway.store import GatewayStore, NewJob
from interlock.guard.admit.retention import RetentionControl, RetentionSettings
from interlock.guard.control import check_control
from interlock.ledger import Ledger
from interlock.types import Decision
from tests.unit.guard.doubles import a_job, a_request, ask

DAY = 86_400.0


@pytest.mark.parametrize(
    ("labels", "choice", "decision"),
    [
        ((), "deny", Decision.ALLOW),
        (("eu-data",), "deny", Decision.ALLOW),
        (("eu-data", "secret"), "deny", Decision.DENY),
        (("secret",), "hold", Decision.HOLD),
        (("secret",), "allow", Decision.ALLOW),
        (("data:sha256:00", "subject:p-17"), "deny", Decision.ALLOW),
    ],
)
def test_a_label_nobody_gave_a_time_is_refused(
    tmp_path: Path, labels: tuple[str, ...], choice: Any, decision: Decision
) -> None:
    settings = RetentionSettings(months={"eu-data": 12}, on_unlisted=choice)
    job = a_job(labels=labels)
    found = ask(RetentionControl(), a_request(tmp_path, job=job), settings)
    assert found.decision is decision
    check_control(RetentionControl(), job, settings, {})


def job(name: str, label: str = "") -> NewJob:
    return NewJob(
        id=name, tenant="north", owner="ada", principal="{}", credential="{}", kind="sample",
        backend="aer", priority=0, cost=1.0, idem=name, digest="d", body="{}",
        subject="north/ada", label=label, bucket="north/ada", rate=100.0, burst=100.0,
    )  # fmt: skip


def test_ended_jobs_are_forgotten_by_age_and_payloads_by_label(tmp_path: Path) -> None:
    now = 1_000_000.0
    with Ledger.open(tmp_path / "home") as ledger:
        engine = open_database(f"sqlite:///{tmp_path / 'g.db'}")
        store = GatewayStore(engine, ledger, clock=lambda: now)
        store.add([job("old"), job("waiting")])
        taken = store.claim("w", 60.0)
        assert taken is not None
        store.intend(taken.id, taken.attempt)
        assert store.finish(taken.id, taken.attempt, "done", {"outcome": "RELEASE"})
        now += 20 * DAY
        store.add([job("fresh")])
        other = store.claim("w", 60.0)
        assert other is not None
        settings = RetentionSettings(results_days=30.0, months={"health": 0})
        assert sweep(store, ledger, settings) == Swept(jobs=0, keys=0)
        now += 11 * DAY
        assert sweep(store, ledger, settings) == Swept(jobs=1, keys=0)
        left = {r[0] for r in store.read("SELECT id FROM gateway_job")}
        assert taken.id not in left
        assert len(left) == 2  # what waits or runs stays, however old
        assert not store.read("SELECT job FROM gateway_intent")
        entries = list(ledger.entries("retention"))
        assert [e.payload for e in entries] == [{"jobs": 1, "keys": 0}]


def test_a_label_whose_months_are_over_cannot_be_read_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Ledger.open(tmp_path / "home") as ledger:
        store = GatewayStore(open_database(f"sqlite:///{tmp_path / 'g.db'}"), ledger)
        monkeypatch.setattr(type(ledger), "_month", lambda _: "2020-01")
        ill = ledger.append("x", {}, {"a": 1}, subject="north/ada", label="health").wait(5)
        well = ledger.append("x", {}, {"a": 2}, subject="north/ada", label="eu-data").wait(5)
        settings = RetentionSettings(months={"health": 3, "eu-data": 30})
        monkeypatch.setattr(type(ledger), "_month", lambda _: "2020-04")
        assert sweep(store, ledger, settings).keys == 0
        monkeypatch.setattr(type(ledger), "_month", lambda _: "2020-05")
        assert sweep(store, ledger, settings).keys == 1
        assert ledger.find(ill.id).payload is None
        assert ledger.find(well.id).payload == {"a": 2}


def test_a_sweep_that_fails_is_tried_again_and_does_not_end_the_gateway(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "home") as ledger:
        engine = open_database(f"sqlite:///{tmp_path / 'g.db'}")
        store = GatewayStore(engine, ledger)
        store.change("DROP TABLE gateway_intent")
        sweeper = Sweeper(store, ledger, RetentionSettings(results_days=1.0))
        sweeper.close()
        assert not list(ledger.entries("retention"))
