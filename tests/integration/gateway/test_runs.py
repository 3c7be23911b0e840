"""Runs of `interlock run --enforced` at the same time on one home, and ones that are killed."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from interlock.cli import main
from interlock.gateway import runs
from interlock.guard.policy import load_policy
from tests.integration.gateway.test_escape import ASK, JOB

MANY = """
from interlock.errors import RefusedError
for _ in range(4):
    try:
        SamplerV2().run([qc], shots=10).result()
    except RefusedError:
        pass
"""


def start(tmp_path: Path, name: str, script: str, *options: str) -> Any:
    project = tmp_path / name
    project.mkdir()
    (project / "program.py").write_text(script)
    return subprocess.Popen(
        [sys.executable, "-m", "interlock.cli", "run", "--enforced", "--json", "--no-report",
         "--home", str(tmp_path / "home"), *options, "--", "python", "program.py"],
        cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_runs_at_once_take_their_own_jobs_by_their_own_policy(tmp_path: Path) -> None:
    document = json.loads(json.dumps(load_policy().document))
    document["admit"]["budget"] = {
        "prices": {"*": {"per_task_usd": 1.0}}, "max_cost_usd_per_day": 0.5,
    }  # fmt: skip
    strict = tmp_path / "strict.yaml"
    strict.write_text(json.dumps(document))
    script = JOB.replace("SamplerV2().run([qc], shots=10).result()\n", "") + MANY
    under_way = [
        start(tmp_path, "a", script),
        start(tmp_path, "b", script, "--policy", str(strict)),
    ]
    counts = []
    for program in under_way:
        out, said = program.communicate(timeout=240)
        assert program.returncode == 0, said
        lines = [json.loads(line) for line in out.splitlines()]
        counts.append(Counter(x["outcome"] for x in lines if x["event"] == "job"))
    assert counts == [{"RELEASE": 4}, {"DENY": 4}]
    assert list((tmp_path / "home").glob("gateway-run-*")) == []


def test_no_program_starts_against_a_home_that_its_gateway_refuses(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o700)
    with closing(sqlite3.connect(tmp_path / "home" / "gateway.db")) as db:
        db.executescript(Path(__file__).with_name("gateway-1.sql").read_text())
    program = start(tmp_path, "a", "open('ran', 'w').close()\n")
    _, said = program.communicate(timeout=120)
    assert program.returncode == 5
    assert "error[schema-older]" in said
    assert "error[gateway-start]" in said
    assert "Traceback" not in said
    assert not (tmp_path / "a" / "ran").exists()


def waiting(tmp_path: Path) -> Any:
    """Start a program in the folder `a` that has run its job and goes on."""
    program = start(
        tmp_path, "a", JOB + "import time\nopen('ready', 'w').close()\ntime.sleep(600)\n"
    )
    while not (tmp_path / "a" / "ready").exists():
        assert program.poll() is None
        time.sleep(0.05)
    return program


def gateways(home: Path) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"serve" in words and str(home).encode() in words:
            found.append(int(path.parent.name))
    return found


def test_the_gateway_of_a_killed_run_ends_and_its_jobs_are_settled(tmp_path: Path) -> None:
    home = tmp_path / "home"
    program = waiting(tmp_path)
    (gateway,) = gateways(home)
    words = Path(f"/proc/{gateway}/cmdline").read_text().split("\0")
    folder = Path(words[words.index("--socket") + 1]).parents[1]
    os.kill(program.pid, signal.SIGKILL)
    program.communicate()
    end = time.monotonic() + 90
    while gateways(home):
        assert time.monotonic() < end, gateway
        time.sleep(0.1)
    assert folder.name.startswith("interlock-run-")
    assert not folder.exists()
    assert list(home.glob("gateway-run-*")) == []


def test_the_next_run_tidies_up_after_a_run_and_a_gateway_that_were_killed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    program = waiting(tmp_path)
    (gateway,) = gateways(home)
    (lock,) = home.glob("gateway-run-*.lock")
    folder = runs.folder(lock.stem.removeprefix("gateway-"))
    assert folder.is_dir()
    os.kill(program.pid, signal.SIGSTOP)  # so that it cannot tidy up after its gateway
    os.kill(gateway, signal.SIGKILL)
    os.kill(program.pid, signal.SIGKILL)
    program.communicate()
    assert folder.is_dir()
    groups = [g for g in Path("/sys/fs/cgroup").glob("*/*") if f"-{program.pid}-" in g.name]
    after = start(tmp_path, "b", JOB)
    _, said = after.communicate(timeout=240)
    assert after.returncode == 0, said
    assert not folder.exists()
    assert not any(g.exists() for g in groups)
    assert list(home.glob("gateway-run-*")) == []


def test_a_key_means_a_job_of_its_own_to_each_run(tmp_path: Path) -> None:
    from tests.integration.gateway.kit import bell

    asked = (
        f"import json\nbody = json.loads({json.dumps(bell())!r})\n"
        "c = http.client.HTTPConnection('localhost')\n"
        "c.sock = socket.socket(socket.AF_UNIX)\n"
        "c.sock.connect('/run/interlock/gateway.sock')\n"
        "c.request('POST', '/v1/jobs', json.dumps(body), {'idempotency-key': 'mine'})\n"
        "name = json.loads(c.getresponse().read())['id']\n"
        "ask('GET', f'/v1/jobs/{name}/result?wait=20')\nprint('job', name)\n"
    )
    names = []
    for run in ("a", "b"):
        program = start(tmp_path, run, ASK + asked)
        _, said = program.communicate(timeout=240)
        assert program.returncode == 0, said
        assert "200 {" in said
        names += [line for line in said.splitlines() if line.startswith("job ")]
    assert len(set(names)) == 2


def test_a_socket_in_a_folder_of_everybody_is_refused_without_advice_to_close_that(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    home = str(tmp_path / "home")
    assert main(["serve", "--home", home, "--socket", str(shared / "s")]) != 0
    said = capsys.readouterr().err
    assert "others can enter a private folder" in said
    assert f"chmod go-rwx {shared}" not in said
