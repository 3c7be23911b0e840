"""Everything a pull request should pass, in one command: scan, preflight, policy, statistics.

A step that was asked for and cannot run fails. A step with nothing to do says so; when no step did
anything, the whole fails.
"""

from __future__ import annotations

import datetime as dt
import enum
import json
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from interlock.errors import InputError, InterlockError, StorageError, UsageError
from interlock.scan import run
from interlock.scan.finding import Report, ScanFinding, Severity, printable
from interlock.scan.report.formats import note_lines, summary_line, to_sarif
from interlock.scan.seal import Sealer, seal

__all__ = ["STEPS", "CiOptions", "Outcome", "StepResult", "junit", "run_ci", "sarif", "summary"]

STEPS = ("scan", "preflight", "policy", "tests")
_CIRCUITS = (".qasm", ".qasm3", ".qpy")
_CHILD_TIMEOUT_S = 3600.0
#: Notes in the summary for people; JSON, JUnit and SARIF have them all.
_NOTES = 50


class Outcome(enum.StrEnum):
    """How a step ended."""

    PASSED = "passed"
    FAILED = "failed"
    NOTHING = "nothing to do"


@dataclass(frozen=True, slots=True, kw_only=True)
class CiOptions:
    """What to run.

    Attributes:
        paths: what to scan.
        circuits: files and folders of circuits; those under `paths` when empty.
        backend: device snapshot or calibration the circuits must fit.
        policy: policy bundle or folder whose golden table must hold.
        tests: pytest paths of statistical tests.
        require: steps that must do something.
        fail_on: least severity of a scan finding that fails.
        strict: fail when something could not be looked into.
        shot_flake: probability of any false failure of the statistical tests.
    """

    paths: tuple[Path, ...] = (Path(),)
    circuits: tuple[Path, ...] = ()
    backend: str | None = None
    policy: Path | None = None
    tests: tuple[Path, ...] = ()
    require: tuple[str, ...] = ("scan",)
    fail_on: str = "low"
    strict: bool = False
    shot_flake: float = 0.01


@dataclass(slots=True, kw_only=True)
class StepResult:
    """What one step did.

    Attributes:
        name: of `STEPS`.
        outcome: how it ended.
        detail: one line.
        cases: (name, failure text or None) of each part.
        notes: a line each on what was not, or not wholly, looked into.
        seconds: how long it took.
    """

    name: str
    outcome: Outcome
    detail: str
    cases: list[tuple[str, str | None]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0


def _child(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - this interpreter, fixed modules, no shell
        [sys.executable, "-m", *arguments],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_CHILD_TIMEOUT_S,
        check=False,
    )


def _scan(options: CiOptions, report: Report) -> StepResult:
    found = run.scan(options.paths, families=("secrets", "code", "models"))
    run.settle(found, None, None, today=dt.datetime.now(tz=dt.UTC).date())
    for name in ("findings", "notes"):
        getattr(report, name).extend(getattr(found, name))
    for name in ("files", "bytes", "seconds", "excluded", "binary", "real", "failure"):
        setattr(report, name, getattr(found, name))
    least = Severity[options.fail_on.upper()]
    cases: list[tuple[str, str | None]] = [
        (f"{f.rule} {f.place}", f"{f.message}\nfix: {f.fix}") for f in found.active(least)
    ]
    try:
        failed = bool(cases) or run.exit_code(found, options.fail_on) != 0
    except InterlockError as error:  # part of it could not be done; the findings still count
        failed = True
        cases.append(("interlock scan", str(error)))
    if options.strict and run.unseen(found):
        failed = True
        cases.append(("interlock scan --strict", f"not looked into: {run.unseen(found)}"))
    cases = cases or [(f"{found.files} files", None)]
    return StepResult(
        name="scan",
        outcome=Outcome.FAILED if failed else Outcome.PASSED,
        detail=summary_line(found),
        cases=cases,
        notes=[line.removeprefix("note: ") for line in note_lines(found)],
    )


def _circuit_files(options: CiOptions) -> list[Path]:
    if options.circuits:
        return list(options.circuits)
    from interlock.scan.walk import walk

    entries = walk(options.paths, Report(), base=Path.cwd(), everything=False)
    return [entry.path for entry in entries if entry.path.suffix.lower() in _CIRCUITS]


def _preflight(options: CiOptions, report: Report) -> StepResult:
    files = _circuit_files(options)
    if not files:
        return StepResult(name="preflight", outcome=Outcome.NOTHING, detail="no circuit files")
    arguments = ["interlock.cli", "check", "--json"]
    if options.backend:
        arguments += ["--backend", options.backend]
    done = _child([*arguments, "--", *map(str, files)])
    try:
        rows = json.loads(done.stdout)["files"]
    except (ValueError, KeyError, TypeError):
        text = printable(done.stderr.strip(), 800) or f"exit code {done.returncode}"
        return StepResult(
            name="preflight", outcome=Outcome.FAILED, detail="interlock check did not finish",
            cases=[("interlock check", text)],
        )  # fmt: skip
    cases: list[tuple[str, str | None]] = []
    for row in rows:
        problems = [p for p in row["problems"] if p["severity"] == "error"]
        text = "\n".join(f"{p['rule']}: {p['message']}" for p in problems)
        cases.append((row["path"], text if row["refused"] else None))
        report.findings.extend(_circuit_finding(row["path"], p) for p in problems)
    refused = sum(text is not None for _, text in cases)
    return StepResult(
        name="preflight",
        outcome=Outcome.FAILED if refused or not cases else Outcome.PASSED,
        detail=f"{len(cases)} circuits, {refused} refused",
        cases=cases,
    )


def _circuit_finding(path: str, problem: dict[str, Any]) -> ScanFinding:
    try:
        shown = str(Path(path).resolve().relative_to(Path.cwd()))
    except ValueError:
        shown = path
    return ScanFinding(
        rule=f"circuit.{problem['rule']}",
        title=str(problem["message"]),
        message=str(problem["message"]),
        severity=Severity.HIGH,
        confidence="high",
        risk=75,
        path=shown,
        line=problem.get("line") or 0,
        column=problem.get("column") or 1,
        why="the backend or the guard would refuse the job",
        fix=str(problem.get("fix") or "see `interlock check`"),
        anchor=str(problem["message"]),
    )


def _policy(options: CiOptions, _report: Report) -> StepResult:
    if options.policy is None:
        return StepResult(name="policy", outcome=Outcome.NOTHING, detail="no --policy given")
    done = _child(["interlock.cli", "policy", "test", "--json", str(options.policy)])
    try:
        rows = json.loads(done.stdout)
        cases = [(str(r["name"]), None if r["passed"] else str(r["got"])) for r in rows]
    except (ValueError, KeyError, TypeError):
        cases = [("interlock policy test", printable(done.stderr.strip(), 800))]
    bad = sum(text is not None for _, text in cases)
    failed = bool(bad) or not cases or done.returncode != 0
    return StepResult(
        name="policy",
        outcome=Outcome.FAILED if failed else Outcome.PASSED,
        detail=f"{len(cases)} rows of the golden table, {bad} fail",
        cases=cases,
    )


def _tests(options: CiOptions, _report: Report) -> StepResult:
    if not options.tests:
        return StepResult(name="tests", outcome=Outcome.NOTHING, detail="no --tests given")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "junit.xml"
        done = _child(
            ["pytest", "-q", f"--junit-xml={out}", f"--shot-flake={options.shot_flake}",
             *map(str, options.tests)]
        )  # fmt: skip
        cases: list[tuple[str, str | None]] = []
        skipped = 0
        if out.exists():
            for case in ET.parse(out).iter("testcase"):  # noqa: S314 - our own child wrote it
                bad = case.find("failure") if case.find("error") is None else case.find("error")
                skipped += case.find("skipped") is not None
                text = None if bad is None else str(bad.get("message") or bad.text or "failed")
                cases.append((f"{case.get('classname')}.{case.get('name')}", text))
    bad_count = sum(text is not None for _, text in cases)
    if not cases:
        cases = [("pytest", printable((done.stderr or done.stdout).strip()[-800:], 800))]
        bad_count = 1
    elif skipped == len(cases):
        cases.append(("pytest", "every test was skipped: nothing was tested"))
        bad_count = 1
    failed = bad_count or done.returncode != 0
    detail = f"{len(cases)} tests, {bad_count} failed, {skipped} skipped"
    plan = [line for line in done.stdout.splitlines() if "shot assertion(s)" in line]
    return StepResult(
        name="tests",
        outcome=Outcome.FAILED if failed else Outcome.PASSED,
        detail="; ".join([detail, *plan[-1:]]),
        cases=cases,
    )


_RUN: dict[str, Callable[[CiOptions, Report], StepResult]] = {
    "scan": _scan,
    "preflight": _preflight,
    "policy": _policy,
    "tests": _tests,
}


def _seal(result: StepResult, report: Report) -> None:
    """Mask secrets in what a step says: its children print names, messages and values."""
    seal(report)
    sealer = Sealer({item.secret for item in report.findings if item.secret})
    result.detail = sealer(result.detail)
    result.notes = [sealer(line) for line in result.notes]
    result.cases = [
        (sealer(name), text if text is None else "\n".join(map(sealer, text.split("\n"))))
        for name, text in result.cases
    ]


def run_ci(options: CiOptions) -> tuple[list[StepResult], Report]:
    """Run every step and return what each did, with the findings of all.

    Raises:
        InputError: no step did anything.
        UsageError: the probability of a false failure is none.
    """
    if not 0 < options.shot_flake < 1:
        raise UsageError(
            "the probability of a false failure is out of range",
            code="shots-argument",
            got=repr(options.shot_flake),
            expected="a number between 0 and 1, both left out",
            fix="leave --shot-flake out for 0.01",
        )
    report = Report()
    results: list[StepResult] = []
    for name in STEPS:
        start = time.monotonic()
        try:
            result = _RUN[name](options, report)
        except (InterlockError, subprocess.TimeoutExpired, OSError) as error:
            got = getattr(error, "got", None)
            text = f"{error}: {got}" if got else str(error)
            result = StepResult(
                name=name, outcome=Outcome.FAILED, detail=text[:200], cases=[(name, text[:800])]
            )
        if result.outcome is Outcome.NOTHING and name in options.require:
            result = replace(
                result, outcome=Outcome.FAILED, detail=f"required, but {result.detail}",
                cases=[(name, f"required, but {result.detail}")],
            )  # fmt: skip
        result.seconds = time.monotonic() - start
        _seal(result, report)
        results.append(result)
    if all(result.outcome is Outcome.NOTHING for result in results):
        raise InputError(
            "no step did anything",
            code="ci-nothing",
            got="; ".join(f"{r.name}: {r.detail}" for r in results),
            expected="at least a scan",
            fix="give paths, --policy or --tests",
        )
    return results, report


def summary(results: Sequence[StepResult]) -> str:
    """Return the result as a Markdown table, for people and for a job summary."""
    mark = {Outcome.PASSED: "pass", Outcome.FAILED: "**FAIL**", Outcome.NOTHING: "-"}
    lines = ["| step | result | what | s |", "|---|---|---|---|"]
    for item in results:
        text = printable(item.detail, 400).replace("|", "\\|")
        lines.append(f"| {item.name} | {mark[item.outcome]} | {text} | {item.seconds:.1f} |")
    for item in results:
        bad = [(name, text) for name, text in item.cases if text is not None]
        for name, text in bad[:20]:
            first = printable(text.split("\n", 1)[0], 300)
            lines.append(f"- {item.name}: `{printable(name, 300)}`: {first}")
        if len(bad) > 20:
            lines.append(f"- {item.name}: and {len(bad) - 20} more")
        lines += [f"- {item.name}, note: {printable(text, 400)}" for text in item.notes[:_NOTES]]
        if len(item.notes) > _NOTES:
            lines.append(f"- {item.name}, note: and {len(item.notes) - _NOTES} more")
    return "\n".join(lines) + "\n"


def _clean(text: str) -> str:
    return "".join(c for c in text if c in "\t\n" or c.isprintable())


def junit(results: Sequence[StepResult]) -> str:
    """Return JUnit XML: a suite for each step."""
    out = ['<?xml version="1.0" encoding="UTF-8"?>', "<testsuites>"]
    for item in results:
        cases = item.cases or [(item.detail, None)]
        bad = sum(text is not None for _, text in cases)
        skipped = len(cases) if item.outcome is Outcome.NOTHING else 0
        out.append(
            f'<testsuite name="interlock {item.name}" tests="{len(cases)}" failures="{bad}" '
            f'errors="0" skipped="{skipped}" time="{item.seconds:.3f}">'
        )
        for name, text in cases:
            head = f"<testcase classname={quoteattr(item.name)} name={quoteattr(_clean(name))}"
            if text is not None:
                out.append(f"{head}><failure>{escape(_clean(text))}</failure></testcase>")
            elif skipped:
                out.append(f"{head}><skipped/></testcase>")
            else:
                out.append(f"{head}/>")
        if item.notes:
            text = "\n".join(item.notes)
            out.append(f"<system-out>{escape(_clean(text))}</system-out>")
        out.append("</testsuite>")
    return "\n".join([*out, "</testsuites>", ""])


def sarif(report: Report) -> str:
    """Return the findings of the scan and the preflight as SARIF 2.1.0."""
    return to_sarif(report)


def step_summary(text: str) -> None:
    """Append to the job summary of a CI service that offers one."""
    target = os.environ.get("GITHUB_STEP_SUMMARY")
    if target:
        try:
            with Path(target).open("a", encoding="utf-8") as handle:
                handle.write(text)
        except OSError as error:
            raise StorageError(
                "the job summary cannot be written",
                code="scan-output",
                got=f"{target}: {error.strerror}",
                expected="a writable file in GITHUB_STEP_SUMMARY",
                fix="unset it, or make room",
            ) from error
