"""`interlock monitor triage`: the order, what it is told from, and what it refuses."""

import json
import os
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from interlock.cli.monitor import command
from interlock.errors import InputError
from interlock.monitor.ingest.sources import read_sources
from interlock.monitor.store import AlarmRow, MonitorStore, SourceState
from interlock.monitor.triage_input import read_alerts, read_assets

ALERT = {"t_s": 0.0, "asset": "q1", "kind": "t1", "infidelity": 0.1, "jobs": 5, "criticality": 0.5}


@pytest.fixture
def home(tmp_path):
    """Three alarms of one cause on `cheap`, one on `dear`, an old one on `old`."""
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    store, now = MonitorStore(folder), time.time()
    for device, times in (("cheap", (30, 20, 10)), ("dear", (5,)), ("old", (90_000,))):
        state = SourceState(source=f"{device}-t", device=device, kind="temperature",
                            origin="simulated", channels=("mxc",))  # fmt: skip
        rows = [
            AlarmRow(source=state.source, row=9, kind="shift", channel="mxc", evidence=6.0,
                     shares={"mxc": 0.8, "still": 0.2}, look=None, at_s=now - t)
            for t in times
        ]  # fmt: skip
        store.write(state, rows, [])
    return folder


def asked(*arguments):
    return CliRunner().invoke(command, ["triage", *map(str, arguments)])


def test_the_costliest_recorded_alarm_comes_first_with_its_attribution(home):
    (home / "triage.yaml").write_text(
        "assets:\n  cheap: {infidelity: {any: 0.01}, jobs: 3}\n"
        "  dear: {infidelity: {shift: 0.05}, jobs: 40, criticality: 0.5}\n"
    )
    got = asked("--home", home)
    assert got.exit_code == 0, got.output
    first, second, last = got.output.splitlines()
    assert "dear shift x1: infidelity 0.05 x 40 jobs x criticality 0.5 = 1" in first
    assert first.endswith("dear-t/mxc 80%, dear-t/still 20%")
    assert "cheap shift x3" in second
    assert last == "2 tickets from 4 alerts"
    rows = [json.loads(line) for line in asked("--home", home, "--json").output.splitlines()]
    assert [r.get("asset") for r in rows] == ["dear", "cheap", None]
    assert rows[0]["shares"] == {"dear-t/mxc": 0.8, "dear-t/still": 0.2}
    assert rows[0]["impact"] == pytest.approx(1.0)
    assert rows[-1] == {"alerts": 4, "tickets": 2, "assumed_worst": []}
    assert "old" in asked("--home", home, "--hours", 48).output


def test_a_device_without_figures_counts_as_the_worst_and_that_is_said(home):
    (home / "triage.yaml").write_text("assets: {cheap: {infidelity: {any: 0.9}}}\n")
    lines = asked("--home", home).output.splitlines()
    assert "dear" in lines[0]
    assert "no figures for dear: counted as the worst" in lines[-1]


def test_alerts_of_a_file_are_folded_and_ordered(tmp_path):
    file = tmp_path / "alerts.ndjson"
    rows = [ALERT, {**ALERT, "t_s": 5}, {**ALERT, "asset": "q2", "jobs": 50}]
    file.write_text("\n".join(json.dumps(r) for r in rows))
    lines = asked(file).output.splitlines()
    assert [line.split()[1] for line in lines[:2]] == ["q2", "q1"]
    assert lines[0].endswith("not attributed")
    assert lines[-1] == "2 tickets from 3 alerts"
    assert "the first 1 are shown" in asked(file, "--top", 1).output


@pytest.mark.parametrize(
    "line",
    ["{}", "[1]", "x", *(json.dumps({**ALERT, **wrong}) for wrong in (
        {"jobs": -1}, {"infidelity": 1.5}, {"criticality": 2}, {"t_s": "now"}, {"shares": 3},
    ))],
)  # fmt: skip
def test_a_line_that_is_no_alert_is_named(tmp_path, line):
    file = tmp_path / "alerts.ndjson"
    file.write_text(json.dumps(ALERT) + "\n" + line + "\n")
    with pytest.raises(InputError) as caught:
        read_alerts(file)
    assert caught.value.code == "monitor-alerts"
    assert caught.value.got.startswith("alert 2:")


@pytest.mark.parametrize(
    "text",
    ["", "a: [", "assets: 3", "assets: {a: {worth: 3}}", "assets: {a: {jobs: -1}}",
     "assets: {a: {infidelity: {any: 2}}}", "assets: {a: {criticality: .nan}}"],
)  # fmt: skip
def test_an_assets_file_that_cannot_be_used_is_refused(tmp_path, text):
    file = tmp_path / "triage.yaml"
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        read_assets(file)
    assert caught.value.code == "monitor-assets-file"


@pytest.mark.parametrize("read", [read_alerts, read_assets, read_sources])
def test_a_file_without_end_is_refused(read):
    with pytest.raises(InputError):
        read(Path("/dev/zero"))


@pytest.mark.parametrize("read", [read_assets, read_sources])
def test_a_pipe_is_not_waited_for(tmp_path, read):
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(InputError) as caught:
        read(tmp_path / "pipe.yaml")
    assert "not a plain file" in caught.value.got


def test_a_home_without_telemetry_and_a_second_source_of_figures(tmp_path, home):
    got = asked("--home", tmp_path / "empty")
    assert got.exception.code == "monitor-unrecorded"
    assert not (tmp_path / "empty").exists()
    assert asked("--home", home, "--hours", 0.0001).output == "0 tickets from 0 alerts\n"
    file = tmp_path / "alerts.ndjson"
    file.write_text(json.dumps(ALERT))
    assert asked(file, "--assets", file).exit_code == 2
    assert asked(tmp_path / "none").exit_code != 0


def test_a_hostile_name_does_not_steer_the_terminal(tmp_path):
    file = tmp_path / "alerts.ndjson"
    file.write_text(json.dumps({**ALERT, "asset": "q\x1b[2J\n   1  fine"}))
    out = asked(file).output
    assert "\x1b" not in out
    assert len(out.splitlines()) == 2
