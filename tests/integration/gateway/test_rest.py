"""The REST interface with its real store, ledger, engine and simulator."""

import json
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from interlock.gateway.store import Tenant
from tests.integration.gateway.kit import MEMBERS, RULES, Kit, bell, kit, policy


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kit]:
    with kit(tmp_path_factory.mktemp("gw") / "home") as made:
        for tenant in ("north", "south"):
            made.gateway.store.set_tenant(Tenant(name=tenant, rate=1e5, burst=1e5))
        yield made


def test_a_job_is_released_enforced_with_a_receipt_that_proves_itself(shared: Kit) -> None:
    job, outcome = shared.run("ada", bell(500))
    assert outcome["outcome"] == "RELEASE"
    assert outcome["receipt"]["mode"] == "ENFORCED"
    assert outcome["receipt"]["job"] == job
    counts = outcome["result"]["items"][0]["registers"]["meas"][0]
    assert set(counts) == {"00", "11"}
    assert sum(counts.values()) == 500
    receipt = shared.call("ada", "GET", f"/v1/receipts/{outcome['receipt']['id']}")
    assert receipt.status_code == 200
    assert receipt.json()["proof"]
    view = shared.call("ada", "GET", f"/v1/jobs/{job}").json()
    assert (view["state"], view["owner"]) == ("done", "ada")
    events = shared.call("ada", "GET", f"/v1/jobs/{job}/events")
    assert "event: state" in events.text
    assert '"state": "done"' in events.text


def test_a_refused_job_names_its_rule(shared: Kit) -> None:
    _, outcome = shared.run("ada", bell(2_000_000))
    assert outcome["outcome"] == "DENY"
    assert outcome["receipt"]["rule"] == "admit.budget.shots-per-job"
    _, outcome = shared.run("adm", bell())
    assert outcome["receipt"]["rule"] == "admit.authorisation.not-permitted"
    assert "result" not in outcome


def test_a_replayed_key_makes_one_job_whatever_the_race(shared: Kit) -> None:
    before = shared.gateway.store.counts("north")
    with ThreadPoolExecutor(8) as pool:
        made = list(
            pool.map(
                lambda _: shared.call("ada", "POST", "/v1/jobs", bell(), idempotency_key="k-1"),
                range(24),
            )
        )
    assert {m.json()["id"] for m in made} == {made[0].json()["id"]}
    assert sorted(m.status_code for m in made) == [200] * 23 + [202]
    after = shared.gateway.store.counts("north")
    assert sum(after.values()) == sum(before.values()) + 1
    other = shared.call("ada", "POST", "/v1/jobs", bell(101), idempotency_key="k-1")
    assert (other.status_code, other.json()["code"]) == (409, "idempotency-key")
    bens = shared.call("ben", "POST", "/v1/jobs", bell(), idempotency_key="k-1")
    assert bens.status_code == 202


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "job-format"),
        (b"{}", "job-format"),
        (b"[" * 50_000, "job-format"),
        (b"\xff", "job-format"),
        (json.dumps(bell(0)).encode(), "job-values"),
        (json.dumps(bell(-1)).encode(), "job-format"),
        (json.dumps(bell(kind="estimate")).encode(), "job-values"),
        (json.dumps(bell(kind="shell")).encode(), "job-format"),
        (json.dumps(bell(native="x")).encode(), "job-format"),
        (json.dumps(bell(backend="a\nb")).encode(), "job-format"),
        (json.dumps(bell(programs=[])).encode(), "job-format"),
        (json.dumps(bell(programs=[{"circuit": {}, "shots": 1}])).encode(), None),
        (json.dumps(bell()).replace("[0, 1]", "[0, 7]").encode(), None),
        (json.dumps(bell()).replace('"h"', '"__import__"').encode(), None),
        (b"x" * (9 * 1024 * 1024), "job-too-large"),
    ],
)
def test_a_wrong_body_is_a_problem_with_a_code(shared: Kit, body: bytes, code: str | None) -> None:
    reply = shared.call("ada", "POST", "/v1/jobs", body)
    assert reply.status_code == 422, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json()["code"] == code if code else reply.json()["code"].startswith("circuit")


def test_without_a_credential_nothing_but_health_answers(shared: Kit) -> None:
    for path in ("/healthz", "/readyz"):
        assert shared.call("", "GET", path).status_code == 200
    paths = ["/metrics", "/v1/jobs", "/v1/jobs/x", "/v1/jobs/x/result", "/v1/policy", "/v1/ledger",
             "/v1/tenant", "/v1/approvals", "/v1/backends", "/v1/receipts/1-x"]  # fmt: skip
    for path in paths:
        reply = shared.call("", "GET", path)
        assert (reply.status_code, reply.json()["code"]) == (401, "unauthenticated")
        assert shared.call("", "GET", path, x_principal="ada").status_code == 401
    assert shared.call("", "POST", "/v1/jobs", bell()).status_code == 401


def test_rights_are_asked_for_every_verb(shared: Kit) -> None:
    for who, path, status in [
        ("ada", "/v1/policy", 403), ("adm", "/v1/policy", 200), ("ada", "/v1/ledger", 403),
        ("adm", "/v1/ledger", 200), ("ada", "/v1/approvals", 403), ("lea", "/v1/approvals", 200),
    ]:  # fmt: skip
        assert shared.call(who, "GET", path).status_code == status, (who, path)
    settings = {"weight": 2.0}
    assert shared.call("ada", "PUT", "/v1/tenants/north", settings).status_code == 403
    assert shared.call("adm", "PUT", "/v1/tenants/south", settings).status_code == 403
    denied = list(shared.gateway.guard.ledger.entries("access"))
    assert denied
    assert denied[-1].payload["principal"]["id"] in ("ada", "adm")


def test_the_colleagues_job_is_the_leads_to_read_and_nobody_elses(shared: Kit) -> None:
    job, _ = shared.run("ada", bell())
    assert shared.call("lea", "GET", f"/v1/jobs/{job}").status_code == 200
    for who in ("ben", "sol", "adm"):
        reply = shared.call(who, "GET", f"/v1/jobs/{job}")
        missing = shared.call(who, "GET", "/v1/jobs/" + "0" * len(job))
        assert reply.status_code == missing.status_code == 404
        assert reply.text.replace(job, "*") == missing.text.replace("0" * len(job), "*")


def test_two_tenants_read_nothing_of_each_other(shared: Kit) -> None:
    """Fuzzed requests of one tenant against the ids of the other; see benchmarks for 10,000."""
    rng = random.Random(5)
    canary = "north-secret-label"
    job, outcome = shared.run("ada", bell(labels=[canary], pipeline=canary))
    receipt = outcome["receipt"]["id"]
    ids = [
        job,
        receipt,
        job[:-1],
        job.upper(),
        f"{job}%00",
        f"../north/{job}",
        "*",
        "%25",
        "' OR 1=1",
    ]
    leaks = 0
    for _ in range(600):
        target = rng.choice(ids)
        method, path = rng.choice(
            [("GET", f"/v1/jobs/{target}"), ("GET", f"/v1/jobs/{target}/result"),
             ("POST", f"/v1/jobs/{target}/cancel"), ("GET", f"/v1/receipts/{target}"),
             ("GET", f"/v1/jobs?limit=200&before={rng.choice(['1e10', '9e10', 'x', '-1'])}"),
             ("GET", f"/v1/jobs?state={rng.choice(['done', 'queued', target])}"),
             ("GET", "/v1/tenant"), ("GET", "/v1/approvals"), ("GET", "/v1/ledger"),
             ("GET", f"/v1/jobs/{target}/events"), ("PUT", "/v1/tenants/north")]
        )  # fmt: skip
        body = {"weight": 1.0} if method == "PUT" else None
        reply = shared.call("sol", method, path, body)
        assert reply.status_code < 500, (path, reply.text)
        told = {k: v for k, v in reply.json().items() if k != "got"} if "json" in reply.headers[
            "content-type"] else {}  # fmt: skip
        leaks += canary in reply.text or job in json.dumps(told) or '"ada"' in reply.text
    assert leaks == 0


def test_revocation_ends_a_running_session(shared: Kit) -> None:
    job, _ = shared.run("ben", bell())
    assert shared.call("ben", "GET", f"/v1/jobs/{job}").status_code == 200
    body = {"kind": "principal", "value": "ben", "reason": "left"}
    assert shared.call("ada", "POST", "/v1/revocations", body).status_code == 403
    assert shared.call("adm", "POST", "/v1/revocations", body).status_code == 201
    assert shared.call("ben", "GET", f"/v1/jobs/{job}").status_code == 401
    shared.gateway.access.reinstate("principal", "ben", "north")


def test_a_revoked_job_in_the_queue_does_not_run(shared: Kit) -> None:
    made = shared.call("ben", "POST", "/v1/jobs", bell(3_000))
    shared.gateway.access.revoke("principal", "ben", "north", "test")
    row = None
    for _ in range(200):
        row = shared.gateway.store.job(made.json()["id"], "north")
        if row and row.state in ("done", "failed"):
            break
        time.sleep(0.05)
    shared.gateway.access.reinstate("principal", "ben", "north")
    assert row is not None
    # It had perhaps run already; if not, it was denied at one of the hops.
    if row.state == "failed":
        assert row.outcome is not None
        assert "revoked" in row.outcome["receipt"]["rule"]


def test_a_burst_gets_exactly_its_tokens(tmp_path: Any) -> None:
    with kit(tmp_path / "home", workers=0) as made:
        made.gateway.store.set_tenant(Tenant(name="north", rate=0.001, burst=20))
        job = json.dumps(bell()).encode()
        with ThreadPoolExecutor(8) as pool:
            replies = list(
                pool.map(lambda _: made.call("ada", "POST", "/v1/jobs", job), range(200))
            )
        codes = [r.status_code for r in replies]
        assert (codes.count(202), codes.count(429)) == (20, 180)
        limited = next(r for r in replies if r.status_code == 429)
        assert limited.json()["code"] == "rate-limited"
        assert int(limited.headers["retry-after"]) > 100
        assert made.call("ben", "POST", "/v1/jobs", job).status_code == 202
        assert made.gateway.store.counts() == {"queued": 21}


def test_cancel_reaches_a_waiting_job_once(tmp_path: Any) -> None:
    with kit(tmp_path / "home", workers=0) as made:
        job = made.call("ada", "POST", "/v1/jobs", bell()).json()["id"]
        assert made.call("lea", "POST", f"/v1/jobs/{job}/cancel").status_code == 404
        assert made.call("ada", "POST", f"/v1/jobs/{job}/cancel").json() == {"cancelled": True}
        assert made.call("ada", "POST", f"/v1/jobs/{job}/cancel").json() == {"cancelled": False}
        assert made.gateway.store.claim("w", 30) is None


def test_a_held_job_runs_after_approval_by_somebody_else(tmp_path: Any) -> None:
    from interlock.crypto.keys import KeyStore
    from interlock.guard.bundle import public_keys

    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    gateway = public_keys(KeyStore(home / "keys"), "gateway")
    gates = {
        "gates": {"prod": {"group": "ethics", "labels": ["production"]}},
        "approvers": [
            {"id": "lea", "tenant": "north", "groups": ["ethics"]},
            {"id": "gateway", "tenant": "north", "vouches": True, "public": gateway},
        ],
    }
    with kit(home, document=policy(approvals=gates)) as made:
        job = bell(labels=["production"])
        _, held = made.run("ada", job)
        assert held["outcome"] == "HOLD"
        waiting = made.call("lea", "GET", "/v1/approvals").json()["waiting"]
        body = {"subject": waiting[0]["subject"], "gate": "ethics"}
        for who, status in (("ada", 403), ("sol", 404), ("ben", 403)):
            assert made.call(who, "POST", "/v1/approvals", body).status_code == status
        odd = made.call("lea", "POST", "/v1/approvals", {**body, "gate": "legal"})
        assert (odd.status_code, odd.json()["code"]) == (403, "approval-group")
        assert made.call("lea", "POST", "/v1/approvals", body).status_code == 201
        _, again = made.run("ada", job)
        assert again["outcome"] == "RELEASE"
        _, changed = made.run("ada", bell(101, labels=["production"]))
        assert changed["outcome"] == "HOLD"
        _, own = made.run("lea", bell(102, labels=["production"]))
        assert own["outcome"] == "HOLD"
        mine = [w for w in made.call("lea", "GET", "/v1/approvals").json()["waiting"]
                if w["job"]["submitter"] == "lea"]  # fmt: skip
        reply = made.call("lea", "POST", "/v1/approvals", {**body, "subject": mine[0]["subject"]})
        assert (reply.status_code, reply.json()["code"]) == (403, "approval-own")


@pytest.mark.parametrize(
    "approvers",
    [
        [{"id": "ben", "tenant": "north", "groups": ["ethics"]}, "gateway"],
        [{"id": "lea", "tenant": "north", "groups": ["legal"]}, "gateway"],
        [{"id": "lea", "tenant": "south", "groups": ["ethics"]}, "gateway"],
        [{"id": "lea", "tenant": "north", "groups": ["ethics"]}],
    ],
    ids=["not-named", "other-group", "other-tenant", "not-vouched"],
)
def test_an_approval_that_would_not_count_is_refused(tmp_path: Any, approvers: list[Any]) -> None:
    from interlock.crypto.keys import KeyStore
    from interlock.guard.bundle import public_keys

    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    public = public_keys(KeyStore(home / "keys"), "gateway")
    vouching = {"id": "gateway", "tenant": "north", "vouches": True, "public": public}
    gates = {
        "gates": {"prod": {"group": "ethics", "labels": ["production"]}},
        "approvers": [vouching if a == "gateway" else a for a in approvers],
    }
    with kit(home, document=policy(approvals=gates)) as made:
        _, held = made.run("ada", bell(labels=["production"]))
        assert held["outcome"] == "HOLD"
        subject = made.call("lea", "GET", "/v1/approvals").json()["waiting"][0]["subject"]
        body = {"subject": subject, "gate": "ethics"}
        reply = made.call("lea", "POST", "/v1/approvals", body)
        assert (reply.status_code, reply.json()["code"]) == (403, "approval-group")
        assert not made.gateway.access.approvals(subject, "north")


def test_a_key_for_submitting_alone_reads_nothing(tmp_path: Any) -> None:
    from interlock.access import keys
    from interlock.types import Principal

    with kit(tmp_path / "home") as made:
        job, _ = made.run("ada", bell())
        who = Principal(id="ada", tenant="north")
        scopes = ["submit"]
        key = keys.issue(made.gateway.access, who, lifetime_s=60, scopes=scopes)[1]
        made.tokens["ada"] = key
        assert made.call("ada", "POST", "/v1/jobs", bell()).status_code == 202
        for path, status in (("/v1/jobs", 403), (f"/v1/jobs/{job}", 404)):
            reply = made.call("ada", "GET", path)
            assert reply.status_code == status
            assert job not in reply.text.replace(f'"got": "{job}"', "")


def test_the_policys_isolation_is_the_one_a_simulator_runs_at(tmp_path: Any) -> None:
    document = policy()
    document["execute"]["isolation"] = {"minimum": "confined"}
    one = bell(60)
    estimate = bell(kind="estimate")
    del estimate["programs"][0]["shots"]
    circuit = estimate["programs"][0]["circuit"]
    circuit["operations"] = [o for o in circuit["operations"] if o[0] != "measure"]
    circuit |= {"num_clbits": 0, "registers": []}
    estimate["programs"][0] |= {"observables": ["{'ZZ': 1.0}"], "precision": 0.1}
    with kit(tmp_path / "home", document=document) as made:
        jobs = [one, bell(60, kind="run"), estimate]
        done = [made.run("ada", job) for job in jobs]
        levels = {
            e.payload["job"]["id"]: stage["controls"]
            for e in made.gateway.guard.ledger.entries("release")
            for stage in e.payload["trace"]["stages"]
            if stage["stage"] == "execute"
        }
    for name, outcome in done:
        assert outcome["outcome"] == "RELEASE", outcome
        told = next(c for c in levels[name] if c["control"] == "isolation")
        assert told["evidence"]["level"] == "confined"
    for _, outcome in done[:2]:
        (counts,) = next(iter(outcome["result"]["items"][0]["registers"].values()))
        assert sum(counts.values()) == 60
        assert set(counts) <= {"00", "11"}


def test_the_policy_is_shown_without_the_people_of_other_tenants(tmp_path: Path) -> None:
    people = [{"id": "ann", "tenant": "south", "groups": ["ethics"]}, {"id": "lou"}]
    document = policy(approvals={"gates": {}, "approvers": people})
    with kit(tmp_path / "home", document=document) as made:
        shown = made.call("adm", "GET", "/v1/policy")
        assert shown.json()["sha256"] == made.gateway.policy.sha256
        assert [m["id"] for m in shown.json()["document"]["admit"]["authorisation"]["members"]] == [
            "ada", "ben", "lea", "adm"]  # fmt: skip
        for name in ("sol", "south", "ann", "lou"):
            assert f'"{name}"' not in shown.text
        assert '"ada"' not in made.call("sol", "GET", "/v1/policy").text


def test_a_tenant_gives_itself_no_larger_share(tmp_path: Path) -> None:
    def ask(made: Kit, **settings: Any) -> tuple[int, str]:
        reply = made.call("adm", "PUT", "/v1/tenants/north", settings)
        return reply.status_code, reply.json().get("code", "")

    with kit(tmp_path / "home") as made:
        store, soon = made.gateway.store, 4e9
        store.set_tenant(Tenant(name="north", rate=5.0, windows=((soon, soon + 1),)))
        less = {"rate": 5.0, "windows": [[soon, soon + 1], [soon + 5, soon + 6]]}
        for more in ({"weight": 1000.0}, {"max_running": 101}, {"max_queued": 10_001},
                     {"rate": 5.1}, {"burst": 101.0}, {"windows": []}):  # fmt: skip
            assert ask(made, **{**less, **more}) == (403, "tenant-share")
        assert store.tenant("north").weight == 1.0
        assert ask(made, **less, weight=0.5) == (200, "")
        assert ask(made, **less) == (403, "tenant-share")  # it took less; the operator gives more
        denied = [e.payload for e in made.gateway.guard.ledger.entries("access")]
        assert {(d["action"], d["outcome"]) for d in denied} == {("administer", "DENY")}


def test_who_is_alone_on_a_gateway_shares_out_itself(tmp_path: Path) -> None:
    rules = {"rules": RULES, "members": [m for m in MEMBERS if m["tenant"] == "north"]}
    with kit(tmp_path / "home", document=policy(authorisation=rules)) as made:
        settings = {"weight": 9.0, "rate": 1000.0}
        assert made.call("adm", "PUT", "/v1/tenants/north", settings).status_code == 200
