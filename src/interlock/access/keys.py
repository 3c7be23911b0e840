"""API keys: 256 random bits, shown once, kept only as their SHA-256."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence

from interlock.access.store import AccessStore, KeyRow
from interlock.errors import InputError
from interlock.types import Principal

__all__ = ["issue", "lookup", "parse"]

PREFIX = "ilk_"
#: Compared against when there is no such key, so that both answers take the same time.
_NOBODY = "0" * 64


def issue(
    store: AccessStore, principal: Principal, *, lifetime_s: float, scopes: Sequence[str] = ()
) -> tuple[str, str]:
    """Make a key for a principal.

    Returns:
        The id, which may be shown and revoked, and the key, which is shown this once.

    Raises:
        InputError: the tenant's name has a slash, so that TENANT/PRINCIPAL could be two people.
    """
    if "/" in principal.tenant:
        raise InputError(
            "a tenant cannot have this name",
            code="tenant-name",
            got=principal.tenant,
            expected="a name without a slash",
            fix="choose another name",
        )
    key_id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
    digest = hashlib.sha256(secret.encode()).hexdigest()
    store.add_key(
        KeyRow(
            id=key_id,
            digest=digest,
            principal=principal,
            scopes=tuple(scopes),
            expires=store.clock() + lifetime_s,
        )
    )
    return key_id, f"{PREFIX}{key_id}_{secret}"


def parse(key: str) -> tuple[str, str] | None:
    """Split a key into id and secret, or return None when it has not that form.

    Example:
        >>> parse("ilk_0123456789abcdef_s3cret")
        ('0123456789abcdef', 's3cret')
        >>> parse("sk-something") is None
        True
    """
    if not key.startswith(PREFIX) or len(key) > 200 or not key.isascii():
        return None
    key_id, _, secret = key[len(PREFIX) :].partition("_")
    return (key_id, secret) if key_id and secret else None


def lookup(store: AccessStore, key: str) -> KeyRow | None:
    """Return the row of a valid key, or None; compared in constant time."""
    parts = parse(key)
    if parts is None:
        return None
    row = store.key(parts[0])
    digest = hashlib.sha256(parts[1].encode()).hexdigest()
    if not hmac.compare_digest(digest, row.digest if row else _NOBODY):
        return None
    return row if row and row.expires > store.clock() else None
