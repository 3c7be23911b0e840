"""Weight updates signed by Ed25519 and ML-DSA-65, with a one-time MAC under a QKD key beside.

The MAC is Poly1305 with a fresh 256-bit key for each message, over header, length and the raw
bytes (hashing them first would make it computational). For a message of L bytes a forgery succeeds
with at most 8 * ceil(L/16) / 2^106 (Bernstein 2005): 2^-77 at 1 GiB. Both sides hold the key, so it
convinces nobody else: the signature is always there.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.poly1305 import Poly1305

from interlock.crypto import dsse
from interlock.crypto.qkd.client import QkdClient, QkdKey
from interlock.errors import BackendError, InputError, IntegrityError

__all__ = ["Opened", "QkdPolicy", "combine", "forgery_bound_log2", "open_update", "seal_update"]

QkdPolicy: TypeAlias = Literal["required", "optional"]
_KIND = "application/vnd.interlock.update+json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What was checked of an update.

    Attributes:
        header: the sender's facts.
        qkd: `verified`, `absent: reason` (the sender had no key) or `unchecked: reason`.
    """

    header: Mapping[str, Any]
    qkd: str


def forgery_bound_log2(length: int) -> float:
    """Return log2 of the highest chance of forging the MAC of a message of `length` bytes.

    Example:
        >>> round(forgery_bound_log2(1 << 30))
        -77
    """
    return math.log2(8 * max(1, math.ceil(length / 16))) - 106


def _framed(header: bytes, data: bytes) -> bytes:
    return struct.pack(">QQ", len(header), len(data)) + header + data


def mac(key: QkdKey, header: bytes, data: bytes) -> bytes:
    """Return the one-time MAC; the key must never be used again."""
    if len(key.key) != 32:
        raise InputError(
            "a one-time MAC needs 256 bits",
            code="qkd-key",
            got=f"{len(key.key) * 8} bits",
            expected="256 bits",
            fix="ask the KME for keys of 256 bits",
        )
    return Poly1305.generate_tag(key.key, _framed(header, data))


def seal_update(
    data: bytes,
    header: Mapping[str, Any],
    signer: dsse.ArtefactSigner,
    *,
    kme: QkdClient | None,
    slave: str,
    policy: QkdPolicy,
) -> str:
    """Sign an update and authenticate it with a QKD key; returns the envelope to send along.

    Raises:
        BackendError: the policy requires QKD and the KME gives no key.
    """
    raw = json.dumps(dict(header), sort_keys=True).encode()
    qkd: dict[str, str] | None = None
    reason = "no KME is configured"
    try:
        if kme is not None:
            (key,) = kme.enc_keys(slave)
            tag = base64.b64encode(mac(key, raw, data)).decode()
            qkd, reason = {"key_ID": key.id, "tag": tag}, ""
    except BackendError as error:
        reason = f"{error.code}: {error.got}"
    if qkd is None and policy == "required":
        raise _unmet(reason)
    body = {
        "v": 1,
        "header": base64.b64encode(raw).decode(),
        "length": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "qkd": qkd,
        "qkd_absent": reason,
    }
    return dsse.sign(_KIND, json.dumps(body, sort_keys=True).encode(), signer)


def open_update(
    data: bytes,
    envelope: str,
    public: Mapping[str, bytes],
    *,
    kme: QkdClient | None,
    master: str,
    policy: QkdPolicy,
) -> Opened:
    """Raise unless an update is as signed and, where there is one, its MAC is right.

    Under `required` an update without a checked MAC is refused. Under `optional` the signature
    decides, and the result says that the MAC was absent or could not be checked; a MAC that is
    wrong is refused under both.

    Raises:
        IntegrityError: signature, digest or MAC are wrong.
        BackendError: the policy requires QKD and it cannot be checked.
    """
    body = json.loads(dsse.verify(envelope, public, _KIND))
    if body.get("v") != 1 or body["length"] != len(data):
        raise _changed(f"version {body.get('v')}, {len(data)} B", f"{body.get('length')} B")
    if hashlib.sha256(data).hexdigest() != body["sha256"]:
        raise _changed(hashlib.sha256(data).hexdigest(), body["sha256"])
    raw = base64.b64decode(body["header"])
    qkd = _check_mac(data, raw, body, kme, master)
    if qkd != "verified" and policy == "required":
        raise _unmet(qkd)
    return Opened(header=json.loads(raw), qkd=qkd)


def _check_mac(
    data: bytes, raw: bytes, body: dict[str, Any], kme: QkdClient | None, master: str
) -> str:
    if body["qkd"] is None:
        return f"absent: {body['qkd_absent']}"
    if kme is None:
        return "unchecked: no KME is configured"
    try:
        (key,) = kme.dec_keys(master, [body["qkd"]["key_ID"]])
    except BackendError as error:
        return f"unchecked: {error.code}: {error.got}"
    try:
        tag = base64.b64decode(body["qkd"]["tag"])
        Poly1305.verify_tag(key.key, _framed(raw, data), tag)
    except (InvalidSignature, ValueError) as error:
        raise _changed("a MAC that does not verify", "the MAC under the QKD key") from error
    return "verified"


def combine(
    shared_mlkem: bytes,
    shared_x25519: bytes,
    qkd: QkdKey,
    *,
    context: Mapping[str, bytes],
    suite: str,
) -> bytes:
    """Return one 256-bit key from three secrets; it holds as long as one of them does.

    HKDF-SHA-384 over the length-prefixed secrets (SP 800-56C r2, SP 800-227). `context` binds
    ciphertexts, public keys and SAE ids; the id of the QKD key is bound as well.

    Example:
        >>> key = combine(bytes(32), bytes(32), QkdKey("k1", bytes(32)), context={}, suite="demo")
        >>> len(key)
        32
    """
    secrets = b"".join(
        struct.pack(">I", len(part)) + part for part in (shared_mlkem, shared_x25519, qkd.key)
    )
    names = {**context, "qkd-key-id": qkd.id.encode(), "suite": suite.encode()}
    info = b"interlock/qkd-combine/v1"
    for name in sorted(names):
        for part in (name.encode(), names[name]):
            info += struct.pack(">I", len(part)) + part
    return HKDF(algorithm=SHA384(), length=32, salt=None, info=info).derive(secrets)


def _changed(got: str, expected: str) -> IntegrityError:
    return IntegrityError(
        "the update is not what was sealed",
        code="qkd-update",
        got=got,
        expected=expected,
        fix="do not apply it; ask the sender for it again",
    )


def _unmet(reason: str) -> BackendError:
    return BackendError(
        "the policy requires QKD and there is none",
        code="qkd-required",
        got=reason,
        expected="a one-time MAC under a QKD key",
        fix="mend the KME; lowering the policy is a decision of its own, recorded where it is made",
    )
