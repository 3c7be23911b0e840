"""One constraint, what violates it, and the nearest value that would not."""

from __future__ import annotations

import contextlib
import difflib
import math
import operator
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from interlock.guard.filter import schema as schemas
from interlock.guard.filter import units
from interlock.guard.filter.expression import ExpressionError, compile_expression
from interlock.types import Finding

__all__ = ["MISSING", "Constraint", "Violation", "check", "violations"]

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
_SHOWN = 10
_KINDS = (
    "type", "unit", "allowed", "min", "max", "relation", "schema", "expression", "plugin",
)  # fmt: skip


class _Missing:
    """Marks that there is no nearest allowed value."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING = _Missing()


class Constraint(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One constraint. A field that holds a list is checked element by element.

    Attributes:
        id: name of the rule, shown when it fires.
        description: why it exists, in words; `interlock filter explain` shows it.
        version: raise it when the meaning changes.
        field: the field it looks at.
        type: number (finite), integer, text or boolean.
        min: smallest allowed number.
        max: largest allowed number.
        unit: the field must be `{value, unit}`; it is converted to this unit first.
        allowed: the only values allowed.
        relation: two fields, or a field and a number, compared: `low <= high`.
        schema: JSON Schema (2020-12) of the field, or of all fields when no field is named.
        expression: must be true: `all(abs(v) <= 1 for v in values)`.
        plugin: name of an installed `interlock.filter-rules` plugin; it runs confined.
        when: expression that says whether the rule applies; it always does without one.
        timeout_s: deadline of the plugin.
        memory_mb: memory of the plugin.
        on_fail: what a violation leads to. `fix` puts the nearest allowed value in place and
            blocks when there is none.
    """

    id: str
    description: str = ""
    version: int = 1
    field: str | None = None
    type: Literal["number", "integer", "text", "boolean"] | None = None
    min: float | None = None
    max: float | None = None
    unit: str | None = None
    allowed: tuple[str | int | float, ...] | None = None
    relation: str | None = None
    schema: dict[str, Any] | None = None
    expression: str | None = None
    plugin: str | None = None
    when: str | None = None
    timeout_s: float = 5.0
    memory_mb: int = 256
    on_fail: Literal["block", "fix", "fallback", "hold"] = "block"

    def __post_init__(self) -> None:
        whole = (self.relation, self.schema, self.expression, self.plugin)
        checks = (self.type, self.min, self.max, self.allowed, self.unit)
        if all(w is None for w in whole) and (self.field is None or all(c is None for c in checks)):
            raise ValueError(
                f"constraint {self.id!r} checks nothing: give it a field and type, min, max, unit"
                " or allowed, or a relation, schema, expression or plugin"
            )
        if self.relation is not None and not _RELATION.match(self.relation):
            raise ValueError(
                f"constraint {self.id!r}: the relation {self.relation!r} is not `a <= b`"
            )
        if any(bound is not None and math.isnan(bound) for bound in (self.min, self.max)):
            raise ValueError(f"constraint {self.id!r}: a bound is no number, nothing could pass")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"constraint {self.id!r}: min is larger than max, nothing could pass")
        if self.unit is not None and not units.known(self.unit):
            near = difflib.get_close_matches(self.unit, units.UNITS, 1)
            raise ValueError(
                f"constraint {self.id!r}: unknown unit {self.unit!r}"
                + (f", did you mean {near[0]!r}?" if near else "")
            )
        for text in (self.expression, self.when):
            if text is not None:
                try:
                    compile_expression(text)
                except ExpressionError as error:
                    raise ValueError(f"constraint {self.id!r}: {text!r}: {error}") from error
        if self.schema is not None:
            schemas.check_schema(self.id, self.schema)

    @property
    def kinds(self) -> tuple[str, ...]:
        """What the rule checks, in order."""
        return tuple(kind for kind in _KINDS if getattr(self, kind) is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One value that breaks one rule.

    Attributes:
        message: what is wrong.
        got: the value.
        expected: what the rule wants.
        field: the field to change, when one value is at fault.
        index: the element of the field, when it is a list.
        nearest: the nearest allowed value, or `MISSING`.
    """

    message: str
    got: str
    expected: str
    field: str | None = None
    index: int | None = None
    nearest: Any = MISSING

    def finding(self, rule: Constraint) -> Finding:
        """Return it as the finding the verdict carries."""
        near = self.nearest
        # Every digit: rounded, it might not be allowed.
        shown = repr(near).removesuffix(".0")
        return Finding(
            rule=f"filter.constraints.{rule.id}",
            message=self.message,
            got=self.got,
            expected=self.expected,
            fix=None if near is MISSING else f"the nearest allowed value is {shown}",
        )


def violations(rule: Constraint, fields: Mapping[str, Any]) -> list[Finding]:
    """Return what violates one constraint; a field that is missing violates it.

    Example:
        >>> rule = Constraint(id="gap", field="gap", min=0.0, unit="eV")
        >>> [f.got for f in violations(rule, {"gap": {"value": -0.1, "unit": "hartree"}})]
        ['-2.72114 eV']
    """
    found = []
    for violation in check(rule, fields):
        found.append(violation.finding(rule))
        if len(found) == _SHOWN:
            break
    return found


def check(rule: Constraint, fields: Mapping[str, Any]) -> Iterator[Violation]:
    """Yield every violation of one constraint, plugins left out (they run elsewhere)."""
    if rule.when is not None:
        try:
            applies = compile_expression(rule.when)(fields)
        except ExpressionError as error:
            yield Violation(message="`when` cannot be told", got=str(error), expected=rule.when)
            return
        if applies is False:
            return
        if applies is not True:
            yield Violation(message="`when` is no truth", got=repr(applies), expected=rule.when)
            return
    if rule.relation is not None:
        yield from _relation(rule.relation, fields)
    if rule.expression is not None:
        yield from _expression(rule.expression, fields)
    if rule.field is None:
        if rule.schema is not None:
            yield from _schema(rule.schema, dict(fields), "the output")
        return
    if rule.field not in fields:
        missing = f"the output has no field {rule.field!r}"
        yield Violation(message=missing, got="missing", expected=", ".join(fields)[:200])
        return
    value = fields[rule.field]
    if rule.schema is not None:
        yield from _schema(rule.schema, value, rule.field)
    if any(getattr(rule, k) is not None for k in ("type", "min", "max", "allowed", "unit")):
        yield from _elements(rule, rule.field, value)


def _elements(rule: Constraint, field: str, value: Any) -> Iterator[Violation]:
    if not isinstance(value, list):
        yield from _one(rule, field, value, None)
        return
    if not value:
        message = f"field {field!r} is empty"
        yield Violation(message=message, got="[]", expected="at least one value")
    for index, item in enumerate(value):
        yield from _one(rule, field, item, index)


def _one(rule: Constraint, field: str, raw: Any, index: int | None) -> Iterator[Violation]:
    where = field if index is None else f"{field}[{index}]"

    def found(message: str, got: str, expected: str, nearest: Any = MISSING) -> Violation:
        if nearest is not MISSING and rule.unit is not None:
            nearest = {"value": nearest, "unit": rule.unit}
        return Violation(
            message=f"{where} {message}",
            got=got,
            expected=expected,
            field=field,
            index=index,
            nearest=nearest,
        )

    value, unit = raw, ""
    if rule.unit is not None:
        unit = f" {rule.unit}"
        try:
            value = units.convert(_plain_number(raw["value"]), raw["unit"], rule.unit)
        except (TypeError, KeyError, ValueError) as error:
            got = f"{raw!r:.120}: {error}"
            yield found("has no such unit", got, f"{{value, unit}} in a unit like {rule.unit}")
            return
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    finite = numeric and _finite(value)
    got = f"{value:g}{unit}" if unit else f"{value!r:.120}"
    if rule.type is not None:
        right = isinstance(value, _TYPES[rule.type]) and (
            rule.type == "boolean" or not isinstance(value, bool)
        )
        if not right or (numeric and not finite):
            near = _nearest_number(rule, value) if rule.type == "integer" and finite else MISSING
            yield found("has the wrong type", got, rule.type, near)
            return
    if rule.allowed is not None and not any(_same(value, a) for a in rule.allowed):
        near = _nearest_of(value, rule.allowed)
        yield found("is not an allowed value", got, repr(list(rule.allowed)), near)
        return
    if rule.min is None and rule.max is None:
        return
    low = -math.inf if rule.min is None else rule.min
    high = math.inf if rule.max is None else rule.max
    if not finite or not low <= value <= high:
        near = _nearest_number(rule, value) if numeric and value == value else MISSING
        bounds = [
            f"{low:g}{unit} <= " if rule.min is not None else "",
            where,
            f" <= {high:g}{unit}" if rule.max is not None else "",
        ]
        yield found("is out of range", got, "".join(bounds), near)


def _nearest_number(rule: Constraint, value: float) -> Any:
    """Return the nearest number within the bounds, a whole one where the rule wants that."""
    low = -math.inf if rule.min is None else rule.min
    high = math.inf if rule.max is None else rule.max
    if rule.type == "integer":
        low, high = (
            way(bound) if math.isfinite(bound) else bound
            for way, bound in ((math.ceil, low), (math.floor, high))
        )
        value = round(value) if _finite(value) else value
    near = min(max(value, low), high)
    return near if low <= high else MISSING


def _finite(value: float) -> bool:
    return abs(value) <= sys.float_info.max  # also for whole numbers larger than any float


def _plain_number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not _finite(value):
        raise ValueError(f"{value!r} is no finite number")
    return value


def _same(value: Any, allowed: str | float) -> bool:
    return isinstance(value, bool) is isinstance(allowed, bool) and value == allowed


def _nearest_of(value: Any, allowed: tuple[str | int | float, ...]) -> Any:
    if isinstance(value, str):
        texts = [a for a in allowed if isinstance(a, str)]
        near = difflib.get_close_matches(value[:200], texts, 1, 0.6)
        return near[0] if near else MISSING
    numbers = [a for a in allowed if not isinstance(a, str)]
    if isinstance(value, bool) or not isinstance(value, int | float) or not _finite(value):
        return MISSING
    return min(numbers, key=lambda a: abs(a - value)) if numbers else MISSING


def _relation(text: str, fields: Mapping[str, Any]) -> Iterator[Violation]:
    match = _RELATION.match(text)
    assert match is not None  # checked when the policy was loaded
    left, symbol, right = match.groups()
    a, b = _side(left, fields), _side(right, fields)
    if a is None or b is None:
        yield Violation(
            message="a side of the relation is missing or no number",
            got=f"{left} = {a}, {right} = {b}",
            expected=text,
        )
    elif not _OPERATORS[symbol](a, b):
        # The left side moves; the right one where the left is a number of the policy.
        moved, near = (right, a) if _literal(left) is not None else (left, b)
        moves = moved in fields and _literal(moved) is None
        movable = symbol in ("<=", ">=", "==") and not isinstance(fields.get(moved), list)
        yield Violation(
            message="the relation does not hold",
            got=f"{left} = {a!r}, {right} = {b!r}",
            expected=text,
            field=moved if moves else None,
            nearest=near if movable and moves else MISSING,
        )


def _side(name: str, fields: Mapping[str, Any]) -> float | None:
    # A number in the policy is that number, also when the output has a field of that name.
    value: Any = _literal(name)
    if value is None:
        value = fields.get(name)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, bool) or not isinstance(value, int | float) or not _finite(value):
        return None
    return value


def _literal(name: str) -> float | None:
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            value = kind(name)
            return value if _finite(value) else None
    return None


def _expression(text: str, fields: Mapping[str, Any]) -> Iterator[Violation]:
    try:
        expression = compile_expression(text)
        value = expression(fields)
    except ExpressionError as error:
        yield Violation(message="the expression cannot be evaluated", got=str(error), expected=text)
        return
    if value is not True:
        told = {"the expression": value} if value is not False else {}
        told |= {name: fields[name] for name in expression.fields if name in fields}
        got = ", ".join(f"{name} = {v!r:.120}" for name, v in told.items())
        yield Violation(message="the expression is not true", got=got or "False", expected=text)


def _schema(schema: dict[str, Any], value: Any, where: str) -> Iterator[Violation]:
    for at, message, expected in schemas.errors(schema, value):
        yield Violation(
            message=f"{where}{at} does not fit the schema", got=message, expected=expected
        )
