from pathlib import Path

import pytest

import interlock.guard
from interlock.access.cedar import ACTIONS, Authoriser, Member
from interlock.errors import PolicyError
from interlock.guard.bundle import build
from interlock.guard.tables import lint, run_tests
from interlock.types import Principal

STARTERS = Path(interlock.guard.__file__).parent / "starters"
FACTS = {"shots": 1, "qubits": 1, "circuits": 1, "depth": 1, "labels": [], "kind": "sample",
         "mode": "ENFORCED", "hour_utc": 1}  # fmt: skip
ASKED = 'action == Interlock::Action::"submit", resource'
SUBMIT = f'@id("ok") permit (principal in Interlock::Role::"r", {ASKED});'


def submit(auth: Authoriser, who: Principal, backend: str = "aer") -> bool:
    return auth.ask(who, "submit", Authoriser.backend(backend, ""), FACTS).allowed


@pytest.mark.parametrize(
    "starter", ["research-group", "regulated-company", "multi-tenant-provider"]
)
def test_a_starter_bundle_holds_its_golden_table_and_lints_clean(starter: str) -> None:
    bundle = build(STARTERS / starter, strict=False)
    results = run_tests(bundle)
    assert len(results) >= 18
    assert [r for r in results if not r.passed] == []
    assert lint(bundle) == []


def test_separation_of_duties_all_twenty_crossings_are_denied() -> None:
    settings = build(STARTERS / "regulated-company", strict=False).document["admit"][
        "authorisation"
    ]
    members = [Member(**{**m, "roles": tuple(m["roles"])}) for m in settings["members"]]
    auth = Authoriser(settings["rules"], members, settings["roles"])
    stages = ["pre-process", "quantum-execute", "post-process", "infer", "sign-off"]
    denied = 0
    for own in stages:
        who = Principal(id=f"svc-{own}", kind="service")
        for stage in stages:
            ruling = auth.ask(who, stage, Authoriser.stage(stage, "local"))
            assert ruling.allowed == (own == stage)
            denied += not ruling.allowed
        assert not auth.ask(who, own, Authoriser.stage(own, "elsewhere")).allowed
        assert not submit(auth, who)
    assert denied == 20


def test_nothing_is_permitted_without_a_rule() -> None:
    auth = Authoriser("", [Member(id="a", roles=("r",))])
    for action, kind in ACTIONS.items():
        target = {
            "Backend": Authoriser.backend("b", ""),
            "Job": Authoriser.job("j", "local", "a"),
            "Stage": Authoriser.stage("s", "local"),
        }.get(kind, Authoriser.tenant("local"))
        assert not auth.ask(Principal(id="a"), action, target, FACTS).allowed


def test_an_agent_may_do_no_more_than_its_person() -> None:
    auth = Authoriser(SUBMIT, [Member(id="bot", roles=("r",)), Member(id="ada", roles=("r",))])
    assert submit(auth, Principal(id="bot", kind="agent", on_behalf_of="ada"))
    assert not submit(auth, Principal(id="bot", kind="agent", on_behalf_of="eve"))
    assert not submit(auth, Principal(id="rogue", kind="agent", on_behalf_of="ada"))


def test_the_same_name_in_another_tenant_is_a_stranger() -> None:
    auth = Authoriser(SUBMIT, [Member(id="ada", tenant="north", roles=("r",))])
    assert submit(auth, Principal(id="ada", tenant="north"))
    assert not submit(auth, Principal(id="ada", tenant="south"))
    assert not submit(auth, Principal(id="north/ada", tenant=""))


def test_a_forbid_that_fails_to_evaluate_does_not_permit() -> None:
    overflow = "{ context.shots + 9223372036854775807 > 0 }"
    forbid = f'@id("no") forbid (principal, {ASKED}) when {overflow};'
    auth = Authoriser(SUBMIT + forbid, [Member(id="a", roles=("r",))])
    ruling = auth.ask(Principal(id="a"), "submit", Authoriser.backend("aer", ""), FACTS)
    assert not ruling.allowed
    assert "failed" in ruling.reason


@pytest.mark.parametrize(
    "rules",
    [
        "permit (principal, action, resource)",
        "permit (principal, action, resource);",
        SUBMIT + SUBMIT,
        f'@id("x") permit (principal, {ASKED}) when {{ context.shotz < 1 }};',
        '@id("x") permit (principal, action == Interlock::Action::"sumbit", resource);',
        SUBMIT + '@id("no") forbid (principal in ?principal, action, resource);',
    ],
)
def test_broken_rules_are_refused(rules: str) -> None:
    with pytest.raises(PolicyError) as caught:
        Authoriser(rules)
    assert caught.value.code == "access-rules"


def test_odd_names_reach_no_rights() -> None:
    auth = Authoriser(SUBMIT, [Member(id="ada", roles=("r",))])
    for name in ('ada"', 'x" in Interlock::Role::"r', "ada\x00", "ADA", " ada", "ada/", "й" * 300):
        assert not submit(auth, Principal(id=name))
    assert submit(auth, Principal(id="ada"), backend='aer"; permit')
