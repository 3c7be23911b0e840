"""What need not be reported: allow-lists with a reason, an owner and an end; baselines.

An entry of an allow-list without a reason, an owner or an end is an error. One past its end no
longer counts, and says so. A baseline holds no secret and nothing that a secret can be guessed
from cheaply: each entry is scrypt over the secret with the baseline's own random salt.
"""

from __future__ import annotations

import datetime as dt
import fnmatch
import hashlib
import json
import secrets
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from interlock.errors import PolicyError
from interlock.scan.finding import Report, ScanFinding

__all__ = ["AllowEntry", "apply_allow", "apply_baseline", "load_allow", "write_baseline"]

DEFAULT_ALLOW = ".interlock-allow.yaml"
DEFAULT_BASELINE = ".interlock-baseline.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowEntry:
    """One exception: which rule, where, why, who answers for it, until when."""

    rule: str
    path: str
    reason: str
    owner: str
    expires: dt.date
    contains: str = ""

    def covers(self, finding: ScanFinding) -> bool:
        """Return whether the entry speaks of this finding."""
        return (
            fnmatch.fnmatchcase(finding.rule, self.rule)
            and fnmatch.fnmatchcase(finding.path, self.path)
            and self.contains in finding.excerpt
        )


def _bad(path: Path, message: str, got: object) -> PolicyError:
    return PolicyError(
        f"{path.name}: {message}",
        code="scan-allow-invalid",
        got=str(got)[:120],
        expected="entries of rule, path, reason, owner and expires (a date)",
        fix="see docs/reference/scan.md, allow-lists",
    )


def load_allow(path: Path) -> tuple[AllowEntry, ...]:
    """Read an allow-list.

    Raises:
        PolicyError: it is not YAML, or an entry lacks a field.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise _bad(path, "cannot be read", error) from error
    entries = data.get("allow") if isinstance(data, dict) else None
    if not isinstance(entries, list):
        raise _bad(path, "has no list called allow", type(data).__name__)
    return tuple(_entry(path, raw) for raw in entries)


def _entry(path: Path, raw: Any) -> AllowEntry:
    if not isinstance(raw, dict):
        raise _bad(path, "an entry is not a mapping", raw)
    known = {"rule", "path", "reason", "owner", "expires", "contains"}
    if set(raw) - known:
        raise _bad(path, "unknown field", ", ".join(sorted(map(str, set(raw) - known))))
    for name in ("rule", "path", "reason", "owner"):
        if not isinstance(raw.get(name), str) or not raw[name].strip():
            raise _bad(path, f"an entry has no {name}", raw)
    if not isinstance(raw.get("expires"), dt.date):
        raise _bad(path, "an entry has no end date", raw)
    return AllowEntry(
        rule=raw["rule"],
        path=raw["path"],
        reason=raw["reason"],
        owner=raw["owner"],
        expires=raw["expires"],
        contains=str(raw.get("contains", "")),
    )


def apply_allow(report: Report, entries: Iterable[AllowEntry], *, today: dt.date) -> None:
    """Mark the findings the entries cover; note entries that have ended or cover nothing."""
    used: Counter[AllowEntry] = Counter()
    entries = tuple(entries)
    for index, finding in enumerate(report.findings):
        for entry in entries:
            if entry.covers(finding):
                used[entry] += 1
                if entry.expires >= today:
                    text = f"{entry.reason} ({entry.owner}, until {entry.expires})"
                    report.findings[index] = replace(finding, allowed=text)
                    break
    for entry in entries:
        if entry.expires < today:
            report.note(
                entry.path, "allow-expired", f"{entry.rule}, {entry.owner}, {entry.expires}"
            )
        elif not used[entry]:
            report.note(entry.path, "allow-unused", f"{entry.rule}, {entry.owner}")


def _digest(finding: ScanFinding, salt: bytes) -> str:
    """Identity that survives moved lines: rule, path, and the secret or the line, slowly hashed."""
    head = f"{finding.rule}\0{finding.path}\0{finding.where.split(',')[0]}\0".encode(
        errors="surrogatepass"
    )
    if finding.secret:
        return hashlib.scrypt(head + finding.secret, salt=salt, n=2**12, r=8, p=1, dklen=16).hex()
    return hashlib.sha256(salt + head + finding.anchor.encode(errors="surrogatepass")).hexdigest()[
        :32
    ]


def write_baseline(path: Path, findings: Iterable[ScanFinding]) -> int:
    """Write a baseline of what is found now; return how many."""
    salt = secrets.token_bytes(16)
    rows = sorted(
        ({"rule": f.rule, "path": f.path, "id": _digest(f, salt)} for f in findings),
        key=lambda row: (row["path"], row["rule"], row["id"]),
    )
    data = {"version": 1, "salt": salt.hex(), "findings": rows}
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    return len(rows)


def apply_baseline(report: Report, path: Path) -> None:
    """Mark the findings a baseline knows, each entry once.

    Raises:
        PolicyError: the file is not a baseline.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        salt = bytes.fromhex(data["salt"])
        known = Counter((r["rule"], r["path"], r["id"]) for r in data["findings"])
        if data["version"] != 1:
            raise ValueError(f"version {data['version']}")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise PolicyError(
            f"{path.name} is not a baseline",
            code="scan-baseline-invalid",
            got=f"{type(error).__name__}: {error}"[:120],
            expected="a file written by interlock scan --write-baseline",
            fix="write it again",
        ) from error
    places = {(rule, where) for rule, where, _ in known}
    for index, finding in enumerate(report.findings):
        if finding.allowed is None and (finding.rule, finding.path) in places:
            key = (finding.rule, finding.path, _digest(finding, salt))
            if known[key] > 0:
                known[key] -= 1
                report.findings[index] = replace(finding, allowed=f"in the baseline {path.name}")
