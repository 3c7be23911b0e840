"""Standard output that is closed or on a full disk: an error in words, and the run goes on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
from qiskit import QuantumCircuit
from qiskit_aer.primitives import SamplerV2
circuit = QuantumCircuit(1)
circuit.measure_all()
SamplerV2(seed=1).run([circuit], shots=10).result()
print("printed by the program")
"""
INTERLOCK = [sys.executable, "-m", "interlock"]


def closed(words: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "INTERLOCK_HOME": str(cwd / "home")}
    return subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *words],
        stderr=subprocess.PIPE, text=True, check=False, cwd=cwd, env=env,
    )  # fmt: skip


def test_a_run_whose_output_is_closed_is_guarded_and_reported(tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(SCRIPT)
    done = closed([*INTERLOCK, "run", "--", sys.executable, "job.py"], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "interlock-report.html").read_text("utf-8").rstrip().endswith("</html>")
    check = subprocess.run(
        [*INTERLOCK, "verify", "--home", tmp_path / "home"], capture_output=True, check=False
    )
    assert check.returncode == 0, check.stdout


@pytest.mark.parametrize("command", ["doctor", "policy show"])
def test_a_command_whose_output_is_closed_ends_quietly(tmp_path: Path, command: str) -> None:
    done = closed([*INTERLOCK, *command.split()], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", ["doctor", "policy show"])
def test_a_full_disk_under_the_output_is_named(tmp_path: Path, command: str) -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
        done = subprocess.run(
            [*INTERLOCK, *command.split()],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
            env={**os.environ, "INTERLOCK_HOME": str(tmp_path / "home")},
        )  # fmt: skip
    assert done.returncode == 6
    assert done.stderr.startswith("error[output-lost]")
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
