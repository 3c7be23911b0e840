"""Where the key-encryption key comes from: file, passphrase, keyring, TPM or HSM.

A provider keeps a few bytes safe, nothing else. Which one a key store uses stands in
`keys/kek.json`; changing the provider moves the same key-encryption key, so no other file changes.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from interlock.crypto import files
from interlock.crypto.pkcs11 import Pkcs11Kek
from interlock.errors import IntegrityError, SetupError, UsageError

__all__ = ["LOCAL", "PROVIDERS", "KekProvider", "passphrase_from_environment", "provider_of"]

#: scrypt cost (RFC 7914): 128 MiB and about 0.3 s a guess.
SCRYPT_N = 1 << 17


class KekProvider(Protocol):
    """Keeps the key-encryption key."""

    name: str

    def load(self) -> bytes | None:
        """Return what was stored, None when nothing was.

        Raises:
            IntegrityError: wrong passphrase, or changed bytes.
        """

    def store(self, kek: bytes) -> None:
        """Replace what is stored; all of it or nothing."""

    def remove(self) -> None:
        """Forget what is stored."""


class FileKek:
    """The key in a file that only its owner can read.

    Protects a copied database and copied key files; not a copy of the whole home.
    """

    name = "file"

    def __init__(self, folder: Path) -> None:
        self._path = folder / "kek"

    def load(self) -> bytes | None:
        """Return the file's bytes."""
        return files.read_private(self._path)

    def store(self, kek: bytes) -> None:
        """Write the file."""
        files.write_private(self._path, kek)

    def remove(self) -> None:
        """Remove the file."""
        self._path.unlink(missing_ok=True)


class PassphraseKek:
    """The key sealed under a passphrase: scrypt, then AES-256-GCM."""

    name = "passphrase"

    def __init__(
        self, folder: Path, passphrase: Callable[[], str | None], *, n: int | None = None
    ) -> None:
        self._path = folder / "kek.passphrase"
        self._passphrase = passphrase
        self._n = n or SCRYPT_N

    def load(self) -> bytes | None:
        """Open the sealed key with the passphrase."""
        raw = files.read_private(self._path)
        if raw is None:
            return None
        try:
            document = json.loads(raw)
            salt = base64.b64decode(document["salt"])
            sealed = base64.b64decode(document["sealed"])
            n = int(document["n"])
        except (ValueError, KeyError, TypeError) as error:
            raise _damaged(self._path, error) from error
        if not 1 << 10 <= n <= 1 << 22 or n & (n - 1):
            raise _damaged(self._path, f"scrypt cost {n}")
        key = self._stretch(salt, n)
        try:
            return AESGCM(key).decrypt(sealed[:12], sealed[12:], b"interlock/kek/v1")
        except (InvalidTag, ValueError) as error:
            raise IntegrityError(
                "the passphrase does not open the keys",
                code="key-passphrase",
                got="another passphrase, or a changed file",
                expected=f"the passphrase that {self._path} was sealed with",
                fix="try the passphrase again; nothing was overwritten",
            ) from error

    def _stretch(self, salt: bytes, n: int) -> bytes:
        passphrase = self._passphrase()
        if not passphrase:
            raise SetupError(
                "the keys need a passphrase",
                code="key-passphrase",
                got="none",
                expected="INTERLOCK_PASSPHRASE_FILE or INTERLOCK_PASSPHRASE",
                fix="set INTERLOCK_PASSPHRASE_FILE to a file only you can read",
            )
        return Scrypt(salt=salt, length=32, n=n, r=8, p=1).derive(passphrase.encode())

    def store(self, kek: bytes) -> None:
        """Seal the key under the passphrase, with a fresh salt."""
        salt, nonce = os.urandom(16), os.urandom(12)
        key = self._stretch(salt, self._n)
        sealed = nonce + AESGCM(key).encrypt(nonce, kek, b"interlock/kek/v1")
        document = {
            "kdf": "scrypt",
            "n": self._n,
            "salt": base64.b64encode(salt).decode(),
            "sealed": base64.b64encode(sealed).decode(),
        }
        files.write_private(self._path, json.dumps(document).encode())

    def remove(self) -> None:
        """Remove the sealed key."""
        self._path.unlink(missing_ok=True)


class KeyringKek:
    """The key in the keyring of the operating system (extra `keyring`)."""

    name = "keyring"

    def __init__(self, folder: Path) -> None:
        self._user = str(folder.resolve())

    def _keyring(self) -> Any:
        try:
            import keyring
        except ImportError as error:
            raise SetupError(
                "the keyring needs the extra `keyring`",
                code="extra-missing",
                got="no keyring package",
                expected="keyring",
                fix="pip install 'interlock[keyring]'",
            ) from error
        return keyring

    def load(self) -> bytes | None:
        """Ask the keyring."""
        text = self._keyring().get_password("interlock", self._user)
        return None if text is None else base64.b64decode(text)

    def store(self, kek: bytes) -> None:
        """Give the key to the keyring."""
        text = base64.b64encode(kek).decode()
        self._keyring().set_password("interlock", self._user, text)

    def remove(self) -> None:
        """Take the key out of the keyring."""
        if self.load() is not None:
            self._keyring().delete_password("interlock", self._user)


class TpmKek:
    """The key sealed by a TPM 2.0 (tpm2-tools): it opens on this machine only.

    The TPM is reached as `TPM2TOOLS_TCTI` says. Transient objects are flushed between commands,
    so no resource manager is needed.
    """

    name = "tpm"

    def __init__(self, folder: Path) -> None:
        self._path = folder / "kek.tpm"

    def _run(self, folder: str, *command: str, data: bytes | None = None) -> bytes:
        try:
            done = subprocess.run(  # noqa: S603 (fixed commands)
                command, cwd=folder, input=data, capture_output=True, timeout=60, check=True
            )
            flush = ["tpm2_flushcontext", "-t"]
            subprocess.run(flush, cwd=folder, capture_output=True, timeout=60, check=True)  # noqa: S603 (fixed)
        except (OSError, subprocess.SubprocessError) as error:
            detail = getattr(error, "stderr", b"") or str(error).encode()
            raise SetupError(
                "the TPM did not do what was asked",
                code="key-tpm",
                got=f"{command[0]}: {detail.decode('utf-8', 'replace').strip()[-300:]}",
                expected="tpm2-tools 5 and the TPM the key was sealed with",
                fix="check TPM2TOOLS_TCTI and the rights on /dev/tpmrm0; nothing was overwritten",
            ) from error
        return done.stdout

    def _primary(self, folder: str) -> None:
        self._run(
            folder, "tpm2_createprimary", "-Q", "-C", "o", "-g", "sha256", "-G", "ecc", "-c", "p"
        )

    def load(self) -> bytes | None:
        """Have the TPM unseal the key."""
        raw = files.read_private(self._path)
        if raw is None:
            return None
        try:
            document = json.loads(raw)
            parts = {name: base64.b64decode(document[name]) for name in ("pub", "priv")}
        except (ValueError, KeyError, TypeError) as error:
            raise _damaged(self._path, error) from error
        with tempfile.TemporaryDirectory() as folder:
            for name, data in parts.items():
                (Path(folder) / name).write_bytes(data)
            self._primary(folder)
            self._run(folder, "tpm2_load", "-Q", "-C", "p", "-u", "pub", "-r", "priv", "-c", "o")
            return self._run(folder, "tpm2_unseal", "-c", "o")

    def store(self, kek: bytes) -> None:
        """Have the TPM seal the key."""
        with tempfile.TemporaryDirectory() as folder:
            self._primary(folder)
            seal = ["tpm2_create", "-Q", "-C", "p", "-i", "-", "-u", "pub", "-r", "priv"]
            self._run(folder, *seal, data=kek)
            document = {
                name: base64.b64encode((Path(folder) / name).read_bytes()).decode()
                for name in ("pub", "priv")
            }
        files.write_private(self._path, json.dumps(document).encode())

    def remove(self) -> None:
        """Remove the sealed key."""
        self._path.unlink(missing_ok=True)


def passphrase_from_environment() -> str | None:
    """Return the passphrase from `INTERLOCK_PASSPHRASE_FILE`, else `INTERLOCK_PASSPHRASE`."""
    if path := os.environ.get("INTERLOCK_PASSPHRASE_FILE"):
        raw = files.read_private(Path(path))
        return None if raw is None else raw.decode().strip("\r\n")
    return os.environ.get("INTERLOCK_PASSPHRASE")


PROVIDERS: dict[str, Callable[[Path], KekProvider]] = {
    "file": FileKek,
    "passphrase": lambda folder: PassphraseKek(folder, passphrase_from_environment),
    "keyring": KeyringKek,
    "pkcs11": Pkcs11Kek,
    "tpm": TpmKek,
}
#: Keepers that leave a file in the folder of the keys.
LOCAL = frozenset({"file", "passphrase", "tpm"})


def provider_of(folder: Path) -> KekProvider:
    """Return the provider that `kek.json` names; a file without it."""
    raw = files.read_private(folder / "kek.json")
    try:
        name = "file" if raw is None else json.loads(raw)["provider"]
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(folder / "kek.json", error) from error
    return make(name, folder)


def make(name: str, folder: Path) -> KekProvider:
    """Return a provider by name."""
    if name not in PROVIDERS:
        raise UsageError(
            "no such keeper of the key-encryption key",
            code="key-provider",
            got=str(name),
            expected="one of " + ", ".join(sorted(PROVIDERS)),
            fix="name one of them; a newer one needs a newer Interlock",
        )
    return PROVIDERS[name](folder)


def _damaged(path: Path, error: object) -> IntegrityError:
    return IntegrityError(
        "the key-encryption key is damaged",
        code="key-format",
        got=f"{path}: {error}",
        expected="what Interlock wrote",
        fix="restore it from a copy; nothing was overwritten",
    )
