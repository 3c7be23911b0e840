"""Where keys live: seeds sealed under one key-encryption key, in files only their owner can read.

A seed file is JSON: `{"version", "name", "algorithm", "public", "sealed"}`. `sealed` is AES-256-GCM
under the key-encryption key, bound to version, name and algorithm. The key-encryption key itself
comes from a provider; the default keeps it in a file beside the seeds, which protects a copied
database or backup of seeds, and not against somebody who reads the whole home directory.
"""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from interlock.crypto import files, signing
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
        self._kek = self._load_kek()

    def lock_path(self) -> Path:
        """Return the file whose lock guards the creation of keys."""
        return self.path / ".lock"

    def _load_kek(self) -> bytes:
        path = self.path / "kek"
        kek = files.read_private(path)
        if kek is None:
            with files.locked(self.lock_path()):
                kek = files.read_private(path)
                if kek is None:
                    if any(self.path.glob("*.key")):
                        raise StorageError(
                            "the key-encryption key is gone",
                            code="key-missing",
                            got=f"no {path}, but sealed keys beside it",
                            expected="the file they were sealed under",
                            fix=f"restore {path} from a copy; nothing was overwritten",
                        )
                    kek = os.urandom(32)
                    files.write_private(path, kek)
        if len(kek) != 32:
            raise IntegrityError(
                "the key-encryption key is damaged",
                code="key-format",
                got=f"{len(kek)} B in {path}",
                expected="32 B",
                fix="restore it from a copy; nothing was overwritten",
            )
        return kek

    def secret(self, name: str, *, create: bool = True) -> bytes | None:
        """Return a named 32-byte secret, making it the first time."""
        return self._seed(name, "secret", create=create)

    def signing_key(self, name: str, algorithm: str) -> signing.PrivateKey:
        """Return a named signing key, making it the first time."""
        signing.algorithm(algorithm)
        seed = self._seed(name, algorithm, create=True)
        if seed is None:
            raise AssertionError("unreachable: a missing key is made")
        return signing.load_private(algorithm, seed)

    def has(self, name: str) -> bool:
        """Return whether a key of this name exists."""
        return (self.path / f"{name}.key").exists()

    def _seed(self, name: str, algorithm: str, *, create: bool) -> bytes | None:
        path = self.path / f"{name}.key"
        raw = files.read_private(path)
        if raw is None and create:
            with files.locked(self.lock_path()):
                raw = files.read_private(path)
                if raw is None:
                    raw = self._encode(name, algorithm, os.urandom(32))
                    files.write_private(path, raw)
        return None if raw is None else self._decode(path, name, algorithm, raw)

    def _encode(self, name: str, algorithm: str, seed: bytes) -> bytes:
        sealed = seal(self._kek, seed, _context(name, algorithm))
        document: dict[str, Any] = {
            "version": _VERSION,
            "name": name,
            "algorithm": algorithm,
            "sealed": base64.b64encode(sealed).decode(),
        }
        if algorithm in signing.SIGNATURES:
            public = signing.load_private(algorithm, seed).public_key().public_bytes_raw()
            document["public"] = base64.b64encode(public).decode()
        return json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"

    def _decode(self, path: Path, name: str, algorithm: str, raw: bytes) -> bytes:
        try:
            document = json.loads(raw)
            version, stored = document["version"], document["algorithm"]
            sealed = base64.b64decode(document["sealed"], validate=True)
        except (ValueError, KeyError, TypeError) as error:
            raise IntegrityError(
                "a key file cannot be read",
                code="key-format",
                got=f"{path}: {error}",
                expected="the JSON that Interlock wrote",
                fix="restore it from a copy; nothing was overwritten",
            ) from error
        if version != _VERSION or stored != algorithm:
            raise IntegrityError(
                "a key file is of another version or algorithm",
                code="key-format",
                got=f"{path}: version {version}, {stored}",
                expected=f"version {_VERSION}, {algorithm}",
                fix="use the Interlock version that wrote it; nothing was overwritten",
            )
        return unseal(self._kek, sealed, _context(name, algorithm))


def _context(name: str, algorithm: str) -> str:
    return f"interlock/key/v{_VERSION}/{algorithm}/{name}"
