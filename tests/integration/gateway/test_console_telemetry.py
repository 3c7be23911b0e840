"""The telemetry pages: what they show, to whom, and that nothing in them can run."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from interlock.monitor.frames import Frame, Origin, StreamKind, StreamSpec
from interlock.monitor.live import Recorder
from interlock.monitor.store import MonitorStore, SourceState
from tests.integration.gateway.kit import Kit, kit, policy

SPEC = StreamSpec(
    source="fridge <b>1</b>", kind=StreamKind.TEMPERATURE, channels=("mxc", "<script>x"),
    period_ns=1_000_000, origin=Origin.SIMULATED,
)  # fmt: skip


def watched(home: Path) -> None:
    """Twelve thousand rows of one device with a shift and a spike, and one of another device."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((12_000, 2))
    rows[9000:, 0] += 3.0
    rows[7000:7003, 1] += 15.0
    rows[5000:5060, 1] = np.nan
    store = MonitorStore(home)
    recorder = Recorder(SPEC, store=store, device="manila")
    for k in range(0, len(rows), 1000):
        recorder.update(Frame.of(SPEC, rows[k : k + 1000], first_seq=k))
    recorder.write()
    foreign = SourceState(source="other", device="not-ours", kind="queue", origin="cloud-api",
                          channels=("a",), seen_s=time.time())  # fmt: skip
    store.write(foreign, [], [])


def cookie(made: Kit, who: str) -> dict[str, str]:
    entered = made.client.post(
        "/console/enter", content=f"key={made.key(who)}", follow_redirects=False
    )
    made.client.cookies.clear()
    return {"cookie": entered.headers["set-cookie"].split(";")[0]}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    home = tmp_path_factory.mktemp("t") / "home"
    home.mkdir(mode=0o700)
    watched(home)
    with kit(home, workers=0) as found:
        yield found


def test_sources_alarms_and_health_are_shown(made: Kit) -> None:
    me = cookie(made, "adm")
    text = made.client.get("/console/telemetry", headers=me).text
    assert "fridge &lt;b&gt;1&lt;/b&gt;" in text
    assert "temperature, simulated" in text
    first = text.partition("What to look at first")[2].partition("Newest alarms")[0]
    assert "= 1 x 1 x 1" in first  # no figures: the worst is assumed
    assert "<meter" in first
    assert "not-ours" not in first
    assert "shift" in text
    assert "other" not in text.replace("another", "")
    one = made.client.get("/console/telemetry/fridge%20%3Cb%3E1%3C%2Fb%3E", headers=me)
    assert one.status_code == 200
    for expected in ("uniformity log10", "evidence (log10", 'class="band"', 'class="mark"',
                     'class="limit"', "<meter", "gap", "shift"):  # fmt: skip
        assert expected in one.text, expected
    for reply in (text, one.text):
        assert "<script>x" not in reply
        assert "style=" not in reply
        assert "onload" not in reply
    assert "unsafe" not in one.headers["content-security-policy"]


def test_what_costs_most_is_looked_at_first(made: Kit) -> None:
    path = made.gateway.home / "triage.yaml"
    path.write_text("assets: {manila: {jobs: 40, criticality: 0.5, infidelity: {shift: 0.1}}}")
    try:
        text = made.client.get("/console/telemetry", headers=cookie(made, "adm")).text
        first = text.partition("What to look at first")[2].partition("Newest alarms")[0]
        assert first.index("20 = 1 x 40 x 0.5") < first.index("2 = 0.1 x 40 x 0.5")
        path.write_text("assets: 7")
        broken = made.client.get("/console/telemetry", headers=cookie(made, "adm"))
        assert broken.status_code == 422
        assert "monitor-assets-file" in broken.text
    finally:
        path.unlink()


def test_only_those_who_may_read_the_record_see_it(made: Kit) -> None:
    made.client.cookies.clear()
    assert made.client.get("/console/telemetry").status_code == 401
    assert made.client.get("/console/telemetry", headers=cookie(made, "ada")).status_code == 403
    assert made.client.get("/console/telemetry/other", headers=cookie(made, "adm")).status_code == (
        404
    )
    style = made.client.get("/console/static/telemetry.css")
    assert (style.status_code, style.headers["content-type"].partition(";")[0]) == (200, "text/css")


def test_a_home_without_telemetry_says_so(tmp_path: Path) -> None:
    with kit(tmp_path / "home", workers=0) as found:
        text = found.client.get("/console/telemetry", headers=cookie(found, "adm")).text
    assert "Nobody watches a device of yours" in text


def test_telemetry_leaves_only_as_far_as_the_rules_let_it(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    watched(home)
    document = policy()
    rules = document["admit"]["authorisation"]
    limit = """
    @id("export") permit (principal in Interlock::Role::"admin",
      action == Interlock::Action::"export-telemetry", resource)
      when { resource.id == principal.tenant };
    @id("limit") forbid (principal, action == Interlock::Action::"export-telemetry", resource)
      when { context.rows_today > 600 };
    """
    rules["rules"] += limit
    lead = {"id": "lea", "tenant": "north", "roles": ["r", "lead", "reader"]}
    rules["members"] = [m for m in rules["members"] if m["id"] != "lea"] + [lead]
    rules["rules"] += """@id("readers") permit (principal in Interlock::Role::"reader",
      action == Interlock::Action::"read-ledger", resource);"""
    path = "/console/telemetry-export?source=fridge%20%3Cb%3E1%3C%2Fb%3E"
    with kit(home, workers=0, document=document) as made:
        me = cookie(made, "adm")
        first = made.client.get(path, headers=me)
        assert first.status_code == 200
        rows = [json.loads(line) for line in first.text.splitlines()]
        assert rows[0]["record"] == "source"
        assert 2 < len(rows) <= 600
        for _ in range(600 // len(rows) - 1):
            assert made.client.get(path, headers=me).status_code == 200
        assert made.client.get(path, headers=me).status_code == 403  # the day's rows are spent
        assert made.client.get(path, headers=cookie(made, "lea")).status_code == 403
        assert made.client.get(path, headers=cookie(made, "ada")).status_code == 403
        other = "/console/telemetry-export?source=other"
        assert made.client.get(other, headers=me).status_code == 404
        told = list(made.gateway.guard.ledger.entries("telemetry-export"))
        assert len(told) == 600 // len(rows)
