"""Who asks, shown by a real OpenID provider in its own process, by keys and by certificates."""

import base64
import contextlib
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwk

from interlock.access.dpop import Prover
from interlock.access.store import REFRESH_S, store_of
from interlock.errors import InterlockError
from interlock.guard.remote import RemoteGuard
from interlock.types import Principal
from tests.integration.gateway.kit import RULES, bell, kit, policy
from tests.integration.gateway.test_serve import Served, free_port, served

PROVIDER = Path(__file__).with_name("provider.mjs")
CLIENTS = {
    "ada": {"claims": {"tenant": "north", "kind": "person"}, "bound": True},
    "svc": {"claims": {"tenant": "north", "kind": "service"}, "alg": "RS256"},
    "lea": {"claims": {"tenant": "north", "kind": "person", "act": {"sub": "bot"}}},
    "eve": {"claims": {"tenant": "south", "kind": "person"}},
}
MEMBERS = [
    {"id": name, "tenant": "north", "roles": ["r", "admin"]}
    for name in ("ada", "svc", "lea", "bot")
]


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("oidc")
    npm = shutil.which("npm")
    assert npm, "the identity tests need npm"
    subprocess.run(
        [npm, "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts",
         "--prefix", str(folder), "oidc-provider@9.13.3"],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def provider(installed: Path) -> Iterator[str]:
    port = free_port()
    keys = [
        jwk.ECKey.generate_key("P-256", parameters={"kid": "e", "alg": "ES256", "use": "sig"}),
        jwk.RSAKey.generate_key(2048, parameters={"kid": "r", "alg": "RS256", "use": "sig"}),
    ]
    jwks = json.dumps({"keys": [k.as_dict(private=True) for k in keys]})
    process = subprocess.Popen(
        ["node", str(PROVIDER), str(port), jwks, json.dumps(CLIENTS)],
        cwd=installed, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        assert "ready" in line, process.stderr.read()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def token(provider: str, client: str, prover: Prover | None = None) -> str:
    url = f"{provider}/token"
    basic = base64.b64encode(f"{client}:{client}-secret".encode()).decode()
    body = b"grant_type=client_credentials&scope=submit&resource=urn:interlock"
    headers = {"authorization": f"Basic {basic}"}
    if prover is not None:
        headers["dpop"] = prover.proof("POST", url)
    with urllib.request.urlopen(urllib.request.Request(url, body, headers)) as reply:
        answer = json.loads(reply.read())
    assert answer["token_type"] == ("DPoP" if prover else "Bearer")
    return str(answer["access_token"])


@pytest.fixture(scope="module")
def gateway(provider: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("identity") / "home"
    home.mkdir(mode=0o700)
    trusted = {"issuer": provider, "audience": "interlock", "tenant_claim": "tenant",
               "kind_claim": "kind"}  # fmt: skip
    (home / "identity.yaml").write_text(json.dumps({"issuers": [trusted]}))
    document = policy(authorisation={"rules": RULES, "members": MEMBERS})
    with served(home, document=document) as made:
        yield made


def remote(gateway: Served, **shown: Any) -> RemoteGuard:
    ca = gateway.authority.bundle_file()
    return RemoteGuard(f"https://localhost:{gateway.rest}", ca=ca, **shown)


def refusal(guard: RemoteGuard) -> str:
    with pytest.raises(InterlockError) as caught:
        guard.request("GET", "/v1/tenant")
    return str(caught.value.code)


def test_a_bound_token_is_good_with_its_key_only(gateway: Served, provider: str) -> None:
    prover = Prover()
    value = token(provider, "ada", prover)
    mine = remote(gateway, token=value, dpop=prover)
    for _ in range(3):
        assert mine.request("GET", "/v1/tenant?x=1")[1]["name"] == "north"
    assert mine.request("POST", "/v1/jobs", json.dumps(bell()).encode())[0] == 202
    assert refusal(remote(gateway, token=value)) == "unauthenticated"
    assert refusal(remote(gateway, token=value, dpop=Prover())) == "unauthenticated"
    used = prover.proof("GET", f"https://localhost:{gateway.rest}/v1/tenant", value)
    headers = {"authorization": f"DPoP {value}", "dpop": used}
    bare = remote(gateway)
    assert bare.request("GET", "/v1/tenant", None, headers)[0] == 200
    with pytest.raises(InterlockError, match="could not be shown"):
        bare.request("GET", "/v1/tenant", None, headers)
    with pytest.raises(InterlockError, match="could not be shown"):
        bare.request("GET", "/v1/jobs", None, headers)
    rpc = gateway.rpc()
    path = "https://localhost/interlock.v1.Gateway/GetTenant"
    shown = [("authorization", f"DPoP {value}"), ("dpop", prover.proof("POST", path, value))]
    assert rpc("GetTenant", metadata=shown)["name"] == "north"
    assert rpc.fails("GetTenant", metadata=shown) == ("UNAUTHENTICATED", "unauthenticated")
    for wrong in (
        path.replace("localhost", "gateway.other.example"),
        path.replace("localhost", "localhost.other.example"),
        path.replace("localhost", "other@evil.example"),
        path.replace("localhost", ""),
        path.replace("https://localhost", "https://[localhost"),
        path.replace("https:", "http:"),
        path.replace("GetTenant", "GetPolicy"),
    ):
        proof = prover.proof("POST", "https://x/y", value) if "[" in wrong else None
        proof = proof or prover.proof("POST", wrong, value)
        refused = [("authorization", f"DPoP {value}"), ("dpop", proof)]
        assert rpc.fails("GetTenant", metadata=refused)[0] == "UNAUTHENTICATED", wrong


def test_rs256_works_and_another_tenants_person_is_a_stranger(
    gateway: Served, provider: str
) -> None:
    assert remote(gateway, token=token(provider, "svc")).request("GET", "/v1/tenant")[0] == 200
    eve = remote(gateway, token=token(provider, "eve"))
    assert eve.request("GET", "/v1/tenant")[1]["name"] == "south"
    with pytest.raises(InterlockError) as caught:
        eve.request("GET", "/v1/policy")
    assert caught.value.code == "forbidden"


def test_every_event_names_person_service_or_agent_and_for_whom(tmp_path: Path) -> None:
    who = {"bot": Principal(id="bot", kind="agent", tenant="north", on_behalf_of="ada"),
           "svc": Principal(id="svc", kind="service", tenant="north"),
           "ada": Principal(id="ada", tenant="north")}  # fmt: skip
    document = policy(authorisation={"rules": RULES, "members": MEMBERS})
    with kit(tmp_path / "home", document=document) as made:
        for name, principal in who.items():
            made.key(name, kind=principal.kind, on_behalf_of=principal.on_behalf_of)
            job, outcome = made.run(name, bell(20 + len(name)))
            assert outcome["outcome"] == "RELEASE", outcome
            made.call(name, "POST", "/v1/stages/infer")
            made.call(name, "POST", f"/v1/jobs/{job}/cancel")
            seen: dict[str, Any] = {}
            for entry in made.gateway.guard.ledger.entries():
                payload = entry.payload
                inner = payload.get("principal") or payload.get("job", {}).get("principal")
                if inner and inner["id"] == name:
                    seen[entry.event] = inner
            assert set(seen) >= {"queue", "admit", "release", "cancel", "access"}, set(seen)
            for event, inner in seen.items():
                assert inner["kind"] == principal.kind, event
                assert inner.get("on_behalf_of") == principal.on_behalf_of, event


def test_a_revocation_by_another_process_ends_a_running_session(
    gateway: Served, provider: str
) -> None:
    value = token(provider, "svc")
    claims = json.loads(base64.urlsafe_b64decode(value.split(".")[1] + "=="))
    guard = remote(gateway, token=value)
    assert guard.request("GET", "/v1/tenant")[0] == 200
    store = store_of(gateway.home)
    store.revoke("token", claims["jti"], "north", "stolen")
    for _ in range(50):
        time.sleep(0.1)
        with contextlib.suppress(InterlockError):
            guard.request("GET", "/v1/tenant")
            continue
        break
    assert refusal(guard) == "unauthenticated"
    assert REFRESH_S <= 1.0  # how long it may go unseen; the promise is five seconds


def test_the_rules_are_asked_again_at_every_stage(tmp_path: Path) -> None:
    """A job admitted before six and run after six is stopped by a rule about the hour."""
    rules = (
        RULES
        + """
@id("closed") forbid (principal, action == Interlock::Action::"submit", resource)
  when { context.hour_utc >= 18 };"""
    )
    document = policy(authorisation={"rules": rules, "members": MEMBERS})
    times = iter([17.99 * 3600] * 3)
    with kit(tmp_path / "home", document=document) as made:
        guard = made.gateway.guard
        guard.clock = lambda: next(times, 18.01 * 3600)
        _, outcome = made.run("ada", bell(33))
    assert outcome["outcome"] == "DENY"
    assert outcome["receipt"]["rule"] in ("execute.standing.closed", "release.standing.closed")


def test_a_stage_of_the_path_can_ask_for_an_action_of_its_own(tmp_path: Path) -> None:
    rules = (
        RULES
        + """
@id("quantum") permit (principal in Interlock::Role::"q",
  action == Interlock::Action::"quantum-execute", resource)
  when { resource.tenant == principal.tenant };"""
    )
    members = [{"id": "ada", "tenant": "north", "roles": ["r"]},
               {"id": "ben", "tenant": "north", "roles": ["r", "q"]}]  # fmt: skip
    settings = {"rules": rules, "members": members, "stages": {"execute": "quantum-execute"}}
    with kit(tmp_path / "home", document=policy(authorisation=settings)) as made:
        _, refused = made.run("ada", bell(41))
        _, released = made.run("ben", bell(41))
    assert refused["receipt"]["rule"] == "execute.standing.not-permitted"
    assert released["outcome"] == "RELEASE"


def test_twenty_of_twenty_attempts_across_stages_are_denied_and_recorded(tmp_path: Path) -> None:
    from importlib import resources

    folder = resources.files("interlock.guard").joinpath("starters/regulated-company")
    rules = folder.joinpath("rules.cedar").read_text("utf-8")
    stages = ("pre-process", "quantum-execute", "post-process", "infer", "sign-off")
    members = [{"id": f"svc-{s}", "tenant": "north", "roles": [f"stage-{s}"]} for s in stages]
    document = policy(authorisation={"rules": rules, "members": members})
    with kit(tmp_path / "home", document=document, workers=0) as made:
        answers = {
            (mine, theirs): made.call(f"svc-{mine}", "POST", f"/v1/stages/{theirs}").status_code
            for mine in stages
            for theirs in stages
        }
        made.gateway.guard.ledger.append("mark", {}, {}).wait(30)
        events = list(made.gateway.guard.ledger.entries())
    assert {pair for pair, status in answers.items() if status == 200} == {(s, s) for s in stages}
    assert [s for pair, s in answers.items() if pair[0] != pair[1]] == [403] * 20
    denied = {
        (e.payload["principal"]["id"].removeprefix("svc-"), e.payload["action"])
        for e in events
        if e.event == "access" and e.payload["outcome"] == "DENY"
    }
    assert len(denied) == 20
    entered = [e.payload["stage"] for e in events if e.event == "stage"]
    assert sorted(entered) == sorted(stages)
