"""What people ask of a bundle before they trust it: golden tables, lint, who gains or loses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from interlock.access.cedar import ACTIONS, Authoriser, Resource
from interlock.errors import PolicyError
from interlock.guard.admit.approvals import ApprovalsSettings
from interlock.guard.admit.authorisation import (
    AuthorisationSettings,
    authoriser_of,
    backend_resource,
)
from interlock.guard.bundle import Bundle
from interlock.types import Principal

__all__ = ["Change", "Row", "RowResult", "diff", "lint", "run_tests"]

_FACTS: dict[str, Any] = {
    "shots": 1,
    "qubits": 1,
    "circuits": 1,
    "depth": 1,
    "labels": [],
    "kind": "sample",
    "mode": "ENFORCED",
    "hour_utc": 12,
}
STRANGER = "(a stranger)"


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One row of a golden table.

    Attributes:
        name: what it shows.
        principal: id, or a mapping with id, tenant, kind, on_behalf_of.
        action: a Cedar action.
        resource: a backend's name, a job's owner, a stage, a data set's or a tenant's name.
        tenant: the tenant the resource belongs to; the principal's by default.
        context: facts that differ from the smallest job.
        expect: `allow` or `deny`.
        rule: the rule that must have decided.
    """

    name: str
    principal: str | dict[str, str]
    action: str
    resource: str = ""
    tenant: str | None = None
    context: dict[str, Any] = {}
    expect: str
    rule: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowResult:
    """How a row came out."""

    name: str
    passed: bool
    got: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One thing that a new bundle does differently.

    Attributes:
        kind: `gains`, `loses` or `setting`.
        who: principal, for gains and losses.
        what: the action and resource, or the setting's path.
        detail: the rules before and after, or the values.
    """

    kind: str
    who: str
    what: str
    detail: str


def _settings(bundle: Bundle, control: str, struct: Any) -> Any:
    for bound in bundle.policy(strict=False).controls("admit"):
        if bound.id == control:
            return bound.settings
    return struct()


def _principal(spec: str | Mapping[str, str], members: Mapping[str, str]) -> Principal:
    if isinstance(spec, str):
        return Principal(id=spec, tenant=members.get(spec, "local"))
    return msgspec.convert(dict(spec), Principal)


def resource_for(action: str, name: str, tenant: str, settings: AuthorisationSettings) -> Resource:
    """Return the resource that an action of a table is about."""
    kind = ACTIONS.get(action)
    if kind == "Backend":
        return backend_resource(name, settings)
    if kind == "Job":
        return Authoriser.job("job", tenant, name)
    if kind == "Stage":
        return Authoriser.stage(name or action, tenant)
    if kind == "Dataset":
        attributes = {"id": name, "tenant": tenant, "region": "", "labels": []}
        return Resource(kind="Dataset", id=name or "data", attributes=attributes)
    return Authoriser.tenant(tenant)


def run_tests(bundle: Bundle) -> list[RowResult]:
    """Run the golden table of a bundle.

    Raises:
        PolicyError: the table is empty or a row cannot be read: what ran nothing has not passed.
    """
    if not bundle.tests:
        raise PolicyError(
            "the bundle has no golden table",
            code="policy-tests-empty",
            got="no rows",
            expected="rows in tests.yaml: who may do what, and who may not",
            fix="write at least one row with `expect: allow` and one with `expect: deny`",
        )
    settings: AuthorisationSettings = _settings(bundle, "authorisation", AuthorisationSettings)
    authoriser = authoriser_of(settings)
    tenants = {m.id: m.tenant for m in settings.members}
    results = []
    for raw in bundle.tests:
        try:
            row = msgspec.convert(raw, Row)
            who = _principal(row.principal, tenants)
            if row.expect not in ("allow", "deny") or row.action not in ACTIONS:
                raise msgspec.ValidationError(f"expect {row.expect!r}, action {row.action!r}")
        except msgspec.ValidationError as error:
            raise PolicyError(
                "a row of the golden table cannot be read",
                code="policy-tests-row",
                got=f"{error} in {dict(raw)!r}"[:400],
                expected="name, principal, action, resource, expect: allow|deny",
                fix="see docs/reference/policy-bundle.md",
            ) from error
        resource = resource_for(row.action, row.resource, row.tenant or who.tenant, settings)
        context = {**_FACTS, **row.context} if row.action == "submit" else {}
        ruling = authoriser.ask(who, row.action, resource, context)
        right = ruling.allowed == (row.expect == "allow")
        right = right and (not row.rule or row.rule in ruling.rules)
        got = f"{'allow' if ruling.allowed else 'deny'}: {ruling.reason}"
        results.append(RowResult(name=row.name, passed=right, got=got))
    return results


def lint(bundle: Bundle) -> list[str]:
    """Return what looks wrong in a bundle that parses, one line each."""
    settings: AuthorisationSettings = _settings(bundle, "authorisation", AuthorisationSettings)
    found: list[str] = []
    authoriser = authoriser_of(settings)
    held = {r for m in settings.members for r in m.roles}
    for parents in settings.roles.values():
        held |= set(parents)
    found += [
        f"member {m.id} has no role, so no rule for roles reaches it"
        for m in settings.members
        if not m.roles
    ]
    found += [
        f"role {role} stands in the rules, but nobody has it"
        for role in sorted(_named_roles(settings.rules) - held)
    ]
    stranger = Principal(id=STRANGER, tenant=STRANGER)
    for action, name, tenant in _questions(settings):
        ruling = authoriser.ask(
            stranger, action, resource_for(action, name, tenant, settings), _context(action)
        )
        if ruling.allowed:
            found.append(f"rule {', '.join(ruling.rules)} lets a stranger {action} {name}".rstrip())
    tested = " ".join(str(row.get("rule", "")) for row in bundle.tests).split()
    found += [
        f"rule {rule} is named by no row of the golden table"
        for rule in authoriser.ids
        if rule not in tested
    ]
    approvals: ApprovalsSettings = _settings(bundle, "approvals", ApprovalsSettings)
    for name, gate in approvals.gates.items():
        able = [a for a in approvals.approvers if gate.group in a.groups and not a.vouches]
        if len(able) < gate.needed:
            found.append(f"gate {name} needs {gate.needed} of {gate.group}, {len(able)} exist")
    return found


def _named_roles(rules: str) -> set[str]:
    import re

    return set(re.findall(r'Interlock::Role::"([^"]+)"', rules))


def _context(action: str) -> dict[str, Any]:
    return _FACTS if action == "submit" else {}


def _questions(settings: AuthorisationSettings) -> Iterator[tuple[str, str, str]]:
    tenants = sorted({m.tenant for m in settings.members} | {"local"})
    backends = sorted({p.replace("*", "x") for p in settings.backends} | {"any-backend"})
    for action, kind in ACTIONS.items():
        for tenant in tenants:
            if kind == "Backend":
                yield from ((action, name, tenant) for name in backends)
            elif kind == "Job":
                owners = sorted(m.id for m in settings.members if m.tenant == tenant)
                yield from ((action, owner, tenant) for owner in [*owners, "somebody"])
            else:
                yield action, "", tenant


def diff(old: Bundle, new: Bundle) -> list[Change]:
    """Return who gains and who loses what, and which settings differ.

    Every member of either bundle and a stranger are asked every action on every backend, owner and
    tenant that either names, with the smallest job. A rule that turns on larger amounts or labels
    shows as a changed setting, not as a gain.
    """
    before: AuthorisationSettings = _settings(old, "authorisation", AuthorisationSettings)
    after: AuthorisationSettings = _settings(new, "authorisation", AuthorisationSettings)
    people = {(m.tenant, m.id) for m in (*before.members, *after.members)} | {("local", STRANGER)}
    questions = dict.fromkeys([*_questions(before), *_questions(after)])
    first, second = authoriser_of(before), authoriser_of(after)
    changes = []
    for tenant, name in sorted(people):
        who = Principal(id=name, tenant=tenant)
        for action, target, of in questions:
            was = first.ask(who, action, resource_for(action, target, of, before), _context(action))
            now = second.ask(who, action, resource_for(action, target, of, after), _context(action))
            if was.allowed != now.allowed:
                what = f"{action} {target}".rstrip() + f" of tenant {of}"
                changes.append(
                    Change(
                        kind="gains" if now.allowed else "loses",
                        who=f"{tenant}/{name}",
                        what=what,
                        detail=f"{was.reason} -> {now.reason}",
                    )
                )
    flat_old, flat_new = dict(_flat(old.document)), dict(_flat(new.document))
    for path in sorted(flat_old.keys() | flat_new.keys()):
        a, b = flat_old.get(path), flat_new.get(path)
        if a != b:
            changes.append(Change(kind="setting", who="", what=path, detail=f"{a} -> {b}"[:400]))
    return changes


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _flat(item, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            name = item.get("id", index) if isinstance(item, Mapping) else index
            yield from _flat(item, f"{path}[{name}]")
    else:
        yield path, repr(value)
