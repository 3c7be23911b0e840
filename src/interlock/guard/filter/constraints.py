"""The declared constraints on the decoded output: all must hold, or nothing is released."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

import msgspec
from msgspec.structs import replace

from interlock.guard.control import Control, Request, Settings
from interlock.guard.filter.fields import NOT_FINITE, fields_of
from interlock.guard.filter.plugin import run_plugin
from interlock.guard.filter.rules import MISSING, Constraint, Violation, check, violations
from interlock.guard.result import Result
from interlock.types import Decision, Evidence, Finding, Job, Verdict

__all__ = ["Constraint", "ConstraintsControl", "FixedOutput", "fixed_fields", "violations"]


class FixedOutput(dict[str, Any]):
    """The decoded fields after `fix`, released in place of the raw result.

    Attributes:
        metadata: the receipt, under `interlock`.
    """

    metadata: dict[str, Any]


class ConstraintsSettings(Settings, frozen=True, kw_only=True):
    """Settings of `constraints`.

    Attributes:
        rules: the constraints; all must hold.
        finite: also refuse any NaN or infinity in any field.
    """

    rules: tuple[Constraint, ...] = ()
    finite: bool = True

    def __post_init__(self) -> None:
        names = [rule.id for rule in self.rules]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"the rule {twice[0]!r} stands twice")


class ConstraintsControl(Control):
    """Holds the decoded output to the declared constraints."""

    id = "constraints"
    stage = "filter"
    version = 2
    Settings = ConstraintsSettings

    def gather(self, request: Request, settings: ConstraintsSettings) -> Evidence:
        """Decode the output, put fixes in place, and run the plugins on what is left."""
        raw = fields_of(request)
        evidence: dict[str, Any] = {"fields": raw}
        fixed = fixed_fields(settings.rules, raw)
        if fixed != raw:
            evidence["fixed"] = fixed
            request.shared[f"fields/{request.branch}"] = fixed
            # The raw result must not leave: what is released is what was filtered.
            before = request.result or Result(items=())
            extra = {**before.extra, "fixed": True}
            request.result = replace(before, items=(), native=FixedOutput(fixed), extra=extra)
        plugins = [rule for rule in settings.rules if rule.plugin is not None]
        if plugins:
            evidence["plugins"] = {rule.id: run_plugin(rule, fixed) for rule in plugins}
        return evidence

    def decide(self, job: Job, settings: ConstraintsSettings, evidence: Evidence) -> Verdict:
        """Check every rule on what would be released; the most severe violation decides."""
        raw = evidence["fields"]
        fields = fixed_fields(settings.rules, raw)
        if fields != evidence.get("fixed", raw):
            raise ValueError("the fix in place is not the fix the rules ask for")
        decision = Decision.ALLOW
        findings: list[Finding] = []
        if settings.finite:
            findings += _not_finite(fields)
            decision = Decision.DENY if findings else decision
        for rule in settings.rules:
            found = violations(rule, fields)
            severity = Decision.DENY
            if rule.on_fail in ("fallback", "hold"):
                severity = Decision[rule.on_fail.upper()]
            if rule.plugin is not None and not _does_not_apply(rule, fields):
                reported, broken = _plugin_findings(rule, evidence)
                found += reported
                severity = Decision.DENY if broken else severity
            if found:
                findings += found
                decision = max(decision, severity)
        if fields != raw and not findings:
            findings += _fixes(settings.rules, raw)
        return Verdict(decision=decision, findings=tuple(findings), evidence=evidence)


def fixed_fields(rules: tuple[Constraint, ...], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields with the nearest allowed values put in place for rules that say `fix`.

    Rules may move each other's values, so it goes round until nothing moves, at most once a rule
    and once more; what still violates then blocks.
    """
    movable = [rule for rule in rules if rule.on_fail == "fix"]
    fixed = dict(fields)
    for _ in range(len(movable) + 1):
        before = fixed
        for rule in movable:
            for violation in [v for v in check(rule, fixed) if v.nearest is not MISSING]:
                fixed = _put(fixed, violation)
        if fixed == before:
            break
    return fixed


def _put(fields: dict[str, Any], violation: Violation) -> dict[str, Any]:
    changed = dict(fields)
    field = str(violation.field)
    if violation.index is None:
        changed[field] = deepcopy(violation.nearest)
    else:
        changed[field] = list(changed[field])
        changed[field][violation.index] = deepcopy(violation.nearest)
    return changed


def _fixes(rules: tuple[Constraint, ...], raw: Mapping[str, Any]) -> Iterator[Finding]:
    for rule in rules:
        if rule.on_fail == "fix":
            for violation in list(check(rule, raw))[:1]:
                finding = violation.finding(rule)
                yield msgspec.structs.replace(finding, message=f"fixed: {violation.message}")


def _does_not_apply(rule: Constraint, fields: Mapping[str, Any]) -> bool:
    if rule.when is None:
        return False
    from interlock.guard.filter.expression import ExpressionError, compile_expression

    try:
        return compile_expression(rule.when)(fields) is False
    except ExpressionError:
        return False


def _plugin_findings(rule: Constraint, evidence: Evidence) -> tuple[list[Finding], bool]:
    answer = evidence.get("plugins", {}).get(rule.id, {"error": "the plugin did not run"})
    name = f"filter.constraints.{rule.id}"
    if "violations" not in answer:
        failed = Finding(
            rule=name,
            message=f"the plugin {rule.plugin!r} gave no answer",
            got=str(answer.get("error")),
            expected="a list of violations; no answer blocks",
            fix="mend the plugin, or raise its timeout_s or memory_mb",
        )
        return [failed], True
    return [Finding(rule=name, **violation) for violation in answer["violations"]], False


def _not_finite(fields: Mapping[str, Any]) -> list[Finding]:
    for name, value in fields.items():
        got = _first_not_finite(value)
        if got is not None:
            return [
                Finding(
                    rule="filter.constraints.finite",
                    message=f"{name} holds a number that is not finite",
                    got=got,
                    expected="finite numbers",
                    fix="find out why the device or the decoder gives it",
                )
            ]
    return []


def _first_not_finite(value: Any) -> str | None:
    if isinstance(value, Mapping):
        if NOT_FINITE in value:
            return str(value[NOT_FINITE])
        value = list(value.values())
    if isinstance(value, list):
        return next((got for got in map(_first_not_finite, value) if got is not None), None)
    return None
