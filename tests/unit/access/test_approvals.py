import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from interlock.access.approvals import Approver, approve, subject_of, values_digest
from interlock.access.store import store_of
from interlock.crypto.keys import KeyStore
from interlock.errors import InputError, RefusedError
from interlock.guard.admit.approvals import ApprovalsControl, ApprovalsSettings, Gate
from interlock.guard.bundle import public_keys
from interlock.guard.control import check_control
from interlock.types import Decision, Principal
from tests.unit.guard.doubles import a_job, a_request, ask

AT = 1_767_225_600.0  # when doubles.a_job was submitted
NONE = values_digest(())


@pytest.fixture
def keys(tmp_path: Path) -> KeyStore:
    return KeyStore(tmp_path / "keys")


def settings(keys: KeyStore, needed: int = 1, **approver: Any) -> ApprovalsSettings:
    people = [Approver(id=n, groups=("ethics",), public=public_keys(keys, n), **approver)
              for n in ("lea", "rob")]  # fmt: skip
    return ApprovalsSettings(
        gates={"prod": Gate(group="ethics", needed=needed, labels=("prod*",))},
        approvers=tuple(people),
    )


def signed(keys: KeyStore, job: Any, who: str = "lea", **changes: Any) -> dict[str, Any]:
    signer = changes.pop("signer", who)
    values = {"subject": subject_of(job, NONE), "gate": "ethics", "approver": Principal(id=who),
              "submitter": job.principal, "lifetime_s": 600.0, "now": AT - 60}  # fmt: skip
    return approve(**(values | changes), signer=signer,
                   key=lambda a: keys.signing_key(f"{signer}-{a}", a))  # fmt: skip


def outcome(tmp_path: Path, keys: KeyStore, job: Any, needed: int = 1, **approver: Any) -> Decision:
    request = a_request(tmp_path / "home", job=job)
    return ask(ApprovalsControl(), request, settings(keys, needed, **approver)).decision


def test_a_gated_job_is_held_until_enough_others_approved(tmp_path: Path, keys: KeyStore) -> None:
    job = a_job(labels=("production",))
    store = store_of(tmp_path / "home")
    assert outcome(tmp_path, keys, a_job()) is Decision.ALLOW
    assert outcome(tmp_path, keys, job, 2) is Decision.HOLD
    assert [w["subject"] for w in store.waiting("local")] == [subject_of(job, NONE)]
    store.add_approval(signed(keys, job, "lea"))
    store.add_approval(signed(keys, job, "lea"))
    assert outcome(tmp_path, keys, job, 2) is Decision.HOLD
    store.add_approval(signed(keys, job, "rob"))
    assert outcome(tmp_path, keys, job, 2) is Decision.ALLOW


def test_the_approvals_of_who_is_revoked_count_no_more(tmp_path: Path, keys: KeyStore) -> None:
    job = a_job(labels=("production",))
    store = store_of(tmp_path / "home")
    store.add_approval(signed(keys, job, "lea"))
    store.add_approval(signed(keys, job, "rob"))
    assert outcome(tmp_path, keys, job, 2) is Decision.ALLOW
    store.revoke("principal", "lea", "elsewhere", "")
    assert outcome(tmp_path, keys, job, 2) is Decision.ALLOW
    store.revoke("principal", "lea", "local", "left")
    assert outcome(tmp_path, keys, job, 2) is Decision.HOLD
    assert outcome(tmp_path, keys, job, 1) is Decision.ALLOW
    store.reinstate("principal", "lea", "local")
    assert outcome(tmp_path, keys, job, 2) is Decision.ALLOW


def changed(job: Any, **facts: Any) -> Any:
    import msgspec

    return msgspec.structs.replace(
        job, circuits=(msgspec.structs.replace(job.circuits[0], **facts),)
    )


def test_one_changed_gate_shot_label_backend_or_value_needs_a_new_approval(
    tmp_path: Path, keys: KeyStore
) -> None:
    import msgspec

    job = a_job(labels=("prod", "data:sha256:aa", "model:sha256:bb"))
    store_of(tmp_path / "home").add_approval(signed(keys, job))
    assert outcome(tmp_path, keys, job) is Decision.ALLOW
    for other in (
        changed(job, sha256="1" * 64),
        changed(job, shots=1001),
        msgspec.structs.replace(job, backend="other"),
        msgspec.structs.replace(job, labels=("prod", "data:sha256:ab", "model:sha256:bb")),
        msgspec.structs.replace(job, principal=Principal(id="alice", tenant="other")),
        msgspec.structs.replace(job, principal=Principal(id="bob")),
    ):
        assert outcome(tmp_path, keys, other) is Decision.HOLD
    assert subject_of(job, NONE) != subject_of(job, "another digest of values")


@pytest.mark.parametrize("change", ["expired", "future", "own", "agent", "bits", "one", "gate",
                                    "stranger", "swapped", "moved"])  # fmt: skip
def test_an_approval_that_does_not_hold_is_not_counted(
    tmp_path: Path, keys: KeyStore, change: str
) -> None:
    job = a_job(labels=("prod",))
    body = signed(keys, job)
    if change == "expired":
        body = signed(keys, job, now=AT - 6000)
    elif change == "future":
        body = signed(keys, job, now=AT + 6000)
    elif change == "own":
        body = signed(keys, job, "alice", submitter="somebody")
    elif change == "agent":
        job = a_job(
            labels=("prod",), principal=Principal(id="bot", kind="agent", on_behalf_of="lea")
        )
        body = signed(keys, job, submitter="somebody")
    elif change == "bits":
        body["statement"]["expires_at"] += 10**6
    elif change == "one":
        del body["signatures"]["ml-dsa-65"]
    elif change == "gate":
        body = signed(keys, job, gate="legal")
    elif change == "stranger":
        body = signed(keys, job, "mallory")
    elif change == "swapped":
        body = signed(keys, job, signer="mallory")
    elif change == "moved":
        body = signed(keys, changed(job, sha256="2" * 64))
        body["statement"]["subject"] = subject_of(job, NONE)
    store = store_of(tmp_path / "home")
    store.add_approval(json.loads(json.dumps(body)))
    assert outcome(tmp_path, keys, job) is Decision.HOLD


def test_nobody_approves_their_own_and_no_agent_approves(keys: KeyStore) -> None:
    job = a_job(principal=Principal(id="bot", kind="agent", on_behalf_of="ada"))
    for who in (Principal(id="bot"), Principal(id="ada")):
        with pytest.raises(RefusedError) as caught:
            signed(keys, job, approver=who)
        assert caught.value.code == "approval-own"
    with pytest.raises(RefusedError):
        signed(keys, job, approver=Principal(id="lea", kind="agent", on_behalf_of="rob"))
    with pytest.raises(InputError):
        signed(keys, job, subject="short")
    with pytest.raises(InputError):
        signed(keys, job, lifetime_s=float("nan"))


def test_a_gateway_may_vouch_only_when_the_policy_says_so(tmp_path: Path, keys: KeyStore) -> None:
    job = a_job(labels=("prod",))
    store_of(tmp_path / "home").add_approval(signed(keys, job, signer="gateway"))
    plain = settings(keys)
    request = a_request(tmp_path / "home", job=job)
    gateway = Approver(id="gateway", public=public_keys(keys, "gateway"))
    for vouches, decision in ((False, Decision.HOLD), (True, Decision.ALLOW)):
        extra = msgspec.structs.replace(gateway, vouches=vouches)
        both = msgspec.structs.replace(plain, approvers=(*plain.approvers, extra))
        assert ask(ApprovalsControl(), request, both).decision is decision


def test_the_control_keeps_its_contract(tmp_path: Path, keys: KeyStore) -> None:
    job = a_job(labels=("prod",))
    request = a_request(tmp_path / "home", job=job)
    evidence = ApprovalsControl().gather(request, settings(keys))
    check_control(ApprovalsControl(), job, settings(keys), evidence)
