"""RFC 3161 time-stamps over signed heads: somebody else's clock says a head existed by then."""

from __future__ import annotations

import http.client
import urllib.parse
import urllib.request
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography import x509

from interlock.errors import BackendError, InputError, IntegrityError, SetupError

__all__ = ["Anchor", "check", "fetch"]

_MAX_ANSWER = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """A checked time-stamp.

    Attributes:
        time: when the authority says it saw the head.
        response: its answer, DER.
    """

    time: datetime
    response: bytes


def _client() -> Any:
    try:
        import rfc3161_client
    except ImportError as error:
        raise SetupError(
            "time-stamps need the extra `anchor`",
            code="extra-missing",
            got="no rfc3161-client",
            expected="rfc3161-client",
            fix="pip install 'interlock[anchor]'",
        ) from error
    return rfc3161_client


def roots_from(path: Path) -> list[x509.Certificate]:
    """Read trusted certificates in PEM."""
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(
            "the certificates of the time-stamping authority cannot be read",
            code="anchor-roots",
            got=f"{path}: {error}",
            expected="one or more PEM certificates",
            fix="ask the authority for its root certificate",
        ) from error


def fetch(url: str, note: str, roots: list[x509.Certificate], *, timeout_s: float = 15.0) -> Anchor:
    """Have a time-stamping authority stamp a note.

    Raises:
        BackendError: no answer.
        IntegrityError: the answer is not a time-stamp of this note by a trusted authority.
    """
    request = _client().TimestampRequestBuilder().data(note.encode()).build()
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise InputError(
            "not an address of a time-stamping authority",
            code="anchor-url",
            got=url,
            expected="an http or https address",
            fix="pass --tsa https://...",
        )
    headers = {"Content-Type": "application/timestamp-query"}
    asked = urllib.request.Request(url, data=request.as_bytes(), headers=headers)  # noqa: S310 (scheme checked above)
    try:
        with urllib.request.urlopen(asked, timeout=timeout_s) as answer:  # noqa: S310 (scheme checked above)
            raw = answer.read(_MAX_ANSWER)
    except (OSError, http.client.HTTPException) as error:
        raise BackendError(
            "the time-stamping authority cannot be reached",
            code="anchor-unreachable",
            got=f"{url}: {error}",
            expected=f"an answer within {timeout_s} s",
            fix="check the address, or anchor later; the ledger itself is not affected",
        ) from error
    return check(raw, note, roots, nonce=request.nonce)


def check(
    response: bytes, note: str, roots: list[x509.Certificate], *, nonce: int | None = None
) -> Anchor:
    """Raise unless a response is a time-stamp of this note under one of the roots.

    Raises:
        IntegrityError: another note, an untrusted authority, a wrong signature.
    """
    client = _client()
    try:
        decoded = client.decode_timestamp_response(response)
        builder = client.VerifierBuilder()
        for root in roots:
            builder = builder.add_root_certificate(root)
        if nonce is not None:
            builder = builder.nonce(nonce)
        if not builder.build().verify_message(decoded, note.encode()):
            raise ValueError("it does not verify")
        return Anchor(time=decoded.tst_info.gen_time, response=response)
    except (ValueError, client.VerificationError) as error:
        raise IntegrityError(
            "this is not a time-stamp of this head by a trusted authority",
            code="anchor-invalid",
            got=f"{type(error).__name__}: {error}",
            expected="a time-stamp under one of the roots given",
            fix="check the authority's root certificate; do not rely on the time-stamp",
        ) from error
