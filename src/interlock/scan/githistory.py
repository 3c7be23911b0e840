"""Scan what a repository ever held: every blob reachable from any ref or the reflog, once."""

from __future__ import annotations

import io
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import IO

from interlock.errors import InputError, SetupError
from interlock.scan.scanner import Scanner

__all__ = ["scan_history"]

_MAX_BLOB = 256 * 1024 * 1024
_SAFE = (
    "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "protocol.allow=never",
    "-c", "core.pager=cat", "-c", "log.showSignature=false",
)  # fmt: skip


def _environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    return {**kept, "GIT_NO_LAZY_FETCH": "1", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}


def _git(repo: Path, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - fixed arguments, no shell
        ["git", "-C", str(repo), *_SAFE, *arguments],  # noqa: S607 - the git the user runs
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_environment(),
    )


def _objects(repo: Path) -> dict[str, str]:
    try:
        process = _git(repo, "rev-list", "--objects", "--all", "--reflog")
    except FileNotFoundError as error:
        raise SetupError(
            "git is not installed",
            code="scan-git-missing",
            got="no git on PATH",
            expected="git 2.30 or later",
            fix="install git, or scan the tree without --git-history",
        ) from error
    out, problem = process.communicate()
    if process.returncode:
        raise InputError(
            "the git history cannot be read",
            code="scan-git-unreadable",
            got=problem.decode("utf-8", "replace").strip()[:200],
            expected="a git repository this user may read",
            fix="check the path; git config --global --add safe.directory PATH if you trust it",
        )
    found: dict[str, str] = {}
    for line in out.decode("utf-8", "replace").splitlines():
        name, _, path = line.partition(" ")
        found.setdefault(name, path)
    return found


def scan_history(repo: Path, scanner: Scanner) -> None:
    """Scan all blobs and commit messages; findings name the commit that brought them.

    Raises:
        InputError: not a repository.
        SetupError: git is missing.
    """
    report = scanner.report
    objects = _objects(repo)
    before = len(report.findings)
    process = _git(repo, "cat-file", "--batch")
    stdin, stdout = process.stdin, process.stdout
    if stdin is None or stdout is None:
        raise SetupError("no pipe to git", code="scan-git-missing")
    try:
        for name, path in objects.items():
            stdin.write(name.encode() + b"\n")
            stdin.flush()
            _one(scanner, stdout, name, path)
    except KeyboardInterrupt:
        report.interrupted = True
    finally:
        stdin.close()
        stdout.close()
        process.terminate()
        process.wait()
    commits: dict[str, str] = {}
    for index in range(before, len(report.findings)):
        finding = report.findings[index]
        blob = finding.where.rpartition("blob ")[2]
        if blob not in commits:
            commits[blob] = _introduced(repo, blob) if not report.interrupted else ""
        where = finding.where.replace(f"blob {blob}", f"commit {commits[blob][:12] or 'unknown'}")
        report.findings[index] = replace(finding, where=where)


def _one(scanner: Scanner, stdout: IO[bytes], name: str, path: str) -> None:
    report = scanner.report
    header = stdout.readline().split()
    if len(header) != 3:
        report.note(path or name, "git-object", "missing")
        return
    kind, size = header[1], int(header[2])
    if kind not in (b"blob", b"commit", b"tag") or size > _MAX_BLOB:
        if kind == b"blob":
            report.note(path, "too-large", f"blob of {size} bytes")
        left = size + 1
        while left:
            left -= len(stdout.read(min(left, 1 << 20)))
        return
    data = stdout.read(size)
    stdout.read(1)
    first = len(report.findings)
    shown = path if kind == b"blob" else f"({kind.decode()} message)"
    if kind == b"blob":
        scanner.stream(io.BytesIO(data), shown or name)
        report.files += 1
    else:
        scanner.blocks([data.partition(b"\n\n")[2]], shown, "", binary=False)
    label = f"blob {name}"
    for index in range(first, len(report.findings)):
        finding = report.findings[index]
        where = f"{finding.where}, {label}" if finding.where else label
        report.findings[index] = replace(finding, where=where)


def _introduced(repo: Path, blob: str) -> str:
    process = _git(
        repo, "log", "--all", "--reflog", f"--find-object={blob}", "--format=%H", "--reverse"
    )
    out, _ = process.communicate()
    return out.decode().split("\n", 1)[0] or blob
