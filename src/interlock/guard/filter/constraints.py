"""Constraints on the decoded output: type, range, set of values, relation between fields."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

from interlock.guard.control import Control, Request, Settings
from interlock.guard.filter.fields import NOT_FINITE, fields_of
from interlock.types import Decision, Evidence, Finding, Job, Verdict

__all__ = ["Constraint", "ConstraintsControl", "violations"]

_TYPES: dict[str, tuple[type, ...]] = {
    "number": (int, float),
    "integer": (int,),
    "text": (str,),
    "boolean": (bool,),
}
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "==": operator.eq,
    "!=": operator.ne,
}
_RELATION = re.compile(r"^\s*([\w.-]+)\s*(<=|>=|<|>|==|!=)\s*([\w.+-]+)\s*$")


class Constraint(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One constraint. A field that holds a list is checked element by element.

    Attributes:
        id: name of the rule, shown when it fires.
        field: the field it looks at.
        type: number (finite), integer, text or boolean.
        min: smallest allowed number.
        max: largest allowed number.
        allowed: the only values allowed.
        relation: two fields, or a field and a number, compared: `low <= high`.
        on_fail: what a violation leads to.
    """

    id: str
    field: str | None = None
    type: Literal["number", "integer", "text", "boolean"] | None = None
    min: float | None = None
    max: float | None = None
    allowed: tuple[str | int | float, ...] | None = None
    relation: str | None = None
    on_fail: Literal["block", "fallback", "hold"] = "block"

    def __post_init__(self) -> None:
        checks = (self.type, self.min, self.max, self.allowed)
        if self.relation is None and (self.field is None or all(c is None for c in checks)):
            raise ValueError(
                f"constraint {self.id!r} checks nothing: give it a field and type, min, max or"
                " allowed, or a relation"
            )
        if self.relation is not None and not _RELATION.match(self.relation):
            raise ValueError(
                f"constraint {self.id!r}: the relation {self.relation!r} is not `a <= b`"
            )


class ConstraintsSettings(Settings, frozen=True, kw_only=True):
    """Settings of `constraints`.

    Attributes:
        rules: the constraints; all must hold.
        finite: also refuse any NaN or infinity in any field.
    """

    rules: tuple[Constraint, ...] = ()
    finite: bool = True


class ConstraintsControl(Control):
    """Holds the decoded output to the declared constraints."""

    id = "constraints"
    stage = "filter"
    Settings = ConstraintsSettings

    def gather(self, request: Request, settings: Any) -> Evidence:
        """Decode the output."""
        return {"fields": fields_of(request)}

    def decide(self, job: Job, settings: ConstraintsSettings, evidence: Evidence) -> Verdict:
        """Check every rule; the most severe violation decides."""
        decision = Decision.ALLOW
        findings: list[Finding] = []
        if settings.finite:
            findings += _not_finite(evidence["fields"])
            decision = Decision.DENY if findings else decision
        for rule in settings.rules:
            found = violations(rule, evidence["fields"])
            if found:
                findings += found
                name = "DENY" if rule.on_fail == "block" else rule.on_fail.upper()
                decision = max(decision, Decision[name])
        return Verdict(decision=decision, findings=tuple(findings), evidence=evidence)


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


def violations(rule: Constraint, fields: Mapping[str, Any]) -> list[Finding]:
    """Return what violates one constraint; a field that is missing violates it."""
    if rule.relation is not None:
        return _relation(rule, fields)
    field = str(rule.field)
    if field not in fields:
        return [
            _finding(rule, f"the output has no field {field!r}", "missing", ", ".join(fields), None)
        ]
    value = fields[field]
    values = value if isinstance(value, list) else [value]
    if not values:
        return [_finding(rule, f"field {field!r} is empty", "[]", "at least one value", None)]
    for index, item in enumerate(values):
        where = f"{field}[{index}]" if isinstance(value, list) else field
        finding = _one(rule, item, where)
        if finding is not None:
            return [finding]
    return []


def _one(rule: Constraint, value: Any, where: str) -> Finding | None:
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    if rule.type is not None:
        right = isinstance(value, _TYPES[rule.type]) and (
            rule.type == "boolean" or not isinstance(value, bool)
        )
        if not right or (numeric and not math.isfinite(value)):
            return _finding(rule, f"{where} has the wrong type", repr(value), rule.type, None)
    if rule.allowed is not None and value not in rule.allowed:
        return _finding(
            rule, f"{where} is not an allowed value", repr(value), repr(list(rule.allowed)), None
        )
    if rule.min is None and rule.max is None:
        return None
    low = -math.inf if rule.min is None else rule.min
    high = math.inf if rule.max is None else rule.max
    if not numeric or not low <= value <= high:
        nearest = min(max(value, low), high) if numeric and value == value else None
        return _finding(
            rule,
            f"{where} is out of range",
            repr(value),
            f"{low:g} <= {where} <= {high:g}",
            nearest,
        )
    return None


def _relation(rule: Constraint, fields: Mapping[str, Any]) -> list[Finding]:
    match = _RELATION.match(str(rule.relation))
    assert match is not None  # checked when the policy was loaded
    left, symbol, right = match.groups()
    sides = [_side(left, fields), _side(right, fields)]
    if None in sides:
        return [
            _finding(
                rule,
                "a side of the relation is missing or no number",
                f"{left} = {sides[0]}, {right} = {sides[1]}",
                str(rule.relation),
                None,
            )
        ]
    if _OPERATORS[symbol](sides[0], sides[1]):
        return []
    got = f"{left} = {sides[0]!r}, {right} = {sides[1]!r}"
    return [_finding(rule, "the relation does not hold", got, str(rule.relation), None)]


def _side(name: str, fields: Mapping[str, Any]) -> float | None:
    value: Any = fields.get(name)
    if value is None:
        try:
            value = float(name)
        except ValueError:
            return None
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value


def _finding(
    rule: Constraint, message: str, got: str, expected: str, nearest: float | None
) -> Finding:
    return Finding(
        rule=f"filter.constraints.{rule.id}",
        message=message,
        got=got,
        expected=expected,
        fix=None if nearest is None else f"the nearest allowed value is {nearest:g}",
    )
