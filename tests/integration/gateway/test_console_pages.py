"""Devices, budgets, events and tenants of the console: what they show, and to whom."""

import json
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from interlock.access import keys
from interlock.backends.calibration import Calibration, Gate, Qubit
from interlock.errors import InputError
from interlock.gateway.console_views import device_view
from interlock.gateway.store import Tenant
from interlock.guard.health.calibration import CalibrationSettings
from interlock.types import Principal
from tests.integration.gateway import kit as kits
from tests.integration.gateway.kit import Kit, bell, kit, policy

OPERATE = """
@id("operate") permit (principal in Interlock::Role::"operator",
  action == Interlock::Action::"administer", resource);
"""


def document() -> dict[str, Any]:
    made = policy(budget={"max_shots_per_day": 1000, "max_qpu_s_per_day": 10.0,
                          "prices": {"*": {"per_shot_s": 0.001}}})  # fmt: skip
    rules = made["admit"]["authorisation"]
    rules["rules"] = kits.RULES + OPERATE
    rules["members"] = [*kits.MEMBERS, {"id": "olga", "tenant": "provider", "roles": ["operator"]}]
    return made


def native(shots: int) -> dict[str, Any]:
    """A job in the gates of the twin."""
    job = bell(shots, backend="fake_manila")
    job["programs"][0]["circuit"]["operations"][0][0] = "sx"
    return job


def cookie(made: Kit, who: str, client: Any = None, **principal: Any) -> dict[str, str]:
    key = made.key(who) if not principal else keys.issue(
        made.gateway.access, Principal(id=who, **principal), lifetime_s=600)[1]  # fmt: skip
    client = client or made.client
    entered = client.post("/console/enter", content=f"key={key}", follow_redirects=False)
    client.cookies.clear()
    return {"cookie": entered.headers["set-cookie"].split(";")[0]}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    home = tmp_path_factory.mktemp("pages") / "home"
    home.mkdir(mode=0o700)
    (home / "backends.yaml").write_text(
        json.dumps({"backends": {
            "aer_simulator": {"provider": "aer"},
            "fake_manila": {"provider": "twin", "device": "manila"},
            "north_1": {"provider": "twin", "device": "quito", "tenant": "north"},
        }})
    )  # fmt: skip
    with kit(home, document=document()) as found:
        found.released, _ = found.run("ada", bell())
        found.denied, _ = found.run("ada", bell(901))
        found.twin, _ = found.run("ada", native(10))
        found.call("ben", "GET", "/v1/ledger")  # refused, and recorded
        found.gateway.store.set_tenant(Tenant(name="north"))
        found.gateway.store.set_tenant(Tenant(name="south", weight=2.0))
        yield found


def read(made: Kit, path: str, me: dict[str, str]) -> str:
    reply = made.client.get(path, headers=me)
    assert reply.status_code == 200, reply.text
    assert "unsafe" not in reply.headers["content-security-policy"]
    assert "style=" not in reply.text
    return reply.text


def test_devices_are_graded_with_ages_and_another_tenants_are_not_there(made: Kit) -> None:
    text = read(made, "/console/devices", cookie(made, "ada"))
    assert "A simulator without noise" in text
    assert "no calibration on record yet" in text  # north_1
    assert re.search(r"fake_manila <span class=\"tag (green|amber|red)\">", text)
    assert "h old" in text
    assert "<title>q0 " in text  # each mark tells its grade to a screen reader
    south = read(made, "/console/devices", cookie(made, "sol"))
    assert "fake_manila" in south
    assert "north_1" not in south


def calibration(**changes: Any) -> Calibration:
    good = Qubit(t1_us=100.0, t2_us=80.0, p01=0.01, p10=0.01, age_s=60.0)
    bad = Qubit(t1_us=1.0, t2_us=1.0, p01=0.4, p10=0.4, age_s=60.0)
    pair = Gate(name="cx", qubits=(0, 1), error=0.005, age_s=60.0)
    values: dict[str, Any] = {
        "device": "lab", "kind": "device", "num_qubits": 2, "observed_at": 0.0,
        "qubits": (good, bad), "gates": (pair,),
    }  # fmt: skip
    return Calibration(**(values | changes))


@pytest.mark.parametrize(
    ("found", "age_h", "grade"),
    [
        (calibration(qubits=(calibration().qubits[0],) * 2), 1.0, "GREEN"),
        (calibration(), 1.0, "AMBER"),
        (calibration(qubits=(calibration().qubits[0],) * 2), 25.0, "AMBER"),
        (calibration(qubits=(calibration().qubits[0],) * 2), 37.0, "RED"),
        (calibration(qubits=(calibration().qubits[1],) * 2), 1.0, "RED"),
        (calibration(observed_at=None, qubits=(calibration().qubits[0],) * 2), 1.0, "AMBER"),
        (calibration(qubits=(), gates=(), num_qubits=0), 1.0, "RED"),
        (None, 1.0, ""),
    ],
    ids=["fit", "one-bad-qubit", "old", "stale", "all-bad", "no-date", "nothing-known", "none"],
)
def test_a_device_is_graded_by_its_parts_and_its_age(
    found: Calibration | None, age_h: float, grade: str
) -> None:
    view = device_view("lab", "ibm", found, CalibrationSettings(), age_h * 3600)
    assert view.grade == grade


def test_budgets_show_use_limits_and_reserves_by_principal(made: Kit) -> None:
    text = read(made, "/console/budgets", cookie(made, "ada"))
    row = re.search(r"ada</th><td data-label=\"Unit\">shots</td>\s*<td[^>]*>(\S+)</td>"
                    r"<td[^>]*>(\S+)</td>\s*<td[^>]*>(\S+)</td>", text)  # fmt: skip
    assert row is not None
    assert row.groups() == ("110", "0", "1,000")
    assert "QPU seconds" in text
    ben = read(made, "/console/budgets", cookie(made, "ben"))
    assert ">ada<" not in ben
    admin = read(made, "/console/budgets", cookie(made, "adm"))
    assert ">ada<" in admin
    assert ">ada<" not in read(made, "/console/budgets", cookie(made, "sol"))


def test_a_tenant_whose_name_continues_anothers_sees_nothing_of_it(made: Kit) -> None:
    """Scopes are TENANT/PRINCIPAL: neither `nort`, `north2` nor a tenant with a slash may read."""
    for tenant in ("nort", "north2", "n%rth"):
        text = read(made, "/console/budgets", cookie(made, "x", tenant=tenant))
        assert ">ada<" not in text
    with pytest.raises(InputError, match="tenant") as failed:
        keys.issue(made.gateway.access, Principal(id="c", tenant="north/ada"), lifetime_s=60)
    assert failed.value.code == "tenant-name"


def test_events_are_those_of_ones_own_jobs_or_of_the_tenant_for_its_auditors(made: Kit) -> None:
    ada = read(made, "/console/events", cookie(made, "ada"))
    assert made.released in ada
    assert "admit.budget.shots-per-day" in ada  # the rule that decided
    assert "read-ledger" not in ada  # what ben was refused is not hers to read
    assert "read-ledger" in read(made, "/console/events", cookie(made, "ben"))
    lead = read(made, "/console/events", cookie(made, "lea"))
    assert made.denied in lead
    admin = read(made, "/console/events", cookie(made, "adm"))
    assert "read-ledger" in admin
    assert made.released not in admin  # an administrator reads no jobs
    south = read(made, "/console/events", cookie(made, "sol"))
    for foreign in (made.released, made.denied, ">ada", "by ada", "by ben"):
        assert foreign not in south


def test_every_page_tells_another_tenant_nothing(made: Kit) -> None:
    secrets = (made.released, made.denied, made.twin, "by ada", ">ada<", ">ben<", "north_1")
    for who in ("sol", "olga"):
        me = cookie(made, who, tenant="provider") if who == "olga" else cookie(made, who)
        for page in ("", "/devices", "/budgets", "/events", "/events?before=3", "/tenant",
                     "/tenants", "/approvals", "/telemetry", f"/jobs/{made.released}"):  # fmt: skip
            text = made.client.get(f"/console{page}", headers=me).text
            told = text.replace(f"{made.released}", "") if page.startswith("/jobs/") else text
            assert not [s for s in secrets if s in told], (who, page)


def test_another_site_cannot_sign_a_browser_in(made: Kit) -> None:
    body = f"key={made.key('ada')}"
    for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 303)):
        reply = made.client.post("/console/enter", content=body, follow_redirects=False,
                                 headers={"sec-fetch-site": site})  # fmt: skip
        made.client.cookies.clear()
        assert reply.status_code == status
        assert ("set-cookie" in reply.headers) is (status == 303)


def test_pages_one_may_not_open_are_not_linked(made: Kit) -> None:
    text = read(made, "/console", cookie(made, "ben"))
    for name, there in (("Jobs", True), ("Approvals", False), ("Ledger", False)):
        assert (f">{name}</a>" in text) is there
    assert ">Approvals</a>" in read(made, "/console", cookie(made, "lea"))


def test_only_an_operator_opens_the_tenants(made: Kit) -> None:
    operator = cookie(made, "olga", tenant="provider")
    text = read(made, "/console/tenants", operator)
    assert ">north<" in text
    assert ">south<" in text
    assert ">Tenants</a>" in text
    for who in ("ada", "adm", "sol"):  # an administrator of one tenant is no operator
        reply = made.client.get("/console/tenants", headers=cookie(made, who))
        assert reply.status_code == 403
        assert "/console/tenants" not in reply.text
        assert "weight" not in reply.text.lower()
    assert made.client.get("/console/tenants").status_code == 401


def test_old_events_can_be_paged_without_scripts(made: Kit) -> None:
    me = cookie(made, "lea")
    for _ in range(60):
        assert made.call("ben", "POST", "/v1/stages/infer").status_code == 403
    ledger = made.gateway.guard.ledger
    while sum((e.payload or {}).get("action") == "infer" for e in ledger.entries("access")) < 60:
        time.sleep(0.05)  # a refusal does not wait for its record
    admin = cookie(made, "adm")
    seen: list[str] = []
    path = "/console/events"
    for _ in range(10):
        text = read(made, path, admin)
        seen += re.findall(r"<li><time>.*?</li>", text, re.DOTALL)
        more = re.search(r'href="(/console/events\?before=\d+)">Older', text)
        if more is None:
            break
        path = more[1]
    assert more is None
    assert sum("infer" in line for line in seen) == 60
    for odd in ("x", "-1", "1e9", "9" * 40, "\u0663"):
        assert made.client.get(f"/console/events?before={odd}", headers=me).status_code == 200


def lines(url: str, me: dict[str, str], into: list[str], **headers: str) -> None:
    with (
        httpx.Client(base_url=url, timeout=20.0) as client,
        client.stream("GET", "/console/events/stream", headers={**me, **headers}) as reply,
    ):
        into.append(f"{reply.status_code} {reply.headers['content-type']}")
        into.extend(reply.iter_lines())


def until(said: list[str], what: str, seconds: float = 15.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if any(what in line for line in tuple(said)):
            return True
        time.sleep(0.05)
    return False


def test_the_stream_tells_each_its_own_goes_on_where_it_broke_and_ends_on_revocation(
    tmp_path: Path, served_plain: Any
) -> None:
    with kit(tmp_path / "home", document=document()) as found, served_plain(found) as url:
        first, _ = found.run("ada", bell())
        said: dict[str, list[str]] = {"ada": [], "sol": []}
        threads = []
        for who, into in said.items():
            run = threading.Thread(
                target=lines, args=(url, cookie(found, who, httpx.Client(base_url=url)), into),
                kwargs={"last-event-id": "0"}, daemon=True,
            )  # fmt: skip
            run.start()
            threads.append(run)
        assert until(said["ada"], first)  # what came before the connection, by its last event id
        second, _ = found.run("ada", bell(50))
        assert until(said["ada"], second)
        assert until(said["sol"], "200 text/event-stream")
        found.gateway.access.revoke("principal", "ada", "north", "test")
        assert until(said["ada"], "event: end")
        threads[0].join(10)
        assert not threads[0].is_alive()
        time.sleep(0.6)
        assert not [x for x in said["sol"] if first in x or second in x or "ada" in x]
        found.gateway.ready = False  # draining ends the streams
        assert until(said["sol"], "event: end")
        ids = [int(x[4:]) for x in said["ada"] if x.startswith("id: ")]
        assert ids == sorted(set(ids))


def test_a_browser_cannot_hold_more_streams_than_a_few(tmp_path: Path, served_plain: Any) -> None:
    with kit(tmp_path / "home", workers=0) as found, served_plain(found) as url:
        me = cookie(found, "ada", httpx.Client(base_url=url))
        said: list[list[str]] = [[] for _ in range(4)]
        for into in said:
            threading.Thread(target=lines, args=(url, me, into), daemon=True).start()
        assert all(until(into, "200 text/event-stream") for into in said)
        with httpx.Client(base_url=url) as client:
            assert client.get("/console/events/stream", headers=me).status_code == 429
            assert client.get("/console/events/stream").status_code == 401
        found.gateway.ready = False
        assert all(until(into, "event: end") for into in said)


@pytest.fixture
def served_plain() -> Any:
    """Serve a kit's application on loopback: a stream needs a real connection."""
    import contextlib
    import socket

    import uvicorn

    from interlock.gateway.rest import build_app

    @contextlib.contextmanager
    def serve(found: Kit) -> Iterator[str]:
        listener = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(
            uvicorn.Config(build_app(found.gateway), lifespan="off", log_level="critical",
                           timeout_graceful_shutdown=2)
        )  # fmt: skip
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)

    return serve


def test_who_signs_in_often_signs_nobody_else_out(
    made: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("interlock.gateway.console.MAX_OWN", 3)
    other, mine = cookie(made, "ben"), [cookie(made, "ada") for _ in range(5)]
    answers = [made.client.get("/console", headers=me).status_code for me in (other, *mine)]
    assert answers == [200, 401, 401, 200, 200, 200]
