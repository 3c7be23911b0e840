"""What the README and the demo show is what happens."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def test_the_readme_script_shows_a_measured_difference(tmp_path: Path) -> None:
    (script,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (tmp_path / "script.py").write_text(script)
    environment = {"INTERLOCK_HOME": str(tmp_path / "home"), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120,
        env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    unguarded, guarded = re.findall(r"([\d.]+)%", done.stdout)
    assert float(unguarded) > 10
    assert float(guarded) == 0
    assert "FALLBACK" in done.stdout


def test_every_scene_of_the_demo_ends_as_it_must(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "interlock.cli", "demo", "--home", str(tmp_path / "home"), "--json"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    shown = [json.loads(line) for line in done.stdout.splitlines()]
    assert [s["as_expected"] for s in shown] == [True] * 6
    look = shown[0]["look"].split()
    assert look[0] == "interlock"
    again = subprocess.run(
        [sys.executable, "-m", "interlock.cli", *look[1:]],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert "RELEASE" in again.stdout


@pytest.mark.parametrize("command", ["doctor", "policy show", "policy schema", "--version"])
def test_commands_that_need_nothing_work_on_a_fresh_home(tmp_path: Path, command: str) -> None:
    arguments = command.split() + (["--home", str(tmp_path)] if command == "doctor" else [])
    done = subprocess.run(
        [sys.executable, "-m", "interlock.cli", *arguments],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_demo_touches_no_folder_but_its_own(tmp_path: Path) -> None:
    mine = tmp_path / "work-tampered" / "thesis.txt"
    mine.parent.mkdir()
    mine.write_text("precious")
    for home, code in ((tmp_path, 2), (mine, 2), (tmp_path / "work", 0)):
        done = subprocess.run(
            [sys.executable, "-m", "interlock.cli", "demo", "--home", str(home)],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
    assert f"are in {tmp_path / 'work'};" in done.stdout
    assert mine.read_text() == "precious"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["work", "work-tampered"]
