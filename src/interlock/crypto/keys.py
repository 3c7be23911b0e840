"""Where keys live: seeds sealed under one key-encryption key, in files only their owner can read.

A seed file is JSON: `{"version", "name", "algorithm", "public", "sealed"}`. `sealed` is AES-256-GCM
under the key-encryption key, bound to version, name and algorithm. The key-encryption key comes
from a provider (`interlock.crypto.kek`).
"""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from interlock.crypto import files, kem, signing
from interlock.crypto.kek import LOCAL, KekProvider, make, provider_of
from interlock.errors import IntegrityError, StorageError

__all__ = ["KeyStore", "seal", "unseal"]

_VERSION = 1


def seal(key: bytes, plaintext: bytes, context: str) -> bytes:
    """Encrypt a secret under a key, bound to its context; random nonce first."""
    nonce = os.urandom(12)
    return nonce + AESGCM(key).encrypt(nonce, plaintext, context.encode())


def unseal(key: bytes, sealed: bytes, context: str) -> bytes:
    """Decrypt what `seal` made.

    Raises:
        IntegrityError: another key, another context, or changed bytes.
    """
    try:
        return AESGCM(key).decrypt(sealed[:12], sealed[12:], context.encode())
    except (InvalidTag, ValueError) as error:
        raise IntegrityError(
            "a sealed key cannot be opened",
            code="key-sealed",
            got=context,
            expected="the key-encryption key it was sealed under, and unchanged bytes",
            fix="give the right passphrase or key file; restore the keys from a copy",
        ) from error


class KeyStore:
    """The keys of one home.

    Example:
        >>> import pathlib, tempfile
        >>> store = KeyStore(pathlib.Path(tempfile.mkdtemp()) / "keys")
        >>> key = store.signing_key("log", "ed25519")
        >>> len(key.sign(b"data"))
        64
    """

    def __init__(self, path: Path) -> None:
        self.path = files.private_dir(path)
        self._keks = self._load_keks()

    @classmethod
    def reading(cls, path: Path) -> KeyStore | None:
        """Return the keys of a folder without making anything; None when it cannot open any.

        Raises:
            SetupError: others can read the keys, or the passphrase is not given.
        """
        if not path.is_dir():
            return None
        files.check_private(path)
        if provider_of(path).load() is None:
            return None
        return cls(path)

    def lock_path(self) -> Path:
        """Return the file whose lock guards the creation of keys."""
        return self.path / ".lock"

    def _load_keks(self) -> list[bytes]:
        """Return the key-encryption keys: one, or the new and the old during a rotation."""
        raw = provider_of(self.path).load()
        if raw is None:
            with files.locked(self.lock_path()):
                provider = provider_of(self.path)
                raw = provider.load()
                if raw is None:
                    self._refuse_orphans()
                    raw = os.urandom(32)
                    provider.store(raw)
        if len(raw) not in (32, 64):
            raise IntegrityError(
                "the key-encryption key is damaged",
                code="key-format",
                got=f"{len(raw)} B",
                expected="32 B",
                fix="restore it from a copy; nothing was overwritten",
            )
        return [raw[i : i + 32] for i in range(0, len(raw), 32)]

    def _refuse_orphans(self) -> None:
        if any(self.path.glob("*.key")):
            raise StorageError(
                "the key-encryption key is gone",
                code="key-missing",
                got=f"none, but sealed keys in {self.path}",
                expected="the key they were sealed under",
                fix="restore it from a copy; nothing was overwritten",
            )

    def secret(self, name: str, *, create: bool = True) -> bytes | None:
        """Return a named 32-byte secret, making it the first time."""
        return self._seed(name, "secret", create=create)

    def signing_key(self, name: str, algorithm: str) -> signing.PrivateKey:
        """Return a named signing key, making it the first time."""
        signing.algorithm(algorithm)
        return signing.load_private(algorithm, self._made(name, algorithm))

    def kem_key(self, name: str, suite: str) -> kem.KemPrivate:
        """Return a named decryption key, making it the first time."""
        return kem.suite(suite).private(self._made(name, suite))

    def _made(self, name: str, algorithm: str) -> bytes:
        seed = self._seed(name, algorithm, create=True)
        if seed is None:
            raise AssertionError("unreachable: a missing key is made")
        return seed

    def has(self, name: str) -> bool:
        """Return whether a key of this name exists."""
        return (self.path / f"{name}.key").exists()

    def inventory(self) -> list[dict[str, Any]]:
        """Return name, algorithm and public key of every key; nothing is opened."""
        found = []
        for path in sorted(self.path.glob("*.key")):
            document = _parse(path, files.read_private(path) or b"")
            found.append({k: document.get(k) for k in ("name", "algorithm", "public")})
        return found

    def _seed(self, name: str, algorithm: str, *, create: bool) -> bytes | None:
        path = self.path / f"{name}.key"
        raw = files.read_private(path)
        if raw is None and create:
            with files.locked(self.lock_path()):
                raw = files.read_private(path)
                if raw is None:
                    self._keks = self._load_keks()
                    raw = self._encode(name, algorithm, os.urandom(32))
                    files.write_private(path, raw)
        return None if raw is None else self._decode(path, name, algorithm, raw)

    def _encode(self, name: str, algorithm: str, seed: bytes) -> bytes:
        sealed = seal(self._keks[0], seed, _context(name, algorithm))
        document: dict[str, Any] = {
            "version": _VERSION,
            "name": name,
            "algorithm": algorithm,
            "sealed": base64.b64encode(sealed).decode(),
        }
        public: bytes | None = None
        if algorithm in signing.SIGNATURES:
            public = signing.load_private(algorithm, seed).public_key().public_bytes_raw()
        elif algorithm in kem.SUITES:
            public = kem.SUITES[algorithm].private(seed).public_bytes
        if public is not None:
            document["public"] = base64.b64encode(public).decode()
        return json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"

    def _decode(self, path: Path, name: str, algorithm: str, raw: bytes) -> bytes:
        document = _parse(path, raw)
        if document["algorithm"] != algorithm or document["name"] != name:
            raise IntegrityError(
                "a key file holds another key",
                code="key-format",
                got=f"{path}: {document['name']}, {document['algorithm']}",
                expected=f"{name}, {algorithm}",
                fix="put the right file back; nothing was overwritten",
            )
        try:
            return self._unseal(document)
        except IntegrityError:
            self._keks = self._load_keks()
            fresh = files.read_private(path)
            return self._unseal(document if fresh is None else _parse(path, fresh))

    def _unseal(self, document: dict[str, Any]) -> bytes:
        sealed = base64.b64decode(document["sealed"])
        context = _context(document["name"], document["algorithm"])
        for kek in self._keks[:-1]:
            try:
                return unseal(kek, sealed, context)
            except IntegrityError:
                continue
        return unseal(self._keks[-1], sealed, context)

    def rotate_kek(self) -> int:
        """Seal every key under a new key-encryption key; return how many there are.

        Others keep reading all the while: both keys are stored until the last file is sealed anew.
        A crash in between leaves both in place; calling it again finishes.
        """
        with files.locked(self.lock_path()):
            provider = provider_of(self.path)
            self._keks = self._load_keks()
            new = os.urandom(32) if len(self._keks) == 1 else self._keks[0]
            self._keks = [new, self._keks[-1]]
            provider.store(b"".join(self._keks))
            count = 0
            for path in sorted(self.path.glob("*.key")):
                document = _parse(path, files.read_private(path) or b"")
                name, algorithm = document["name"], document["algorithm"]
                seed = self._unseal(document)
                files.write_private(path, self._encode(name, algorithm, seed))
                count += 1
            provider.store(new)
            self._keks = [new]
            return count

    def move_kek(self, provider: str | KekProvider) -> tuple[str, str]:
        """Hand the key-encryption key to another provider; return the names of old and new.

        A crash may leave the key with both; calling it again takes it from every other keeper
        that is a file in the folder.
        """
        with files.locked(self.lock_path()):
            old = provider_of(self.path)
            new = make(provider, self.path) if isinstance(provider, str) else provider
            self._keks = self._load_keks()
            new.store(b"".join(self._keks))
            if new.load() != b"".join(self._keks):
                raise IntegrityError(
                    "the new keeper does not give the key back",
                    code="key-provider",
                    got=new.name,
                    expected="the same key",
                    fix="keep the present one; nothing was changed",
                )
            document = json.dumps({"provider": new.name}).encode()
            files.write_private(self.path / "kek.json", document)
            if old.name != new.name:
                old.remove()
            for name in LOCAL - {new.name}:
                make(name, self.path).remove()
            return old.name, new.name


def _context(name: str, algorithm: str) -> str:
    return f"interlock/key/v{_VERSION}/{algorithm}/{name}"


def _parse(path: Path, raw: bytes) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(raw)
        version = document["version"]
        base64.b64decode(document["sealed"], validate=True)
        named = isinstance(document["name"], str) and isinstance(document["algorithm"], str)
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(
            "a key file cannot be read",
            code="key-format",
            got=f"{path}: {error}",
            expected="the JSON that Interlock wrote",
            fix="restore it from a copy; nothing was overwritten",
        ) from error
    if version != _VERSION or not named:
        raise IntegrityError(
            "a key file is of another version",
            code="key-format",
            got=f"{path}: version {version}",
            expected=f"version {_VERSION}",
            fix="use the Interlock version that wrote it; nothing was overwritten",
        )
    return document
