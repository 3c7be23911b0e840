"""Encryption suites by name: HPKE (RFC 9180) with quantum-safe key encapsulation.

A private key is kept as a 32-byte seed, expanded with SHAKE-256: ML-KEM's `d || z` first, then the
X25519 key, as X-Wing does (draft-connolly-cfrg-xwing-kem).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import mlkem, x25519
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)

from interlock.errors import InputError, IntegrityError, UsageError

__all__ = ["SUITES", "KemPrivate", "KemPublic", "KemSuite", "suite"]


@dataclass(frozen=True, slots=True)
class KemPublic:
    """A key to encrypt to."""

    suite: str
    public_bytes: bytes
    _key: Any

    def encrypt(self, plaintext: bytes, info: bytes) -> bytes:
        """Return `enc || ciphertext`, bound to `info`."""
        return suite(self.suite).hpke.encrypt(plaintext, self._key, info)


@dataclass(frozen=True, slots=True)
class KemPrivate:
    """A key to decrypt with."""

    suite: str
    public_bytes: bytes
    _key: Any

    def public(self) -> KemPublic:
        """Return the key to encrypt to."""
        return KemPublic(self.suite, self.public_bytes, self._key.public_key())

    def decrypt(self, ciphertext: bytes, info: bytes) -> bytes:
        """Return the plaintext.

        Raises:
            IntegrityError: another key, another `info`, or changed bytes.
        """
        try:
            return suite(self.suite).hpke.decrypt(ciphertext, self._key, info)
        except (InvalidTag, ValueError) as error:
            raise IntegrityError(
                "the ciphertext does not open",
                code="envelope-sealed",
                got=f"{len(ciphertext)} B",
                expected="what was encrypted to this key, in this context, unchanged",
                fix="check the recipient and the context; fetch the envelope again",
            ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class KemSuite:
    """What the package knows of one suite.

    Attributes:
        name: as configuration and files spell it.
        standard: the documents that define it.
        nist_level: NIST post-quantum category of the key encapsulation.
        public_bytes: length of a public key.
    """

    name: str
    standard: str
    nist_level: int
    public_bytes: int
    hpke: Suite
    private: Callable[[bytes], KemPrivate]
    public: Callable[[bytes], KemPublic]


def _hybrid_private(seed: bytes) -> KemPrivate:
    expanded = hashlib.shake_256(seed).digest(96)
    lattice = mlkem.MLKEM768PrivateKey.from_seed_bytes(expanded[:64])
    curve = x25519.X25519PrivateKey.from_private_bytes(expanded[64:])
    public = lattice.public_key().public_bytes_raw() + curve.public_key().public_bytes_raw()
    return KemPrivate("x25519-mlkem768", public, MLKEM768X25519PrivateKey(lattice, curve))


def _hybrid_public(raw: bytes) -> KemPublic:
    lattice = mlkem.MLKEM768PublicKey.from_public_bytes(raw[:1184])
    curve = x25519.X25519PublicKey.from_public_bytes(raw[1184:])
    return KemPublic("x25519-mlkem768", raw, MLKEM768X25519PublicKey(lattice, curve))


def _cnsa_private(seed: bytes) -> KemPrivate:
    key = mlkem.MLKEM1024PrivateKey.from_seed_bytes(hashlib.shake_256(seed).digest(64))
    return KemPrivate("cnsa", key.public_key().public_bytes_raw(), key)


def _cnsa_public(raw: bytes) -> KemPublic:
    return KemPublic("cnsa", raw, mlkem.MLKEM1024PublicKey.from_public_bytes(raw))


_HYBRID = KemSuite(
    name="x25519-mlkem768",
    standard="RFC 9180, FIPS 203, RFC 7748",
    nist_level=3,
    public_bytes=1216,
    hpke=Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM),
    private=_hybrid_private,
    public=_hybrid_public,
)
_CNSA = KemSuite(
    name="cnsa",
    standard="RFC 9180, FIPS 203 (CNSA 2.0: ML-KEM-1024, SHA-384, AES-256)",
    nist_level=5,
    public_bytes=1568,
    hpke=Suite(KEM.MLKEM1024, KDF.HKDF_SHA384, AEAD.AES_256_GCM),
    private=_cnsa_private,
    public=_cnsa_public,
)

#: The registry.
SUITES: dict[str, KemSuite] = {s.name: s for s in (_HYBRID, _CNSA)}


def suite(name: str) -> KemSuite:
    """Return a suite by name.

    Example:
        >>> suite("cnsa").nist_level
        5
    """
    if name not in SUITES:
        raise UsageError(
            "no such encryption suite",
            code="algorithm-unknown",
            got=str(name)[:60],
            expected="one of " + ", ".join(sorted(SUITES)),
            fix="name a suite this version has, or upgrade Interlock",
        )
    return SUITES[name]


def public_key(name: str, raw: bytes) -> KemPublic:
    """Return a key to encrypt to from its bytes.

    Raises:
        InputError: it is not a key of this suite.
    """
    try:
        if len(raw) != suite(name).public_bytes:
            raise ValueError(f"{len(raw)} B")
        return suite(name).public(raw)
    except ValueError as error:
        raise InputError(
            "this is not a public key of the suite",
            code="envelope-key",
            got=str(error),
            expected=f"{suite(name).public_bytes} B of {name}",
            fix="ask the recipient for the key again",
        ) from error


def parse_public(text: bytes) -> KemPublic:
    """Read a public key as `interlock envelope key` prints it, `suite:base64`.

    Raises:
        InputError: it is not one.
    """
    name, _, encoded = text.strip().partition(b":")
    try:
        return public_key(name.decode("ascii"), base64.b64decode(encoded, validate=True))
    except (UsageError, ValueError) as error:
        raise InputError(
            "a public key cannot be read",
            code="envelope-key",
            got=repr(text[:40]),
            expected="suite:base64",
            fix="ask the recipient for the output of `interlock envelope key`",
        ) from error
