"""Signals to `interlock run`, to it alone and to its group; what a killed run leaves."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from interlock.guard.answers import silent
from interlock.guard.record import recorded

READY = """\
import ctypes, pathlib, signal, time
from qiskit import QuantumCircuit, transpile
from interlock.backends import twin

device = twin("manila", age_s=60.0)
circuit = QuantumCircuit(2)
circuit.h(0)
circuit.measure_all()
circuit = transpile(circuit, device, seed_transpiler=7)
device.run(circuit, shots=20).result()
"""
#: Counts the interrupts that reach it while it puts things in order.
ORDERLY = (
    READY
    + """
told = 0
pathlib.Path("begun").touch()
try:
    time.sleep(60)
except KeyboardInterrupt:
    end = time.time() + 1.5
    told += 1
    while time.time() < end:
        try:
            time.sleep(0.1)
        except KeyboardInterrupt:
            told += 1
pathlib.Path("told").write_text(str(told))
raise SystemExit(130)
"""
)
STUBBORN = (
    READY
    + """
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path("begun").touch()
time.sleep(60)
"""
)
#: A device whose job holds Python's lock, as Aer's do.
HOLDING = (
    READY
    + """
def held(*args, **options):
    pathlib.Path("begun").touch()
    ctypes.PyDLL(None).sleep(60)

device.run = held
from qiskit.primitives import BackendSamplerV2
BackendSamplerV2(backend=device).run([circuit], shots=50_000).result()
"""
)


@pytest.fixture
def folder(tmp_path: Path, policy: dict[str, Any]) -> Path:
    policy["admit"]["budget"] = {"max_shots_per_job": 50_000}
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(policy))
    return tmp_path


@contextlib.contextmanager
def run(
    folder: Path, script: str, *, through: str = "", ignored: bool = False
) -> Iterator[subprocess.Popen[str]]:
    (folder / "script.py").write_text(script)
    words = ["sh", "-c", f"{sys.executable} script.py; exit $?"] if through else []
    process = subprocess.Popen(
        [sys.executable, "-m", "interlock.cli", "run", "--home", "home", "--policy", "policy.yaml",
         "--", *(words or ["python", "script.py"])],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, env={**os.environ, "TMPDIR": str(folder)},
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_IGN if ignored else signal.default_int_handler),
    )  # fmt: skip
    try:
        for _ in range(600):
            if (folder / "begun").exists() or process.poll() is not None:
                break
            time.sleep(0.05)
        assert (folder / "begun").exists(), process.communicate()
        time.sleep(0.3)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=60)


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("through", ["", "sh"])
def test_an_interrupt_reaches_the_program_once(folder: Path, alone: bool, through: str) -> None:
    with run(folder, ORDERLY, through=through) as process:
        (os.kill if alone else os.killpg)(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (folder / "told").read_text() == "1"
    assert process.returncode == 130
    assert "1 jobs: 1 RELEASE" in out
    assert "report: interlock-report.html" in out
    assert (folder / "interlock-report.html").exists()
    assert "interlock:" not in err
    assert not list(folder.glob("interlock-events-*"))


@pytest.mark.parametrize(("first", "through"), [(signal.SIGINT, "sh"), (signal.SIGTERM, "")])
def test_the_second_signal_ends_a_program_that_ignores_the_first(
    folder: Path, first: signal.Signals, through: str
) -> None:
    with run(folder, STUBBORN, through=through) as process:
        process.send_signal(first)
        time.sleep(1.5)
        assert process.poll() is None
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
    assert time.monotonic() - began < 20
    assert process.returncode == 128 + signal.SIGKILL
    assert "1 jobs: 1 RELEASE" in out
    assert "report: interlock-report.html" in out


def test_the_second_ctrl_c_ends_a_program_that_a_job_holds(folder: Path) -> None:
    with run(folder, HOLDING) as process:
        time.sleep(1.0)  # from the file it makes to the call that holds Python's lock
        os.killpg(process.pid, signal.SIGINT)
        assert process.stderr is not None
        assert "waiting for the device's job under way" in process.stderr.readline()
        assert process.poll() is None
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=30)  # the device takes 60 s
    assert process.returncode == 128 + signal.SIGKILL
    assert "under way when the program ended: 1" in out
    assert "Traceback" not in err
    with recorded(folder / "home") as ledger:
        entries = list(ledger.entries())
    assert sum(e.event == "admit" for e in entries) == 2
    assert sum("outcome" in e.header for e in entries) == 1


def test_an_interrupt_that_was_ignored_stays_ignored(folder: Path) -> None:
    script = READY + 'pathlib.Path("begun").touch()\ntime.sleep(3)\nprint("went on")\n'
    with run(folder, script, ignored=True) as process:
        os.killpg(process.pid, signal.SIGINT)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "went on" in out


def test_a_killed_run_is_tidied_up_after_when_its_program_has_ended(folder: Path) -> None:
    script = READY + 'pathlib.Path("begun").touch()\nwhile pathlib.Path("begun").exists():\n'
    script += '    time.sleep(0.05)\npathlib.Path("ended").touch()\n'
    with run(folder, script) as process:
        process.kill()
        process.wait()
        (left,) = folder.glob("interlock-events-*")
        tidy_up(folder, left)
        assert left.exists()  # its program goes on, and tells of its jobs there
        (folder / "begun").unlink()
        for _ in range(200):
            if (folder / "ended").exists():
                break
            time.sleep(0.05)
        time.sleep(1.0)
        young = Path(tempfile.mkdtemp(prefix="interlock-events-", dir=folder))
        tidy_up(folder, left)
    assert not left.exists()
    assert young.exists()


def tidy_up(folder: Path, left: Path) -> None:
    os.utime(left, (0, 0))
    subprocess.run(
        [sys.executable, "-m", "interlock.cli", "run", "--home", "home", "--no-report", "--",
         "true"],
        cwd=folder, capture_output=True, check=False, env={**os.environ, "TMPDIR": str(folder)},
    )  # fmt: skip


def test_only_processes_that_run_and_do_not_answer_are_silent(tmp_path: Path) -> None:
    assert silent(tmp_path) == []
    (tmp_path / "x7.answers").touch()
    (tmp_path / "8.answers").touch()
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as gone:
        gone.bind(str(tmp_path / "9.answers"))
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as mute:
        mute.bind(str(tmp_path / "10.answers"))
        assert silent(tmp_path) == [10]
