"""The filter in words: what each rule wants, and what it makes of one output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from interlock.guard.filter.constraints import ConstraintsControl, ConstraintsSettings, fixed_fields
from interlock.guard.filter.fields import plain
from interlock.guard.filter.plugin import run_plugin
from interlock.guard.filter.rules import Constraint
from interlock.guard.policy import Policy
from interlock.types import Job, Mode, Principal

__all__ = ["explain_rules", "judge", "other_controls", "say"]


def say(rule: Constraint) -> str:
    """Return in words what a rule wants.

    Example:
        >>> say(Constraint(id="e", field="energy", max=0.0, unit="hartree"))
        'energy is at most 0 hartree'
    """
    unit = f" {rule.unit}" if rule.unit else ""
    parts: list[str] = []
    if rule.type:
        parts.append(f"{rule.field} is {rule.type}")
    if rule.allowed is not None:
        parts.append(f"{rule.field} is one of {', '.join(map(repr, rule.allowed))}")
    if rule.min is not None:
        parts.append(f"{rule.field} is at least {rule.min:g}{unit}")
    if rule.max is not None:
        parts.append(f"{rule.field} is at most {rule.max:g}{unit}")
    if rule.unit and rule.min is None and rule.max is None:
        parts.append(f"{rule.field} has a unit like {rule.unit}")
    if rule.relation:
        parts.append(rule.relation.strip())
    if rule.expression:
        parts.append(rule.expression.strip())
    if rule.schema is not None:
        parts.append(f"{rule.field or 'the output'} fits its JSON Schema")
    if rule.plugin:
        parts.append(f"the plugin {rule.plugin} finds nothing ({rule.timeout_s:g} s, confined)")
    text = " and ".join(parts)
    return f"when {rule.when}: {text}" if rule.when else text


def _settings(policy: Policy) -> ConstraintsSettings:
    for bound in policy.controls("filter"):
        if bound.id == "constraints" and bound.settings is not None:
            settings: ConstraintsSettings = bound.settings
            return settings
    return ConstraintsSettings()


def explain_rules(policy: Policy) -> list[dict[str, Any]]:
    """Return every rule of `filter.constraints`, in words."""
    return [
        {
            "id": rule.id,
            "version": rule.version,
            "description": rule.description,
            "says": say(rule),
            "on_fail": rule.on_fail,
        }
        for rule in _settings(policy).rules
    ]


def other_controls(policy: Policy) -> list[str]:
    """Return the filter's other controls, which `judge` does not try: packs and plugins."""
    return [bound.id for bound in policy.controls("filter") if bound.id != "constraints"]


def judge(policy: Policy, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Try one decoded output against `filter.constraints` and return the verdict."""
    settings = _settings(policy)
    raw = {str(k): plain(v) for k, v in fields.items()}
    fixed = fixed_fields(settings.rules, raw)
    evidence: dict[str, Any] = {"fields": raw} | ({"fixed": fixed} if fixed != raw else {})
    evidence["plugins"] = {r.id: run_plugin(r, fixed) for r in settings.rules if r.plugin}
    job = Job(
        id="explain",
        kind="explain",
        principal=Principal(id="explain"),
        mode=Mode.ADVISORY,
        backend="",
        circuits=(),
        submitted_at="",
    )
    verdict = ConstraintsControl().decide(job, settings, evidence)
    findings = [
        {"rule": f.rule, "message": f.message, "got": f.got, "expected": f.expected, "fix": f.fix}
        for f in verdict.findings
    ]
    return {"decision": verdict.decision.name, "findings": findings, "fixed": fixed != raw}
