"""RFC 3161 time-stamps over signed heads: somebody else's clock says a head existed by then."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography import x509

from interlock.crypto import files
from interlock.errors import BackendError, InputError, IntegrityError, InterlockError, SetupError
from interlock.ledger.note import Checkpoint, parse_note
from interlock.ledger.post import is_http, post
from interlock.ledger.report import Report

__all__ = ["Anchor", "check", "check_kept", "copy_kept", "fetch"]


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
        return x509.load_pem_x509_certificates(files.read_plain(path))
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
    if not is_http(url):
        raise InputError(
            "not an address of a time-stamping authority",
            code="anchor-url",
            got=url,
            expected="an http or https address",
            fix="pass --tsa https://...",
        )
    try:
        status, raw = post(url, request.as_bytes(), "application/timestamp-query", timeout_s)
        if status != 200:
            raise ValueError(f"status {status}")
    except (OSError, ValueError) as error:
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


def check_kept(home: Path, roots: list[x509.Certificate], report: Report) -> None:
    """Add to an audit what the time-stamps in `anchors/` say; none at all is a fault.

    The audit itself holds the stamped heads against the entries. A response kept beside a head
    that it does not stamp under these roots is a fault.

    Args:
        home: folder of the ledger.
        roots: trusted certificates.
        report: of the same home.
    """
    kept = sorted((home / "anchors").glob("*.tsr"))
    if not kept:
        report.add("unstamped", "anchors", "no time-stamp", "one at least, since roots are given")
    for path in kept:
        where = f"anchors/{path.name}"
        try:
            note = files.read_plain(path.with_suffix(".note")).decode()
            size = Checkpoint.parse(parse_note(note)[0]).size
            stamped = check(files.read_plain(path), note, roots)
        except (OSError, ValueError) as error:
            report.add("stamp-forged", where, str(error), "a time-stamp and its head")
        except InterlockError as error:
            if error.code == "extra-missing":
                raise
            report.add("stamp-forged", where, error.got or "", error.expected or "")
        else:
            report.notes.append(f"time-stamped: {size} entries by {stamped.time.isoformat()}")
            stamped_ns = int(stamped.time.timestamp()) * 10**9
            report.hold_clock(size, stamped_ns, "the time-stamping authority")


def copy_kept(home: Path, folder: Path) -> None:
    """Copy stamped heads and their time-stamps into an export, where there are any.

    Raises:
        OSError: they cannot be read or written.
    """
    kept = sorted((home / "anchors").glob("*.tsr"))
    for path in kept:
        (folder / "anchors").mkdir(exist_ok=True)
        for one in (path, path.with_suffix(".note")):
            (folder / "anchors" / one.name).write_bytes(files.read_plain(one))
