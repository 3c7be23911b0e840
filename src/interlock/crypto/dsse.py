"""DSSE envelopes (github.com/secure-systems-lab/dsse) with two signatures, both required."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from interlock.crypto import signing
from interlock.crypto.keys import KeyStore
from interlock.errors import InputError, IntegrityError

__all__ = ["ARTEFACT_ALGORITHMS", "ArtefactSigner", "parse_keys", "read_keys", "sign", "verify"]

#: An artefact is signed by both: one breaks by mathematics, the other by a quantum computer.
ARTEFACT_ALGORITHMS = ("ed25519", "ml-dsa-65")
_MAX_BYTES = 64 << 20


def pae(kind: str, body: bytes) -> bytes:
    """Return the bytes that are signed (pre-authentication encoding)."""
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(body), body)


class ArtefactSigner:
    """The pair of keys that sign artefacts of one home.

    Example:
        >>> import pathlib, tempfile
        >>> signer = ArtefactSigner(KeyStore(pathlib.Path(tempfile.mkdtemp()) / "keys"))
        >>> envelope = sign("text/plain", b"hello", signer)
        >>> verify(envelope, signer.public, "text/plain")
        b'hello'
    """

    def __init__(self, store: KeyStore, name: str = "artefact") -> None:
        self._keys = {a: store.signing_key(f"{name}-{a}", a) for a in ARTEFACT_ALGORITHMS}
        self.public = {a: k.public_key().public_bytes_raw() for a, k in self._keys.items()}

    def signatures(self, message: bytes) -> list[dict[str, str]]:
        """Return one signature a key."""
        return [
            {
                "keyid": hashlib.sha256(self.public[name]).hexdigest(),
                "sig": base64.b64encode(key.sign(message)).decode(),
            }
            for name, key in self._keys.items()
        ]

    def public_text(self) -> str:
        """Return the public keys as a file: `algorithm:base64`, one a line."""
        lines = (f"{name}:{base64.b64encode(raw).decode()}\n" for name, raw in self.public.items())
        return "".join(lines)


def sign(kind: str, body: bytes, signer: ArtefactSigner) -> str:
    """Return the envelope as JSON."""
    document = {
        "payload": base64.b64encode(body).decode(),
        "payloadType": kind,
        "signatures": signer.signatures(pae(kind, body)),
    }
    return json.dumps(document, indent=1) + "\n"


def verify(envelope: str | bytes, public: Mapping[str, bytes], kind: str) -> bytes:
    """Return the payload if every one of the public keys has signed it.

    Args:
        envelope: the JSON.
        public: algorithm -> public key; Ed25519 and ML-DSA-65 must both be there.
        kind: the payload type expected.

    Raises:
        InputError: it is not an envelope.
        IntegrityError: a signature is missing or wrong, or it holds something else.
    """
    missing = [name for name in ARTEFACT_ALGORITHMS if name not in public]
    if missing:
        raise InputError(
            "a trusted key is missing",
            code="dsse-keys",
            got=", ".join(public) or "none",
            expected=" and ".join(ARTEFACT_ALGORITHMS),
            fix="give the signer's whole key file",
        )
    found_kind, body, signatures = _parse(envelope)
    if found_kind != kind:
        raise IntegrityError(
            "the envelope holds something else",
            code="dsse-kind",
            got=found_kind[:200],
            expected=kind,
            fix="give the right file",
        )
    for name, raw in public.items():
        signature = signatures.get(hashlib.sha256(raw).hexdigest())
        if signature is None:
            raise IntegrityError(
                f"the {name} signature is missing",
                code="dsse-unsigned",
                got=f"{len(signatures)} signatures by other keys",
                expected=f"a signature by the trusted {name} key",
                fix="do not use the data; ask who signed it",
            )
        signing.verify(name, raw, signature, pae(kind, body))
    return body


def _parse(envelope: str | bytes) -> tuple[str, bytes, dict[str, bytes]]:
    try:
        if len(envelope) > _MAX_BYTES:
            raise ValueError(f"{len(envelope)} B")
        document: dict[str, Any] = json.loads(envelope)
        body = base64.b64decode(document["payload"], validate=True)
        signatures = {
            str(item["keyid"]): base64.b64decode(item["sig"], validate=True)
            for item in document["signatures"]
        }
        return str(document["payloadType"]), body, signatures
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            "this is not a signed envelope",
            code="dsse-format",
            got=f"{type(error).__name__}: {error}",
            expected="DSSE JSON: payload, payloadType, signatures",
            fix="check the file",
        ) from error


def parse_keys(text: str) -> dict[str, bytes]:
    """Read a public key file, `algorithm:base64`, one a line.

    Raises:
        InputError: a line cannot be read, an algorithm stands twice or is unknown.
    """
    keys: dict[str, bytes] = {}
    for line in text.split():
        name, colon, encoded = line.partition(":")
        try:
            if not colon or name in keys or name not in signing.SIGNATURES:
                raise ValueError(name[:60])
            keys[name] = base64.b64decode(encoded, validate=True)
        except ValueError as error:
            raise InputError(
                "a public key cannot be read",
                code="dsse-keys",
                got=f"{line[:60]!r}",
                expected="algorithm:base64, each algorithm once",
                fix="ask the signer for the key file again",
            ) from error
    return keys


def read_keys(path: Path) -> dict[str, bytes]:
    """Read a public key file."""
    try:
        return parse_keys(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            "the public keys cannot be read",
            code="dsse-keys",
            got=f"{path}: {error}",
            expected="a text file",
            fix="check the path",
        ) from error
