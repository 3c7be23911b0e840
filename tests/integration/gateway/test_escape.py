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
        options.setdefault("stdout", stream.fileno())
        made = Sandbox(
            command=[sys.executable, "program.py", *options.pop("arguments", [])],
            project=project,
            socket=uds,
            environment={},
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


@pytest.mark.parametrize("folder", ["/tmp", "/dev/shm"])
def test_what_lies_in_memory_counts(tmp_path: Path, folder: str) -> None:
    script = (
        f"with open('{folder}/x', 'wb') as f:\n"
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


def run_enforced(project: Path, home: Path, script: str, *options: str) -> Any:
    project.mkdir(exist_ok=True)
    (project / "program.py").write_text(script)
    return subprocess.run(
        [sys.executable, "-m", "interlock.cli", "run", "--enforced", "--json",
         "--home", str(home), *options, "--", "python", "program.py"],
        cwd=project, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


JOB = """
import os, sys
sys.path = [p for p in sys.path if p not in ("", os.getcwd())]
from qiskit import QuantumCircuit
from qiskit_aer.primitives import SamplerV2
qc = QuantumCircuit(1)
qc.h(0)
qc.measure_all()
SamplerV2().run([qc], shots=10).result()
"""


def test_nothing_that_the_program_wrote_is_imported_outside(tmp_path: Path) -> None:
    """Neither by the gateway, which holds the credentials, nor by the command once it ended."""
    project, marker = tmp_path / "project", tmp_path / "imported"
    project.mkdir()
    spy = f"open({str(marker)!r}, 'a').write(__name__)\nraise ImportError\n"
    for name in ("dbos", "uvloop", "rustworkx", "sqlalchemy", "joserfc", "qiskit_aer", "jinja2"):
        (project / f"{name}.py").write_text(spy)
    late = JOB + f"open('html.py', 'w').write({spy!r})\n"
    done = run_enforced(project, tmp_path / "home", late)
    assert done.returncode == 0, done.stderr
    assert '"RELEASE"' in done.stdout
    assert not marker.exists()


def test_the_environment_of_python_in_the_project_cannot_be_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = tmp_path / "project" / "tools" / "venv" / "site-packages"
    packages.mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [*sys.path, str(packages)])
    script = (
        "import os, pathlib\n"
        "def attempt(work):\n"
        "    try:\n        work()\n        print('did')\n"
        "    except OSError:\n        print('refused')\n"
        f"here = pathlib.Path({str(packages)!r})\n"
        "attempt(lambda: (here / 'x.pth').write_text('import os'))\n"
        "attempt(lambda: os.rename(here, 'elsewhere'))\n"
        "attempt(lambda: os.rename('tools/venv', 'elsewhere'))\n"
        "attempt(lambda: os.rename('tools', 'elsewhere'))\n"
        "attempt(lambda: pathlib.Path('tools/mine').write_text('x'))\n"
    )
    made, out = sandbox(tmp_path, script)
    assert made.wait(60) == 0
    assert out.read_text().split() == ["refused"] * 4 + ["did"]


@pytest.mark.parametrize("how", ["project", "link", "inside"])
def test_an_environment_that_cannot_be_kept_from_the_program_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (tmp_path / "real" / "site-packages").mkdir(parents=True)
    (project / "env").symlink_to(tmp_path / "real")
    packages = {"project": project / "site-packages", "link": project / "env" / "site-packages",
                "inside": tmp_path / "real" / "site-packages"}[how]  # fmt: skip
    packages.mkdir(exist_ok=True)
    monkeypatch.setattr(sys, "path", [*sys.path, str(packages)])
    where = {"project": packages, "link": project, "inside": packages / "mine"}[how]
    where.mkdir(exist_ok=True)
    with pytest.raises(UsageError) as caught:
        Sandbox(command=["true"], project=where, socket=tmp_path / "s", environment={})
    assert caught.value.code == "sandbox-project"


def test_the_home_in_the_project_cannot_be_replaced(tmp_path: Path) -> None:
    home = tmp_path / "project" / "state" / "home"
    home.mkdir(parents=True)
    (home / "ledger").write_text("real")
    script = (
        "import os\n"
        "for name in ('state/home', 'state'):\n"
        "    try:\n        os.rename(name, 'elsewhere')\n        print('did')\n"
        "    except OSError:\n        print('refused')\n"
    )
    made, out = sandbox(tmp_path, script, hidden=(home,))
    assert made.wait(60) == 0
    assert out.read_text().split() == ["refused", "refused"]
    assert (home / "ledger").read_text() == "real"


def test_no_file_that_runs_as_its_owner_is_left_behind(tmp_path: Path) -> None:
    script = (
        "import ctypes, os\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "open('a', 'w').close()\n"
        "fd = os.open('a', os.O_RDONLY)\n"
        "how = (ctypes.c_uint64 * 3)(os.O_CREAT | os.O_WRONLY, 0o4755, 0)\n"
        "for work in (lambda: os.chmod('a', 0o4755), lambda: os.fchmod(fd, 0o2755),\n"
        "             lambda: os.open('b', os.O_CREAT | os.O_WRONLY, 0o4755),\n"
        "             lambda: os.mknod('c', 0o104755), lambda: libc.creat(b'd', 0o4755),\n"
        "             lambda: libc.syscall(437, -100, b'e', how, 24),\n"
        "             lambda: libc.syscall(452, -100, b'a', 0o4755, 0)):\n"
        "    try:\n        work()\n    except OSError:\n        pass\n"
        "os.chmod('a', 0o755)\n"
    )
    made, _ = sandbox(tmp_path, script)
    assert made.wait(60) == 0
    modes = {p.name: p.stat().st_mode for p in (tmp_path / "project").iterdir()}
    assert modes["a"] & 0o7777 == 0o755
    assert [name for name, mode in modes.items() if mode & 0o6000] == []


ASK = """
import http.client, json, socket
def ask(method, path, body=None):
    c = http.client.HTTPConnection("localhost")
    c.sock = socket.socket(socket.AF_UNIX)
    c.sock.connect("/run/interlock/gateway.sock")
    c.request(method, path, None if body is None else json.dumps(body))
    reply = c.getresponse()
    text = reply.read().decode()
    print(reply.status, text[:40] if method == "GET" else "", flush=True)
    return text
"""


def test_the_sandboxs_socket_is_good_for_its_own_jobs_alone(tmp_path: Path) -> None:
    project, home = tmp_path / "project", tmp_path / "home"
    first = run_enforced(project, home, JOB, "--no-report")
    assert first.returncode == 0, first.stderr
    with Ledger.open(home) as ledger:
        job = next(e.header["job"] for e in ledger.entries("release"))
    asked = (
        f"ask('GET', '/v1/jobs')\nask('GET', '/v1/jobs/{job}')\n"
        f"ask('GET', '/v1/jobs/{job}/result')\nask('POST', '/v1/jobs/{job}/cancel')\n"
        "ask('GET', '/v1/policy')\nask('GET', '/v1/ledger')\nask('GET', '/v1/approvals')\n"
        "ask('PUT', '/v1/tenants/local', {'rate': 0.001})\n"
        "ask('POST', '/v1/revocations', {'kind': 'tenant', 'value': 'local'})\n"
        "ask('POST', '/v1/stages/sign-off')\n"
    )
    done = run_enforced(project, home, JOB + ASK + asked, "--no-report")
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if line[:3].isdigit()]
    assert said[0] != '200 {"jobs":[]}'  # its own job
    assert job not in said[0]
    assert [line[:3] for line in said] == ["200", *["404"] * 3, *["403"] * 6]


def test_a_report_is_not_written_through_a_link_that_the_program_made(tmp_path: Path) -> None:
    project, outside = tmp_path / "project", tmp_path / "outside"
    outside.mkdir()
    link = JOB + f"os.rename('out', 'old')\nos.symlink({str(outside)!r}, 'out')\n"
    project.mkdir()
    (project / "out").mkdir()
    done = run_enforced(project, tmp_path / "home", link, "--report", "out/index.html")
    assert "report-unwritable" in done.stderr
    assert done.returncode == 6
    assert list(outside.iterdir()) == []


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the other ABIs of x86-64")
def test_the_kernels_other_abis_end_the_process(tmp_path: Path) -> None:
    """x32 numbers and `int 0x80` would reach the same calls past a filter of one ABI."""
    script = (
        "import ctypes, mmap, os\n"
        "libc = ctypes.CDLL(None)\n"
        "def old():\n"
        "    page = mmap.mmap(-1, 4096, prot=7)\n"
        "    page.write(bytes.fromhex('b867010000bb02000000b90100000031d2cd80c3'))\n"
        "    ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()\n"
        "for work in (lambda: libc.syscall(0x40000000 + 41, 2, 1, 0), old):\n"
        "    child = os.fork()\n"
        "    if not child:\n        work()\n        os._exit(0)\n"
        "    print(os.WTERMSIG(os.waitpid(child, 0)[1]))\n"
    )
    made, out = sandbox(tmp_path, script)
    assert made.wait(60) == 0
    assert out.read_text().split() == ["31", "31"]  # SIGSYS


def test_a_program_that_submits_nothing_is_guarded_all_the_same(tmp_path: Path) -> None:
    done = run_enforced(tmp_path / "project", tmp_path / "home", "print('ran')", "--no-report")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert (summary["jobs"], summary["loaded"], summary["exit_code"]) == (0, True, 0)
