"""The repository's own tree passes its own scan, with the documented allow-list and no more."""

import datetime as dt
import importlib.metadata
import re
import subprocess
import sys
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


def zizmor(path: Path) -> subprocess.CompletedProcess[str]:
    record = importlib.metadata.distribution("zizmor").files or []
    (tool,) = {str(f.locate().resolve()) for f in record if f.name == "zizmor"}
    command = [tool, "--offline", "--no-config", "--persona", "auditor", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_zizmor_has_nothing_to_say_of_the_action(tmp_path: Path) -> None:
    copy = tmp_path / "action.yml"
    text = (ROOT / "action.yml").read_text()
    copy.write_text(text)
    done = zizmor(copy)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No findings" in done.stdout + done.stderr
    # it does look: the same action with an input spliced into the shell is refused
    copy.write_text(text.replace('<<< "$PATHS"', '<<< "${{ inputs.paths }}"'))
    done = zizmor(copy)
    assert done.returncode != 0
    assert "template-injection" in done.stdout


def blocks() -> list[str]:
    guide = (ROOT / "docs/how-to/scan-a-repository.md").read_text("utf-8")
    return re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL)


def test_zizmor_has_nothing_to_say_of_the_workflow_in_the_docs(tmp_path: Path) -> None:
    (text,) = [block for block in blocks() if "runs-on" in block]
    path = tmp_path / ".github" / "workflows" / "interlock.yml"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    done = zizmor(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    given = yaml.safe_load(text)["jobs"]["interlock"]["steps"][-1]["with"]
    assert set(given) <= set(yaml.safe_load((ROOT / "action.yml").read_text())["inputs"])
    path.write_text(text.replace("@11bd71901bbe5b1630ceea73d27597364c9af683 #", "@v4 #"))
    done = zizmor(tmp_path)
    assert done.returncode != 0
    assert "unpinned-uses" in done.stdout


def test_pre_commit_accepts_the_manifest_and_the_configuration_in_the_docs(tmp_path: Path) -> None:
    tool = [sys.executable, "-m", "pre_commit"]
    manifest = ROOT / ".pre-commit-hooks.yaml"
    assert subprocess.run([*tool, "validate-manifest", manifest], check=False).returncode == 0
    (text,) = [block for block in blocks() if "repos:" in block]
    path = tmp_path / ".pre-commit-config.yaml"
    path.write_text(text)
    assert subprocess.run([*tool, "validate-config", path], check=False).returncode == 0
    named = {hook["id"] for hook in yaml.safe_load(text)["repos"][0]["hooks"]}
    assert named <= {hook["id"] for hook in yaml.safe_load(manifest.read_text())}
    path.write_text("- id: x\n")
    bad = subprocess.run([*tool, "validate-manifest", path], capture_output=True, check=False)
    assert bad.returncode != 0
