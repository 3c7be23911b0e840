"""The two cases end to end, as a user runs them: one command each, with a report."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def run(*args):
    done = subprocess.run(
        [sys.executable, *map(str, args)], cwd=ROOT, capture_output=True, text=True, timeout=280,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_the_covert_exercise_finds_quarantines_and_refuses_every_rerun(tmp_path):
    page = tmp_path / "covert.html"
    said = run("examples/covert/run.py", "--report", page)
    lines = dict(line.strip().split(": ", 1) for line in said.splitlines()[1:] if ": " in line)
    assert lines["clean firmware"] == "no alarm"
    assert lines["modulating firmware"].startswith("covert channel in window")
    assert lines["owner lifts; released firmware"] == "booted"
    reruns = [v for k, v in lines.items() if k.startswith(("rerun", "boot while", "boot after"))]
    assert len(reruns) == 7
    assert all(v.startswith(("refused", "not shown")) or "quarantined" in v for v in reruns)
    assert lines["modified images booted"] == "0"
    assert float(re.search(r"found (\S+),", lines["shift 1.0 sd"]).group(1)) > 0.9
    assert float(re.search(r"found (\S+),", lines["shift 0.0 sd"]).group(1)) < 0.1
    text = page.read_text()
    assert "modified images booted: 0" in text
    assert "blind zone" in text


def test_the_telemetry_case_has_fewer_false_alarms_at_no_less_recall(tmp_path):
    page = tmp_path / "telemetry.html"
    said = run("examples/telemetry/run.py", "--quick", "--report", page)
    rows = re.findall(r"(static 3-sigma|detrend \+ EWMA|interlock) +recall (\S+) +(\S+)", said)
    assert len(rows) == 6
    for k in (0, 3):
        static, ewma, ours = rows[k : k + 3]
        assert float(ours[1]) >= 0.9
        assert float(ours[2]) <= 0.38 * float(static[2])  # 62 % fewer is the floor
        assert float(ours[2]) <= 0.38 * float(ewma[2])
    prevented, total, needless = map(int, re.search(
        r"(\d+) of (\d+) excursions prevented, (\d+) needless", said).groups())  # fmt: skip
    assert (prevented, total) == (6, 6)
    assert needless <= 2
    text = page.read_text()
    assert text.count('class="truth"') == 10  # five faults, on the e-process and on their channel
    assert "recall" in text
    assert "<script" not in text
