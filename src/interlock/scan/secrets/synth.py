"""Fill the templates of rule tests with random characters, so that no secret-shaped text is kept.

Also used by `interlock scan --self-test`. The measured corpus has a generator of its own.
"""

from __future__ import annotations

import base64
import json
import random
import re
import string
import zlib
from collections.abc import Callable

__all__ = ["fill"]

_ALPHABETS = {
    "hex": "0123456789abcdef",
    "alnum": string.ascii_letters + string.digits,
    "alpha": string.ascii_letters,
    "b64": string.ascii_letters + string.digits + "+/",
    "b64url": string.ascii_letters + string.digits + "-_",
    "base32": "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567",
    "digits": string.digits,
}
_FIELD = re.compile(r"\{(\w[\w-]*)(?::([^{}]*))?\}")
_BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase


def _draw(rng: random.Random, alphabet: str, count: int) -> str:
    text = "".join(rng.choice(alphabet) for _ in range(count))
    if count >= 20 and alphabet != string.digits:
        # ends that are neither punctuation nor a run, as every issuer's are
        body = rng.choice(alphabet[:16])
        text = body + text[1:-1] + rng.choice(alphabet[:16])
    return text


def _b64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _jwt(rng: random.Random, _argument: str) -> str:
    parts = [{"alg": "ES256", "typ": "JWT"}, {"sub": str(rng.getrandbits(40)), "exp": 2000000000}]
    head = ".".join(_b64url(json.dumps(p).encode()) for p in parts)
    return f"{head}.{_b64url(rng.randbytes(64))}"


def _pem(rng: random.Random, label: str, *, glue: str = "\n") -> str:
    raw = b"openssh-key-v1\0" if label.startswith("OPENSSH") else b"\x30\x82\x04\xa4"
    body = base64.b64encode(raw + rng.randbytes(600)).decode()
    lines = [body[i : i + 64] for i in range(0, len(body), 64)]
    kind = f"{label}PRIVATE KEY-----"
    return glue.join([f"-----BEGIN {kind}", *lines, f"-----END {kind}"])


def _crc(rng: random.Random, argument: str) -> str:
    prefix, count = argument.split(":")
    body = _draw(rng, _ALPHABETS["alnum"], int(count))
    number, digits = zlib.crc32(body.encode()), ""
    while number:
        number, rest = divmod(number, 62)
        digits = _BASE62[rest] + digits
    return prefix + body + digits.rjust(6, "0")


def _pypi(rng: random.Random, _argument: str) -> str:
    return "pypi-" + _b64url(b"\x02\x01\x08pypi.org\x02\x24" + rng.randbytes(90))


def _basic(rng: random.Random, _argument: str) -> str:
    text = f"svc:{_draw(rng, _ALPHABETS['alnum'], 14)}"
    return base64.b64encode(text.encode()).decode()


def _password(rng: random.Random, argument: str) -> str:
    body = _draw(rng, _ALPHABETS["alnum"], int(argument) - 4)
    return f"{body}9aZ!"


_MAKERS: dict[str, Callable[[random.Random, str], str]] = {
    "basic": _basic,
    "crc": _crc,
    "jwt": _jwt,
    "pass": _password,
    "pem": _pem,
    "pem-escaped": lambda rng, label: _pem(rng, label, glue="\\n"),
    "pypi": _pypi,
    "uuid": lambda rng, _: f"{rng.getrandbits(32):08x}-4444-4aaa-8bbb-{rng.getrandbits(48):012x}",
}


def fill(template: str, rng: random.Random) -> str:
    """Replace each `{kind:argument}`; text that names no kind stays as it is.

    Example:
        >>> fill("key={hex:8}", random.Random(1))
        'key=4283fefc'
    """

    def replace(field: re.Match[str]) -> str:
        kind, argument = field[1], field[2] or ""
        if kind in _ALPHABETS and argument.isdigit():
            return _draw(rng, _ALPHABETS[kind], int(argument))
        if kind in _MAKERS:
            return _MAKERS[kind](rng, argument)
        return field[0]

    return _FIELD.sub(replace, template)
