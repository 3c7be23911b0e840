"""What `interlock scan` does, step by step, without the command line."""

from __future__ import annotations

import datetime as dt
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from interlock.errors import InputError, InterlockError, StorageError
from interlock.scan import allow, remedy
from interlock.scan.finding import Report, Severity
from interlock.scan.githistory import scan_history
from interlock.scan.live import LineRedactor, known_values, redact_stream
from interlock.scan.patch import patch_of
from interlock.scan.report.formats import FORMATS, note_lines, summary_line, to_text
from interlock.scan.scanner import Scanner, ScanOptions, require_something, unique
from interlock.scan.seal import Sealer, seal
from interlock.scan.secrets.ruleset import builtin_rules
from interlock.scan.stdin import scan_stdin
from interlock.scan.walk import walk

__all__ = [
    "ask", "baseline", "check_lists", "exit_code", "next_steps", "redact", "remarks", "remedies",
    "render", "rule_table", "save", "scan", "settle", "strip", "summary", "unseen",
]  # fmt: skip

#: Notes that mean something given was not, or not wholly, looked into.
_UNSEEN = {
    "unreadable", "missing", "broken-archive", "archive-format", "archive-limit", "archive-member",
    "git-object", "git-shallow", "too-large", "too-large-to-parse", "broken-notebook",
    "python-syntax", "audit-skipped", "audit-nothing", "advisory-broken",
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

    A part that fails after something was looked at (an audit, one of several repositories) does not
    lose the rest: the report has it as `failure`, and `exit_code` raises it.

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
                scan_stdin(scanner, stdin)
                if report.interrupted:
                    raise KeyboardInterrupt
            elif git_history:
                _history(path, scanner)
            else:
                plain.append(path)
        for entry in scanner.walk(plain):
            scanner.entry(entry)
        if advisories is not None:
            from interlock.scan.supply import audit

            report.findings.extend(audit(plain, advisories, report, options.base))
        if pip_audit:
            from interlock.scan import pipaudit

            report.findings.extend(pipaudit.pip_audit(plain, report, options.base))
    except KeyboardInterrupt:
        report.interrupted = True
    except InterlockError as error:
        if not report.files + report.commits:
            raise
        report.failure = error
    if report.failure is not None and not report.files + report.commits:
        raise report.failure
    seal(report, scanner.names)
    report.findings[:] = unique(report.findings)
    report.seconds, report.cpu_seconds = time.monotonic() - wall, time.process_time() - cpu
    require_something(report)
    return report


def _history(path: Path, scanner: Scanner) -> None:
    """Scan one repository; what is wrong with it does not keep the others from being scanned."""
    try:
        scan_history(path, scanner)
    except InterlockError as error:
        scanner.report.failure = scanner.report.failure or error


def check_lists(allow_path: Path | None, baseline_path: Path | None) -> None:
    """Read the allow-list and the baseline, so that a wrong one fails before a long scan.

    Raises:
        PolicyError: one of them is wrong.
    """
    listed, known = _lists(allow_path, baseline_path)
    if listed is not None:
        allow.load_allow(listed)
    if known is not None:
        allow.load_baseline(known)


def _lists(allow_path: Path | None, baseline_path: Path | None) -> tuple[Path | None, Path | None]:
    """The files given, or the default ones if something of their name is there."""
    listed, known = Path(allow.DEFAULT_ALLOW), Path(allow.DEFAULT_BASELINE)
    return (
        allow_path or (listed if os.path.lexists(listed) else None),
        baseline_path or (known if os.path.lexists(known) else None),
    )


def settle(
    report: Report, allow_path: Path | None, baseline_path: Path | None, *, today: dt.date
) -> None:
    """Apply the allow-list and the baseline; the default files count when they are there."""
    listed, known = _lists(allow_path, baseline_path)
    if listed is not None:
        allow.apply_allow(report, allow.load_allow(listed), today=today)
    if known is not None:
        allow.apply_baseline(report, known)


def baseline(report: Report, path: Path) -> int:
    """Write a baseline of the active findings and of those an earlier baseline knew.

    Raises:
        InputError: the scan did not reach its end.
        StorageError: the file cannot be written.
    """
    if report.interrupted or report.failure is not None:
        raise InputError(
            "no baseline was written",
            code="scan-incomplete",
            got="a scan that did not reach its end",
            expected="a whole scan: what it did not reach would later be reported as new",
            fix="scan again",
        )
    try:
        kept = [f for f in report.findings if (f.allowed or allow.KNOWN).startswith(allow.KNOWN)]
        return allow.write_baseline(path, kept)
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
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NONBLOCK
        descriptor = os.open(path, flags, 0o666)  # a FIFO that nobody reads fails at once
        os.set_blocking(descriptor, True)
        with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
            handle.write(text)
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


def remarks(report: Report) -> str:
    """Return what was not, or not wholly, looked into, and the summary."""
    return "".join(f"{line}\n" for line in [*note_lines(report), summary_line(report)])


def ask(report: Report, url: str, model: str, log: Path) -> int:
    """Triage the secret findings through an endpoint; if it fails, the report keeps the failure.

    Ctrl-C ends the asking, not the report.
    """
    from interlock.scan.triage import triage

    try:
        return triage(report, url, model=model, audit=log)
    except KeyboardInterrupt:
        report.interrupted = True
    except OSError as error:
        report.failure = report.failure or _unwritten(log, error)
    except InterlockError as error:
        report.failure = report.failure or error
    return 0


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


def strip(paths: Iterable[Path]) -> Iterator[tuple[str, int]]:
    """Strip the notebooks under the paths; yield each one's name, masked, and its outputs.

    Raises:
        InputError: there was none, or some are broken or links; the others are stripped.
    """
    report, count, sealer = Report(), 0, Sealer()
    given = tuple(paths) or (Path(),)
    broken = [sealer(str(path)) for path in given if path.is_symlink()]
    count += len(broken)
    for entry in walk(
        [p for p in given if not p.is_symlink()], report, base=Path.cwd(), everything=False
    ):
        if entry.path.suffix == ".ipynb":
            count += 1
            try:
                removed = remedy.strip_notebook(entry.path)
            except InputError:
                broken.append(sealer(entry.shown))
                continue
            yield sealer(entry.shown), removed
    if broken:
        raise InputError(
            "some notebooks were not stripped",
            code="scan-notebook-broken",
            got=", ".join(broken[:10]),
            expected="notebooks that are JSON, and no links",
            fix="mend them, or name the files the links stand for",
        )
    if not count:
        require_something(Report(notes=report.notes))


def remedies(
    report: Report, patch: Path | None, hook: str | None, git_history: bool
) -> Iterator[str]:
    """Write the patch, run the hook, give the advice; yield a line about each."""
    active = [f for f in report.active() if f.secret]
    if patch is not None:
        text, left = patch_of(active, Path.cwd(), report.real)
        remedy.write_private(patch, text)
        yield f"patch written to {patch}; its removed lines hold the secrets: apply, then delete it"
        yield from (f"not in the patch: {item.rule} at {item.place}" for item in left)
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
        InterlockError: a part of the scan failed.
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
    if report.failure is not None:
        raise report.failure
    if fail_on == "never" or wrote_baseline:
        return 0
    return 1 if report.active(Severity[fail_on.upper()]) else 0


def next_steps(report: Report, fail_on: str) -> str:
    """Say what to do about findings that fail; an empty string if none does."""
    if fail_on == "never":
        return ""
    failing = report.active(Severity[fail_on.upper()])
    if not failing:
        return ""
    lines = ["next: mend each finding as its fix says, `git add` the files and commit again"]
    if any(finding.family == "secret" for finding in failing):
        lines.append("      a secret that was ever pushed or shared: revoke it first")
    lines.append(
        "      a finding that is none: allow it with reason, owner and expiry in "
        f"{allow.DEFAULT_ALLOW} (docs/reference/scan.md#allow-lists)"
    )
    lines.append(
        "      findings from before: record them once with `interlock scan --write-baseline "
        f"{allow.DEFAULT_BASELINE}`"
    )
    return "\n".join(lines) + "\n"


def rule_table() -> str:
    """List every rule: id, severity, title."""
    from interlock.scan.code.base import RuleFacts
    from interlock.scan.code.modules import code_rules
    from interlock.scan.code.qasm import QASM_RULES

    rows = [(f"secret.{r.id}", r.severity.label, r.title) for r in builtin_rules()]
    facts: list[RuleFacts] = [*code_rules(), *QASM_RULES]
    rows += [(f"code.{r.id}", r.severity.label, r.title) for r in facts]
    return "".join(f"{name:<40} {level:<9} {title}\n" for name, level, title in sorted(rows))
