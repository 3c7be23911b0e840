"""Write a report as text, JSON, SARIF 2.1.0, GitLab or JUnit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from interlock.scan.finding import Report, ScanFinding, Severity, printable

__all__ = [
    "FORMATS",
    "note_lines",
    "summary_line",
    "to_gitlab",
    "to_json",
    "to_junit",
    "to_sarif",
    "to_text",
]


def _fingerprint(finding: ScanFinding, ordinal: int) -> str:
    """Rule, path, place and excerpt: stable when lines move, and no function of a secret."""
    parts = (finding.rule, finding.path, finding.where, finding.excerpt, str(ordinal))
    return hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()[:32]


def _numbered(findings: list[ScanFinding]) -> list[tuple[ScanFinding, str]]:
    seen: dict[tuple[str, str, str, str], int] = {}
    out = []
    for item in findings:
        key = (item.rule, item.path, item.where, item.excerpt)
        seen[key] = seen.get(key, 0) + 1
        out.append((item, _fingerprint(item, seen[key])))
    return out


def _plain(finding: ScanFinding, fingerprint: str) -> dict[str, Any]:
    return {
        "rule": finding.rule,
        "title": finding.title,
        "message": finding.message,
        "severity": finding.severity.label,
        "confidence": finding.confidence,
        "risk": finding.risk,
        "path": finding.path,
        "line": finding.line,
        "column": finding.column,
        "where": finding.where,
        "excerpt": finding.excerpt,
        "why": finding.why,
        "fix": finding.fix,
        "docs": finding.docs,
        "fingerprint": fingerprint,
        "allowed": finding.allowed,
    }


def summary_line(report: Report) -> str:
    """Say in one line what was looked at and found.

    Example:
        >>> summary_line(Report(files=2, bytes=10))
        '0 findings in 2 files, 0.0 MB, 0.0 s'
    """
    active = report.active()
    count = len(active)
    allowed = sum(f.allowed is not None for f in report.findings)
    parts = [
        (
            f"{count} finding{'' if count == 1 else 's'} in {report.files} files"
            f"{f' and {report.commits} commits and tags' if report.commits else ''}, "
            f"{report.bytes / 1e6:.1f} MB, {report.seconds:.1f} s"
        )
    ]
    if allowed:
        parts.append(f"{allowed} allowed")
    if report.notes:
        parts.append(f"{len(report.notes)} not wholly looked into")
    if report.excluded:
        parts.append(f"{sum(report.excluded.values())} folders excluded")
    if report.interrupted:
        parts.append("INTERRUPTED: this is what was found so far")
    return "; ".join(parts)


def note_lines(report: Report) -> list[str]:
    """Say in a line each what was not, or not wholly, looked into.

    Example:
        >>> note_lines(Report(binary=2))[0][:25]
        'note: 2 binary file(s): r'
    """
    lines = []
    for note in report.notes:
        detail = f" ({printable(note.detail)})" if note.detail else ""
        lines.append(f"note: {printable(note.path, 400)}: {note.reason}{detail}")
    lines += [f"note: looked at {printable(line, 400)}" for line in report.covered]
    for name, count in sorted(report.excluded.items()):
        lines.append(f"note: {count} folder(s) named {name} excluded; --all looks inside")
    if report.binary:
        lines.append(
            f"note: {report.binary} binary file(s): rules of tokens with a prefix or checksum were "
            "tried, rules that go by a name beside the value were not"
        )
    if report.failure is not None:
        lines.append(f"note: FAILED, the rest is here: {printable(str(report.failure), 400)}")
    return lines


def to_text(report: Report, least: Severity = Severity.NOTE, *, colour: bool = False) -> str:
    """Return the report for a person: each finding with its line and its fix, notes, a summary."""
    paint: Callable[[str, str], str] = (
        (lambda code, text: f"\x1b[{code}m{text}\x1b[0m") if colour else (lambda _code, text: text)
    )
    tone = {95: "1;31", 75: "31", 50: "33", 30: "36", 10: "2"}
    lines: list[str] = []
    for item in report.active(least):
        label = paint(tone[int(item.severity)], f"{item.severity.label} {item.rule}")
        lines.append(f"{item.place}: {label} (risk {item.risk}, {item.confidence} confidence)")
        lines.append(f"    {printable(item.message)}")
        if item.excerpt:
            lines.append(f"    | {item.excerpt}")
        lines.append(f"    why: {item.why}")
        lines.append(f"    fix: {item.fix}")
    lines += [paint("2", line) for line in note_lines(report)]
    lines.append(summary_line(report))
    return "\n".join(lines) + "\n"


def _version() -> str:
    from importlib.metadata import version

    return version("interlock")


def to_json(report: Report, least: Severity = Severity.NOTE) -> str:
    """Return the whole report, allowed findings included, as one JSON object."""
    chosen = [f for f in report.findings if f.severity >= least]
    data = {
        "version": 1,
        "tool": {"name": "interlock", "version": _version()},
        "findings": [_plain(f, mark) for f, mark in _numbered(chosen)],
        "notes": [{"path": n.path, "reason": n.reason, "detail": n.detail} for n in report.notes],
        "covered": report.covered,
        "excluded": report.excluded,
        "files": report.files,
        "commits": report.commits,
        "binary": report.binary,
        "failure": None if report.failure is None else str(report.failure),
        "bytes": report.bytes,
        "seconds": round(report.seconds, 3),
        "cpu_seconds": round(report.cpu_seconds, 3),
        "interrupted": report.interrupted,
    }
    return json.dumps(data, indent=1, ensure_ascii=True) + "\n"


def _uri(path: str) -> str:
    name = path.lstrip("/").replace("\\", "/").split("!", 1)[0]
    return quote(name, safe="/._-~()", errors="surrogateescape")


def _level(severity: Severity) -> str:
    if severity >= Severity.HIGH:
        return "error"
    return "warning" if severity >= Severity.MEDIUM else "note"


def to_sarif(report: Report, least: Severity = Severity.NOTE) -> str:
    """Return SARIF 2.1.0: stable ruleId, relative URIs, partialFingerprints, security-severity."""
    chosen = [f for f in report.findings if f.severity >= least]
    rules: dict[str, dict[str, Any]] = {}
    results: list[dict[str, Any]] = []
    for item, mark in _numbered(chosen):
        rules.setdefault(
            item.rule,
            {
                "id": item.rule,
                "shortDescription": {"text": item.title},
                "fullDescription": {"text": item.why or item.title},
                "help": {"text": f"{item.fix or item.title} See {item.docs}."},
                "properties": {
                    "security-severity": f"{int(item.severity) / 10:.1f}",
                    "precision": {"high": "high", "medium": "medium", "low": "low"}[
                        item.confidence
                    ],
                    "tags": ["security", item.family],
                },
            },
        )
        region: dict[str, Any] = {
            "startLine": max(1, item.line),
            "startColumn": max(1, item.column),
        }
        result: dict[str, Any] = {
            "ruleId": item.rule,
            "level": _level(item.severity),
            "message": {"text": f"{item.message}. {item.fix}"},
            "locations": [
                {
                    "physicalLocation": {
                        "artifactLocation": {"uri": _uri(item.path), "uriBaseId": "%SRCROOT%"},
                        "region": region,
                    },
                    **({"logicalLocations": [{"name": item.where}]} if item.where else {}),
                }
            ],
            "partialFingerprints": {"interlock/v1": mark},
            "rank": float(item.risk),
        }
        if item.allowed is not None:
            result["suppressions"] = [{"kind": "external", "justification": item.allowed}]
        results.append(result)
    order = {rule: index for index, rule in enumerate(rules)}
    for result in results:
        result["ruleIndex"] = order[result["ruleId"]]
    notes = [
        {
            "level": "warning",
            "message": {"text": f"{n.reason}: {n.detail}" if n.detail else n.reason},
            "locations": [{"physicalLocation": {"artifactLocation": {"uri": _uri(n.path)}}}],
        }
        for n in report.notes
    ]
    whole = note_lines(
        Report(
            covered=report.covered,
            excluded=report.excluded,
            binary=report.binary,
            failure=report.failure,
        )
    )
    notes += [{"level": "note", "message": {"text": line.removeprefix("note: ")}} for line in whole]
    run = {
        "tool": {
            "driver": {
                "name": "interlock",
                "version": _version(),
                "rules": list(rules.values()),
            }
        },
        "invocations": [
            {
                "executionSuccessful": not report.interrupted and report.failure is None,
                "toolExecutionNotifications": notes,
            }
        ],
        "originalUriBaseIds": {"%SRCROOT%": {"description": {"text": "where the scan began"}}},
        "columnKind": "utf16CodeUnits",
        "results": results,
    }
    schema = "https://json.schemastore.org/sarif-2.1.0.json"
    return json.dumps({"$schema": schema, "version": "2.1.0", "runs": [run]}, indent=1) + "\n"


def to_gitlab(report: Report, least: Severity = Severity.NOTE) -> str:
    """Return a GitLab code quality report: a list of issues with a fingerprint each."""
    grade = {95: "blocker", 75: "critical", 50: "major", 30: "minor", 10: "info"}
    issues = [
        {
            "description": f"{item.message}. {item.fix}",
            "check_name": item.rule,
            "fingerprint": mark,
            "severity": grade[int(item.severity)],
            "location": {"path": item.path, "lines": {"begin": max(1, item.line)}},
        }
        for item, mark in _numbered(report.active(least))
    ]
    return json.dumps(issues, indent=1) + "\n"


def _xml(text: str) -> str:
    whole = text.encode(errors="backslashreplace").decode()
    return "".join(c for c in whole if c in "\t\n" or (c >= " " and c not in "\ufffe\uffff"))


def to_junit(report: Report, least: Severity = Severity.NOTE) -> str:
    """Return JUnit XML: one failed case for each finding, one passed case when there is none."""
    # imports ssl and email: a fifth of the start-up
    from xml.sax.saxutils import escape, quoteattr

    active = report.active(least)
    cases = [
        f"  <testcase classname={quoteattr(_xml(f.rule))} name={quoteattr(_xml(f.place))} "
        f"file={quoteattr(_xml(f.path))}>\n"
        f"    <failure type={quoteattr(f.severity.label)} message={quoteattr(_xml(f.message))}>"
        f"{escape(_xml(f.excerpt))}\nfix: {escape(_xml(f.fix))}</failure>\n  </testcase>"
        for f in active
    ]
    if not cases:
        cases = [f'  <testcase classname="interlock.scan" name="{report.files} files"/>']
    remarks = "\n".join(note_lines(report))
    said = [f"  <system-out>{escape(_xml(remarks))}</system-out>"] if remarks else []
    head = (
        f'<testsuite name="interlock scan" tests="{len(cases)}" failures="{len(active)}" '
        f'errors="0" time="{report.seconds:.3f}">'
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        + "\n".join([head, *cases, *said, "</testsuite>"])
        + "\n"
    )


FORMATS: dict[str, Callable[[Report, Severity], str]] = {
    "gitlab": to_gitlab,
    "json": to_json,
    "junit": to_junit,
    "sarif": to_sarif,
    "text": to_text,
}
