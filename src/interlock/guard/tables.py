"""What people ask of a bundle before they trust it: golden tables, and lint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from interlock.access.cedar import ACTIONS, Authoriser, Resource, Ruling
from interlock.errors import PolicyError
from interlock.guard.admit.approvals import ApprovalsSettings
from interlock.guard.admit.authorisation import (
    AuthorisationSettings,
    authoriser_of,
    backend_resource,
)
from interlock.guard.bundle import Bundle
from interlock.guard.whatif import FACTS, SHAPE, Said, ask_job
from interlock.types import Principal

__all__ = [
    "STRANGER",
    "Row",
    "RowResult",
    "lint",
    "questions",
    "resource_for",
    "run_tests",
    "settings_for",
    "smallest",
]

STRANGER = "(a stranger)"
_UNITS = {"jobs", "shots", "cost_usd", "qpu_s"}


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One row of a golden table.

    Attributes:
        name: what it shows.
        principal: id, or a mapping with id, tenant, kind, on_behalf_of.
        action: a Cedar action.
        resource: a backend's name, a job's owner, a stage, a data set's or a tenant's name.
        tenant: the tenant the resource belongs to; the principal's by default.
        context: facts that differ from the smallest job; for `export-telemetry`, `rows_today`.
        used: unit -> what the day's budget already holds: `jobs`, `shots`, `cost_usd`, `qpu_s`.
        expect: `allow` or `deny`.
        rule: the rule that must have decided: its `@id`, or `stage.control.rule` of a limit.
    """

    name: str
    principal: str | dict[str, str]
    action: str
    resource: str = ""
    tenant: str | None = None
    context: dict[str, Any] = {}
    used: dict[str, float] = {}
    expect: str
    rule: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowResult:
    """How a row came out."""

    name: str
    passed: bool
    got: str


def settings_for(bundle: Bundle, control: str, struct: Any) -> Any:
    """Return the settings of a control of `admit`, its defaults when the policy has none."""
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
    policy = bundle.policy(strict=False)
    settings: AuthorisationSettings = settings_for(bundle, "authorisation", AuthorisationSettings)
    authoriser = authoriser_of(settings)
    tenants = {m.id: m.tenant for m in settings.members}
    results = []
    for raw in bundle.tests:
        try:
            row = msgspec.convert(raw, Row)
            who = _principal(row.principal, tenants)
            if row.expect not in ("allow", "deny") or row.action not in ACTIONS:
                raise msgspec.ValidationError(f"expect {row.expect!r}, action {row.action!r}")
            strange = set(row.context) - _known(row.action) or set(row.used) - _UNITS
            if strange:
                raise msgspec.ValidationError(f"no such fact: {', '.join(sorted(strange))}")
        except msgspec.ValidationError as error:
            raise PolicyError(
                "a row of the golden table cannot be read",
                code="policy-tests-row",
                got=f"{error} in {dict(raw)!r}"[:400],
                expected="name, principal, action, resource, expect: allow|deny",
                fix="see docs/reference/policy-bundle.md",
            ) from error
        ruling: Ruling | Said
        if row.action == "submit":
            ruling = ask_job(policy, who, row.resource, row.context, row.used)
        else:
            resource = resource_for(row.action, row.resource, row.tenant or who.tenant, settings)
            ruling = authoriser.ask(who, row.action, resource, smallest(row.action) | row.context)
        right = ruling.allowed == (row.expect == "allow")
        right = right and (not row.rule or row.rule in ruling.rules)
        got = f"{'allow' if ruling.allowed else 'deny'}: {ruling.reason}"
        results.append(RowResult(name=row.name, passed=right, got=got))
    return results


def lint(bundle: Bundle) -> list[str]:
    """Return what looks wrong in a bundle that parses, one line each."""
    settings: AuthorisationSettings = settings_for(bundle, "authorisation", AuthorisationSettings)
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
    for action, name, tenant in questions(settings):
        ruling = authoriser.ask(
            stranger, action, resource_for(action, name, tenant, settings), smallest(action)
        )
        if ruling.allowed:
            found.append(f"rule {', '.join(ruling.rules)} lets a stranger {action} {name}".rstrip())
    tested = " ".join(str(row.get("rule", "")) for row in bundle.tests).split()
    found += [
        f"rule {rule} is named by no row of the golden table"
        for rule in authoriser.ids
        if rule not in tested
    ]
    approvals: ApprovalsSettings = settings_for(bundle, "approvals", ApprovalsSettings)
    for name, gate in approvals.gates.items():
        able = [a for a in approvals.approvers if gate.group in a.groups and not a.vouches]
        if len(able) < gate.needed:
            found.append(f"gate {name} needs {gate.needed} of {gate.group}, {len(able)} exist")
    return found


def _named_roles(rules: str) -> set[str]:
    import re

    return set(re.findall(r'Interlock::Role::"([^"]+)"', rules))


def smallest(action: str) -> dict[str, Any]:
    """Return the facts of the smallest request."""
    if action == "submit":
        return dict(FACTS)
    return {"rows_today": 1} if action == "export-telemetry" else {}


def _known(action: str) -> set[str]:
    return {*smallest(action), *(SHAPE if action == "submit" else ())}


def questions(settings: AuthorisationSettings) -> Iterator[tuple[str, str, str]]:
    """Yield action, resource and tenant of everything that can be asked of some rules."""
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
