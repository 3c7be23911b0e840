"""Two signatures over one payload, both of which must hold: Ed25519 and ML-DSA-65.

The context goes before the payload, so that a signature made for one purpose serves no other.
"""

from __future__ import annotations

from dataclasses import dataclass

from interlock.crypto import signing
from interlock.errors import IntegrityError

__all__ = ["DualKey", "DualPublic", "verify_dual"]

ALGORITHMS = ("ed25519", "ml-dsa-65")


@dataclass(frozen=True, slots=True, kw_only=True)
class DualPublic:
    """The two public keys of one signer, raw, in hexadecimal."""

    ed25519: str
    ml_dsa_65: str


class DualKey:
    """The two private keys of one signer, from one 32-byte seed each.

    Example:
        >>> key = DualKey(b"a" * 32, b"b" * 32)
        >>> verify_dual(key.public, key.sign("demo", b"text"), "demo", b"text")
    """

    def __init__(self, first_seed: bytes, second_seed: bytes) -> None:
        seeds = (first_seed, second_seed)
        self._keys = [signing.load_private(a, s) for a, s in zip(ALGORITHMS, seeds, strict=True)]

    @property
    def private_keys(self) -> tuple[signing.PrivateKey, ...]:
        """The Ed25519 and the ML-DSA-65 key."""
        return tuple(self._keys)

    @property
    def public(self) -> DualPublic:
        """The verifying halves."""
        first, second = (k.public_key().public_bytes_raw().hex() for k in self._keys)
        return DualPublic(ed25519=first, ml_dsa_65=second)

    def sign(self, context: str, payload: bytes) -> dict[str, str]:
        """Return algorithm -> signature in hexadecimal."""
        message = _message(context, payload)
        return {a: k.sign(message).hex() for a, k in zip(ALGORITHMS, self._keys, strict=True)}


def _message(context: str, payload: bytes) -> bytes:
    return b"interlock-monitor\x00" + context.encode() + b"\x00" + payload


def verify_dual(
    public: DualPublic, signatures: dict[str, str], context: str, payload: bytes
) -> None:
    """Raise unless both signatures are there and hold.

    Raises:
        IntegrityError: a signature is missing, malformed or wrong.
    """
    keys = (public.ed25519, public.ml_dsa_65)
    for name, key in zip(ALGORITHMS, keys, strict=True):
        try:
            raw, public_raw = bytes.fromhex(signatures[name]), bytes.fromhex(key)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise IntegrityError(
                f"the {name} signature of a {context} is missing or malformed",
                code="monitor-signature",
                got=type(error).__name__,
                expected="signatures by ed25519 and ml-dsa-65, both valid",
                fix="have the owner sign it again",
            ) from error
        signing.verify(name, public_raw, raw, _message(context, payload))
