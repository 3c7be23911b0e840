"""One data key a subject: payloads are encrypted under it, and erased by destroying it.

A leaf carries a key id, never the subject's name: the id is HMAC-SHA-256 of the name under a
secret of this home, so it cannot be guessed by hashing names. Payloads with a data label have a
key for each subject, label and month, so that a label's retention can end without the rest.

Each process that writes draws a random session id and counts its entries; every entry has an
AES-256-GCM key of its own, derived from data key, session and count, so no key is used twice and
one entry can be disclosed alone. Stored form:
`0x01 || session (16) || counter (8) || commitment (32) || ciphertext`. The commitment is a hash of
the entry's key: without it one ciphertext could be opened to two texts (AES-GCM does not commit to
its key).
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import itertools
import json
import os
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from interlock.crypto import files
from interlock.crypto.keys import KeyStore, seal, unseal
from interlock.errors import IntegrityError

__all__ = [
    "FileShelf",
    "Scope",
    "Shelf",
    "SubjectKeys",
    "commitment",
    "joined",
    "open_payload",
]

#: Not `Path.exists`: this runs for every entry.
_exists = os.path.exists
_FORMAT = b"\x01"
_HEAD = 1 + 16 + 8
_BODY = _HEAD + 32
_NONCE = bytes(12)


@dataclass(frozen=True, slots=True)
class Scope:
    """What one data key is for.

    Attributes:
        subject: whom the payloads are about; several, one a line (see `joined`).
        label: data label, or empty; several, one a line.
        period: month (`2026-11`) for labelled data, or empty.
    """

    subject: str
    label: str = ""
    period: str = ""

    def about(self, subject: str) -> bool:
        """Whether the payloads are about a subject, alone or among others."""
        return subject in self.subject.split("\n")

    def labelled(self, label: str) -> bool:
        """Whether the payloads have a label, alone or among others."""
        return label in self.label.split("\n")


def joined(*names: str) -> str:
    """Return several subjects or labels as one scope takes them.

    Example:
        >>> Scope(joined("bob", "ada", "bob")).about("ada")
        True
    """
    return "\n".join(sorted({name.replace("\n", " ") for name in names}))


class Shelf(Protocol):
    """Where sealed data keys are kept."""

    def exists(self, key_id: str) -> bool:
        """Return whether the key is there."""

    def read(self, key_id: str) -> bytes | None:
        """Return the sealed key."""

    def create(self, key_id: str, sealed: bytes) -> bytes:
        """Store a key unless there is one; return the one that is there."""

    def erased(self, key_id: str) -> bool:
        """Return whether the key has been destroyed."""

    def all_erased(self) -> list[str]:
        """Return the ids of destroyed keys."""

    def ids(self) -> list[str]:
        """Return the ids of the keys that are there."""

    def destroy(self, key_id: str) -> None:
        """Destroy a key; its id is remembered."""

    def settle(self) -> None:
        """Called after keys were destroyed."""


class FileShelf:
    """Sealed data keys in files, one a key, with a marker for each destroyed one.

    The marker is on the disk before the key is overwritten and removed, so that a crash in between
    leaves nothing that would be used again.
    """

    def __init__(self, folder: Path, *, create: bool = True) -> None:
        self._dir = files.private_dir(folder) if create else folder
        self._name = str(folder)

    def exists(self, key_id: str) -> bool:
        """Return whether the key is there."""
        return _exists(f"{self._name}/{key_id}.key")

    def read(self, key_id: str) -> bytes | None:
        """Return the sealed key."""
        return files.read_private(self._dir / f"{key_id}.key")

    def create(self, key_id: str, sealed: bytes) -> bytes:
        """Store a key; callers hold the lock of the key store."""
        files.write_private(self._dir / f"{key_id}.key", sealed)
        return sealed

    def erased(self, key_id: str) -> bool:
        """Return whether the key has been destroyed."""
        return _exists(f"{self._name}/{key_id}.erased")

    def all_erased(self) -> list[str]:
        """Return the ids of destroyed keys."""
        return sorted(path.stem for path in self._dir.glob("*.erased"))

    def ids(self) -> list[str]:
        """Return the ids of the keys that are there."""
        return sorted(path.stem for path in self._dir.glob("*.key"))

    def destroy(self, key_id: str) -> None:
        """Mark a key as destroyed, overwrite it, remove it."""
        files.write_private(self._dir / f"{key_id}.erased", b"")
        _overwrite(self._dir / f"{key_id}.key")

    def settle(self) -> None:
        """Nothing is left to do."""


class Writer:
    """The secret a process writes with, for one scope.

    What is sealed after the data key was destroyed can be read by nobody.
    """

    __slots__ = ("counter", "id", "secret", "session")

    def __init__(self, key_id: str, data_key: bytes) -> None:
        self.id = key_id
        self.session = os.urandom(16)
        self.secret = _session_key(data_key, self.session)
        self.counter = itertools.count()

    def seal(self, plaintext: bytes) -> bytes:
        """Return the stored form of a payload."""
        count = struct.pack(">Q", next(self.counter))
        key = hmac.digest(self.secret, count, "sha256")
        sealed = AESGCM(key).encrypt(_NONCE, plaintext, self.id.encode())
        return b"".join((_FORMAT, self.session, count, commitment(key), sealed))


def _session_key(data_key: bytes, session: bytes) -> bytes:
    info = b"interlock/ledger/payload/v1" + session
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(data_key)


def commitment(entry_key: bytes) -> bytes:
    """Return what binds a stored payload to the one key that opens it."""
    return hashlib.sha256(b"interlock/ledger/commit/v1" + entry_key).digest()


class SubjectKeys:
    """The data keys of one ledger, in `keys/subjects/` unless another shelf is given."""

    def __init__(self, store: KeyStore, shelf: Shelf | None = None, *, create: bool = True) -> None:
        self._store = store
        self._shelf = shelf or FileShelf(store.path / "subjects", create=create)
        self._index = store.secret("subject-index", create=create) or b""
        self._wrap = store.secret("subject-wrap", create=create) or b""
        self._writers: dict[Scope, Writer] = {}
        self._readers: dict[tuple[str, bytes], bytes] = {}
        self._lock = threading.Lock()

    def writer(self, scope: Scope) -> Writer:
        """Return what encrypts payloads of a scope now."""
        writer = self._writers.get(scope)
        if writer is None or not self._shelf.exists(writer.id):
            writer = self._open(scope)
        return writer

    def _current_id(self, scope: Scope) -> str:
        for generation in itertools.count():
            message = json.dumps([generation, scope.subject, scope.label, scope.period])
            key_id = hmac.digest(self._index, message.encode(), "sha256")[:16].hex()
            if not self._shelf.erased(key_id):
                return key_id
        raise AssertionError("unreachable: the count does not end")

    def _open(self, scope: Scope) -> Writer:
        with self._lock, files.locked(self._store.lock_path()):
            key_id = self._current_id(scope)
            data_key = self._data_key(key_id)
            if data_key is None:
                data_key = os.urandom(32)
                record = {
                    "key": base64.b64encode(data_key).decode(),
                    "subject": scope.subject,
                    "label": scope.label,
                    "period": scope.period,
                }
                sealed = seal(self._wrap, json.dumps(record).encode(), key_id)
                data_key = self._opened(key_id, self._shelf.create(key_id, sealed))
            writer = Writer(key_id, data_key)
            self._writers[scope] = writer
            return writer

    def _record(self, key_id: str) -> dict[str, str] | None:
        raw = self._shelf.read(key_id)
        if raw is None:
            return None
        record: dict[str, str] = json.loads(unseal(self._wrap, raw, key_id))
        return record

    def _opened(self, key_id: str, sealed: bytes) -> bytes:
        return base64.b64decode(json.loads(unseal(self._wrap, sealed, key_id))["key"])

    def _data_key(self, key_id: str) -> bytes | None:
        raw = self._shelf.read(key_id)
        return None if raw is None else self._opened(key_id, raw)

    def decrypt(self, key_id: str, stored: bytes) -> bytes | None:
        """Return the payload, or None when its key has been destroyed.

        Raises:
            IntegrityError: the stored form is not what was written.
        """
        key = self.entry_key(key_id, stored)
        return None if key is None else open_payload(key, key_id, stored)

    def entry_key(self, key_id: str, stored: bytes) -> bytes | None:
        """Return the key that opens this one payload and no other, None when erased."""
        if stored[:1] != _FORMAT or len(stored) < _BODY + 16 or not key_id.isalnum():
            raise _damaged(f"{len(stored)} B, format 0x{stored[:1].hex()}")
        session = stored[1:17]
        if not self._shelf.exists(key_id):
            self._readers.pop((key_id, session), None)
            return None
        secret = self._readers.get((key_id, session))
        if secret is None:
            data_key = self._data_key(key_id)
            if data_key is None:
                return None
            secret = _session_key(data_key, session)
            if len(self._readers) > 4096:
                self._readers.clear()
            self._readers[key_id, session] = secret
        return hmac.digest(secret, stored[17:_HEAD], "sha256")

    def scopes(self) -> dict[str, Scope]:
        """Return key id and scope of every data key there is."""
        found = {}
        for key_id in self._shelf.ids():
            if scope := self.scope_of(key_id):
                found[key_id] = scope
        return found

    def scope_of(self, key_id: str) -> Scope | None:
        """Return what a data key is for, None when it has been destroyed."""
        record = self._record(key_id) if key_id.isalnum() else None
        if record is None:
            return None
        return Scope(record["subject"], record["label"], record["period"])

    def destroyed(self) -> list[str]:
        """Return the ids of the keys that have been destroyed."""
        return self._shelf.all_erased()

    def destroy(self, choose: Callable[[Scope], bool]) -> list[str]:
        """Destroy the data keys of the scopes chosen; return their ids."""
        with self._lock, files.locked(self._store.lock_path()):
            chosen = [key_id for key_id, scope in self.scopes().items() if choose(scope)]
            for key_id in chosen:
                self._shelf.destroy(key_id)
            if chosen:
                self._shelf.settle()
            self._writers = {s: w for s, w in self._writers.items() if w.id not in chosen}
            self._readers = {r: s for r, s in self._readers.items() if r[0] not in chosen}
        return chosen


def _overwrite(path: Path) -> None:
    try:
        with contextlib.suppress(FileNotFoundError):
            with path.open("r+b") as handle:
                size = handle.seek(0, os.SEEK_END)
                handle.seek(0)
                handle.write(os.urandom(size))
                handle.flush()
                os.fsync(handle.fileno())
            path.unlink()
        files.sync_dir(path.parent)
    except OSError as error:
        raise files.storage_error(path, error) from error


def open_payload(key: bytes, key_id: str, stored: bytes) -> bytes:
    """Decrypt one payload with its own key.

    Raises:
        IntegrityError: it is another entry's key, or the bytes were changed.
    """
    if not hmac.compare_digest(commitment(key), stored[_HEAD:_BODY]):
        raise _damaged("a key that is not this entry's")
    try:
        return AESGCM(key).decrypt(_NONCE, stored[_BODY:], key_id.encode())
    except InvalidTag as error:
        raise _damaged("a ciphertext that does not authenticate") from error


def _damaged(got: str) -> IntegrityError:
    return IntegrityError(
        "a stored payload cannot be decrypted",
        code="payload-damaged",
        got=got,
        expected="the bytes that were written",
        fix="run `interlock verify` to see which entries were changed",
    )
