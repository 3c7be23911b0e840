"""Who gains and who loses access from one bundle to another."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import msgspec

from interlock.access.cedar import Member
from interlock.guard.admit.authorisation import AuthorisationSettings, authoriser_of
from interlock.guard.bundle import Bundle
from interlock.guard.policy import Policy
from interlock.guard.tables import STRANGER, questions, resource_for, settings_for, smallest
from interlock.guard.whatif import ask_job
from interlock.types import Principal

__all__ = ["Change", "diff"]

#: Settings of limits -> the fact of a job they limit.
_LIMITS = {
    "max_qubits": "qubits",
    "max_shots_per_job": "shots",
    "max_shots": "shots",
    "max_depth": "depth",
    "max_circuits": "circuits",
    "max_clbits": "clbits",
    "max_operations": "operations",
    "max_two_qubit_ops": "two_qubit_ops",
    "max_parameters": "parameters",
    "max_bindings": "bindings",
}
#: A job of more circuits than this is not built only to ask about it.
_MOST_CIRCUITS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One thing that a new bundle does differently.

    Attributes:
        kind: `gains`, `loses` or `setting`.
        who: `TENANT/PRINCIPAL` or `role NAME of TENANT`; empty for a setting.
        what: the action and what it is about, or the setting's path.
        when: the facts under which it is so, beside those of the smallest job; empty for all.
        detail: the rules before and after, or the values.
    """

    kind: str
    who: str
    what: str
    when: str = ""
    detail: str


def diff(old: Bundle, new: Bundle) -> list[Change]:
    """Return who gains and who loses what, and which settings differ.

    Asked are every member, every role (as somebody who has it alone) and a stranger, in every
    tenant; for every action on every backend, owner and tenant that either bundle names; with the
    smallest job, and with one that differs from it in one fact that a rule or limit of either
    bundle turns on (of labels, also two). What turns on more at once shows as a changed setting.
    """
    before: AuthorisationSettings = settings_for(old, "authorisation", AuthorisationSettings)
    after: AuthorisationSettings = settings_for(new, "authorisation", AuthorisationSettings)
    sides = [_side(old, before, after), _side(new, after, before)]
    asked = dict.fromkeys([*questions(before), *questions(after)])
    facts = list(_facts(sides[0][0], before.rules)) + list(_facts(sides[1][0], after.rules))
    contexts = [{}, *(json.loads(f) for f in dict.fromkeys(json.dumps(f) for f in facts))]
    changes: dict[tuple[str, str, str], Change] = {}
    for label, who in _people(before, after):
        for action, target, of in asked:
            for context in contexts if action in ("submit", "export-telemetry") else [{}]:
                if action == "export-telemetry" and set(context) - {"rows_today"}:
                    continue
                if action == "submit" and "rows_today" in context:
                    continue
                was, now = (_ask(*side, who, action, target, of, context) for side in sides)
                if was[0] == now[0]:
                    continue
                kind = "gains" if now[0] else "loses"
                what = " ".join(f"{action} {target}".split())
                what += "" if action == "submit" else f" of tenant {of}"
                if context and (label, kind, what) in changes:
                    continue  # it is so for the smallest job already
                when = ", ".join(f"{k} {_told(v)}" for k, v in context.items())
                key = (label, kind, what + when)
                changes[key] = Change(
                    kind=kind, who=label, what=what, when=when, detail=f"{was[1]} -> {now[1]}"
                )
    return [*changes.values(), *_changed(old, new)]


def _told(value: Any) -> str:
    return "+".join(value) if isinstance(value, list) else str(value)


def _side(
    bundle: Bundle, own: AuthorisationSettings, other: AuthorisationSettings
) -> tuple[Policy, AuthorisationSettings]:
    """Return a policy whose rules know the stand-ins for roles too."""
    extra = {(m.tenant, m.id): m for m in _stand_ins(own, other)}
    for member in own.members:
        extra.pop((member.tenant, member.id), None)
    settings = msgspec.structs.replace(own, members=(*own.members, *extra.values()))
    document = json.loads(json.dumps(bundle.document))
    if (document.get("admit") or {}).get("authorisation") is not None:
        document["admit"]["authorisation"] = msgspec.to_builtins(settings)
    return Policy.from_document(document, strict=False), settings


def _stand_ins(*sides: AuthorisationSettings) -> list[Member]:
    """Return somebody for each role and tenant, who has it alone, and a country if anyone does."""
    found: dict[tuple[str, str], Member] = {}
    tenants = sorted({m.tenant for s in sides for m in s.members} | {"local"})
    roles = {r for s in sides for m in s.members for r in m.roles}
    roles |= {r for s in sides for r in re.findall(r'Interlock::Role::"([^"]+)"', s.rules)}
    for role in sorted(roles):
        having = [m for s in sides for m in s.members if role in m.roles]
        country = max((m.country for m in having), default="")
        for tenant in tenants:
            name = f"role {role} of {tenant}"
            found[tenant, name] = Member(id=name, tenant=tenant, roles=(role,), country=country)
    return list(found.values())


def _people(*sides: AuthorisationSettings) -> Iterator[tuple[str, Principal]]:
    for tenant, name in sorted({(m.tenant, m.id) for s in sides for m in s.members}):
        yield f"{tenant}/{name}", Principal(id=name, tenant=tenant)
    for member in _stand_ins(*sides):
        yield member.id, Principal(id=member.id, tenant=member.tenant)
    yield f"local/{STRANGER}", Principal(id=STRANGER)


def _facts(policy: Policy, rules: str) -> Iterator[dict[str, Any]]:
    """Yield facts on either side of what rules and limits turn on."""
    for fact, number in re.findall(r"context\.(\w+)\s*[<>=!]=?\s*(\d+)", rules):
        for value in (int(number) - 1, int(number), int(number) + 1):
            if value >= 0 and not (fact == "circuits" and value > _MOST_CIRCUITS):
                yield {fact: value}
    found = re.findall(r"context\.labels\.contains\w*\(([^)]*)\)", rules)
    labels = sorted({label for part in found for label in re.findall(r'"([^"]+)"', part)})
    for number in (1, 2):
        yield from ({"labels": list(some)} for some in combinations(labels, number))
    for fact, text in re.findall(r'context\.(\w+)\s*[!=]=\s*"([^"]+)"', rules):
        if fact == "mode":
            yield {"mode": "ADVISORY"}
        elif fact == "kind" and text in ("run", "sample", "estimate"):
            yield {"kind": text}
    for stage, control in (("admit", "budget"), ("verify", "limits")):
        for bound in policy.controls(stage):
            for name, fact in _LIMITS.items():
                limit = getattr(bound.settings, name, None) if bound.id == control else None
                if limit is not None and not (fact == "circuits" and limit > _MOST_CIRCUITS):
                    yield from ({fact: limit}, {fact: limit + 1})


def _ask(
    policy: Policy,
    settings: AuthorisationSettings,
    who: Principal,
    action: str,
    target: str,
    of: str,
    context: Mapping[str, Any],
) -> tuple[bool, str]:
    if action == "submit":
        said = ask_job(policy, who, target, context)
        return said.allowed, said.reason
    resource = resource_for(action, target, of, settings)
    ruling = authoriser_of(settings).ask(who, action, resource, smallest(action) | dict(context))
    return ruling.allowed, ruling.reason


def _changed(old: Bundle, new: Bundle) -> Iterator[Change]:
    flat_old, flat_new = dict(_flat(old.document)), dict(_flat(new.document))
    for path in sorted(flat_old.keys() | flat_new.keys()):
        a, b = flat_old.get(path), flat_new.get(path)
        if a != b:
            yield Change(kind="setting", who="", what=path, detail=f"{a} -> {b}"[:400])


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
