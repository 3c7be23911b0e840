"""What a scan says: findings, notes on what it could not look at, and what it counted."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from interlock.errors import InterlockError

__all__ = ["Note", "Report", "ScanFinding", "Severity", "printable"]


class Severity(enum.IntEnum):
    """How bad, in order. The number is the `security-severity` times ten of SARIF.

    Example:
        >>> Severity["HIGH"] > Severity["LOW"]
        True
    """

    NOTE = 10
    LOW = 30
    MEDIUM = 50
    HIGH = 75
    CRITICAL = 95

    @property
    def label(self) -> str:
        """Lower-case name."""
        return self.name.lower()


def printable(text: str, limit: int = 160) -> str:
    r"""Return text that is safe on a terminal: control characters escaped, length bounded.

    Example:
        >>> printable("a\x1b[2Jb")
        'a\\x1b[2Jb'
    """
    cut = text[: limit + 1]
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)
    return safe[:limit] + "\u2026" if len(safe) > limit else safe


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanFinding:
    """One thing found.

    Attributes:
        rule: stable id, `<family>.<name>`: `secret.dwave-token`, `code.unsafe-load`.
        title: what it is, a few words.
        message: what is wrong here.
        severity: how bad if true.
        confidence: `high` when a checksum or the syntax proves it, `medium`, or `low`.
        risk: 1 to 100, see `docs/reference/scan.md#risk`; a heuristic for the order of work.
        path: as shown, relative to where the scan began.
        line: from 1; 0 when there are no lines.
        column: from 1.
        where: a place inside the file: `cell 3, output 1`, `commit 1a2b3c`, `member x/y.txt`.
        excerpt: the line with every secret masked.
        why: what can happen.
        fix: what to do.
        length: how many characters are at fault.
        secret: the matched bytes; never shown, written or sent.
        anchor: text that names the place for the baseline when there is no secret.
        allowed: why it does not count, when an allow-list or baseline covers it.
    """

    rule: str
    title: str
    message: str
    severity: Severity
    path: str
    confidence: str = "medium"
    risk: int = 50
    line: int = 0
    column: int = 1
    where: str = ""
    excerpt: str = ""
    why: str = ""
    fix: str = ""
    length: int = 1
    secret: bytes = field(default=b"", repr=False)
    anchor: str = ""
    allowed: str | None = None

    @property
    def family(self) -> str:
        """The part of the rule id before the dot."""
        return self.rule.split(".", 1)[0]

    @property
    def docs(self) -> str:
        """The docs section of the rule."""
        if self.family == "secret":
            return "docs/reference/scan-secrets.md"
        if self.family == "supply":
            return "docs/reference/scan.md#dependencies-and-bills-of-materials"
        topic = "models" if self.family == "model" else self.family
        return f"docs/reference/scan-{topic}.md#{self.rule.split('.', 1)[1]}"

    @property
    def place(self) -> str:
        """Path, line and inner place as one string, safe on a terminal."""
        line = f":{self.line}" if self.line else ""
        inner = f" ({self.where})" if self.where else ""
        return printable(self.path, 400) + line + printable(inner)


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Something the scan met and did not, or not wholly, look into."""

    path: str
    reason: str
    detail: str = ""


@dataclass(slots=True, kw_only=True)
class Report:
    """All that one scan found, skipped and counted.

    Attributes:
        findings: what was found.
        notes: what was not, or not wholly, looked into.
        covered: what was looked at beyond files, a line each.
        excluded: how many folders of each name were left out.
        real: the path behind each one that is shown masked; never shown, written or sent.
        failure: why a part of the scan could not be done; the rest is here.
        files: files looked into.
        commits: commits and tags of git histories looked at.
        binary: of these, binary ones: only rules of tokens with a prefix or checksum were tried.
        bytes: bytes looked at.
        units: pieces of notebooks.
        seconds: wall time.
        cpu_seconds: time of this process.
        interrupted: Ctrl-C came.
    """

    findings: list[ScanFinding] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    covered: list[str] = field(default_factory=list)
    excluded: dict[str, int] = field(default_factory=dict)
    real: dict[str, str] = field(default_factory=dict, repr=False)
    failure: InterlockError | None = None
    files: int = 0
    commits: int = 0
    binary: int = 0
    bytes: int = 0
    units: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    interrupted: bool = False

    def active(self, least: Severity = Severity.NOTE) -> list[ScanFinding]:
        """Return findings that count: not allowed, at least this severe, worst first."""
        chosen = [f for f in self.findings if f.allowed is None and f.severity >= least]
        return sorted(chosen, key=lambda f: (-f.risk, f.path, f.line, f.column, f.rule))

    def note(self, path: str, reason: str, detail: str = "") -> None:
        """Record something not looked into; the same one is recorded once."""
        note = Note(path=path, reason=reason, detail=detail)
        if note not in self.notes[-64:]:
            self.notes.append(note)
