"""One data key a subject: payloads are encrypted under it, and erased by destroying it.

A leaf carries a key id, never the subject's name: the id is HMAC-SHA-256 of the name under a
secret of this home, so it cannot be guessed by hashing names. Each process that writes derives a
fresh AES-256-GCM key from the data key and a random session id and counts its nonces, so that no
(key, nonce) pair can repeat. Stored form: `0x01 || session (16) || counter (8) || ciphertext`.
"""

from __future__ import annotations

import contextlib
import hmac
import itertools
import os
import struct
import threading
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from interlock.crypto import files
from interlock.crypto.keys import KeyStore, seal, unseal
from interlock.errors import IntegrityError

__all__ = ["SubjectKeys"]

_FORMAT = b"\x01"
_HEAD = 1 + 16 + 8


class _Writer:
    """The key a process writes with, for one subject."""

    __slots__ = ("cipher", "counter", "id", "path", "session")

    def __init__(self, key_id: str, path: Path, data_key: bytes) -> None:
        self.id = key_id
        self.path = path
        self.session = os.urandom(16)
        self.cipher = AESGCM(_session_key(data_key, self.session))
        self.counter = itertools.count()


def _session_key(data_key: bytes, session: bytes) -> bytes:
    info = b"interlock/ledger/payload/v1" + session
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(data_key)


class SubjectKeys:
    """The data keys of one home, in `keys/subjects/`."""

    def __init__(self, store: KeyStore) -> None:
        self._store = store
        self._dir = files.private_dir(store.path / "subjects")
        self._index = store.secret("subject-index") or b""
        self._wrap = store.secret("subject-wrap") or b""
        self._writers: dict[str, _Writer] = {}
        self._readers: dict[tuple[str, bytes], AESGCM] = {}
        self._lock = threading.Lock()

    def ids(self, subject: str) -> list[str]:
        """Return the key ids a subject has had, oldest first; the last one is current."""
        found = []
        for generation in itertools.count():
            key_id = self._id(subject, generation)
            if (self._dir / f"{key_id}.erased").exists():
                found.append(key_id)
                continue
            return [*found, key_id]
        raise AssertionError("unreachable")

    def _id(self, subject: str, generation: int) -> str:
        message = f"{generation}:{subject}".encode()
        return hmac.digest(self._index, message, "sha256")[:16].hex()

    def encrypt(self, subject: str, plaintext: bytes) -> tuple[str, bytes]:
        """Return the key id and the stored form of a payload."""
        writer = self._writers.get(subject)
        if writer is None or not writer.path.exists():
            writer = self._open(subject)
        count = struct.pack(">Q", next(writer.counter))
        sealed = writer.cipher.encrypt(b"\0\0\0\0" + count, plaintext, writer.id.encode())
        return writer.id, b"".join((_FORMAT, writer.session, count, sealed))

    def _open(self, subject: str) -> _Writer:
        with self._lock, files.locked(self._store.lock_path()):
            key_id = self.ids(subject)[-1]
            path = self._dir / f"{key_id}.key"
            data_key = self._data_key(key_id)
            if data_key is None:
                data_key = os.urandom(32)
                files.write_private(path, seal(self._wrap, data_key, key_id))
            writer = _Writer(key_id, path, data_key)
            self._writers[subject] = writer
            return writer

    def _data_key(self, key_id: str) -> bytes | None:
        raw = files.read_private(self._dir / f"{key_id}.key")
        return None if raw is None else unseal(self._wrap, raw, key_id)

    def decrypt(self, key_id: str, stored: bytes) -> bytes | None:
        """Return the payload, or None when its key has been destroyed.

        Raises:
            IntegrityError: the stored form is not what was written.
        """
        if stored[:1] != _FORMAT or len(stored) < _HEAD + 16:
            raise _damaged(f"{len(stored)} B, format 0x{stored[:1].hex()}")
        session = stored[1:17]
        if not (self._dir / f"{key_id}.key").exists():
            self._readers.pop((key_id, session), None)
            return None
        cipher = self._readers.get((key_id, session))
        if cipher is None:
            data_key = self._data_key(key_id)
            if data_key is None:
                return None
            cipher = AESGCM(_session_key(data_key, session))
            if len(self._readers) > 4096:
                self._readers.clear()
            self._readers[key_id, session] = cipher
        try:
            return cipher.decrypt(b"\0\0\0\0" + stored[17:_HEAD], stored[_HEAD:], key_id.encode())
        except InvalidTag as error:
            raise _damaged("a ciphertext that does not authenticate") from error

    def erase(self, subject: str) -> str | None:
        """Destroy the current data key of a subject; return its id, None when there was none."""
        with self._lock, files.locked(self._store.lock_path()):
            key_id = self.ids(subject)[-1]
            path = self._dir / f"{key_id}.key"
            self._writers.pop(subject, None)
            for reader in [r for r in self._readers if r[0] == key_id]:
                del self._readers[reader]
            if not path.exists():
                return None
            files.write_private(self._dir / f"{key_id}.erased", b"")
            try:
                with path.open("r+b") as handle:
                    size = handle.seek(0, os.SEEK_END)
                    handle.seek(0)
                    handle.write(os.urandom(size))
                    handle.flush()
                    os.fsync(handle.fileno())
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()
                files.sync_dir(self._dir)
            except OSError as error:
                raise files.storage_error(path, error) from error
            return key_id


def _damaged(got: str) -> IntegrityError:
    return IntegrityError(
        "a stored payload cannot be decrypted",
        code="payload-damaged",
        got=got,
        expected="the bytes that were written",
        fix="run `interlock verify` to see which entries were changed",
    )
