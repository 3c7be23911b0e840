"""C2SP signed notes and tree checkpoints, signed with Ed25519 and ML-DSA-44.

Formats: c2sp.org/signed-note, c2sp.org/tlog-checkpoint, c2sp.org/tlog-cosignature. A log signs
its checkpoint twice: Ed25519 over the text (type 0x01) for readers that exist today, ML-DSA-44
over the `subtree/v1` structure (type 0x06) for readers after quantum computers. Both must verify.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey

from interlock.errors import InputError, IntegrityError

__all__ = [
    "COSIGN_ED25519",
    "ED25519",
    "ML_DSA_44",
    "Checkpoint",
    "NoteKey",
    "NoteSigner",
    "Signature",
    "parse_note",
    "sign_checkpoint",
    "verify_checkpoint",
]

ED25519 = 0x01
COSIGN_ED25519 = 0x04
ML_DSA_44 = 0x06

_PUBLIC_BYTES = {ED25519: 32, COSIGN_ED25519: 32, ML_DSA_44: 1312}
_NAME = re.compile(r"[^\s+\x00-\x1f]{1,255}")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")
_MAX_SIGNATURES = 64
_MAX_BYTES = 1 << 20


class Signs(Protocol):
    """A private key: signs bytes."""

    def sign(self, data: bytes, /) -> bytes:
        """Return the signature of `data`."""


@dataclass(frozen=True, slots=True)
class NoteKey:
    """A public key as notes name it: name, signature type, key bytes."""

    name: str
    kind: int
    public: bytes

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise _bad("the name of a key", self.name, "no spaces, no plus sign, 1-255 characters")
        if self.kind not in _PUBLIC_BYTES:
            raise _bad("the signature type of a key", f"0x{self.kind:02x}", "0x01, 0x04 or 0x06")
        if len(self.public) != _PUBLIC_BYTES[self.kind]:
            raise _bad(
                "the length of a key", f"{len(self.public)} B", f"{_PUBLIC_BYTES[self.kind]} B"
            )

    @property
    def id(self) -> bytes:
        """Four bytes that tell keys of one name apart."""
        data = self.name.encode() + b"\n" + bytes([self.kind]) + self.public
        return hashlib.sha256(data).digest()[:4]

    def __str__(self) -> str:
        """Return the verifier key: `name+id+base64`."""
        key = base64.b64encode(bytes([self.kind]) + self.public).decode()
        return f"{self.name}+{self.id.hex()}+{key}"

    @classmethod
    def parse(cls, text: str) -> NoteKey:
        """Read a verifier key, refusing one whose id does not fit."""
        parts = text.strip().split("+", 2)
        if len(parts) != 3:
            raise _bad("a verifier key", text[:80], "name+id+base64")
        raw = _unbase64(parts[2])
        if not raw:
            raise _bad("a verifier key", text[:80], "a signature type and a key")
        key = cls(parts[0], raw[0], raw[1:])
        if key.id.hex() != parts[1]:
            raise _bad("the id in a verifier key", parts[1], key.id.hex())
        return key


@dataclass(frozen=True, slots=True)
class NoteSigner:
    """A private key with its public note key."""

    key: NoteKey
    private: Signs


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line."""

    name: str
    key_id: bytes
    data: bytes

    def line(self) -> str:
        """Return the line, newline included."""
        return f"— {self.name} {base64.b64encode(self.key_id + self.data).decode()}\n"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log says of itself: its origin, how many entries, their root."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def text(self) -> str:
        """Return the note text, final newline included."""
        lines = [self.origin, str(self.size), base64.b64encode(self.root).decode()]
        return "\n".join([*lines, *self.extensions]) + "\n"

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Read a note text."""
        lines = text.split("\n")
        if len(lines) < 4 or lines[-1] != "" or not all(lines[:-1]):
            raise _bad("a checkpoint", text[:80], "origin, size and root on three lines")
        origin, size, root = lines[:3]
        if not _NUMBER.fullmatch(size):
            raise _bad("the size in a checkpoint", size[:40], "a decimal number")
        digest = _unbase64(root)
        if len(digest) != 32:
            raise _bad("the root in a checkpoint", root[:60], "32 bytes in base64")
        return cls(origin, int(size), digest, tuple(lines[3:-1]))


def parse_note(note: str) -> tuple[str, list[Signature]]:
    """Split a signed note into its text and its signatures; nothing is verified.

    Raises:
        InputError: it is not a signed note.
    """
    if len(note) > _MAX_BYTES or any(ord(c) < 0x20 and c != "\n" for c in note):
        raise _bad("a signed note", f"{len(note)} characters", "text without control characters")
    text, blank, tail = note.rpartition("\n\n")
    if not blank or not tail.endswith("\n"):
        raise _bad("a signed note", note[:80], "a text, an empty line, signature lines")
    signatures = []
    for line in tail[:-1].split("\n"):
        parts = line.split(" ")
        if len(parts) != 3 or parts[0] != "—" or not _NAME.fullmatch(parts[1]):
            raise _bad("a signature line", line[:80], "— name base64")
        raw = _unbase64(parts[2])
        if len(raw) < 5:
            raise _bad("a signature line", line[:80], "a key id and a signature")
        signatures.append(Signature(parts[1], raw[:4], raw[4:]))
    if len(signatures) > _MAX_SIGNATURES:
        raise _bad("a signed note", f"{len(signatures)} signatures", f"<= {_MAX_SIGNATURES}")
    return text + "\n", signatures


def _message(key: NoteKey, text: str, checkpoint: Checkpoint, time_s: int) -> bytes:
    if key.kind == ED25519:
        return text.encode()
    if key.kind == COSIGN_ED25519:
        return f"cosignature/v1\ntime {time_s}\n{text}".encode()
    name, origin = key.name.encode(), checkpoint.origin.encode()
    return b"".join(
        (
            b"subtree/v1\n\x00",
            bytes([len(name)]),
            name,
            struct.pack(">Q", time_s),
            bytes([len(origin)]),
            origin,
            struct.pack(">QQ", 0, checkpoint.size),
            checkpoint.root,
        )
    )


def sign_checkpoint(
    checkpoint: Checkpoint, signers: Iterable[NoteSigner], time_s: int
) -> list[Signature]:
    """Return one signature a key; timestamped types carry `time_s` (POSIX seconds)."""
    text = checkpoint.text()
    signatures = []
    for signer in signers:
        raw = signer.private.sign(_message(signer.key, text, checkpoint, time_s))
        if signer.key.kind != ED25519:
            raw = struct.pack(">Q", time_s) + raw
        signatures.append(Signature(signer.key.name, signer.key.id, raw))
    return signatures


def verify_checkpoint(
    note: str, keys: Iterable[NoteKey], *, origin: str | None = None
) -> tuple[Checkpoint, dict[str, int | None]]:
    """Raise unless every key given has signed the note.

    Returns:
        The checkpoint, and for each verifier key the time it says it signed at.

    Raises:
        IntegrityError: a signature is missing or wrong, or the origin is another.
        InputError: it is not a checkpoint.
    """
    text, signatures = parse_note(note)
    checkpoint = Checkpoint.parse(text)
    if origin is not None and checkpoint.origin != origin:
        raise IntegrityError(
            "the checkpoint is of another ledger",
            code="checkpoint-origin",
            got=checkpoint.origin,
            expected=origin,
            fix="compare with the checkpoint of the ledger you mean",
        )
    times: dict[str, int | None] = {}
    for key in keys:
        mine = [s for s in signatures if s.name == key.name and s.key_id == key.id]
        if not mine:
            raise _unsigned(checkpoint, key, "no signature by this key")
        times[str(key)] = _verify_one(text, checkpoint, key, mine[0])
    if not times:
        raise IntegrityError(
            "a checkpoint can only be verified against a key",
            code="checkpoint-signature",
            got="no keys",
            expected="the verifier keys of the ledger",
            fix="pass the keys from ledger.vkeys",
        )
    return checkpoint, times


def _verify_one(
    text: str, checkpoint: Checkpoint, key: NoteKey, signature: Signature
) -> int | None:
    raw, time_s = signature.data, None
    if key.kind != ED25519:
        if len(raw) < 8:
            raise _unsigned(checkpoint, key, "a signature without a time")
        (time_s,) = struct.unpack(">Q", raw[:8])
        raw = raw[8:]
    public: Ed25519PublicKey | MLDSA44PublicKey
    if key.kind == ML_DSA_44:
        public = MLDSA44PublicKey.from_public_bytes(key.public)
    else:
        public = Ed25519PublicKey.from_public_bytes(key.public)
    try:
        public.verify(raw, _message(key, text, checkpoint, time_s or 0))
    except (InvalidSignature, ValueError) as error:
        raise _unsigned(checkpoint, key, "a signature that does not verify") from error
    return time_s


def _unsigned(checkpoint: Checkpoint, key: NoteKey, got: str) -> IntegrityError:
    return IntegrityError(
        f"the checkpoint of {checkpoint.size} entries is not signed by {key.name}",
        code="checkpoint-signature",
        got=got,
        expected=f"a signature by {key.name}+{key.id.hex()} (type 0x{key.kind:02x})",
        fix="do not trust this checkpoint; fetch it again, or find out who wrote it",
    )


def _unbase64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _bad("base64", text[:60], "standard base64") from error


def _bad(what: str, got: str, expected: str) -> InputError:
    return InputError(
        f"{what} cannot be read",
        code="note-format",
        got=repr(got),
        expected=expected,
        fix="see c2sp.org/signed-note and c2sp.org/tlog-checkpoint",
    )
