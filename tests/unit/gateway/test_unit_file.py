"""The unit file of the gateway, judged by systemd itself."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[3] / "packaging" / "systemd" / "interlock-gateway.service"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_finds_little_exposure() -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", str(UNIT)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    found = re.search(r"exposure level for [^:]*: ([\d.]+)", done.stdout)
    assert found is not None, done.stdout + done.stderr
    assert float(found.group(1)) <= 2.0


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_finds_the_unit_well_formed(tmp_path: Path) -> None:
    program = tmp_path / "interlock"
    program.touch(mode=0o755)
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/interlock/bin/interlock", str(program)))
    whole = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert UNIT.name not in whole.stderr, whole.stderr
    unit.write_text(unit.read_text().replace("ProtectHome=yes", "ProtectHome=maybe"))
    broken = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert UNIT.name in broken.stderr


def test_the_command_in_the_unit_is_one_that_exists() -> None:
    from interlock.cli.serve import command

    line = next(x for x in UNIT.read_text().splitlines() if x.startswith("ExecStart="))
    known = {option for parameter in command.params for option in parameter.opts}
    assert set(re.findall(r"--[a-z-]+", line)) <= known
