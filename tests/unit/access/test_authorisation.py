import shutil
from pathlib import Path
from typing import Any

import pytest

from interlock.access.cedar import Member
from interlock.access.store import store_of
from interlock.crypto.keys import KeyStore
from interlock.errors import IntegrityError, PolicyError
from interlock.guard import bundle as bundles
from interlock.guard.admit.authorisation import (
    AuthorisationControl,
    AuthorisationSettings,
    BackendFacts,
    ExecuteStanding,
    ReleaseStanding,
)
from interlock.guard.control import Settings, check_control
from interlock.guard.tables import diff, run_tests
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
    assert gains == {"local/audra", "local/ben"}
    assert loses == {"local/ben"}
    assert any(c.what == "admit.budget.max_qubits" for c in changes)
    assert diff(old, old) == []


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
