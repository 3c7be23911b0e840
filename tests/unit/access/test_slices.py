"""Asking the rules that can matter gives the ruling that asking all of them gives."""

import json
from pathlib import Path
from typing import Any

import cedarpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import interlock.guard
from interlock.access.cedar import ACTIONS, Authoriser, Member
from interlock.access.slices import Slices
from interlock.guard.bundle import build
from interlock.types import Principal

STARTERS = Path(interlock.guard.__file__).parent / "starters"
ROLES = ("a", "b", "c")
FACTS = {"shots": 1, "qubits": 1, "circuits": 1, "depth": 1, "labels": [], "kind": "sample",
         "mode": "ENFORCED", "hour_utc": 1}  # fmt: skip


class _Whole(Slices):
    def _of(self, action: str, roles: frozenset[str]) -> Any:
        return self._cedar.PolicySet.from_json_str(json.dumps(self._whole))


def unsliced(*args: Any) -> Authoriser:
    made = Authoriser(*args)
    made._slices = _Whole(cedarpy, args[0], groups=True)
    return made


def target(kind: str, owner: str, tenant: str) -> Any:
    if kind == "Job":
        return Authoriser.job("j", tenant, owner)
    if kind == "Stage":
        return Authoriser.stage("s", tenant)
    return Authoriser.backend("aer", tenant) if kind == "Backend" else Authoriser.tenant(tenant)


ACTION = st.sampled_from(sorted(a for a, kind in ACTIONS.items() if kind != "Dataset"))
NAME = 'Interlock::Action::"{}"'.format
scope = st.one_of(
    st.just("principal"),
    st.sampled_from(ROLES).map('principal in Interlock::Role::"{}"'.format),
    st.sampled_from(ROLES).map('principal is Interlock::Principal in Interlock::Role::"{}"'.format),
    st.sampled_from(["t/p", "t/q"]).map('principal == Interlock::Principal::"{}"'.format),
    st.sampled_from(["t/p", "t/q"]).map('principal in Interlock::Principal::"{}"'.format),
)
over = st.one_of(
    st.just("action"),
    ACTION.map(lambda a: f"action == {NAME(a)}"),
    ACTION.map(lambda a: f"action in {NAME(a)}"),
    st.lists(ACTION, min_size=1, max_size=3).map(
        lambda many: f"action in [{', '.join(map(NAME, many))}]"
    ),
)
rule = st.tuples(st.sampled_from(["permit", "forbid"]), scope, over)


@given(
    rules=st.lists(rule, max_size=8),
    roles=st.sets(st.sampled_from(ROLES)),
    up=st.sampled_from([{}, {"a": ("b",)}, {"a": ("b",), "b": ("c",)}]),
    action=ACTION,
    who=st.builds(
        Principal,
        id=st.sampled_from("pq"),
        tenant=st.just("t"),
        on_behalf_of=st.sampled_from([None, "q"]),
    ),
)
@settings(max_examples=300, deadline=None)
def test_a_slice_rules_as_all_rules_do(
    rules: list[tuple[str, str, str]],
    roles: set[str],
    up: dict[str, tuple[str, ...]],
    action: str,
    who: Principal,
) -> None:
    text = "\n".join(
        f'@id("r{i}") {effect} ({asker}, {what}, resource);'
        for i, (effect, asker, what) in enumerate(rules)
    )
    members = [Member(id="p", tenant="t", roles=tuple(sorted(roles)))]
    sliced, whole = Authoriser(text, members, up), unsliced(text, members, up)
    for owner in ("p", "q"):
        about = target(ACTIONS[action], owner, "t")
        facts = FACTS if action == "submit" else {"rows_today": 1} if action == "export-telemetry" else {}  # noqa: E501  # fmt: skip
        assert sliced.ask(who, action, about, facts) == whole.ask(who, action, about, facts)


@pytest.mark.parametrize(
    "starter", ["research-group", "regulated-company", "multi-tenant-provider"]
)
def test_the_starters_rule_alike_in_slices(starter: str) -> None:
    found = build(STARTERS / starter, strict=False).document["admit"]["authorisation"]
    members = [Member(**{**m, "roles": tuple(m["roles"])}) for m in found["members"]]
    pair = [make(found["rules"], members, found["roles"]) for make in (Authoriser, unsliced)]
    permitted = 0
    for member in [*members, Member(id="nobody")]:
        who = Principal(id=member.id, tenant=member.tenant)
        for action, kind in ACTIONS.items():
            if kind == "Dataset":
                continue
            for owner, tenant in ((member.id, member.tenant), ("other", "other")):
                facts = FACTS if action == "submit" else {}
                about = target(kind, owner, tenant)
                one, all_of = (auth.ask(who, action, about, facts) for auth in pair)
                assert one == all_of
                permitted += one.allowed
    assert permitted > 5


def test_a_rule_that_fails_is_named_alike_in_slices() -> None:
    text = (
        '@id("other") permit (principal in Interlock::Role::"b", action, resource);'
        '@id("ok") permit (principal, action, resource);'
        '@id("bad") forbid (principal in Interlock::Role::"a",'
        ' action == Interlock::Action::"submit", resource)'
        " when { 9223372036854775807 + context.shots > 0 };"
    )
    members = [Member(id="p", tenant="t", roles=("a",))]
    who, about = Principal(id="p", tenant="t"), Authoriser.backend("aer", "t")
    rulings = [make(text, members).ask(who, "submit", about, FACTS) for make in (Authoriser, unsliced)]  # noqa: E501  # fmt: skip
    assert rulings[0] == rulings[1]
    assert not rulings[0].allowed
    assert "a rule failed" in rulings[0].reason


def test_groups_of_actions_in_a_schema_of_ones_own_hold() -> None:
    from interlock.access.cedar import default_schema

    schema = default_schema().replace(
        "action submit appliesTo", 'action "all";\n  action submit in ["all"] appliesTo'
    )
    assert schema != default_schema()
    text = '@id("g") permit (principal, action in Interlock::Action::"all", resource);'
    auth = Authoriser(text, [], {}, schema)
    about = Authoriser.backend("aer", "local")
    assert auth.ask(Principal(id="p"), "submit", about, FACTS).rules == ("g",)
