"""From what a request carries to who asks: tokens, proofs of possession, keys, certificates."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import msgspec

from interlock.access import keys
from interlock.access.store import AccessStore
from interlock.errors import InterlockError, SetupError
from interlock.types import Principal

__all__ = ["Authenticator", "Credentials", "Identity", "Issuer", "UnauthenticatedError"]

ALGORITHMS = ("ES256", "ES384", "EdDSA", "Ed25519", "PS256", "RS256")
PROOF_AGE_S = 60.0
LEEWAY_S = 5
VERIFIED_S = 60.0
MAX_TIME_S = 1e12
MAX_SEEN = 10_000
KINDS = ("person", "service", "agent")


class UnauthenticatedError(InterlockError):
    """The request does not say who asks, or cannot show it."""

    exit_code = 12


class Issuer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An identity provider that is trusted, and how its claims read.

    Attributes:
        issuer: exact `iss`.
        audience: what `aud` must contain.
        jwks_uri: where its keys are; or give `jwks`; with neither, the provider's discovery
            document says.
        jwks: its keys, as a JSON Web Key Set.
        tenant: the tenant of all its principals, unless `tenant_claim` is set.
        tenant_claim: claim that names the tenant.
        kind_claim: claim that says person, service or agent; without it, person.
        require_dpop: refuse tokens that are not bound to a key.
        max_lifetime_s: refuse tokens that live longer.
    """

    issuer: str
    audience: str
    jwks_uri: str = ""
    jwks: dict[str, Any] = {}
    tenant: str = "local"
    tenant_claim: str = ""
    kind_claim: str = ""
    require_dpop: bool = False
    max_lifetime_s: float = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a request carries.

    Attributes:
        authorization: the header, or empty.
        dpop: the DPoP header, or empty.
        hosts: names that are ours, where `url` is a path because the interface hides the host.
        method: HTTP method, or `POST` for gRPC.
        url: full URL as the client wrote it, without query; of gRPC `/SERVICE/METHOD`.
        certificate_uri: the SPIFFE id of a verified client certificate, or empty.
        certificate_sha256: base64url digest of that certificate.
    """

    authorization: str = ""
    dpop: str = ""
    hosts: frozenset[str] = frozenset()
    method: str = "POST"
    url: str = ""
    certificate_uri: str = ""
    certificate_sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who asks, and how it was shown.

    Attributes:
        principal: who.
        method: `jwt`, `dpop`, `key`, `certificate`, `socket` or `local`.
        token: `jti` of the token, or empty.
        key: id of the API key, or empty.
        expires: seconds since the epoch.
        scopes: what the credential is limited to; empty means no limit of its own.
    """

    principal: Principal
    method: str
    token: str = ""
    key: str = ""
    expires: float = float("inf")
    scopes: tuple[str, ...] = ()


def _refused(got: str, expected: str = "a credential that this gateway trusts") -> InterlockError:
    return UnauthenticatedError(
        "who asks could not be shown",
        code="unauthenticated",
        got=got,
        expected=expected,
        fix="sign in again, or ask for a new key",
    )


@dataclass
class _Keys:
    """The keys of one issuer, fetched again when an unknown key id turns up, not too often."""

    issuer: Issuer
    fetch: Callable[[str], dict[str, Any]]
    found: Any = None
    fetched: float = -1e9
    lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, kid: str | None) -> Any:
        from joserfc.jwk import KeySet

        with self.lock:
            known = self.found is not None and (
                kid is None or any(k.kid == kid for k in self.found.keys)
            )
            if not known and time.monotonic() - self.fetched > 10.0:
                self.fetched = time.monotonic()
                raw = self.issuer.jwks or self.fetch(self.issuer.jwks_uri or self._discover())
                self.found = KeySet.import_key_set(raw)  # type: ignore[arg-type]
            if self.found is None:
                raise ValueError("the issuer's keys could not be fetched")
            return self.found

    def _discover(self) -> str:
        """Return where the keys are, by OpenID Connect Discovery 1.0."""
        base = self.issuer.issuer.rstrip("/")
        told = self.fetch(f"{base}/.well-known/openid-configuration")
        if told.get("issuer") != self.issuer.issuer:
            raise ValueError("the discovery document is of another issuer")
        return str(told.get("jwks_uri", ""))


def _fetch(url: str) -> dict[str, Any]:
    if not url.startswith(("https://", "http://127.0.0.1", "http://localhost")):
        raise ValueError("jwks_uri must be https")
    with urllib.request.urlopen(url, timeout=5.0) as reply:  # noqa: S310 - scheme checked above
        parsed: dict[str, Any] = json.loads(reply.read(1 << 20))
        return parsed


class Authenticator:
    """Turns credentials into an identity, or refuses.

    Args:
        store: keys, revocations and used proofs.
        issuers: identity providers that are trusted.
        clock: seconds since the epoch.
        fetch: gets a JWK set from a URL.
    """

    def __init__(
        self,
        store: AccessStore,
        issuers: tuple[Issuer, ...] = (),
        *,
        clock: Callable[[], float] = time.time,
        fetch: Callable[[str], dict[str, Any]] = _fetch,
    ) -> None:
        self.store = store
        self._clock = clock
        self._seen: dict[bytes, tuple[float, _Keys, Any, dict[str, Any]]] = {}
        self._seen_lock = threading.Lock()
        self._keys = {i.issuer: _Keys(i, fetch) for i in issuers}

    def authenticate(self, credentials: Credentials) -> Identity:
        """Return who asks.

        Raises:
            UnauthenticatedError: nothing was shown, it is wrong, expired, replayed or revoked.
            StorageError: revocations cannot be read.
        """
        scheme, _, value = credentials.authorization.partition(" ")
        if credentials.authorization:
            if scheme.lower() in ("bearer", "dpop") and value.startswith(keys.PREFIX):
                identity = self._by_key(value)
            elif scheme.lower() in ("bearer", "dpop"):
                identity = self._by_token(scheme.lower(), value, credentials)
            else:
                raise _refused(f"authorization scheme {scheme[:20]!r}", "Bearer or DPoP")
        elif credentials.certificate_uri:
            identity = self._by_certificate(credentials.certificate_uri)
        else:
            raise _refused("no credential")
        if "/" in identity.principal.tenant:
            # TENANT/PRINCIPAL names budgets, rates and data keys: it must be read one way only.
            raise _refused("a tenant with a slash in its name")
        what = self.store.revoked(identity.principal, token=identity.token, key=identity.key)
        if what:
            raise _refused("a credential that was revoked")
        return identity

    def _by_key(self, value: str) -> Identity:
        row = keys.lookup(self.store, value)
        if row is None:
            raise _refused("an API key that is unknown or has expired")
        return Identity(
            principal=row.principal,
            method="key",
            key=row.id,
            expires=row.expires,
            scopes=row.scopes,
        )

    def _by_certificate(self, uri: str) -> Identity:
        parts = urlsplit(uri)
        names = parts.path.strip("/").split("/")
        if parts.scheme != "spiffe" or len(names) != 3 or names[1] not in KINDS or not all(names):
            raise _refused(f"certificate for {uri!r}", "spiffe://TRUST-DOMAIN/TENANT/KIND/ID")
        tenant, kind, name = names
        return Identity(
            principal=Principal(id=name, kind=kind, tenant=tenant), method="certificate"
        )

    def _by_token(self, scheme: str, token: str, credentials: Credentials) -> Identity:
        try:
            from joserfc.errors import JoseError
        except ImportError as error:
            raise SetupError(
                "tokens need joserfc",
                code="extra-missing",
                got=str(error),
                expected="the package joserfc",
                fix="pip install 'interlock[gateway]'",
            ) from error
        if len(token) > 16_384:
            raise _refused("a token of more than 16 kB")
        try:
            issuer_keys, claims = self._verified(token)
        except (JoseError, ValueError, TypeError, OSError) as error:
            raise _refused(f"a token that does not verify ({type(error).__name__})") from error
        issuer = issuer_keys.issuer
        self._times(claims, issuer)
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        if issuer.audience not in audiences:
            raise _refused("a token for another audience", issuer.audience)
        bound = self._binding(scheme, token, claims, credentials, issuer)
        return Identity(
            principal=_principal(claims, issuer),
            method="dpop" if bound else "jwt",
            token=str(claims.get("jti") or hashlib.sha256(token.encode()).hexdigest()),
            expires=float(claims["exp"]),
            scopes=tuple(str(claims.get("scope", "")).split()),
        )

    def _verified(self, token: str) -> tuple[_Keys, dict[str, Any]]:
        """Return issuer and claims of a token whose signature holds; checked again every minute.

        Times, audience, binding and revocation are not remembered: they are asked every time.
        """
        from joserfc import jwt

        name = hashlib.sha256(token.encode()).digest()
        known = self._seen.get(name)
        now = time.monotonic()
        if known is not None and now - known[0] < VERIFIED_S and known[1].found is known[2]:
            return known[1], known[3]
        header, claims = _peek(token)
        issuer_keys = self._keys.get(str(claims.get("iss")))
        if issuer_keys is None:
            raise _refused("a token of an issuer that is not trusted")
        found = issuer_keys.get(header.get("kid"))
        claims = dict(jwt.decode(token, found, algorithms=list(ALGORITHMS)).claims)
        with self._seen_lock:
            if len(self._seen) >= MAX_SEEN:
                self._seen.clear()
            self._seen[name] = (now, issuer_keys, found, claims)
        return issuer_keys, claims

    def _times(self, claims: Mapping[str, Any], issuer: Issuer) -> None:
        now = self._clock()
        times = {name: claims.get(name) for name in ("exp", "iat", "nbf")}
        for time_s in times.values():
            number = isinstance(time_s, int | float) and not isinstance(time_s, bool)
            if time_s is not None and not (number and abs(time_s) < MAX_TIME_S):  # nor NaN
                raise _refused("times that are no numbers")
        exp, iat = times["exp"], times["iat"]
        if exp is None or exp + LEEWAY_S <= now:
            raise _refused("a token that has expired")
        if iat is None or iat - LEEWAY_S > now or (times["nbf"] or 0) - LEEWAY_S > now:
            raise _refused("a token that is not valid yet")
        if exp - iat > issuer.max_lifetime_s:
            raise _refused(
                f"a token that lives {exp - iat:g} s", f"at most {issuer.max_lifetime_s:g} s"
            )

    def _binding(
        self,
        scheme: str,
        token: str,
        claims: Mapping[str, Any],
        credentials: Credentials,
        issuer: Issuer,
    ) -> bool:
        """Check that a bound token comes from the holder of its key (RFC 9449, RFC 8705)."""
        cnf = claims.get("cnf", {})
        known = isinstance(cnf, dict) and all(isinstance(v, str) for v in cnf.values())
        if not known or set(cnf) - {"jkt", "x5t#S256"} or (not cnf and "cnf" in claims):
            # RFC 7800: bound in a way that is not known here is not unbound.
            raise _refused("a token that is bound in another way", "cnf with jkt or x5t#S256")
        certificate = cnf.get("x5t#S256")
        if certificate is not None and not hmac.compare_digest(
            str(certificate), credentials.certificate_sha256
        ):
            raise _refused("a token bound to another workload's certificate")
        thumbprint = cnf.get("jkt")
        if thumbprint is None:
            if scheme == "dpop" or (issuer.require_dpop and certificate is None):
                raise _refused("a token that is bound to no key", "a DPoP-bound token")
            return certificate is not None
        if scheme != "dpop" or not credentials.dpop:
            raise _refused("a DPoP-bound token without its proof", "the DPoP scheme and header")
        self._proof(token, str(thumbprint), credentials)
        return True

    def _proof(self, token: str, thumbprint: str, credentials: Credentials) -> None:
        from joserfc import jwk, jwt
        from joserfc.errors import JoseError

        try:
            header, _ = _peek(credentials.dpop)
            public = header.get("jwk")
            if header.get("typ") != "dpop+jwt" or not isinstance(public, dict) or "d" in public:
                raise ValueError("not a proof")
            key: Any = jwk.import_key(public)
            claims = jwt.decode(credentials.dpop, key, algorithms=["ES256", "EdDSA"]).claims
            same = hmac.compare_digest(str(key.thumbprint()), thumbprint)
        except (JoseError, ValueError, TypeError) as error:
            raise _refused(f"a proof that does not verify ({type(error).__name__})") from error
        wanted = base64.urlsafe_b64encode(hashlib.sha256(token.encode()).digest()).rstrip(b"=")
        iat, now = claims.get("iat"), self._clock()
        fits = (
            same
            and claims.get("htm") == credentials.method
            and _same_target(str(claims.get("htu", "")), credentials)
            and hmac.compare_digest(str(claims.get("ath", "")), wanted.decode())
            and isinstance(iat, int | float)
            and abs(now - iat) <= PROOF_AGE_S
            and isinstance(claims.get("jti"), str)
            and 8 <= len(claims["jti"]) <= 200
        )
        if not fits:
            raise _refused("a proof for another key, token, method, URL or time")
        if not self.store.first_use(f"{thumbprint}/{claims['jti']}", now + 2 * PROOF_AGE_S):
            raise _refused("a proof that was used before")


def _peek(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read header and claims without trusting them."""
    head, body, _ = token.split(".")
    out = []
    for part in (head, body):
        value = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        if not isinstance(value, dict):
            raise TypeError("not an object")
        out.append(value)
    return out[0], out[1]


def _same_target(claimed: str, credentials: Credentials) -> bool:
    """Compare `htu` with what was called.

    gRPC does not tell its server the host that was called, so there it must be one of ours: a
    proof that was made for another server is none.
    """
    if not credentials.url.startswith("/"):
        return _bare(claimed) == _bare(credentials.url)
    try:
        parts = urlsplit(claimed)
        host = (parts.hostname or "").lower()
    except ValueError:
        return False
    wildcard = f"*.{host.partition('.')[2]}"
    ours = {host, wildcard} & {name.lower() for name in credentials.hosts}
    return bool(host and ours) and parts.scheme == "https" and parts.path == credentials.url


def _bare(url: str) -> str:
    parts = urlsplit(url)
    port = {("https", 443): None, ("http", 80): None}.get(
        (parts.scheme, parts.port or 0), parts.port
    )
    return f"{parts.scheme}://{(parts.hostname or '').lower()}:{port}{parts.path or '/'}"


def _principal(claims: Mapping[str, Any], issuer: Issuer) -> Principal:
    subject, tenant = claims.get("sub"), issuer.tenant
    if issuer.tenant_claim:
        tenant = claims.get(issuer.tenant_claim)  # type: ignore[assignment]
    kind = claims.get(issuer.kind_claim, "person") if issuer.kind_claim else "person"
    actor = claims.get("act")
    if not (isinstance(subject, str) and subject and isinstance(tenant, str) and tenant):
        raise _refused("a token without subject or tenant")
    if kind not in KINDS or any(len(n) > 200 or not n.isprintable() for n in (subject, tenant)):
        raise _refused("a token with an odd subject, tenant or kind")
    if actor is None:
        return Principal(id=subject, kind=kind, tenant=tenant)
    # RFC 8693: `act` is who acts, `sub` is for whom.
    name = actor.get("sub") if isinstance(actor, dict) else None
    if not isinstance(name, str) or not name or "act" in actor:
        raise _refused("a token whose actor cannot be read")
    return Principal(id=name, kind="agent", tenant=tenant, on_behalf_of=subject)
