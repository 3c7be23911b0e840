"""The repository's own tree passes its own scan, with the documented allow-list and no more."""

import datetime as dt
import importlib.metadata
import subprocess
from pathlib import Path

import yaml

from interlock.scan import allow, run

ROOT = Path(__file__).parents[2]


def test_the_tree_scans_clean() -> None:
    folders = [ROOT / name for name in ("src", "tests", "docs", "benchmarks", "examples")]
    report = run.scan(folders, families=("secrets", "code", "models"), base=ROOT)
    assert report.files > 100
    today = dt.datetime.now(tz=dt.UTC).date()
    allow.apply_allow(report, allow.load_allow(ROOT / allow.DEFAULT_ALLOW), today=today)
    assert [f"{f.place}: {f.rule}" for f in report.active()] == []


def test_the_action_and_the_hooks_name_commands_that_exist() -> None:
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    assert action["runs"]["using"] == "composite"
    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert {hook["entry"].split()[:2][1] for hook in hooks} == {"scan"}
    assert all(hook["language"] == "python" for hook in hooks)


def test_zizmor_has_nothing_to_say_of_the_action(tmp_path: Path) -> None:
    record = importlib.metadata.distribution("zizmor").files or []
    (tool,) = {str(f.locate().resolve()) for f in record if f.name == "zizmor"}
    copy = tmp_path / "action.yml"
    copy.write_bytes((ROOT / "action.yml").read_bytes())
    done = subprocess.run(
        [tool, "--offline", "--pedantic", str(copy)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
