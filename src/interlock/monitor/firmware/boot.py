"""Measured boot: an event log, the register it must lead to, and a TPM's quote of that register.

The quote is a TPMS_ATTEST structure (TPM 2.0 Library, part 2, 10.12) signed with ECDSA P-256. It
is checked against the nonce, the register and the log; no TPM is needed to check.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from interlock.errors import IntegrityError

__all__ = ["EventLog", "Quote", "verify_quote"]

MAGIC, QUOTE = 0xFF544347, 0x8018
SHA256 = 0x000B


@dataclass(slots=True)
class EventLog:
    """What was measured, in order.

    Example:
        >>> log = EventLog()
        >>> log.measure("loader", b"code")
        >>> log.register().hex()[:16]
        'ac2f6d15de9534f0'
    """

    events: list[tuple[str, bytes]] = field(default_factory=list)

    def measure(self, name: str, data: bytes) -> None:
        """Add the hash of one stage."""
        self.events.append((name, hashlib.sha256(data).digest()))

    def register(self) -> bytes:
        """Return the register these events lead to from zero."""
        value = bytes(32)
        for _, digest in self.events:
            value = hashlib.sha256(value + digest).digest()
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """A TPM's answer: the attested structure and the signature (DER) over it."""

    attest: bytes
    signature: bytes


def _wrong(why: str) -> IntegrityError:
    return IntegrityError(
        "a boot quote does not hold",
        code="monitor-quote",
        got=why,
        expected="a fresh quote by the device's key over the register its log leads to",
        fix="quarantine the device and read its event log",
    )


def _sized(data: bytes, at: int) -> tuple[bytes, int]:
    (size,) = struct.unpack_from(">H", data, at)
    end = at + 2 + size
    if end > len(data):
        raise _wrong("a cut structure")
    return data[at + 2 : end], end


def verify_quote(quote: Quote, *, key_pem: bytes, nonce: bytes, log: EventLog, pcr: int) -> None:
    """Raise unless the quote is signed by the key, fresh, and of the register the log leads to.

    Raises:
        IntegrityError: any of it does not hold.
    """
    try:
        key = serialization.load_pem_public_key(key_pem)
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise _wrong("a key that is not ECDSA")
        key.verify(quote.signature, quote.attest, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, UnsupportedAlgorithm, ValueError) as error:
        raise _wrong("a wrong signature, or a key of an unknown kind") from error
    try:
        magic, kind = struct.unpack_from(">IH", quote.attest, 0)
        if magic != MAGIC or kind != QUOTE:
            raise _wrong("a structure that is no quote")
        _, at = _sized(quote.attest, 6)
        extra, at = _sized(quote.attest, at)
        at += 17 + 8
        count, algorithm, size = struct.unpack_from(">IHB", quote.attest, at)
        selected = int.from_bytes(quote.attest[at + 7 : at + 7 + size], "little")
        digest, at = _sized(quote.attest, at + 7 + size)
    except struct.error as error:
        raise _wrong("a cut structure") from error
    if extra != nonce:
        raise _wrong("another nonce: an old quote")
    if count != 1 or algorithm != SHA256 or selected != 1 << pcr:
        raise _wrong("other registers")
    if digest != hashlib.sha256(log.register()).digest():
        raise _wrong("a register the log does not lead to")
