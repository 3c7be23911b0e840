"""What need not be reported: allow-lists with a reason, an owner and an end; baselines.

An entry of an allow-list without a reason, an owner or an end is an error, and so is one that would
turn off a whole family everywhere or that ends more than two years from now. One past its end no
longer counts, and says so. A baseline holds no secret and nothing that a secret can be guessed
from cheaply: each entry is scrypt over the secret with the baseline's own random salt.
"""

from __future__ import annotations

import datetime as dt
import fnmatch
import hashlib
import json
import re
import reprlib
import secrets
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from interlock.errors import PolicyError
from interlock.scan.finding import Report, ScanFinding
from interlock.scan.seal import Sealer
from interlock.scan.walk import read_regular

__all__ = [
    "AllowEntry", "apply_allow", "apply_baseline", "load_allow", "load_baseline", "write_baseline",
]  # fmt: skip

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


_FIELDS = "entries of rule, path, reason, owner and expires (a date)"
_MAX_BYTES = 1024 * 1024
_MAX_DAYS = 731
_FAMILIES = ("secret", "code", "model", "circuit", "supply")
_WILD = re.compile(r"[*?\[\]]")


def _bad(path: Path, message: str, got: object, expected: str = _FIELDS) -> PolicyError:
    return PolicyError(
        f"{path.name}: {message}",
        code="scan-allow-invalid",
        got=(got if isinstance(got, str) else reprlib.repr(got))[:160],
        expected=expected,
        fix="see docs/reference/scan.md, allow-lists",
    )


def load_allow(path: Path) -> tuple[AllowEntry, ...]:
    """Read an allow-list.

    Raises:
        PolicyError: it is no ordinary file or not YAML, an entry lacks a field, or covers too much.
    """
    import yaml  # most scans have no list to read

    try:
        text = read_regular(path, _MAX_BYTES).decode("utf-8")
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):  # merged aliases grow without bound
                raise yaml.YAMLError("it has an alias (*name)")
        data = yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise _bad(path, "cannot be read", str(error), "an ordinary YAML file") from error
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
    if type(raw.get("expires")) is not dt.date:  # a datetime is a date too, and does not compare
        raise _bad(path, "an entry has no end date", raw)
    _narrow(path, raw["rule"], raw["path"])
    return AllowEntry(
        rule=raw["rule"],
        path=raw["path"],
        reason=raw["reason"],
        owner=raw["owner"],
        expires=raw["expires"],
        contains=str(raw.get("contains", "")),
    )


def _narrow(path: Path, rule: str, where: str) -> None:
    """Refuse an entry that would silence a family: it names its rule, or a family and a place."""
    family = _WILD.split(rule, maxsplit=1)[0].partition(".")
    if family[0] not in _FAMILIES or not family[1]:
        raise _bad(
            path, "an entry does not say which family of rules it is for", f"rule: {rule}",
            f"a rule such as secret.dwave-token, or one family: {', '.join(_FAMILIES)}, then a dot",
        )  # fmt: skip
    named = any(part not in ("", ".", "..") and not _WILD.search(part) for part in where.split("/"))
    if _WILD.search(rule) and not named:
        raise _bad(
            path, "an entry would turn off a whole family everywhere", f"{rule}, {where}",
            "one rule by its full name, or a path with the name of a file or folder in it",
        )  # fmt: skip


def _check_end(entry: AllowEntry, today: dt.date) -> None:
    if (entry.expires - today).days > _MAX_DAYS:
        raise PolicyError(
            "an allow-list entry ends too far in the future",
            code="scan-allow-invalid",
            got=f"{entry.rule}, {entry.path}: {entry.expires}",
            expected="an end within two years, so that somebody looks again",
            fix="choose an earlier date",
        )


def apply_allow(report: Report, entries: Iterable[AllowEntry], *, today: dt.date) -> None:
    """Mark the findings the entries cover; note entries that have ended or cover nothing.

    Raises:
        PolicyError: an entry ends more than two years from today.
    """
    used: Counter[AllowEntry] = Counter()
    entries = tuple(entries)
    for entry in entries:
        _check_end(entry, today)
    sealer = Sealer(finding.secret for finding in report.findings if finding.secret)
    for index, finding in enumerate(report.findings):
        for entry in entries:
            if entry.covers(finding):
                used[entry] += 1
                if entry.expires >= today:
                    text = f"{entry.reason} ({entry.owner}, until {entry.expires})"
                    report.findings[index] = replace(finding, allowed=sealer(text))
                    break
    for entry in entries:
        if entry.expires < today:
            detail = f"{entry.rule}, {entry.owner}, {entry.expires}"
            report.note(sealer(entry.path), "allow-expired", sealer(detail))
        elif not used[entry]:
            detail = f"{entry.rule}, {entry.owner}"
            report.note(sealer(entry.path), "allow-unused", sealer(detail))


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


def load_baseline(path: Path) -> tuple[bytes, Counter[tuple[str, str, str]]]:
    """Read a baseline: its salt, and how often each entry stands in it.

    Raises:
        PolicyError: the file is not a baseline, or no ordinary file.
    """
    try:
        data = json.loads(read_regular(path))
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
    return salt, known


KNOWN = "in the baseline "


def apply_baseline(report: Report, path: Path) -> None:
    """Mark the findings a baseline knows, each entry once.

    Raises:
        PolicyError: the file is not a baseline.
    """
    salt, known = load_baseline(path)
    places = {(rule, where) for rule, where, _ in known}
    for index, finding in enumerate(report.findings):
        if finding.allowed is None and (finding.rule, finding.path) in places:
            key = (finding.rule, finding.path, _digest(finding, salt))
            if known[key] > 0:
                known[key] -= 1
                report.findings[index] = replace(finding, allowed=f"{KNOWN}{path.name}")
