"""Envelopes: data at rest encrypted to a key, bound to what it is, readable in pieces.

Format: `ILKENV1` and a newline, length of the header (4 bytes), the header (RFC 8785 JSON), length
of the wrapped key (2 bytes), the content key wrapped by HPKE, then chunks of 1 MiB, each
AES-256-GCM. The nonce counts the chunks and marks the last (the STREAM construction of Hoang,
Reyhanitabar, Rogaway and Vizar), so that a cut, reordered or repeated chunk does not open. The
header names suite, recipient and context and is bound into the wrapping.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Iterator
from io import BytesIO
from typing import Any, BinaryIO

import rfc8785
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from interlock.crypto.kem import KemPrivate, KemPublic, suite
from interlock.errors import InputError, IntegrityError

__all__ = ["open_bytes", "open_stream", "seal_bytes", "seal_stream"]

_MAGIC = b"ILKENV1\n"
_CHUNK = 1 << 20
_MAX_HEADER = 1 << 16
_LABEL = b"interlock/envelope/v1\x00"


def key_id(public: bytes) -> str:
    """Return the id by which a header names a recipient's key."""
    return hashlib.sha256(public).hexdigest()[:32]


def seal_bytes(data: bytes, recipient: KemPublic, *, context: str) -> bytes:
    """Encrypt data to a key.

    Args:
        data: what to encrypt.
        recipient: the key.
        context: what the data is, for instance `result/job-17`; needed again to open it.

    Example:
        >>> from interlock.crypto.kem import suite
        >>> key = suite("x25519-mlkem768").private(bytes(32))
        >>> envelope = seal_bytes(b"counts", key.public(), context="result/j1")
        >>> open_bytes(envelope, key, context="result/j1")
        b'counts'
    """
    out = BytesIO()
    seal_stream(BytesIO(data), out, recipient, context=context)
    return out.getvalue()


def open_bytes(envelope: bytes, key: KemPrivate, *, context: str) -> bytes:
    """Decrypt what `seal_bytes` made.

    Raises:
        InputError: it is not an envelope, or of another version.
        IntegrityError: another key or context, or changed, cut or reordered bytes.
    """
    return b"".join(open_stream(BytesIO(envelope), key, context=context))


def seal_stream(source: BinaryIO, out: BinaryIO, recipient: KemPublic, *, context: str) -> None:
    """Encrypt a stream to a key, 1 MiB at a time."""
    header = rfc8785.dumps(
        {
            "context": context,
            "recipient": key_id(recipient.public_bytes),
            "suite": recipient.suite,
            "v": 1,
        }
    )
    content_key = os.urandom(32)
    wrapped = recipient.encrypt(content_key, _LABEL + header)
    out.write(_MAGIC + struct.pack(">I", len(header)) + header)
    out.write(struct.pack(">H", len(wrapped)) + wrapped)
    cipher = AESGCM(content_key)
    chunk, number = source.read(_CHUNK), 0
    while True:
        following = source.read(_CHUNK) if len(chunk) == _CHUNK else b""
        out.write(cipher.encrypt(_nonce(number, last=not following), chunk, None))
        if not following:
            return
        chunk, number = following, number + 1


def open_stream(source: BinaryIO, key: KemPrivate, *, context: str) -> Iterator[bytes]:
    """Yield the plaintext in pieces; each piece is authentic when it is yielded.

    Only the end of the iteration shows that nothing was cut off: keep the pieces until then.
    """
    header, wrapped = _read_head(source, key)
    if header["context"] != context:
        raise IntegrityError(
            "the envelope holds something else",
            code="envelope-context",
            got=str(header["context"])[:200],
            expected=context,
            fix="open it as what it is, or fetch the right one",
        )
    cipher = AESGCM(key.decrypt(wrapped, _LABEL + _canonical(header)))
    chunk, number = source.read(_CHUNK + 16), 0
    while True:
        following = source.read(_CHUNK + 16) if len(chunk) == _CHUNK + 16 else b""
        try:
            yield cipher.decrypt(_nonce(number, last=not following), chunk, None)
        except InvalidTag as error:
            raise IntegrityError(
                "the envelope was changed, cut or put together anew",
                code="envelope-sealed",
                got=f"piece {number} does not authenticate",
                expected="the pieces that were sealed, all of them, in order",
                fix="fetch the envelope again",
            ) from error
        if not following:
            return
        chunk, number = following, number + 1


def _canonical(header: dict[str, Any]) -> bytes:
    return rfc8785.dumps(header)


def _nonce(number: int, *, last: bool) -> bytes:
    return bytes(7) + struct.pack(">I", number) + bytes([last])


def suite_of(source: BinaryIO) -> str:
    """Return the suite that an envelope names, and go back to its beginning.

    Raises:
        InputError: it is not an envelope.
        UsageError: the suite is unknown.
    """
    header = _header(source)
    source.seek(0)
    return str(header["suite"])


def _header(source: BinaryIO) -> dict[str, Any]:
    if source.read(len(_MAGIC)) != _MAGIC:
        raise _bad("the first bytes", "ILKENV1")
    length = int.from_bytes(_exactly(source, 4), "big")
    if length > _MAX_HEADER:
        raise _bad(f"a header of {length} B", f"at most {_MAX_HEADER} B")
    raw = _exactly(source, length)
    try:
        header: dict[str, Any] = json.loads(raw)
        if _canonical(header) != raw or header["v"] != 1:
            raise ValueError("not canonical, or of another version")
        names = {"context", "recipient", "suite", "v"}
        if set(header) != names:
            raise ValueError(f"fields {sorted(header)}")
    except (ValueError, TypeError, KeyError) as error:
        raise _bad(f"a header: {error}", "a canonical header of version 1") from error
    suite(str(header["suite"]))
    return header


def _read_head(source: BinaryIO, key: KemPrivate) -> tuple[dict[str, Any], bytes]:
    header = _header(source)
    if header["suite"] != key.suite or header["recipient"] != key_id(key.public_bytes):
        raise IntegrityError(
            "the envelope is for another key",
            code="envelope-recipient",
            got=f"{header['suite']}, key {header['recipient']}",
            expected=f"{key.suite}, key {key_id(key.public_bytes)}",
            fix="open it with the key it was encrypted to",
        )
    return header, _exactly(source, int.from_bytes(_exactly(source, 2), "big"))


def _exactly(source: BinaryIO, count: int) -> bytes:
    data = source.read(count)
    if len(data) != count:
        raise _bad("a cut envelope", "all of it")
    return data


def _bad(got: str, expected: str) -> InputError:
    return InputError(
        "this is not an envelope",
        code="envelope-format",
        got=got,
        expected=expected,
        fix="check the file; a newer version needs a newer Interlock",
    )
