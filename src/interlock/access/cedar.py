"""Authorisation by Cedar: default deny, forbid wins, and the deciding rule is named.

Deciding is pure: the same rules, members and question give the same ruling on any machine. An
agent may do only what both it and the person it acts for may do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import msgspec

from interlock.access.slices import Slices
from interlock.errors import PolicyError, SetupError
from interlock.types import Principal

__all__ = ["ACTIONS", "Authoriser", "Member", "Resource", "Ruling", "default_schema"]

#: action -> kind of resource it is about.
ACTIONS: dict[str, str] = {
    "submit": "Backend",
    "read": "Job",
    "cancel": "Job",
    "approve": "Job",
    "read-raw": "Dataset",
    "pre-process": "Stage",
    "quantum-execute": "Stage",
    "post-process": "Stage",
    "infer": "Stage",
    "sign-off": "Stage",
    "read-policy": "Tenant",
    "write-policy": "Tenant",
    "read-ledger": "Tenant",
    "export-telemetry": "Tenant",
    "administer": "Tenant",
    "stop": "Tenant",
}


class Member(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A principal the policy knows.

    Attributes:
        id: as the identity provider names it.
        tenant: a member of one tenant is a stranger to every other.
        roles: what it is.
        country: ISO 3166 code for export rules; empty means unknown.
        device: class of the device it works from: `managed`, `phone` or empty.
    """

    id: str
    tenant: str = "local"
    roles: tuple[str, ...] = ()
    country: str = ""
    device: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """What a request is about."""

    kind: str
    id: str
    attributes: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """What the rules said.

    Attributes:
        allowed: whether it may be done.
        rules: ids of the rules that decided; empty when no rule permits.
        reason: one sentence for a person.
    """

    allowed: bool
    rules: tuple[str, ...]
    reason: str


def default_schema() -> str:
    """Return the schema that ships with Interlock."""
    return resources.files("interlock.access").joinpath("schema.cedarschema").read_text("utf-8")


def _cedar() -> Any:
    try:
        import cedarpy
    except ImportError as error:
        raise SetupError(
            "authorisation needs Cedar",
            code="extra-missing",
            got=str(error),
            expected="the package cedarpy",
            fix="pip install 'interlock[gateway]'",
        ) from error
    return cedarpy


class Authoriser:
    """Rules and members, checked once and asked often.

    Args:
        rules: Cedar policies; each with an `@id`.
        members: principals the policy knows.
        roles: role -> roles it is part of.
        schema: Cedar schema; the shipped one by default.

    Raises:
        PolicyError: the rules do not parse, do not fit the schema, or have no unique `@id`.
        SetupError: cedarpy is not installed.

    Example:
        >>> rules = '''@id("researchers-submit")
        ... permit (principal in Interlock::Role::"researcher",
        ...         action == Interlock::Action::"submit", resource)
        ... when { context.shots <= 1000 };'''
        >>> auth = Authoriser(rules, [Member(id="ada", roles=("researcher",))])
        >>> facts = dict(shots=100, qubits=2, circuits=1, depth=3, labels=[], kind="sample",
        ...              mode="ENFORCED", hour_utc=9)
        >>> auth.ask(Principal(id="ada"), "submit", auth.backend("aer", "local"), facts).rules
        ('researchers-submit',)
        >>> auth.ask(Principal(id="eve"), "submit", auth.backend("aer", "local"), facts).allowed
        False
    """

    def __init__(
        self,
        rules: str,
        members: Sequence[Member] = (),
        roles: Mapping[str, Sequence[str]] | None = None,
        schema: str = "",
    ) -> None:
        self._cedar = _cedar()
        own, schema = bool(schema), schema or default_schema()
        try:
            self._schema = self._cedar.Schema.from_str(schema)
            self._slices = Slices(self._cedar, rules, groups=own)
        except (ValueError, TypeError) as error:
            raise _broken(str(error)) from error
        self.ids = _ids(self._cedar, rules)
        report = self._cedar.validate_policies(rules, schema)
        if not report.validation_passed:
            names = report.id_annotations_by_policy_id
            raise _broken(
                "; ".join(
                    f"{names.get(e.policy_id, e.policy_id)}: {e.error}" for e in report.errors
                )
            )
        self._members: dict[tuple[str, str], Member] = {}
        for member in members:
            if (member.tenant, member.id) in self._members:
                raise PolicyError(
                    "a member stands twice",
                    code="access-member-twice",
                    got=f"{member.id} of tenant {member.tenant}",
                    expected="every member once, with all its roles",
                    fix="join the two entries",
                )
            self._members[member.tenant, member.id] = member
        self._roles = {k: tuple(v) for k, v in (roles or {}).items()}
        self._closure = lru_cache(maxsize=1024)(self._close)
        self._people = lru_cache(maxsize=4096)(self._parse_person)
        self._entities = lru_cache(maxsize=4096)(self._parse_entities)
        self._rulings = lru_cache(maxsize=8192)(self._decide)

    def member(self, principal: Principal) -> Member:
        """Return what the policy knows of a principal; a stranger has no role."""
        found = self._members.get((principal.tenant, principal.id))
        return found or Member(id=principal.id, tenant=principal.tenant)

    @property
    def members(self) -> tuple[Member, ...]:
        """All members."""
        return tuple(self._members.values())

    @staticmethod
    def backend(name: str, tenant: str, *, region: str = "", provider: str = "") -> Resource:
        """Return a backend as a resource."""
        attributes = {"id": name, "tenant": tenant, "region": region, "provider": provider}
        return Resource(kind="Backend", id=name, attributes=attributes)

    @staticmethod
    def job(job_id: str, tenant: str, owner: str) -> Resource:
        """Return a job as a resource."""
        attributes = {"id": job_id, "tenant": tenant, "owner": owner}
        return Resource(kind="Job", id=job_id, attributes=attributes)

    @staticmethod
    def tenant(name: str) -> Resource:
        """Return a tenant as a resource."""
        return Resource(kind="Tenant", id=name, attributes={"id": name})

    @staticmethod
    def stage(name: str, tenant: str) -> Resource:
        """Return a stage of a pipeline as a resource."""
        return Resource(kind="Stage", id=name, attributes={"id": name, "tenant": tenant})

    def ask(
        self,
        principal: Principal,
        action: str,
        resource: Resource,
        context: Mapping[str, Any] | None = None,
    ) -> Ruling:
        """Ask whether a principal may do something; for an agent also whether its person may."""
        if ACTIONS.get(action) != resource.kind:
            return Ruling(allowed=False, rules=(), reason=f"no action {action} on {resource.kind}")
        ruling = self._ask(principal, principal.on_behalf_of or "", action, resource, context)
        if not ruling.allowed or not principal.on_behalf_of:
            return ruling
        person = Principal(id=principal.on_behalf_of, tenant=principal.tenant)
        if resource.attributes.get("owner") == principal.id:
            # What an agent made, it made for its person.
            resource = self.job(resource.id, str(resource.attributes["tenant"]), person.id)
        behind = self._ask(person, "", action, resource, context)
        if behind.allowed:
            return Ruling(allowed=True, rules=(*ruling.rules, *behind.rules), reason=ruling.reason)
        reason = f"{person.id}, for whom {principal.id} acts: {behind.reason}"
        return Ruling(allowed=False, rules=behind.rules, reason=reason)

    def _ask(
        self,
        principal: Principal,
        behalf: str,
        action: str,
        resource: Resource,
        context: Mapping[str, Any] | None,
    ) -> Ruling:
        attributes = tuple(resource.attributes.items())
        # As text: the binding would write it itself, and slower.
        facts = msgspec.json.encode(context or {}).decode()
        if any(isinstance(v, list | set) for _, v in attributes):
            return self._decide(principal, behalf, action, resource.kind, attributes, facts)
        return self._rulings(principal, behalf, action, resource.kind, attributes, facts)

    def _decide(
        self,
        principal: Principal,
        behalf: str,
        action: str,
        kind: str,
        attributes: tuple[tuple[str, Any], ...],
        facts: str,
    ) -> Ruling:
        """Ask Cedar. The same question has the same answer for as long as the rules stand."""
        uid = {"type": "Interlock::Principal", "id": f"{principal.tenant}/{principal.id}"}
        target = {"type": f"Interlock::{kind}", "id": dict(attributes)["id"]}
        request = {
            "principal": uid,
            "action": {"type": "Interlock::Action", "id": action},
            "resource": target,
            "context": facts,
        }
        try:
            if any(isinstance(v, list | set) for _, v in attributes):
                entities = self._parse_entities(principal, behalf, kind, attributes)
            else:
                entities = self._entities(principal, behalf, kind, attributes)
            # A principal may be in the rules only as what its roles make of it.
            held = frozenset(role for role, _ in self._closure(self.member(principal).roles))
            rules_of = self._slices.of(action, held)
            answer = self._cedar.is_authorized(request, rules_of, entities)
        except (ValueError, TypeError) as error:
            return Ruling(allowed=False, rules=(), reason=f"the rules cannot be asked: {error}")
        diagnostics = answer.diagnostics
        named = diagnostics.id_annotations_by_reason
        rules = tuple(sorted(named.get(r, r) for r in diagnostics.reasons))
        if diagnostics.errors:
            # A rule that fails to evaluate is skipped by Cedar; a skipped forbid must not permit.
            text = "; ".join(str(e) for e in diagnostics.errors)
            return Ruling(allowed=False, rules=rules, reason=f"a rule failed: {text}")
        if answer.allowed:
            return Ruling(allowed=True, rules=rules, reason="permitted by " + ", ".join(rules))
        if rules:
            return Ruling(allowed=False, rules=rules, reason="forbidden by " + ", ".join(rules))
        return Ruling(allowed=False, rules=(), reason="no rule permits it")

    def _parse_entities(
        self, principal: Principal, behalf: str, kind: str, attributes: tuple[tuple[str, Any], ...]
    ) -> Any:
        facts = dict(attributes)
        uid = {"type": f"Interlock::{kind}", "id": facts["id"]}
        about = json.dumps([{"uid": uid, "attrs": facts, "parents": []}])
        return self._people(principal, behalf).with_added_json_str(about, self._schema)

    def _parse_person(self, principal: Principal, behalf: str) -> Any:
        member = self.member(principal)
        entities = [
            {
                "uid": {
                    "type": "Interlock::Principal",
                    "id": f"{principal.tenant}/{principal.id}",
                },
                "attrs": {
                    "id": principal.id,
                    "tenant": principal.tenant,
                    "kind": principal.kind,
                    "on_behalf_of": behalf,
                    "country": member.country,
                    "device": member.device,
                },
                "parents": [_role(r) for r in member.roles],
            },
            *(
                {"uid": _role(role), "attrs": {}, "parents": [_role(up) for up in parents]}
                for role, parents in self._closure(member.roles)
            ),
        ]
        return self._cedar.Entities.from_json_str(json.dumps(entities), self._schema)

    def _close(self, roles: tuple[str, ...]) -> tuple[tuple[str, tuple[str, ...]], ...]:
        seen: dict[str, tuple[str, ...]] = {}
        pending = list(roles)
        while pending:
            role = pending.pop()
            if role not in seen:
                seen[role] = self._roles.get(role, ())
                pending += seen[role]
        return tuple(sorted(seen.items()))


def _role(name: str) -> dict[str, str]:
    return {"type": "Interlock::Role", "id": name}


def _ids(cedar: Any, rules: str) -> tuple[str, ...]:
    parsed = json.loads(cedar.policies_to_json_str(rules))
    if parsed["templates"]:
        raise _broken("a rule with a slot (?principal, ?resource) would never apply")
    ids = [policy.get("annotations", {}).get("id") for policy in parsed["staticPolicies"].values()]
    if not all(ids) or len(set(ids)) != len(ids):
        twice = sorted({str(i) for i in ids if ids.count(i) > 1})
        raise _broken("every rule needs an @id of its own" + (f"; see {twice}" if twice else ""))
    return tuple(sorted(str(i) for i in ids))


def _broken(text: str) -> PolicyError:
    return PolicyError(
        "the authorisation rules are wrong",
        code="access-rules",
        got=" ".join(text.split()),
        expected="Cedar that fits the schema, each rule with its own @id",
        fix="mend the rule named above; `interlock policy lint` checks them",
    )
