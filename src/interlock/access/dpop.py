"""Proof of possession for a client: a token that was stolen without the key is worth nothing.

RFC 9449: the token names the thumbprint of the client's key, and every request carries a proof,
signed with that key, for this method, this URL and this token, good once.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from interlock.crypto import files
from interlock.errors import SetupError

__all__ = ["Prover"]


class Prover:
    """Holds a P-256 key and makes proofs with it.

    Args:
        path: PEM file of the key, mode 0600, made when there is none; None keeps it in memory.
        clock: seconds since the epoch.

    Raises:
        SetupError: joserfc is not installed.

    Example:
        >>> prover = Prover()
        >>> prover.proof("GET", "https://gate/v1/jobs?limit=1", "token").count(".")
        2
    """

    def __init__(self, path: Path | None = None, *, clock: Callable[[], float] = time.time) -> None:
        try:
            from joserfc import jwk
        except ImportError as error:
            raise SetupError(
                "proofs of possession need joserfc",
                code="extra-missing",
                got=str(error),
                expected="the package joserfc",
                fix="pip install 'interlock[gateway]'",
            ) from error
        self._clock = clock
        raw = files.read_private(path) if path is not None else None
        self._key: Any = (
            jwk.ECKey.import_key(raw) if raw is not None else jwk.ECKey.generate_key("P-256")
        )
        if path is not None and raw is None:
            files.write_private(path, self._key.as_pem(private=True))

    @property
    def thumbprint(self) -> str:
        """What a token bound to this key has as `cnf.jkt` (RFC 7638)."""
        return str(self._key.thumbprint())

    def proof(self, method: str, url: str, token: str = "", nonce: str = "") -> str:
        """Return the value of the DPoP header for one request.

        Args:
            method: HTTP method; POST for gRPC.
            url: what is called; query and fragment are left out.
            token: the access token of the request; empty when one is asked for.
            nonce: what the identity provider demanded, or empty.
        """
        from joserfc import jwt

        parts = urlsplit(url)
        claims: dict[str, Any] = {
            "htm": method,
            "htu": urlunsplit((parts.scheme, parts.netloc, parts.path, "", "")),
            "iat": int(self._clock()),
            "jti": secrets.token_urlsafe(16),
        }
        if token:
            digest = hashlib.sha256(token.encode()).digest()
            claims["ath"] = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if nonce:
            claims["nonce"] = nonce
        header = {"alg": "ES256", "typ": "dpop+jwt", "jwk": self._key.as_dict(private=False)}
        return str(jwt.encode(header, claims, self._key))
