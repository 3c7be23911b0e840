"""A hostile program in the sandbox of enforced mode: it must get nothing and reach nothing."""

import json
import os
import secrets
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from interlock.errors import UsageError
from interlock.gateway.caps import Cage, Caps, open_cage
from interlock.gateway.sandbox import Sandbox
from interlock.ledger import Ledger

CANARY = "-".join(["canary", "broker", ""])
HOSTILE = Path(__file__).with_name("hostile.py")

_kept: list[socket.socket] = []


def sandbox(tmp_path: Path, script: str, **options: Any) -> tuple[Sandbox, Path]:
    project = tmp_path / "project"
    project.mkdir(exist_ok=True)
    (project / "program.py").write_text(script)
    uds = tmp_path / "gateway.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(uds))
    listener.listen()
    _kept.append(listener)
    out = project / "out"
    with out.open("w") as stream:
        made = Sandbox(
            command=[sys.executable, "program.py", *options.pop("arguments", [])],
            project=project,
            socket=uds,
            environment={},
            stdout=stream.fileno(),
            **options,
        )
    return made, out


def test_no_attack_succeeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "project" / "home"
    (home / "credentials").mkdir(parents=True)
    secret = home / "credentials" / "ibm"
    secret.write_text(CANARY + secrets.token_hex(8))
    outside = tmp_path / "outside.txt"
    outside.write_text(CANARY + secrets.token_hex(8))
    monkeypatch.setenv("PROVIDER_TOKEN", "canary-env-" + secrets.token_hex(8))
    abstract = f"interlock-{os.getpid()}"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("\0" + abstract)
    listener.listen()
    tcp = socket.create_server(("127.0.0.1", 0))
    paths = [str(outside), str(secret), str(Path.home() / ".ssh"), str(Path.home() / ".bashrc"),
             "/etc/shadow", "/etc/passwd", "/var/log"]  # fmt: skip
    made, out = sandbox(
        tmp_path, HOSTILE.read_text(), hidden=(home,),
        arguments=[json.dumps(paths), str(os.getpid()), abstract,
                   str(tcp.getsockname()[1])],
    )  # fmt: skip
    assert made.wait(120) == 0
    got = json.loads(out.read_text())
    got.pop("errors", None)
    assert len(got) >= 28
    assert {name: value for name, value in got.items() if value is not None} == {}


def needs_groups(cage: Cage) -> None:
    if not cage.level.startswith("cgroup"):
        cage.close()
        pytest.skip("this user can make no control group here")


FORKS = """import os, time
made = 0
for _ in range({n}):
    try:
        if os.fork() == 0:
            time.sleep(600)
        made += 1
    except OSError:
        break
print(made, flush=True)
time.sleep({pause})
"""


def test_a_fork_bomb_is_refused_its_processes_and_ends_the_sandbox(tmp_path: Path) -> None:
    cage = open_cage(Caps(processes=32))
    needs_groups(cage)
    made, out = sandbox(tmp_path, FORKS.format(n=500, pause=600), cage=cage)
    assert made.wait(120) != 0
    assert made.killed == "more than 32 processes and threads"
    assert int(out.read_text() or 0) < 32
    left = subprocess.run(["pgrep", "-f", str(tmp_path / "project")], capture_output=True)
    assert left.stdout == b""
    assert [g for g in cage._groups.values() if g.exists()] == []


@pytest.mark.alone
def test_a_true_fork_bomb_ends_the_sandbox_and_nothing_else(tmp_path: Path) -> None:
    script = "import os, time\nfor _ in range(20):\n    os.fork()\ntime.sleep(600)\n"
    made, _ = sandbox(tmp_path, script, cage=open_cage(Caps(processes=64)))
    assert made.wait(120) != 0
    assert made.killed == "more than 64 processes and threads"
    left = subprocess.run(["pgrep", "-f", str(tmp_path / "project")], capture_output=True)
    assert left.stdout == b""


def test_memory_is_held_for_all_processes_together(tmp_path: Path) -> None:
    cage = open_cage(Caps(memory_mb=128))
    needs_groups(cage)
    script = "x = []\nfor _ in range(60):\n    x.append(b'x' * 10_000_000)\nprint('got it')\n"
    made, out = sandbox(tmp_path, script, cage=cage)
    assert made.wait(120) != 0
    assert made.killed == "more than 128 MB of memory"
    assert out.read_text() == ""


def test_what_lies_in_tmp_counts_as_memory(tmp_path: Path) -> None:
    script = (
        "with open('/tmp/x', 'wb') as f:\n"
        "    for _ in range(40):\n        f.write(bytes(10_000_000))\nprint('got it')\n"
    )
    made, out = sandbox(tmp_path, script, cage=open_cage(Caps(memory_mb=128)))
    assert made.wait(120) != 0
    assert out.read_text() == ""


def test_processor_time_is_shared_out(tmp_path: Path) -> None:
    cage = open_cage(Caps(cpus=0.2))
    needs_groups(cage)
    script = (
        "import time\nend = time.process_time() + 0.2\n"
        "while time.process_time() < end: pass\nprint('done', flush=True)\ninput()\n"
    )
    read, write = os.pipe()
    keep = os.dup(0)
    os.dup2(read, 0)
    try:
        made, out = sandbox(tmp_path, script, cage=cage)
    finally:
        os.dup2(keep, 0)
        os.close(keep)
        os.close(read)
    while not out.read_text():
        assert made.poll() is None
        time.sleep(0.02)
    stat = dict(x.split() for x in (cage._groups["cpu"] / "cpu.stat").read_text().splitlines())
    os.close(write)
    made.wait(60)
    assert int(stat["nr_throttled"]) > 0


def test_without_a_control_group_each_process_is_limited() -> None:
    """As somebody other than root, counted in a user namespace as the sandbox has one."""
    python = "/usr/bin/python3" if os.getuid() == 0 else sys.executable
    inner = (
        "try:\n    x = b'x' * 400_000_000\nexcept MemoryError: print('no memory')\n"
        + FORKS.format(n=40, pause=0)
    )
    cage = Cage(Caps(processes=12, memory_mb=300), "rlimits", {})
    command = [python, *cage.wrap([python, "-c", inner])[1:]]
    nobody = {"user": 65534, "group": 65534, "extra_groups": []} if os.getuid() == 0 else {}
    done = subprocess.run(
        ["unshare", "--user", "--pid", "--fork", "--kill-child", *command],
        cwd="/", capture_output=True, text=True, **nobody,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said, made = done.stdout.split("\n")[:2]
    assert said == "no memory"
    assert 1 <= int(made) < 12


@pytest.mark.parametrize(("uid", "level"), [(0, "watchdog"), (1000, "rlimits")])
def test_the_level_is_said_where_no_group_can_be_made(
    monkeypatch: pytest.MonkeyPatch, uid: int, level: str
) -> None:
    monkeypatch.setattr("interlock.gateway.caps._own_groups", dict)
    monkeypatch.setattr(os, "getuid", lambda: uid)
    cage = open_cage(Caps())
    assert (cage.level, cage.counts) == (level, level == "rlimits")


def test_the_program_can_use_its_project_and_the_gateways_socket(tmp_path: Path) -> None:
    script = (
        "import socket, pathlib\n"
        "pathlib.Path('made').write_text('x')\n"
        "s = socket.socket(socket.AF_UNIX); s.connect('/run/interlock/gateway.sock'); print('in')\n"
    )
    made, out = sandbox(tmp_path, script)
    assert made.wait(60) == 0
    assert out.read_text() == "in\n"
    assert (tmp_path / "project" / "made").read_text() == "x"


def test_a_folder_that_holds_everything_is_no_project(tmp_path: Path) -> None:
    for folder in (Path("/"), Path.home(), Path("/etc"), tmp_path / "absent"):
        with pytest.raises(UsageError):
            Sandbox(command=["true"], project=folder, socket=tmp_path / "s", environment={})


def test_an_unchanged_script_runs_enforced_and_sees_no_credential(tmp_path: Path) -> None:
    """The whole command: real gateway, real sandbox, canary token in the broker."""
    canary = "canary-" + secrets.token_hex(16)
    home, project = tmp_path / "home", tmp_path / "project"
    (home / "credentials").mkdir(parents=True, mode=0o700)
    home.chmod(0o700)
    (home / "credentials" / "ibm").write_text(canary)
    (home / "credentials" / "ibm").chmod(0o600)
    project.mkdir()
    (project / "train.py").write_text(
        "import os, pathlib\n"
        "from qiskit import QuantumCircuit\n"
        "from qiskit_aer.primitives import SamplerV2\n"
        "qc = QuantumCircuit(2)\nqc.h(0)\nqc.cx(0, 1)\nqc.measure_all()\n"
        "result = SamplerV2(seed=3).run([qc], shots=500).result()\n"
        "print(sum(result[0].data.meas.get_counts().values()))\n"
        "print(result.metadata['interlock']['mode'])\n"
        "print(dict(os.environ))\n"
        f"print(pathlib.Path({str(home)!r}).exists())\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "interlock.cli", "run", "--enforced", "--json", "--no-report",
         "--home", str(home), "--", "python", "train.py"],
        cwd=project, capture_output=True, text=True, timeout=120,
        env={**os.environ, "QISKIT_IBM_TOKEN": canary},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(x["outcome"], x["mode"]) for x in lines if x["event"] == "job"] == [
        ("RELEASE", "ENFORCED")
    ]
    with Ledger.open(home) as ledger:
        (told,) = ledger.entries("sandbox")
    assert told.header["level"] in ("cgroup-2", "cgroup-1", "rlimits", "watchdog")
    assert told.payload["processes"] == 1024
    assert "500\nENFORCED\n" in done.stderr
    assert done.stderr.rstrip().endswith("False")
    assert canary not in done.stdout + done.stderr
    seen = [p for p in project.rglob("*") if p.is_file() and canary.encode() in p.read_bytes()]
    assert seen == []
