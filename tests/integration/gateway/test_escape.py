"""A hostile program in the sandbox of enforced mode: it must get nothing and reach nothing."""

import json
import os
import secrets
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from interlock.errors import UsageError
from interlock.gateway.sandbox import Sandbox

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


@pytest.mark.alone
def test_a_fork_bomb_ends_the_sandbox_and_nothing_else(tmp_path: Path) -> None:
    script = "import os, time\nfor _ in range(20):\n    os.fork()\ntime.sleep(600)\n"
    made, _ = sandbox(tmp_path, script, max_processes=64)
    assert made.wait(120) != 0
    assert made.killed == "more than 64 processes"
    left = subprocess.run(["pgrep", "-f", str(tmp_path / "project")], capture_output=True)
    assert left.stdout == b""


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
    assert "500\nENFORCED\n" in done.stderr
    assert done.stderr.rstrip().endswith("False")
    assert canary not in done.stdout + done.stderr
    seen = [p for p in project.rglob("*") if p.is_file() and canary.encode() in p.read_bytes()]
    assert seen == []
