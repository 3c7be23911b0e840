"""Known-bad versions as pip-audit sees them, where it and its database can be reached."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from interlock.errors import SetupError
from interlock.scan.finding import Report, ScanFinding, Severity
from interlock.scan.walk import walk

__all__ = ["pip_audit"]

_REQUIREMENTS = re.compile(r".*requirements.*\.(?:txt|in)$")
_OPTIONS = ("--no-deps", "--disable-pip", "--progress-spinner=off", "--format=json")


def _program() -> str:
    beside = Path(sys.executable).with_name("pip-audit")
    found = str(beside) if beside.is_file() else shutil.which("pip-audit")
    if found is None:
        raise SetupError(
            "pip-audit is not installed",
            code="scan-pip-audit",
            fix="pip install pip-audit, or use --advisories FOLDER, which needs no network",
        )
    return found


def _ask(program: str, path: Path, timeout_s: float) -> list[dict[str, Any]]:
    """Run pip-audit on one file; the requirements must be pinned, nothing is installed."""
    try:
        done = subprocess.run(  # noqa: S603 - fixed arguments, no shell
            [program, *_OPTIONS, "--requirement", str(path.resolve())],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
        rows = json.loads(done.stdout)["dependencies"]
        return [dict(row) for row in rows]
    except (OSError, ValueError, KeyError, TypeError, subprocess.TimeoutExpired) as error:
        raise SetupError(
            f"pip-audit could not check {path.name}",
            code="scan-pip-audit",
            got=type(error).__name__,
            expected="its JSON report: every line pinned, the database in reach",
            fix="run it by hand on that file, or use --advisories FOLDER",
        ) from None


def pip_audit(
    paths: Iterable[Path], report: Report, base: Path, *, timeout_s: float = 300.0
) -> Iterator[ScanFinding]:
    """Ask pip-audit about each requirements file; a dependency it passed over is a note.

    Raises:
        SetupError: it is not installed, or gave no answer.
    """
    program = _program()
    looked = asked = passed_over = 0
    for entry in walk(paths, Report(), base=base, everything=False):
        if not _REQUIREMENTS.match(entry.path.name):
            continue
        looked += 1
        lines = entry.path.read_text(encoding="utf-8", errors="replace").splitlines()
        for row in _ask(program, entry.path, timeout_s):
            name = str(row.get("name", ""))
            asked += 1
            if "skip_reason" in row:
                passed_over += 1
                report.note(entry.shown, "audit-skipped", f"{name}: {row['skip_reason']}"[:200])
            for known in row.get("vulns", ()):
                yield _finding(entry.shown, lines, name, str(row["version"]), known)
    if asked and passed_over == asked:
        raise SetupError(
            "pip-audit knew none of the dependencies",
            code="scan-pip-audit",
            got=f"{asked} passed over",
            expected="a vulnerability database in reach",
            fix="set PIP_AUDIT_OSV_URL, or use --advisories FOLDER, which needs no network",
        )
    if not looked:
        report.note("pip-audit", "audit-nothing", "no requirements file under the paths")


def _finding(
    shown: str, lines: list[str], name: str, version: str, known: dict[str, Any]
) -> ScanFinding:
    spelled = re.sub(r"[-_.]+", "[-_.]+", name)
    pattern = re.compile(rf"\s*{spelled}\s*[\[=~<>!;]", re.IGNORECASE)
    mended = ", ".join(str(v) for v in known.get("fix_versions", ()))
    return ScanFinding(
        rule="supply.known-vulnerability",
        title="Dependency with a known vulnerability",
        message=f"{name} {version}: {known['id']} {str(known.get('description', ''))[:100]}",
        severity=Severity.HIGH,
        confidence="high",
        risk=75,
        path=shown,
        line=next((n for n, text in enumerate(lines, 1) if pattern.match(text)), 1),
        excerpt=f"{name}=={version}",
        why="the advisory says how it is used against you",
        fix=f"use {name} {mended}" if mended else "no mended version is listed",
        anchor=f"{name} {known['id']}",
    )
