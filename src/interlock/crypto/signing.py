"""Signature algorithms by name, so that a change of algorithm is a change of configuration.

Every private key is kept as its 32-byte seed (RFC 8032, FIPS 204), whatever the algorithm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ed25519, mldsa

from interlock.errors import IntegrityError, UsageError

__all__ = [
    "SIGNATURES",
    "PrivateKey",
    "PublicKey",
    "SignatureAlgorithm",
    "load_private",
    "verify",
]


class PublicKey(Protocol):
    """The verifying half of a key pair."""

    def public_bytes_raw(self) -> bytes:
        """Return the key as the standard encodes it."""

    def verify(self, signature: bytes, data: bytes, /) -> None:
        """Raise `InvalidSignature` unless the signature is of this data by this key."""


class PrivateKey(Protocol):
    """The signing half of a key pair."""

    def public_key(self) -> PublicKey:
        """Return the verifying half."""

    def sign(self, data: bytes, /) -> bytes:
        """Return a signature of `data`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureAlgorithm:
    """What the package knows of one signature algorithm.

    Attributes:
        name: as configuration and files spell it.
        standard: the document that defines it.
        security_bits: against the best known attack on a classical computer.
        nist_level: NIST post-quantum category, 0 when a quantum computer breaks it.
        public_bytes: length of a public key.
        signature_bytes: length of a signature.
    """

    name: str
    standard: str
    security_bits: int
    nist_level: int
    public_bytes: int
    signature_bytes: int
    private: Callable[[bytes], PrivateKey]
    public: Callable[[bytes], PublicKey]


def _algorithm(
    name: str,
    standard: str,
    numbers: tuple[int, int, int, int],
    private: Callable[[bytes], PrivateKey],
    public: Callable[[bytes], PublicKey],
) -> SignatureAlgorithm:
    bits, level, public_bytes, signature_bytes = numbers
    return SignatureAlgorithm(
        name=name,
        standard=standard,
        security_bits=bits,
        nist_level=level,
        public_bytes=public_bytes,
        signature_bytes=signature_bytes,
        private=private,
        public=public,
    )


_ALL = (
    _algorithm(
        "ed25519",
        "RFC 8032",
        (128, 0, 32, 64),
        ed25519.Ed25519PrivateKey.from_private_bytes,
        ed25519.Ed25519PublicKey.from_public_bytes,
    ),
    _algorithm(
        "ml-dsa-44",
        "FIPS 204",
        (128, 2, 1312, 2420),
        mldsa.MLDSA44PrivateKey.from_seed_bytes,
        mldsa.MLDSA44PublicKey.from_public_bytes,
    ),
    _algorithm(
        "ml-dsa-65",
        "FIPS 204",
        (192, 3, 1952, 3309),
        mldsa.MLDSA65PrivateKey.from_seed_bytes,
        mldsa.MLDSA65PublicKey.from_public_bytes,
    ),
    _algorithm(
        "ml-dsa-87",
        "FIPS 204",
        (256, 5, 2592, 4627),
        mldsa.MLDSA87PrivateKey.from_seed_bytes,
        mldsa.MLDSA87PublicKey.from_public_bytes,
    ),
)

#: The registry.
SIGNATURES: dict[str, SignatureAlgorithm] = {a.name: a for a in _ALL}


def algorithm(name: str) -> SignatureAlgorithm:
    """Return an algorithm by name.

    Example:
        >>> algorithm("ml-dsa-65").signature_bytes
        3309
    """
    if name not in SIGNATURES:
        raise UsageError(
            "no such signature algorithm",
            code="algorithm-unknown",
            got=name,
            expected="one of " + ", ".join(sorted(SIGNATURES)),
            fix="name an algorithm this version has, or upgrade Interlock",
        )
    return SIGNATURES[name]


def load_private(name: str, seed: bytes) -> PrivateKey:
    """Return the private key that a 32-byte seed stands for."""
    return algorithm(name).private(seed)


def verify(name: str, public: bytes, signature: bytes, data: bytes) -> None:
    """Raise unless `signature` is a signature of `data` by the public key.

    Raises:
        IntegrityError: it is not, or key or signature have the wrong length.
    """
    try:
        algorithm(name).public(public).verify(signature, data)
    except (InvalidSignature, ValueError) as error:
        raise IntegrityError(
            f"the {name} signature does not verify",
            code="signature-invalid",
            got=f"{len(signature)} B of signature over {len(data)} B",
            expected="a signature by the trusted key over exactly these bytes",
            fix="do not use the data; fetch it again, or ask its signer",
        ) from error
