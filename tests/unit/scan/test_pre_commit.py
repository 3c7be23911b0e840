"""The hooks, run by pre-commit itself on real commits. Only the installation is left out.

`language: python` builds an environment and installs this package into it from an index; here the
interlock of the tests is called instead, with the entry, types and arguments of the shipped hooks.
"""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from interlock.scan.secrets.synth import fill

ROOT = Path(__file__).parents[3]
TOKEN = fill("DEV-{hex:40}", random.Random("pre-commit"))


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "interlock").write_text(f'#!/bin/sh\nexec {sys.executable} -m interlock.cli "$@"\n')
    (tools / "interlock").chmod(0o755)
    repo = tmp_path / "repo"
    repo.mkdir()
    local = [{**hook, "language": "unsupported"} for hook in hooks]
    config = {"repos": [{"repo": "local", "hooks": local}]}
    (repo / ".pre-commit-config.yaml").write_text(yaml.safe_dump(config))
    for name in list(os.environ):
        if name.startswith(("GIT_", "PRE_COMMIT")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PRE_COMMIT_HOME", str(tmp_path / "home"))
    for arguments in (
        ["init", "-q"],
        ["config", "user.name", "a"],
        ["config", "user.email", "a@b"],
    ):
        subprocess.run(["git", *arguments], cwd=repo, check=True)
    subprocess.run([sys.executable, "-m", "pre_commit", "install"], cwd=repo, check=True,
                   capture_output=True)  # fmt: skip
    return repo


def commit(repo: Path, *names: str) -> subprocess.CompletedProcess[str]:
    subprocess.run(["git", "add", *names], cwd=repo, check=True)
    return subprocess.run(
        ["git", "commit", "-m", "x"], cwd=repo, capture_output=True, text=True, check=False
    )


@pytest.mark.timeout(240)
@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_commits_pass_or_stop_as_the_hooks_say(repository: Path) -> None:
    (repository / "ok.py").write_text("x = 1\n")
    done = commit(repository, "ok.py", ".pre-commit-config.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    (repository / "a.env").write_text(f"T={TOKEN}\n")
    done = commit(repository, "a.env")
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert "secret.dwave-token" in said
    assert TOKEN[5:] not in said
    assert "next: mend each finding" in said
    assert "revoke it first" in said
    assert ".interlock-allow.yaml" in said
    assert said.count("Failed") == 2  # the whole scan and the secrets alone; no notebook to strip
    subprocess.run(["git", "rm", "-q", "--cached", "a.env"], cwd=repository, check=True)
    cell = {"cell_type": "code", "source": ["1"], "metadata": {}, "execution_count": 1,
            "outputs": [{"output_type": "stream", "name": "stdout", "text": ["1"]}]}  # fmt: skip
    book = {"cells": [cell], "nbformat": 4, "nbformat_minor": 5, "metadata": {}}
    (repository / "n.ipynb").write_text(json.dumps(book))
    done = commit(repository, "n.ipynb")
    assert done.returncode == 1
    assert "next: look at the stripped notebooks, `git add` them" in done.stdout + done.stderr
    assert json.loads((repository / "n.ipynb").read_text())["cells"][0]["outputs"] == []
    assert commit(repository, "n.ipynb").returncode == 0
    log = subprocess.run(["git", "log", "--name-only", "--format="], cwd=repository, check=True,
                         capture_output=True, text=True).stdout  # fmt: skip
    assert set(log.split()) == {"ok.py", ".pre-commit-config.yaml", "n.ipynb"}
