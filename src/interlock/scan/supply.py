"""The supply chain: known-bad versions, from a folder of advisories on disk."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from interlock.errors import InputError, SetupError
from interlock.scan.finding import Report, ScanFinding, Severity
from interlock.scan.walk import read_regular, walk

__all__ = ["audit"]

_PIN = re.compile(r"^\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*==\s*([^\s;#\\,]+)")
_LOCKED = re.compile(r'^\s*name\s*=\s*"([^"]+)"\s*\n\s*version\s*=\s*"([^"]+)"', re.MULTILINE)
_LOCKS = {"uv.lock", "poetry.lock", "pylock.toml", "pdm.lock"}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _pins(path: Path) -> Iterator[tuple[int, str, str]]:
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.name in _LOCKS:
        for found in _LOCKED.finditer(text):
            yield text.count("\n", 0, found.start(1)) + 1, _normal(found[1]), found[2]
        return
    for number, line in enumerate(text.splitlines(), 1):
        pin = _PIN.match(line)
        if pin:
            yield number, _normal(pin[1]), pin[2]


def _advisories(folder: Path, report: Report) -> dict[str, list[dict[str, Any]]]:
    """Read OSV records, one JSON file each,."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(folder.rglob("*.json")):
        try:
            record = json.loads(read_regular(path))
            for affected in record["affected"]:
                if affected["package"]["ecosystem"] == "PyPI":
                    row = {"id": str(record["id"]), "affected": affected}
                    row["summary"] = str(record.get("summary", ""))
                    found.setdefault(_normal(affected["package"]["name"]), []).append(row)
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            report.note(str(path), "advisory-broken", type(error).__name__)
    if not found:
        raise InputError(
            "the advisory folder holds no PyPI record",
            code="scan-advisories-empty",
            got=str(folder),
            expected="OSV records, one JSON file each",
            fix="unpack the PyPI export of the OSV database there",
        )
    return found


def _hit(affected: dict[str, Any], version: str) -> str | None:
    """Return the version that mends it, or an empty string, if this version is affected."""
    try:
        from packaging.version import InvalidVersion, Version
    except ImportError as error:
        raise SetupError(
            "comparing versions needs the package packaging",
            code="scan-audit-extra",
            fix="pip install 'interlock[scan]'",
        ) from error

    def parse(text: str) -> Version:
        return Version("0" if text == "0" else text)

    try:
        mine = parse(version)
        if version in affected.get("versions", ()):
            return ""
        for span in affected.get("ranges", ()):
            if span.get("type") != "ECOSYSTEM":
                continue
            low: Version | None = None
            for event in span["events"]:
                if "introduced" in event:
                    low = parse(event["introduced"])
                elif "fixed" in event:
                    if low is not None and low <= mine < parse(event["fixed"]):
                        return str(event["fixed"])
                    low = None
                elif "last_affected" in event:
                    if low is not None and low <= mine <= parse(event["last_affected"]):
                        return ""
                    low = None
            if low is not None and low <= mine:
                return ""
    except (InvalidVersion, KeyError, TypeError):
        return None
    return None


def audit(
    paths: Iterable[Path], advisories: Path, report: Report, base: Path
) -> Iterator[ScanFinding]:
    """Compare pinned requirements and lock files with OSV records on disk; nothing is fetched."""
    known = _advisories(advisories, report)
    looked = 0
    for entry in walk(paths, Report(), base=base, everything=False):
        name = entry.path.name
        if name not in _LOCKS and not re.match(r".*requirements.*\.(?:txt|in)$", name):
            continue
        looked += 1
        for line, package, version in _pins(entry.path):
            for row in known.get(package, ()):
                mended = _hit(row["affected"], version)
                if mended is None:
                    continue
                yield ScanFinding(
                    rule="supply.known-vulnerability",
                    title="Dependency with a known vulnerability",
                    message=f"{package} {version}: {row['id']} {row['summary'][:100]}".strip(),
                    severity=Severity.HIGH,
                    confidence="high",
                    risk=75,
                    path=entry.shown,
                    line=line,
                    excerpt=f"{package}=={version}",
                    why="the advisory says how it is used against you",
                    fix=f"use {package}>={mended}" if mended else "no mended version is listed",
                    anchor=f"{package} {row['id']}",
                )
    if not looked:
        report.note(
            str(advisories), "audit-nothing", "no requirements or lock file under the paths"
        )
