import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from interlock.cli import main
from interlock.cli.monitor import command
from interlock.cli.monitor_live import show_alarm, show_rows
from interlock.monitor.detectors.alarms import Alarm, AlarmKind, incidents
from interlock.monitor.frames import Frame
from interlock.monitor.pipeline import AssetMonitor, attribute
from interlock.monitor.report import render
from interlock.monitor.simulator import inject, regime
from interlock.monitor.triage import ndcg, simulate_storm, triage
from interlock.monitor.watch import Watcher, simulated, watch


def test_command_finds_the_planted_faults(tmp_path):
    out = tmp_path / "r.html"
    got = CliRunner().invoke(command, ["--simulate", "--json", "--report", str(out)])
    assert got.exit_code == 0, got.output
    lines = [json.loads(line) for line in got.output.splitlines()]
    assert lines[-1]["origin"] == "simulated"
    starts = [int(60_000 * (0.35 + 0.12 * k)) for k in range(5)]
    for start in starts:
        assert any(start <= a["row"] < start + 2020 for a in lines[:-1])
    text = out.read_text()
    assert "e-process" in text
    assert "<script" not in text


def test_command_reads_a_file_and_says_where_samples_come_from(tmp_path, capsys):
    rows = np.random.default_rng(0).standard_normal((4000, 2))
    rows[3000:, 0] += 6
    path = tmp_path / "lab.csv"
    path.write_text("a,<b>\n" + "\n".join(f"{x},{y}" for x, y in rows))
    assert main(["monitor", str(path), "--report", str(tmp_path / "x.html")]) == 0
    assert "samples unknown" in capsys.readouterr().out
    assert main(["monitor", str(path), "--origin", "lab-driver"]) == 0
    assert "samples lab-driver" in capsys.readouterr().out
    assert "<b>" not in (tmp_path / "x.html").read_text()
    assert main(["monitor", str(tmp_path / "none.csv")]) == 4
    assert main(["monitor"]) == 2
    assert main(["monitor", str(path), "--budget", "0"]) == 4
    assert main(["monitor", str(path), "--report", "/nonexistent/x.html"]) == 6


def test_a_file_is_accounted_as_a_listener_would(tmp_path, capsys):
    rows = [f"{k * 1_000_000},{k % 7}" for k in [*range(50), *range(60, 80), *range(70, 90)]]
    path = tmp_path / "lab.csv"
    path.write_text("t_ns,a\n" + "\n".join([*rows, "900000000,1"]))
    assert main(["monitor", str(path), "--json"]) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["source"] == "lab"
    assert (last["missing"], last["restarts"], last["duplicates"]) == (10 + 810, 1, 10)
    assert last["rows"] == 81 + 10 + 64
    assert main(["monitor", str(path)]) == 0
    assert "81 rows read, 820 missing (1 long gaps), 10 seen before" in capsys.readouterr().out


def test_names_in_a_file_do_not_steer_the_terminal(tmp_path, capsys):
    rows = np.random.default_rng(0).standard_normal(4000)
    rows[3000:] += 8
    path = tmp_path / "lab.csv"
    path.write_text("\x1b[2Ja\n" + "\n".join(map(str, rows)))
    assert main(["monitor", str(path)]) == 0
    got = capsys.readouterr()
    assert "?[2Ja" in got.out
    assert "\x1b" not in got.out + got.err


def test_a_sensor_that_plays_its_past_again_is_the_documented_blind_zone():
    rng = np.random.default_rng(0)
    rows, start = regime("slow-drift", 12_000, rng=rng)[:, None], 8000
    past, _ = inject(rows, "replayed", start, channels=(0,), size=3.0, rng=rng)
    assert (past != rows).any()
    assert AssetMonitor(1).update(past.astype("f4")) == []
    docs = Path(__file__).parents[3] / "docs" / "reference" / "telemetry.md"
    assert "a replayed sensor is not seen" in docs.read_text()


def test_block_mode_alarms_on_a_shift_and_keeps_quiet_otherwise():
    rng = np.random.default_rng(0)
    monitor = AssetMonitor(8, block=64)
    quiet = [
        a for _ in range(10) for a in monitor.update(rng.standard_normal((20_011, 8), dtype="f4"))
    ]
    assert len(quiet) <= 3
    shifted = rng.standard_normal((20_000, 8), dtype="f4")
    shifted[5000:, 3] += 1.0
    alarms = monitor.update(shifted)
    assert alarms
    assert any(a.channel in (3, -1) for a in alarms)


@pytest.mark.parametrize("name", ["iid", "heavy-tailed", "autocorrelated", "slow-drift"])
def test_blocks_of_1024_rows_keep_the_budget(name):
    rows = np.stack([regime(name, 1_000_000, rng=c) for c in range(4)], axis=1)
    alarms = AssetMonitor(4, block=1024).update(rows.astype(np.float32))
    assert len(incidents(alarms, 1024)) <= 10


@pytest.mark.parametrize("first", [0, 90_000])
def test_in_blocks_a_dead_channel_is_a_gap_and_the_others_are_watched(first):
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((150_000, 3), dtype="f4")
    rows[first:, 1] = np.nan
    rows[130_000:, 2] += 1.5
    alarms = AssetMonitor(3, block=64).update(rows)
    gaps = [a for a in alarms if a.kind is AlarmKind.GAP]
    assert {a.channel for a in gaps} == {1}
    assert first <= gaps[0].row <= first + 9 * 64
    assert any(a.channel == 2 and a.row >= 130_000 for a in alarms)


def test_the_last_rows_less_than_a_block_are_scored():
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((400_040, 4), dtype="f4")
    for bad in (False, True):
        monitor = AssetMonitor(4, block=64, seed=0)
        if bad:
            rows[-104:, 2] += 200.0  # a whole block, and what is left
        before = len(monitor.update(rows))
        assert before <= 5
        assert monitor.unscored == len(rows) % 64
        alarms = monitor.finish()
        assert bool(alarms) == bad
        assert monitor.unscored == 0
        assert monitor.rows == len(rows)
        assert all(a.row == len(rows) - 1 for a in alarms)
        assert monitor.finish() == []


def test_rows_that_nothing_looked_at_are_said(tmp_path, capsys):
    path = tmp_path / "short.csv"
    path.write_text("v\n" + "".join(f"{k % 7}.5\n" for k in range(500)))
    assert main(["monitor", str(path), "--block", "256"]) == 0
    text = capsys.readouterr().out
    assert "NOT SCORED 500 rows" in text
    assert "NOT WATCHED for shifts: alarms begin after about 1,500 rows" in text
    assert main(["monitor", str(path), "--block", "256", "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (found["unscored"], found["began"]) == (500, False)


@pytest.mark.parametrize(("block", "rows"), [(1, 1500), (16, 750 * 16)])
def test_alarms_begin_after_as_many_rows_as_is_said(block, rows):
    monitor = AssetMonitor(2, block=block, fit_rows=64)
    data = np.random.default_rng(5).standard_normal((rows, 2)).astype("f4")
    monitor.update(data[: rows * 9 // 10])
    assert not monitor.began
    monitor.update(data[rows * 9 // 10 :])
    assert monitor.began


def test_report_of_nothing_is_a_report():
    text = render(
        title="x",
        origin="simulated",
        channels=("a",),
        values=np.full((0, 1), np.nan),
        alarms=[],
        e_process=np.empty(0),
        attributions=[],
        budget_per_million=10,
    )
    assert "0 alarms" in text
    assert watch([]) is None


def test_watch_names_the_channel_that_moved():
    seen = watch(simulated(30_000, seed=1))
    assert seen is not None
    assert seen.rows == 30_000
    assert len(seen.attributions) == len(seen.alarms)
    assert all(sum(v for _, v in parts) <= 1.0001 for parts in seen.attributions)


def test_attributions_sum_to_the_score():
    rng = np.random.default_rng(0)
    z, root = rng.standard_normal(6), rng.standard_normal((6, 6))
    form = root @ root.T
    assert attribute(z, form).sum() == pytest.approx(z @ form @ z)


def test_a_storm_reaches_its_true_incident_sooner_than_first_in_first_out():
    ours, fifo = [], []
    for seed in range(40):
        alerts, true = simulate_storm(500, rng=seed)
        tickets = triage(alerts)
        ours.append(
            next(k for k, t in enumerate(tickets) if t.worst.asset == true and t.worst.kind == "t1")
        )
        fifo.append(next(k for k, a in enumerate(alerts) if a.asset == true and a.kind == "t1"))
    assert np.median(ours) < 0.05 * np.median(fifo)


def test_ndcg():
    assert ndcg([3, 2, 1]) == 1.0
    assert ndcg([1, 2, 3]) < 1.0
    assert ndcg([0, 0]) == 1.0


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([], 0),
        (["--block", "256"], 0),
        (["--block", "7"], 4),
        (["--block", "0"], 4),
        (["--block", "-4"], 4),
        (["--budget", "nan"], 4),
        (["--budget", "inf"], 4),
        (["--period-ms", "nan"], 2),
        (["--period-ms", "1e30"], 2),
        (["--seed", "-1"], 2),
    ],
)
def test_odd_arguments_and_a_constant_channel_end_in_words(tmp_path, capsys, arguments, code):
    path = tmp_path / "x.csv"
    noise = np.random.default_rng(0).standard_normal(20_000)
    path.write_text("a,b\n" + "".join(f"5,{v}\n" for v in noise))
    assert main(["monitor", str(path), *arguments]) == code
    assert "Traceback" not in capsys.readouterr().err


def test_memory_of_a_watch_is_bounded(monkeypatch):
    from interlock.monitor import watch as module

    monkeypatch.setattr(module, "KEEP_VALUES", 40_000)
    seen = watch(simulated(30_000, seed=1))
    assert seen is not None
    assert seen.values.size <= 40_000
    assert seen.first_row + len(seen.values) == seen.rows == 30_000
    assert len(seen.e_process) == len(seen.values)


@pytest.mark.parametrize("block", [1, 64])
def test_a_shift_is_put_down_to_the_channel_that_shifted(block):
    rows = 12_000 * block
    values = np.random.default_rng(4).standard_normal((rows, 5)).astype("f4")
    values[rows * 3 // 4 :, 2] += 0.7  # no single row tells
    spec = dataclasses.replace(next(simulated(4096)).spec, channels=tuple("abcde"))
    seen = watch([Frame.of(spec, values)], block=block)
    (first, *_) = (
        shares
        for alarm, shares in zip(seen.alarms, seen.attributions, strict=True)
        if alarm.kind is AlarmKind.SHIFT and alarm.row >= rows * 3 // 4
    )
    assert first[0][0] == "c"
    assert first[0][1] > 0.9
    assert sum(share for _, share in first) <= 1 + 1e-9


def test_the_live_view_names_channels_and_shows_how_close_an_alarm_is(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    values = np.random.default_rng(5).standard_normal((6000, 2)).astype("f4")
    values[4500:, 1] += 3.0
    spec = dataclasses.replace(next(simulated(4096)).spec, channels=("mxc", "st\x1b[2Jill"))
    watcher = Watcher(spec)
    shown = []
    for start in range(0, 6000, 500):
        for alarm, note in watcher.update(Frame.of(spec, values[start : start + 500])):
            show_alarm(watcher, alarm, note)
        show_rows(watcher)
        shown.append(capsys.readouterr().out)
    assert all(len(text.rpartition("\r")[2]) < 80 for text in shown)
    assert "500 rows  alarms 0  e-process 10^0.0 of 10^5.3" in shown[0]
    assert "shift  st?[2Jill" in shown[9]
    assert "alarms 1" in shown[9]
    assert "[####" in shown[9]


def test_a_report_of_the_last_rows_keeps_their_numbers_and_its_marks_meet_the_lines():
    values = np.zeros((6000, 1))
    values[4000:] = 1.0
    alarms = [Alarm(row=r, channel=0, kind=AlarmKind.SHIFT, evidence=6.0) for r in (50, 104_000)]
    text = render(
        title="x", origin="simulated", channels=("a",), values=values, alarms=alarms,
        e_process=np.full(6000, 10.0), attributions=[[("a", 1.0)]] * 2, budget_per_million=10,
        first_row=100_000, alarm_level=2e5,
    )  # fmt: skip
    assert "106000 rows, 2 alarms" in text
    assert "rows 100000 to 105999" in text
    assert "<td>50</td>" in text
    assert "<td>104000</td>" in text
    assert 'class="level"' in text
    line = re.findall(r' d="M([^"]*)"', text)[-1]
    rise = next(float(x) for x, y in (p.split(",") for p in line.split("L")) if float(y) < 45)
    mark = float(re.findall(r'class="mark" x1="([^"]*)"', text)[-1])
    assert len(re.findall('class="mark"', text)) == 2  # one in the e-process, one in the channel
    assert rise == pytest.approx(mark, abs=1.5)
