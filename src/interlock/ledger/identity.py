"""Who a ledger is: its origin, the keys it signs heads with, and where their public halves are."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

from interlock.crypto import files
from interlock.crypto.keys import KeyStore
from interlock.errors import IntegrityError, SetupError, StorageError
from interlock.ledger.note import ED25519, ML_DSA_44, NoteKey, NoteSigner
from interlock.ledger.rotation import KeyHistory, LaterKeys

__all__ = ["Identity", "history_of", "read_vkeys"]

_KEYS = (("log-ed25519", "ed25519", ED25519), ("log-ml-dsa-44", "ml-dsa-44", ML_DSA_44))


class Identity:
    """The origin and the signing keys of one ledger.

    The origin is derived from the first Ed25519 key, so that it cannot be claimed without it.
    `ledger.vkeys` holds the public keys of the first generation: all that a reader has to keep.
    """

    def __init__(self, home: Path, store: KeyStore) -> None:
        self._store = store
        path = home / "ledger.vkeys"
        begun = path.exists()  # before the keys are looked for: it is written after them
        gone = [name for name, *_ in _KEYS if begun and not store.has(name)]
        if gone:
            raise StorageError(
                "signing keys of this ledger are gone",
                code="key-missing",
                got=f"no {gone[0]}.key in {store.path}",
                expected=f"the keys whose public halves are in {path}",
                fix="restore it from a copy; nothing was overwritten",
            )
        first = store.signing_key("log-ed25519", "ed25519").public_key().public_bytes_raw()
        self.origin = origin_of(first)
        self.first = [signer.key for signer in self.signers(0, create=True)]
        text = "".join(f"{key}\n" for key in self.first)
        if not path.exists():
            files.write_private(path, text.encode(), mode=0o644)
        elif read_vkeys(path) != self.first:
            raise IntegrityError(
                "the published keys are not those of the key store",
                code="ledger-vkeys",
                got=str(path),
                expected=f"the keys of {self.origin}",
                fix="find out who changed the file; restore it or the keys from a copy",
            )

    def signers(self, generation: int, *, create: bool = False) -> list[NoteSigner]:
        """Return the signing keys of a generation.

        Raises:
            SetupError: they are not here: lost, or another machine rotated.
        """
        suffix = f".{generation}" if generation else ""
        signers = []
        for name, algorithm, kind in _KEYS:
            if not create and not self._store.has(name + suffix):
                raise missing_keys(f"no {name + suffix}.key in {self._store.path}")
            private = self._store.signing_key(name + suffix, algorithm)
            key = NoteKey(self.origin, kind, private.public_key().public_bytes_raw())
            signers.append(NoteSigner(key, private))
        return signers


def origin_of(first: bytes) -> str:
    """Return the origin of the ledger whose first Ed25519 key this is."""
    short = base64.b32encode(hashlib.sha256(first).digest()[:10]).decode().lower()
    return f"interlock.local/{short}"


def history_of(keys: Sequence[NoteKey]) -> KeyHistory:
    """Return the generations as seen from trusted keys: the first of a ledger, or later ones."""
    if any(key.kind == ED25519 and key.name == origin_of(key.public) for key in keys):
        return KeyHistory(keys)
    return LaterKeys(keys)


def missing_keys(got: str) -> SetupError:
    """Return the error of a machine that lacks the keys in force."""
    return SetupError(
        "the signing keys in force are not on this machine; no head was signed",
        code="ledger-keys",
        got=got,
        expected="the keys that the last rotation put in force",
        fix="copy keys/log-*.key from the machine that rotated; entries go on being recorded",
    )


def read_vkeys(path: Path) -> list[NoteKey]:
    """Read a file of verifier keys, one a line."""
    try:
        lines = files.read_plain(path).decode().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise IntegrityError(
            "the public keys cannot be read",
            code="ledger-vkeys",
            got=f"{path}: {error}",
            expected="one verifier key a line",
            fix="restore the file from a copy, or pass the keys yourself",
        ) from error
    return [NoteKey.parse(line) for line in lines if line.strip()]
