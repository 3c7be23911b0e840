"""DSSE envelopes (github.com/secure-systems-lab/dsse) with two signatures, both required."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from interlock.crypto import files, signing, suites
from interlock.crypto.keys import KeyStore
from interlock.crypto.suites import chosen
from interlock.errors import InputError, IntegrityError

__all__ = ["ArtefactSigner", "parse_keys", "read_keys", "sign", "verify"]

_MAX_BYTES = 64 << 20
_USE = "artefacts"


def pae(kind: str, body: bytes) -> bytes:
    """Return the bytes that are signed (pre-authentication encoding)."""
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(body), body)


class ArtefactSigner:
    """The keys that sign artefacts of one home, by the suite it has chosen.

    An artefact is signed by both: one breaks by mathematics, the other by a quantum computer.

    Attributes:
        public: algorithm -> public key, of the suite in use.
        trusted: those of every suite this home has used, to verify what it signed before.

    Example:
        >>> import pathlib, tempfile
        >>> signer = ArtefactSigner(KeyStore(pathlib.Path(tempfile.mkdtemp()) / "keys"))
        >>> envelope = sign("text/plain", b"hello", signer)
        >>> verify(envelope, signer.public, "text/plain")
        b'hello'
    """

    def __init__(self, store: KeyStore, name: str = "artefact") -> None:
        suite = chosen(store.path.parent, _USE)
        self._keys = {
            a: store.signing_key(f"{name}-{a}", a) for a in suites.algorithms(_USE, suite)
        }
        self.public = {a: k.public_key().public_bytes_raw() for a, k in self._keys.items()}
        self.trusted = dict(self.public)
        for other in {a for names in suites.suites(_USE).values() for a in names} - set(
            self.public
        ):
            if store.has(f"{name}-{other}"):
                key = store.signing_key(f"{name}-{other}", other)
                self.trusted[other] = key.public_key().public_bytes_raw()

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
        """Return the public keys of the suite in use as a file: `algorithm:base64`, one a line."""
        return _text(self.public)

    def trusted_text(self) -> str:
        """Return the public keys of every suite this home has used, as a file."""
        return _text(self.trusted)


def _text(keys: Mapping[str, bytes]) -> str:
    lines = (f"{name}:{base64.b64encode(raw).decode()}\n" for name, raw in keys.items())
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
    """Return the payload if both keys of a suite, trusted and allowed, have signed it.

    Args:
        envelope: the JSON.
        public: algorithm -> trusted public key; those of at least one suite for artefacts. With
            the keys of several, what was signed with any of them verifies.
        kind: the payload type expected.

    Raises:
        InputError: it is not an envelope, or no suite is trusted.
        IntegrityError: a signature is missing or wrong, or it holds something else.
    """
    trusted = [names for names in suites.suites(_USE).values() if set(names) <= set(public)]
    if not trusted:
        raise InputError(
            "a trusted key is missing",
            code="dsse-keys",
            got=", ".join(public) or "none",
            expected=" or ".join(" and ".join(names) for names in suites.suites(_USE).values()),
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
    ids = {name: hashlib.sha256(raw).hexdigest() for name, raw in public.items()}
    # The suite that it was signed with: the one all of whose keys are named in it.
    names = next((n for n in trusted if all(ids[name] in signatures for name in n)), trusted[0])
    for name in names:
        signature = signatures.get(ids[name])
        if signature is None:
            raise IntegrityError(
                f"the {name} signature is missing",
                code="dsse-unsigned",
                got=f"{len(signatures)} signatures by other keys",
                expected=f"a signature by the trusted {name} key",
                fix="do not use the data; ask who signed it",
            )
        signing.verify(name, public[name], signature, pae(kind, body))
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
        return parse_keys(files.read_plain(path).decode())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            "the public keys cannot be read",
            code="dsse-keys",
            got=f"{path}: {error}",
            expected="a text file",
            fix="check the path",
        ) from error
