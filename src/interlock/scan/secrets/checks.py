"""Structure checks on a candidate secret: checksums, lengths, encodings. Never the network.

A check answers `True` (the structure is right), `False` (it cannot be one) and is named in the
rule files. Each is pure and takes bytes.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
import zlib
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

__all__ = ["CHECKS", "entropy"]

_BASE62 = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def entropy(value: bytes) -> float:
    """Return the Shannon entropy of the bytes, in bits a character.

    Example:
        >>> entropy(b"aaaa"), entropy(b"abcd")
        (0.0, 2.0)
    """
    if not value:
        return 0.0
    total = len(value)
    return abs(-sum(n / total * math.log2(n / total) for n in Counter(value).values()))


def _base62_crc(value: bytes) -> bool:
    """GitHub and npm: the last six characters are the CRC-32 of the body in base 62."""
    body = value.split(b"_", 1)[1] if b"_" in value else value
    payload, check = body[:-6], body[-6:]
    number = zlib.crc32(payload)
    digits = bytearray()
    while number:
        number, rest = divmod(number, 62)
        digits.append(_BASE62[rest])
    return bytes(reversed(digits)).rjust(6, b"0") == check


def _aws_key_id(value: bytes) -> bool:
    """AWS: sixteen base-32 characters after the type prefix, and not the published example."""
    if value.endswith(b"EXAMPLE"):
        return False
    try:
        return len(base64.b32decode(value[4:])) == 10
    except (binascii.Error, ValueError):
        return False


def _unpad(part: bytes) -> bytes:
    return base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))


def _jwt(value: bytes) -> bool:
    """JWT (RFC 7519): header and payload decode to JSON objects and the header names `alg`."""
    start = value.find(b"eyJ")
    parts = value[max(start, 0) :].split(b".")
    if len(parts) < 2:
        return False
    try:
        header = json.loads(_unpad(parts[0]))
        payload = json.loads(_unpad(parts[1]))
    except (ValueError, RecursionError):
        return False
    return isinstance(header, dict) and "alg" in header and isinstance(payload, dict)


def _base64_of(count: int) -> Callable[[bytes], bool]:
    def check(value: bytes) -> bool:
        try:
            return len(base64.b64decode(value, validate=True)) == count
        except (binascii.Error, ValueError):
            return False

    return check


_PEM_LINE = re.compile(rb"[A-Za-z0-9+/=]{16,}")


def _pem(value: bytes) -> bool:
    """RFC 7468: the body is base 64 and opens like DER or the OpenSSH container."""
    text = value.replace(b"\\n", b"\n").replace(b"\\r", b"")
    lines = _PEM_LINE.findall(text.split(b"-----", 2)[-1].split(b"-----")[0])
    body = b"".join(line for line in lines)
    if len(body) < 40:
        return False
    if b"ENCRYPTED" in text[:200] or b"PGP" in text[:40]:
        return True
    head = body[:40]
    try:
        raw = base64.b64decode(head[: len(head) // 4 * 4])
    except (binascii.Error, ValueError):
        return False
    return raw[:1] == b"\x30" or raw.startswith(b"openssh-key-v1")


def _macaroon(value: bytes) -> bool:
    """PyPI: a version 2 macaroon whose location is pypi.org or test.pypi.org."""
    try:
        raw = _unpad(value.split(b"-", 1)[1])
    except (binascii.Error, ValueError, IndexError):
        return False
    return raw[:2] == b"\x02\x01" and b"pypi.org" in raw[:24]


def _mixed(value: bytes) -> bool:
    """A random alphanumeric string of this length has letters and digits."""
    return any(48 <= c <= 57 for c in value) and any(chr(c).isalpha() for c in value)


def _varied(value: bytes) -> bool:
    """At least two of lower case, upper case and digits: no plain word."""
    kinds = (
        any(97 <= c <= 122 for c in value),
        any(65 <= c <= 90 for c in value),
        any(48 <= c <= 57 for c in value),
    )
    return sum(kinds) >= 2


def _mixed_case(value: bytes) -> bool:
    """Letters of both cases, as any long draw from the alphanumeric characters has."""
    return value != value.lower() and value != value.upper()


def _mixed_letters(value: bytes) -> bool:
    """Letters only, of both cases: no word and no constant."""
    body = value.rsplit(b"_", 1)[-1]
    return body != body.lower() and body != body.upper() and len(set(body)) >= 14


def _lower_hex(value: bytes) -> bool:
    body = value.rsplit(b"-", 1)[-1]
    return _mixed(body) and len(set(body)) >= 8


def _password(value: bytes) -> bool:
    """A password typed by a person: two kinds of character at least, not one plain word."""
    kinds = (
        any(97 <= c <= 122 for c in value),
        any(65 <= c <= 90 for c in value),
        any(48 <= c <= 57 for c in value),
        any(c in b"!@#$%^&*?~+=." for c in value),
    )
    return sum(kinds) >= 2 and value.count(b"/") < 2


_WORDLIKE = re.compile(rb"^[A-Za-z]+[0-9]{0,3}(?:[-_./=:]+[A-Za-z]*[0-9]{0,3})*$")
_DOTTED = re.compile(rb"^[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+$")


def _switches(value: bytes) -> int:
    """Count changes between digits, capitals and the rest."""
    kinds = [1 if 48 <= c <= 57 else 2 if 65 <= c <= 90 else 3 for c in value]
    return sum(a != b for a, b in pairwise(kinds))


def _random(value: bytes) -> bool:
    """Looks drawn, not written: letters and digits mixed beyond what identifiers and paths do."""
    body = value.strip(b"=.-_")
    if _DOTTED.match(body) or value.count(b"/") > max(3, len(value) // 12):
        return False
    if not _mixed(body):
        return len(body) >= 24 and body.isalpha() and _switches(body) >= len(body) // 3
    if _WORDLIKE.match(body):
        runs = re.findall(rb"[A-Za-z]+", body)
        return len(runs) <= 2 and entropy(body) > 4.0 and max(map(len, runs)) > 12
    # one number inside words is how names look: attributeP2pTokens, MAX_I2C_TOKENS
    named = len(re.findall(rb"\d+", body)) == 1
    return _switches(body) >= max(4, len(body) * 2 // 5 if named else len(body) // 5)


def _basic(value: bytes) -> bool:
    """RFC 7617: base 64 of `user:password`, printable."""
    try:
        raw = base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except (binascii.Error, ValueError):
        return False
    user, colon, password = raw.partition(b":")
    return bool(colon and user and len(password) >= 6) and all(32 <= c < 127 for c in raw)


def _strong_password(value: bytes) -> bool:
    """An unquoted value counts only when no identifier, path or word would look like it."""
    kinds = sum(
        any(low <= c <= high for c in value) for low, high in ((97, 122), (65, 90), (48, 57))
    )
    if _DOTTED.match(value) or value.startswith(b"/") or value.count(b"/") > 2:
        return False
    return kinds == 3 or (kinds == 2 and any(c in b"!@#$%^&*?~+" for c in value))


CHECKS: dict[str, Callable[[bytes], bool]] = {
    "aws-key-id": _aws_key_id,
    "base62-crc": _base62_crc,
    "base64-64": _base64_of(64),
    "basic": _basic,
    "hex": _lower_hex,
    "jwt": _jwt,
    "macaroon": _macaroon,
    "mixed": _mixed,
    "mixed-case": _mixed_case,
    "mixed-letters": _mixed_letters,
    "password": _password,
    "pem": _pem,
    "random": _random,
    "strong-password": _strong_password,
    "varied": _varied,
}
