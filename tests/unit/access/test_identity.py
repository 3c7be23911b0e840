import base64
import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwk, jwt

from interlock.access import keys
from interlock.access.identity import Authenticator, Credentials, Issuer, UnauthenticatedError
from interlock.access.store import REFRESH_S, AccessStore, open_database
from interlock.types import Principal

KEY = jwk.ECKey.generate_key("P-256", parameters={"kid": "k1", "use": "sig"})
OTHER = jwk.ECKey.generate_key("P-256", parameters={"kid": "k1"})
HOLDER = jwk.ECKey.generate_key("P-256")
URL = "https://gate/v1/jobs"


@pytest.fixture
def store(tmp_path: Path) -> AccessStore:
    return AccessStore(open_database(f"sqlite:///{tmp_path}/a.db"))


def authenticator(store: AccessStore, **changes: Any) -> Authenticator:
    values = {"issuer": "https://idp", "audience": "interlock", "tenant_claim": "tenant",
              "kind_claim": "kind", "jwks": {"keys": [KEY.as_dict(private=False)]}}  # fmt: skip
    return Authenticator(store, (Issuer(**(values | changes)),))


def token(key: Any = KEY, header: dict[str, Any] | None = None, **changes: Any) -> str:
    now = int(time.time())
    claims = {"iss": "https://idp", "aud": "interlock", "sub": "ada", "tenant": "north",
              "iat": now, "exp": now + 300, "jti": "t1"}  # fmt: skip
    merged = {k: v for k, v in (claims | changes).items() if v is not None}
    return jwt.encode({"alg": "ES256", "kid": "k1"} | (header or {}), merged, key)


def ask(auth: Authenticator, value: str, scheme: str = "Bearer", **more: Any) -> Any:
    return auth.authenticate(Credentials(authorization=f"{scheme} {value}", url=URL, **more))


def proof(tok: str, key: Any = HOLDER, **changes: Any) -> str:
    ath = base64.urlsafe_b64encode(hashlib.sha256(tok.encode()).digest()).rstrip(b"=").decode()
    claims = {"htm": "POST", "htu": URL, "iat": int(time.time()), "jti": f"j-{time.time_ns()}",
              "ath": ath}  # fmt: skip
    header = {"alg": "ES256", "typ": "dpop+jwt", "jwk": key.as_dict(private=False)}
    return jwt.encode(header, claims | changes, key)


def test_a_good_token_names_its_principal(store: AccessStore) -> None:
    who = ask(authenticator(store), token(kind="service")).principal
    assert who == Principal(id="ada", kind="service", tenant="north")
    agent = ask(authenticator(store), token(act={"sub": "bot"})).principal
    assert agent == Principal(id="bot", kind="agent", tenant="north", on_behalf_of="ada")


def unsigned() -> str:
    parts = token().split(".")
    head = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=").decode()
    return f"{head}.{parts[1]}."


def symmetric() -> str:
    """The public key used as an HMAC secret: the classic confusion of algorithms."""
    body = token().split(".")[1]
    head = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"k1"}').rstrip(b"=").decode()
    secret = KEY.as_pem(private=False)
    mac = hmac.digest(secret, f"{head}.{body}".encode(), "sha256")
    return f"{head}.{body}." + base64.urlsafe_b64encode(mac).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "bad",
    [
        lambda: token(OTHER),
        unsigned,
        symmetric,
        lambda: token(iss="https://evil"),
        lambda: token(aud="somebody-else"),
        lambda: token(aud=None),
        lambda: token(exp=int(time.time()) - 60),
        lambda: token(exp=None),
        lambda: token(exp=int(time.time()) + 86400),
        lambda: token(exp=True),
        lambda: token(exp=float("nan")),
        lambda: token(iat=float("nan")),
        lambda: token(nbf=float("nan")),
        lambda: token(exp=10**400),
        lambda: token(cnf={"jwk": HOLDER.as_dict(private=False)}),
        lambda: token(cnf={"jkt": 0}),
        lambda: token(cnf={}),
        lambda: token(cnf="key"),
        lambda: token(iat=int(time.time()) + 600),
        lambda: token(iat=None),
        lambda: token(nbf=int(time.time()) + 600),
        lambda: token(sub=None),
        lambda: token(sub=7),
        lambda: token(sub="a\nb"),
        lambda: token(tenant=None),
        lambda: token(kind="root"),
        lambda: token(act={"sub": "bot", "act": {"sub": "other"}}),
        lambda: token(act="bot"),
        lambda: token()[:-3] + "AAA",
        lambda: "x" * 20000,
        lambda: "a.b",
        lambda: "a.b.c",
        lambda: "",
        lambda: "\xff.\xff.\xff",
    ],
)
def test_a_bad_token_is_refused(store: AccessStore, bad: Any) -> None:
    with pytest.raises(UnauthenticatedError):
        ask(authenticator(store), bad())


def test_a_forged_header_names_nobody(store: AccessStore) -> None:
    for value in ("", "Basic YTpi", "Bearer", "Negotiate x"):
        with pytest.raises(UnauthenticatedError):
            authenticator(store).authenticate(Credentials(authorization=value))


def test_a_bound_token_needs_its_holders_proof_once(store: AccessStore) -> None:
    auth = authenticator(store, require_dpop=True)
    bound = token(cnf={"jkt": HOLDER.thumbprint()})
    good = proof(bound)
    assert ask(auth, bound, "DPoP", dpop=good).method == "dpop"
    thief = jwk.ECKey.generate_key("P-256")
    attacks = [
        ("DPoP", good),  # replayed
        ("Bearer", ""),  # stolen, used as a bearer token
        ("DPoP", ""),
        ("DPoP", proof(bound, thief)),
        ("DPoP", proof(bound, htm="GET")),
        ("DPoP", proof(bound, htu="https://gate/v1/policy")),
        ("DPoP", proof(bound, iat=int(time.time()) - 600)),
        ("DPoP", proof(bound, ath="x")),
        ("DPoP", proof(token())),
        ("DPoP", proof(bound, jti=None)),
        ("DPoP", "nonsense"),
    ]
    for scheme, header in attacks:
        with pytest.raises(UnauthenticatedError):
            ask(auth, bound, scheme, dpop=header)
    with pytest.raises(UnauthenticatedError):
        ask(auth, token())  # not bound at all


def test_a_token_bound_to_a_certificate_is_useless_elsewhere(store: AccessStore) -> None:
    bound = token(cnf={"x5t#S256": "abc"})
    assert ask(authenticator(store), bound, certificate_sha256="abc").principal.id == "ada"
    for other in ("", "abd"):
        with pytest.raises(UnauthenticatedError):
            ask(authenticator(store), bound, certificate_sha256=other)


def test_a_key_is_kept_as_a_digest_and_expires(store: AccessStore, tmp_path: Path) -> None:
    now = [1000.0]
    store.clock = lambda: now[0]
    who = Principal(id="ci", kind="service", tenant="north")
    key_id, key = keys.issue(store, who, lifetime_s=60, scopes=("submit",))
    auth = Authenticator(store, clock=lambda: now[0])
    found = ask(auth, key)
    assert (found.principal, found.key, found.scopes) == (who, key_id, ("submit",))
    store.engine.dispose()
    secret = key.removeprefix(f"ilk_{key_id}_").encode()  # it may hold underscores itself
    assert all(secret not in p.read_bytes() for p in tmp_path.iterdir())
    for bad in (key[:-1], key + "x", f"ilk_{key_id}_", "ilk__", "ilk_zz_" + "a" * 300):
        with pytest.raises(UnauthenticatedError):
            ask(auth, bad)
    now[0] += 61
    with pytest.raises(UnauthenticatedError):
        ask(auth, key)


def test_revocation_reaches_key_token_person_agent_and_tenant(store: AccessStore) -> None:
    auth = authenticator(store)
    cases = [("principal", "ada", {}), ("token", "t9", {"jti": "t9"}), ("tenant", "north", {}),
             ("principal", "bot", {"act": {"sub": "bot"}}),
             ("principal", "ada", {"act": {"sub": "bot"}})]  # fmt: skip
    for kind, value, claims in cases:
        ask(auth, token(**claims))
        store.revoke(kind, value, "north", "test")
        with pytest.raises(UnauthenticatedError):
            ask(auth, token(**claims))
        assert store.reinstate(kind, value, "north")
    store.revoke("principal", "ada", "south", "another tenant's ada")
    ask(auth, token())


def test_a_revocation_by_another_process_is_seen_in_time(store: AccessStore) -> None:
    auth = authenticator(store)
    ask(auth, token())
    other = AccessStore(open_database(str(store.engine.url)))
    other.revoke("principal", "ada", "north", "test")
    time.sleep(REFRESH_S)
    with pytest.raises(UnauthenticatedError):
        ask(auth, token())


def test_certificates_name_workloads(store: AccessStore) -> None:
    auth = Authenticator(store)
    good = Credentials(certificate_uri="spiffe://lab/north/service/trainer")
    assert auth.authenticate(good).principal == Principal(
        id="trainer", kind="service", tenant="north"
    )
    for uri in ("https://lab/north/service/x", "spiffe://lab/north/king/x", "spiffe://lab/x",
                "spiffe://lab//service/x", "spiffe://lab/a/service/b/c"):  # fmt: skip
        with pytest.raises(UnauthenticatedError):
            auth.authenticate(Credentials(certificate_uri=uri))


def test_keys_are_fetched_again_when_the_issuer_rotates(store: AccessStore) -> None:
    served = {"keys": [OTHER.as_dict(private=False) | {"kid": "old"}]}
    calls = []

    def fetch(url: str) -> dict[str, Any]:
        calls.append(url)
        return served

    issuer = Issuer(issuer="https://idp", audience="interlock", jwks_uri="https://idp/jwks",
                    tenant_claim="tenant")  # fmt: skip
    auth = Authenticator(store, (issuer,), fetch=fetch)
    with pytest.raises(UnauthenticatedError):
        ask(auth, token())
    served["keys"] = [json.loads(json.dumps(KEY.as_dict(private=False)))]
    with pytest.raises(UnauthenticatedError):
        ask(
            auth, token()
        )  # not again at once: a flood of unknown key ids must not flood the issuer
    assert len(calls) == 1
    auth._keys["https://idp"].fetched = -1e9
    assert ask(auth, token()).principal.id == "ada"
