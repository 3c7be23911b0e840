import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from interlock.access.cedar import Member
from interlock.access.store import store_of
from interlock.cli import cli
from interlock.crypto.keys import KeyStore
from interlock.errors import IntegrityError, PolicyError
from interlock.guard import bundle as bundles
from interlock.guard.access_diff import diff
from interlock.guard.admit.authorisation import (
    AuthorisationControl,
    AuthorisationSettings,
    BackendFacts,
    ExecuteStanding,
    ReleaseStanding,
)
from interlock.guard.control import Settings, check_control
from interlock.guard.tables import run_tests
from interlock.guard.whatif import ask_job
from interlock.types import Decision, Principal
from tests.unit.access.test_cedar import STARTERS
from tests.unit.guard.doubles import a_job, a_request, ask

RULES = """
@id("submit")
permit (principal in Interlock::Role::"r", action == Interlock::Action::"submit", resource);
@id("few-shots") forbid (principal, action == Interlock::Action::"submit", resource)
when { context.shots > 5000 };
@id("eu-only") forbid (principal, action == Interlock::Action::"submit", resource)
when { context.labels.contains("eu-data") } unless { resource.region == "eu" };
"""
SETTINGS = AuthorisationSettings(
    rules=RULES,
    members=(Member(id="alice", roles=("r",)),),
    backends={"eu_*": BackendFacts(region="eu"), "*": BackendFacts(region="us")},
)


def verdict(tmp_path: Path, settings: Any = SETTINGS, **job: Any) -> Any:
    return ask(AuthorisationControl(), a_request(tmp_path, job=a_job(**job)), settings)


def test_the_deciding_rule_is_named(tmp_path: Path) -> None:
    assert verdict(tmp_path).decision is Decision.ALLOW
    stranger = verdict(tmp_path, principal=Principal(id="eve"))
    assert stranger.findings[0].rule == "admit.authorisation.not-permitted"
    residency = verdict(tmp_path, labels=("eu-data",))
    assert residency.findings[0].rule == "admit.authorisation.eu-only"
    assert verdict(tmp_path, labels=("eu-data",), backend="eu_1").decision is Decision.ALLOW


def test_empty_or_broken_rules_deny(tmp_path: Path) -> None:
    assert verdict(tmp_path, AuthorisationSettings()).decision is Decision.DENY
    with pytest.raises(PolicyError):
        verdict(tmp_path, AuthorisationSettings(rules="permit(("))


def test_who_is_revoked_is_stopped_at_every_hop(tmp_path: Path) -> None:
    request = a_request(tmp_path)
    hops = [(AuthorisationControl(), SETTINGS), (ExecuteStanding(), Settings()),
            (ReleaseStanding(), Settings())]  # fmt: skip
    for control, settings in hops:
        assert ask(control, request, settings).decision is Decision.ALLOW
        check_control(control, request.job, settings, control.gather(request, settings))
    store_of(tmp_path).revoke("principal", "alice", "local", "left")
    for control, settings in hops:
        assert ask(control, request, settings).decision is Decision.DENY
    store_of(tmp_path).reinstate("principal", "alice", "local")
    request.shared["credential"] = {"token": "t1", "key": ""}
    store_of(tmp_path).revoke("token", "t1", "local", "stolen")
    assert ask(ReleaseStanding(), request, Settings()).decision is Decision.DENY


def copy(tmp_path: Path, name: str = "research-group") -> Path:
    return Path(shutil.copytree(STARTERS / name, tmp_path / "copy"))


def test_a_bundle_opens_only_with_both_signatures_of_a_trusted_signer(tmp_path: Path) -> None:
    bundle = bundles.build(STARTERS / "research-group", strict=False)
    keys = KeyStore(tmp_path / "keys")
    raw = bundles.sign(bundle, keys)
    signer = bundles.public_keys(keys)
    assert bundles.read(raw, [signer]).sha256 == bundle.sha256
    other = bundles.public_keys(KeyStore(tmp_path / "other"))
    mixed = {"ed25519": signer["ed25519"], "ml-dsa-65": other["ml-dsa-65"]}
    attacks = [
        (raw, []),
        (raw, [other]),
        (raw, [mixed]),
        (raw.replace(b"100000", b"900000"), [signer]),
        (raw.replace(b'"ml-dsa-65"', b'"ml-dsa-44"'), [signer]),
        (raw.replace(b'"version": 1', b'"version": 2'), [signer]),
        (raw[:-20], [signer]),
        (b"{}", [signer]),
        (b"[" * 100_000, [signer]),
        (b"", [signer]),
        (b"\xff\xfe", [signer]),
    ]
    for data, trusted in attacks:
        with pytest.raises(IntegrityError):
            bundles.read(data, trusted)


def test_a_table_without_rows_or_with_a_wrong_row_fails(tmp_path: Path) -> None:
    folder = copy(tmp_path)
    (folder / "tests.yaml").write_text("[]")
    with pytest.raises(PolicyError, match="no golden table"):
        run_tests(bundles.build(folder, strict=False))
    (folder / "tests.yaml").write_text("- {name: x, principal: ada, action: fly, expect: allow}")
    with pytest.raises(PolicyError):
        run_tests(bundles.build(folder, strict=False))
    row = "- {name: x, principal: mallory, action: submit, resource: aer_simulator, expect: allow}"
    (folder / "tests.yaml").write_text(row)
    assert [r.passed for r in run_tests(bundles.build(folder, strict=False))] == [False]


def test_diff_names_who_gains_and_who_loses(tmp_path: Path) -> None:
    old = bundles.build(STARTERS / "research-group", strict=False)
    folder = copy(tmp_path)
    text = (folder / "members.yaml").read_text()
    (folder / "members.yaml").write_text(
        text.replace("id: audra, tenant: local, roles: [auditor]",
                     "id: audra, tenant: local, roles: [auditor, researcher]")
        .replace("id: ben, tenant: local, roles: [researcher]",
                 "id: ben, tenant: local, roles: [auditor]")
    )  # fmt: skip
    policy = folder / "policy.yaml"
    policy.write_text(policy.read_text().replace("max_qubits: 127", "max_qubits: 200"))
    changes = diff(old, bundles.build(folder, strict=False))
    gains = {c.who for c in changes if c.kind == "gains"}
    loses = {c.who for c in changes if c.kind == "loses"}
    assert {c.who for c in changes if c.kind == "gains" and not c.when} == {
        "local/audra",
        "local/ben",
    }
    wider = {c.who for c in changes if c.when == "qubits 128" and c.kind == "gains"}
    assert {"local/ada", "local/lea", "role researcher of local"} <= wider  # the limit was raised
    assert {c.who for c in changes if "read-ledger" in c.what} == {"local/ben"}
    assert loses == {"local/ben"}
    assert gains >= wider
    assert any(c.what == "admit.budget.max_qubits" for c in changes)
    assert diff(old, old) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "kind", "who", "what"),
    [
        ("rules.cedar", "context.shots > 100000", "context.shots > 200000", "gains",
         "role researcher of local", "submit ibm_x"),
        ("rules.cedar", '"DE", "FR", "NL", "US"', '"FR", "NL", "US"', "loses",
         "local/ada", "submit eu_x"),
        ("rules.cedar", 'unless { resource.region == "eu" || resource.region == "local" }',
         'unless { resource.region != "" }', "gains", "local/ada", "submit ibm_x"),
        ("rules.cedar", "context.rows_today > 100000", "context.rows_today > 10", "loses",
         "role admin of local", "export-telemetry of tenant local"),
        ("policy.yaml", "max_depth: 10000", "max_depth: 20000", "gains",
         "local/ada", "submit ibm_x"),
        ("members.yaml", "- {id: ben, tenant: local, roles: [researcher], country: DE}", "",
         "loses", "local/ben", "submit ibm_x"),
    ],
    ids=["shots", "country", "residency", "export", "limit", "member"],
)  # fmt: skip
def test_diff_asks_what_rules_and_limits_turn_on(
    tmp_path: Path, file: str, old: str, new: str, kind: str, who: str, what: str
) -> None:
    folder = copy(tmp_path)
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new))
    before = bundles.build(STARTERS / "research-group", strict=False)
    after = bundles.build(folder, strict=False)
    changes = diff(before, after)
    assert [c for c in changes if (c.kind, c.who, c.what) == (kind, who, what)], changes
    other = "loses" if kind == "gains" else "gains"
    assert not [c for c in changes if c.kind == other]
    back = {(c.kind, c.who, c.what) for c in diff(after, before)}
    assert (other, who, what) in back


def test_diff_on_the_command_line_says_who_gains_and_exits_with_one(tmp_path: Path) -> None:
    folder = copy(tmp_path)
    rules = folder / "rules.cedar"
    rules.write_text(rules.read_text().replace("context.shots > 100000", "context.shots > 200000"))
    old = str(STARTERS / "research-group")
    run = CliRunner().invoke(cli, ["policy", "diff", old, str(folder)], standalone_mode=False)
    assert run.return_value == 1
    assert "gains local/ada: submit ibm_x when shots 100001 (forbidden by" in run.output
    assert "and 0 loses of access" in run.output
    plain = CliRunner().invoke(cli, ["policy", "diff", old, str(folder), "--json"])
    rows = json.loads(plain.stdout)
    assert {"kind", "who", "what", "when", "detail"} == set(rows[0])
    same = CliRunner().invoke(cli, ["policy", "diff", old, old], standalone_mode=False)
    assert same.return_value == 0


def test_a_signed_bundle_decides_like_its_folder_whatever_the_order(tmp_path: Path) -> None:
    """Signing sorts mappings: what the first pattern said before, the last would say after."""
    folder = copy(tmp_path)
    members = folder / "members.yaml"
    text = members.read_text().replace("  ibm_*: {", "  ibm_own: {tenant: elsewhere}\n  ibm_*: {")
    members.write_text(text)
    home = tmp_path / "home"
    store = KeyStore(home / "keys")
    built = bundles.build(folder, strict=False)
    signed = bundles.read(bundles.sign(built, store), [bundles.public_keys(store)])
    for opened in (built, signed):
        said = ask_job(opened.policy(strict=False), Principal(id="ada"), "ibm_own", {})
        assert said.rules == ("own-tenant-backends",)
        costs = ask_job(opened.policy(strict=False), Principal(id="ada"), "aer_x", {"shots": 9},
                        {"qpu_s": 3600.0})  # fmt: skip
        assert costs.allowed


def test_rows_about_facts_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    folder = copy(tmp_path)
    head = "- {name: x, principal: ada, action: submit, resource: aer_x, expect: allow, "
    for more in ("context: {shotz: 1}}", "used: {euros: 1}}", "context: {rows_today: 1}}"):
        (folder / "tests.yaml").write_text(head + more)
        with pytest.raises(PolicyError, match="cannot be read"):
            run_tests(bundles.build(folder, strict=False))


def test_flipping_one_rule_changes_the_verdict_at_ci_gateway_and_replay(tmp_path: Path) -> None:
    """CI asks the table, the gateway gathers and decides, replay decides on what was recorded."""
    from interlock.guard.policy import Policy

    for flip, decision in ((False, Decision.ALLOW), (True, Decision.DENY)):
        rules = RULES.replace("> 5000", "> 500") if flip else RULES
        settings = AuthorisationSettings(rules=rules, members=SETTINGS.members)
        document = {"admit": {"authorisation": {"rules": rules, "members": [
            {"id": "alice", "roles": ["r"]}]}}}  # fmt: skip
        row = {"name": "x", "principal": "alice", "action": "submit", "resource": "twin",
               "context": {"shots": 1000}, "expect": "deny" if flip else "allow"}  # fmt: skip
        whole = {"interlock": 1, **{s: {"x": {}} for s in
                 ("verify", "health", "execute", "validate", "filter", "govern", "release")},
                 **document}  # fmt: skip
        assert run_tests(bundles.Bundle(document=whole, tests=(row,)))[0].passed
        live = verdict(tmp_path, settings)
        assert live.decision is decision
        bound = Policy.from_document(whole, strict=False).controls("admit")[0]
        assert bound.control is not None
        assert bound.control.decide(a_job(), bound.settings, live.evidence) == live
