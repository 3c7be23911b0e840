"""`interlock run` on a terminal: a live count at its foot, and everything else whole."""

import fcntl
import os
import pty
import re
import struct
import sys
import termios
from pathlib import Path
from typing import Any

import pytest
import yaml

from interlock.cli.live import Foot, has_foot

SCRIPT = """\
import time
from qiskit import QuantumCircuit, transpile
from interlock.backends import twin

device = twin("manila", age_s=60.0)
circuit = QuantumCircuit(2)
circuit.h(0)
circuit.measure_all()
circuit = transpile(circuit, device, seed_transpiler=7)
for step in range(2):
    print("name? ", end="", flush=True)
    time.sleep(0.3)
    print("first", step)
    print("second", step, flush=True)
    device.run(circuit, shots=20).result()
    time.sleep(0.3)
"""
#: What is written to the foot: between saving the cursor and putting it back.
FOOT = re.compile(r"\x1b7(.*?)\x1b8")


def on_terminal(folder: Path, rows: int, *words: str, **variables: str) -> tuple[str, int]:
    """Run a command on a terminal of its own; return what it wrote and its exit code."""
    pid, fd = pty.fork()
    if pid == 0:  # pragma: no cover - the child
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", rows, 100, 0, 0))
        os.chdir(folder)
        os.execve(sys.executable, [sys.executable, "-m", "interlock.cli", *words],
                  {**os.environ, "TERM": "xterm", **variables})  # fmt: skip
    out = b""
    while True:
        try:
            chunk = os.read(fd, 65536)
        except OSError:
            break
        if not chunk:
            break
        out += chunk
    os.close(fd)
    return out.decode(), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.fixture
def folder(tmp_path: Path, policy: dict[str, Any]) -> Path:
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(policy))
    (tmp_path / "script.py").write_text(SCRIPT)
    return tmp_path


RUN = ("run", "--home", "home", "--policy", "policy.yaml", "--no-report", "--", "python",
       "script.py")  # fmt: skip


def test_the_count_is_live_and_tears_no_line_of_the_program(folder: Path) -> None:
    out, code = on_terminal(folder, 24, *RUN)
    assert code == 0
    foot = "".join(FOOT.findall(out))
    assert "waiting for the first job  0:0" in foot
    assert "1 jobs: 1 RELEASE  0:0" in foot
    assert "\x1b[1;23r" in foot  # its row is set apart
    assert foot.index("\x1b[r") > foot.index("2 jobs: 2 RELEASE")  # and given back
    rest = FOOT.sub("", out).replace("\r\n", "\n")
    for step in (0, 1):
        assert f"name? first {step}\nsecond {step}\n" in rest
    assert "\x1b[32mRELEASE" in rest
    assert "2 jobs: 2 RELEASE; mode ADVISORY" in rest


def test_a_terminal_without_a_row_to_spare_gets_plain_lines(folder: Path) -> None:
    for rows, kind in ((3, "xterm"), (24, "dumb")):
        out, code = on_terminal(folder, rows, *RUN, TERM=kind, NO_COLOR="1")
        assert code == 0
        assert "\x1b" not in out
        assert "name? first 0\r\nsecond 0\r\n" in out


def test_a_foot_follows_the_size_of_its_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    ours, theirs = pty.openpty()
    try:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 10, 20, 0, 0))
        assert has_foot(theirs)
        with Foot(theirs, "x" * 50) as foot:
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 20, 0, 0))
            foot.show()
        told = ""
        while "\x1b[r" not in told:  # the last that it writes; a terminal gives it in pieces
            told += os.read(ours, 65536).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert "\x1b[1;9r" in told
    assert "\x1b[1;29r" in told
    assert "\x1b[30;1H\x1b[2K" + "x" * 19 + "\x1b8" in told
    with Foot(-1, "gone"):
        pass  # where the terminal has gone nothing is raised


def test_a_pipe_has_no_foot() -> None:
    reading, writing = os.pipe()
    assert not has_foot(writing)
    os.close(reading)
    os.close(writing)
