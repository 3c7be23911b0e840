"""What `interlock scan` does, step by step, without the command line."""

from __future__ import annotations

import datetime as dt
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from interlock.errors import InputError, StorageError
from interlock.scan import allow, remedy
from interlock.scan.code.base import RuleFacts
from interlock.scan.code.modules import code_rules
from interlock.scan.code.qasm import QASM_RULES
from interlock.scan.finding import Report, Severity
from interlock.scan.githistory import scan_history
from interlock.scan.live import LineRedactor, known_values, redact_stream
from interlock.scan.report.formats import FORMATS, summary_line, to_text
from interlock.scan.scanner import Scanner, ScanOptions, is_binary, require_something, unique
from interlock.scan.secrets.engine import BLOCK_BYTES
from interlock.scan.secrets.ruleset import builtin_rules
from interlock.scan.walk import walk

__all__ = [
    "ask", "baseline", "exit_code", "redact", "remedies", "render", "rule_table", "save", "scan",
    "settle", "strip", "summary", "unseen",
]  # fmt: skip

#: Notes that mean something given was not, or not wholly, looked into.
_UNSEEN = {
    "unreadable", "missing", "broken-archive", "archive-limit", "archive-member", "git-object",
    "too-large", "broken-notebook", "python-syntax", "audit-skipped", "audit-nothing",
}  # fmt: skip


def scan(
    paths: Iterable[Path],
    *,
    families: tuple[str, ...],
    everything: bool = False,
    strict_models: bool = False,
    git_history: bool = False,
    advisories: Path | None = None,
    pip_audit: bool = False,
    stdin: BinaryIO | None = None,
    progress: Callable[[Report], None] | None = None,
    base: Path | None = None,
) -> Report:
    """Scan files, folders, standard input (`-`) or the history of repositories.

    Raises:
        InputError: nothing was looked at.
    """
    options = ScanOptions(
        families=tuple(families),
        everything=everything,
        strict_models=strict_models,
        base=base or Path.cwd(),
    )
    scanner = Scanner(options, progress=progress)
    report = scanner.report
    wall, cpu = time.monotonic(), time.process_time()
    plain: list[Path] = []
    try:
        for path in paths:
            if str(path) == "-" and stdin is not None:
                _standard_input(scanner, stdin)
            elif git_history:
                scan_history(path, scanner)
            else:
                plain.append(path)
        for entry in walk(plain, report, base=options.base, everything=everything):
            scanner.entry(entry)
        if advisories is not None:
            from interlock.scan.supply import audit

            report.findings.extend(audit(plain, advisories, report, options.base))
        if pip_audit:
            from interlock.scan import pipaudit

            report.findings.extend(pipaudit.pip_audit(plain, report, options.base))
    except KeyboardInterrupt:
        report.interrupted = True
    report.findings[:] = unique(report.findings)
    report.seconds, report.cpu_seconds = time.monotonic() - wall, time.process_time() - cpu
    require_something(report)
    return report


def _standard_input(scanner: Scanner, stdin: BinaryIO) -> None:
    head = stdin.read(BLOCK_BYTES)

    def blocks() -> Iterator[bytes]:
        block = head
        while block:
            scanner.report.bytes += len(block)
            yield block
            block = stdin.read(BLOCK_BYTES)

    scanner.blocks(blocks(), "(standard input)", "", binary=is_binary(head))
    scanner.report.files += 1 if head else 0


def settle(
    report: Report, allow_path: Path | None, baseline_path: Path | None, *, today: dt.date
) -> None:
    """Apply the allow-list and the baseline; the default files count when they are there."""
    listed = allow_path or Path(allow.DEFAULT_ALLOW)
    if allow_path or listed.is_file():
        allow.apply_allow(report, allow.load_allow(listed), today=today)
    known = baseline_path or Path(allow.DEFAULT_BASELINE)
    if baseline_path or known.is_file():
        allow.apply_baseline(report, known)


def baseline(report: Report, path: Path) -> int:
    """Write a baseline of the active findings."""
    try:
        return allow.write_baseline(path, report.active())
    except OSError as error:
        raise _unwritten(path, error) from error


def _unwritten(path: Path, error: OSError) -> StorageError:
    return StorageError(
        "a file cannot be written",
        code="scan-output",
        got=f"{path}: {error.strerror}",
        expected="a writable place with room",
        fix="choose another file",
    )


def save(path: Path, text: str) -> None:
    """Write a report.

    Raises:
        StorageError: the file cannot be written.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise _unwritten(path, error) from error


def render(report: Report, style: str, least: str, *, colour: bool = False) -> str:
    """Return the report in one of the formats."""
    level = Severity[least.upper()]
    if style == "text":
        return to_text(report, level, colour=colour)
    return FORMATS[style](report, level)


def summary(report: Report) -> str:
    """Return one line."""
    return summary_line(report)


def ask(report: Report, url: str, model: str, log: Path) -> int:
    """Triage the secret findings through an endpoint."""
    from interlock.scan.triage import triage

    try:
        return triage(report, url, model=model, audit=log)
    except OSError as error:
        raise _unwritten(log, error) from error


def redact(source: BinaryIO, sink: BinaryIO, *, environment: bool) -> int:
    """Copy a log without its secrets; fails if there was nothing to copy."""
    redactor = LineRedactor(values=known_values() if environment else ())
    try:
        lines = redact_stream(source, sink, redactor)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nobody reads any more: end quietly
        return 0
    if lines == 0:
        require_something(Report())
    return 0


def strip(paths: Iterable[Path]) -> Iterator[tuple[Path, int]]:
    """Strip the notebooks under the paths.

    Raises:
        InputError: there was none, or one is broken.
    """
    report, count = Report(), 0
    for entry in walk(paths or (Path(),), report, base=Path.cwd(), everything=False):
        if entry.path.suffix == ".ipynb":
            count += 1
            yield entry.path, remedy.strip_notebook(entry.path)
    if not count:
        require_something(Report(notes=report.notes))


def remedies(
    report: Report, patch: Path | None, hook: str | None, git_history: bool
) -> Iterator[str]:
    """Write the patch, run the hook, give the advice; yield a line about each."""
    active = [f for f in report.active() if f.secret]
    if patch is not None:
        remedy.write_private(patch, remedy.patch_of(active, Path.cwd()))
        yield f"patch written to {patch}; its removed lines hold the secrets: apply, then delete it"
    if hook:
        done: set[bytes] = set()
        for item in active:
            if item.secret not in done:
                done.add(item.secret)
                code = remedy.run_revoke_hook(hook, item)
                yield f"revoke hook: {item.rule} at {item.place}: exit {code}"
    if git_history and active:
        yield remedy.HISTORY_ADVICE.rstrip()


def unseen(report: Report) -> str:
    """Name what could not be looked into, or return an empty string."""
    bad = [f"{n.path}: {n.reason}" for n in report.notes if n.reason in _UNSEEN]
    return "; ".join(bad[:5]) + (f" and {len(bad) - 5} more" if len(bad) > 5 else "")


def exit_code(report: Report, fail_on: str, *, wrote_baseline: bool = False) -> int:
    """Return 0, 1 for findings, 130 when interrupted.

    Raises:
        InputError: a path that was named does not exist.
    """
    missing = [n.path for n in report.notes if n.reason == "missing"]
    if missing:
        raise InputError(
            "a path does not exist",
            code="scan-missing",
            got=", ".join(missing[:5]),
            expected="existing files and folders",
            fix="check the spelling",
        )
    if report.interrupted:
        return 130
    if fail_on == "never" or wrote_baseline:
        return 0
    return 1 if report.active(Severity[fail_on.upper()]) else 0


def rule_table() -> str:
    """List every rule: id, severity, title."""
    rows = [(f"secret.{r.id}", r.severity.label, r.title) for r in builtin_rules()]
    facts: list[RuleFacts] = [*code_rules(), *QASM_RULES]
    rows += [(f"code.{r.id}", r.severity.label, r.title) for r in facts]
    return "".join(f"{name:<40} {level:<9} {title}\n" for name, level, title in sorted(rows))
