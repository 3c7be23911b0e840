"""Will the device take the circuit, and will the result mean anything?"""

from __future__ import annotations

import math
from collections import Counter
from datetime import datetime
from typing import Any

import msgspec

from interlock.circuits.preflight import RULES, Kind, Problem, inspect
from interlock.circuits.target import Target, target_of
from interlock.guard.control import Control, Program, Request, Settings
from interlock.types import Decision, Evidence, Finding, Job, Verdict

__all__ = ["TargetControl"]

MAX_PROBLEMS = 50
REMEMBERED = 4096


class TargetSettings(Settings, frozen=True, kw_only=True):
    """Settings of `target`.

    Attributes:
        deny: rules that deny besides those that do by default.
        warn: rules that only leave a finding.
        ignore: rules that are not looked at.
        max_calibration_age_s: oldest calibration of the target that may be used, in seconds.
    """

    deny: tuple[str, ...] = ()
    warn: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    max_calibration_age_s: float | None = None

    def __post_init__(self) -> None:
        unknown = {*self.deny, *self.warn, *self.ignore} - set(RULES)
        if unknown:
            raise ValueError(f"no rule {', '.join(sorted(unknown))}; one of {', '.join(RULES)}")


class TargetControl(Control):
    """Runs the preflight rules of every circuit against the device's target."""

    id = "target"
    stage = "verify"
    Settings = TargetSettings

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[Target, list[Problem]]] = {}

    def gather(self, request: Request, settings: Any) -> Evidence:
        """Inspect each circuit; the evidence is the list of problems."""
        target = target_of(request.backend)
        kind: Kind = "estimate" if request.job.kind == "estimate" else "sample"
        problems: list[dict[str, Any]] = []
        for number, program in enumerate(request.programs):
            found = self._inspected(program, target, kind)
            problems += [{"circuit": number, **msgspec.to_builtins(p)} for p in found]
        return {
            "target": target.name,
            "calibrated_at": target.calibrated_at,
            "problems": problems[:MAX_PROBLEMS],
            "more": dict(Counter(p["rule"] for p in problems[MAX_PROBLEMS:])),
        }

    def _inspected(self, program: Program, target: Target, kind: Kind) -> list[Problem]:
        """Inspect a circuit without parameters once for each target."""
        if program.parameters:
            return _problems(program, target, kind)
        key = (program.circuit.sha256, kind)
        known = self._known.get(key)
        if known is None or (known[0] is not target and known[0] != target):
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            known = self._known[key] = (target, _problems(program, target, kind))
        return known[1]

    def decide(self, job: Job, settings: TargetSettings, evidence: Evidence) -> Verdict:
        """Any problem of a denying rule denies; the others are findings."""
        findings: list[Finding] = []
        denied = any(_severity(rule, settings) == "deny" for rule in evidence["more"])
        for problem in evidence["problems"]:
            severity = _severity(problem["rule"], settings)
            denied = denied or severity == "deny"
            if severity != "ignore":
                findings.append(_finding(problem, fatal=severity == "deny"))
        findings += _stale(job, settings, evidence["calibrated_at"])
        denied = denied or any(f.rule.endswith(".stale-calibration") for f in findings)
        findings.sort(key=lambda f: f.message.startswith("warning: "))
        return Verdict(
            decision=Decision.DENY if denied else Decision.ALLOW,
            findings=tuple(findings),
            evidence=evidence,
        )


def _severity(rule: str, settings: TargetSettings) -> str:
    """Return deny, warn or ignore; what nobody knows denies."""
    if rule in settings.deny:
        return "deny"
    if rule in settings.warn:
        return "warn"
    if rule in settings.ignore:
        return "ignore"
    return "deny" if RULES.get(rule, "error") == "error" else "warn"


def _problems(program: Program, target: Target, kind: Kind) -> list[Problem]:
    """Inspect one circuit; a template is inspected with the first parameter set bound."""
    circuit = program.circuit
    values = program.values
    finite = True
    if program.parameters and len(values):
        first = [float(v) for v in values[0]]
        circuit = circuit.bind(dict(zip(program.parameters, first, strict=True)))
        finite = all(math.isfinite(float(v)) for row in values for v in row)
    found = list(inspect(circuit, target, kind=kind))
    if not finite and not any(p.rule == "not-finite" for p in found):
        row = next(n for n, r in enumerate(values) if not all(math.isfinite(float(v)) for v in r))
        found.append(
            Problem(
                rule="not-finite",
                message="a parameter value is not a finite number",
                got=f"parameter set {row}",
                expected="finite numbers",
                fix="look for a division by zero or a diverged optimiser",
            )
        )
    return found


def _finding(problem: dict[str, Any], *, fatal: bool) -> Finding:
    where = f"circuit {problem['circuit']}"
    if problem["instruction"] is not None:
        where += f", instruction {problem['instruction']}: {problem['text']}"
    if problem["count"] > 1:
        where += f" (and {problem['count'] - 1} more)"
    return Finding(
        rule=f"verify.target.{problem['rule']}",
        message=problem["message"] if fatal else f"warning: {problem['message']}",
        got=problem["got"],
        expected=problem["expected"],
        fix=problem["fix"],
        location=where,
    )


def _stale(job: Job, settings: TargetSettings, calibrated_at: str | None) -> list[Finding]:
    limit = settings.max_calibration_age_s
    if limit is None or calibrated_at is None:
        return []
    submitted = datetime.fromisoformat(job.submitted_at)
    age = (submitted - datetime.fromisoformat(calibrated_at)).total_seconds()
    if age <= limit:
        return []
    return [
        Finding(
            rule="verify.target.stale-calibration",
            message="the calibration of the target is older than the policy allows",
            got=f"{age / 3600:.1f} h",
            expected=f"at most {limit / 3600:g} h",
            fix="fetch the backend again, then transpile for its new target",
        )
    ]
