"""The key-encryption key sealed by a key that never leaves an HSM (PKCS#11; extra `pkcs11`).

The token holds an AES-256 key that it made itself and that it does not give out; the home holds
the key-encryption key encrypted under it (AES-GCM, bound to its purpose). The vendor's library
runs in a process of its own for each use: it may not survive a fork, a process can have only one,
and its crash must not be ours. PKCS #11 v3.0, https://docs.oasis-open.org/pkcs11/.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from interlock.crypto import files
from interlock.errors import IntegrityError, SetupError

__all__ = ["Pkcs11Kek"]

_CONTEXT = b"interlock/kek/v1"
_TIMEOUT_S = 60.0


class Pkcs11Kek:
    """Keeps the key-encryption key sealed by a token.

    `INTERLOCK_PKCS11_MODULE` is the vendor's library, `INTERLOCK_PKCS11_TOKEN` the label of the
    token, `INTERLOCK_PKCS11_PIN_FILE` (or `INTERLOCK_PKCS11_PIN`) its user PIN. A wrong PIN is
    tried once and never again by itself: tokens lock.
    """

    name = "pkcs11"

    def __init__(self, folder: Path) -> None:
        self._path = folder / "kek.pkcs11"

    def _document(self) -> dict[str, str] | None:
        raw = files.read_private(self._path)
        if raw is None:
            return None
        try:
            document = json.loads(raw)
            bytes.fromhex(document["key"])
            base64.b64decode(document["sealed"], validate=True)
        except (ValueError, KeyError, TypeError) as error:
            raise IntegrityError(
                "the key-encryption key is damaged",
                code="key-format",
                got=f"{self._path}: {error}",
                expected="what Interlock wrote",
                fix="restore it from a copy; nothing was overwritten",
            ) from error
        found: dict[str, str] = document
        return found

    def load(self) -> bytes | None:
        """Have the token open the key."""
        document = self._document()
        if document is None:
            return None
        return base64.b64decode(_ask("open", key=document["key"], data=document["sealed"]))

    def store(self, kek: bytes) -> None:
        """Have the token seal the key, under a key it makes the first time."""
        document = self._document()
        key = document["key"] if document else os.urandom(16).hex()
        data = base64.b64encode(kek).decode()
        sealed = _ask("seal" if document else "make", key=key, data=data)
        text = json.dumps({"key": key, "sealed": sealed})
        files.write_private(self._path, text.encode())

    def remove(self) -> None:
        """Destroy the token's key and forget what it sealed."""
        document = self._document()
        if document is not None:
            _ask("destroy", key=document["key"], data="")
            self._path.unlink(missing_ok=True)


def _ask(verb: str, **values: str) -> str:
    request = {
        "verb": verb,
        "module": _setting("INTERLOCK_PKCS11_MODULE", "the path of the vendor's library"),
        "token": _setting("INTERLOCK_PKCS11_TOKEN", "the label of the token"),
        "pin": _pin(),
        **values,
    }
    # Only our own package on the path: the hooks of a guarded program have no business here.
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "interlock.crypto.pkcs11"],
            input=json.dumps(request).encode(),
            capture_output=True,
            env=environment,
            timeout=_TIMEOUT_S,
            check=False,
        )
        answer = json.loads(done.stdout) if done.stdout else {"error": f"exit {done.returncode}"}
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise _refused(verb, str(error)) from error
    if "error" in answer:
        raise _refused(verb, str(answer["error"]))
    return str(answer["data"])


def _setting(name: str, what: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise SetupError(
            "the token that keeps the keys is not named",
            code="key-pkcs11",
            got=f"no {name}",
            expected=what,
            fix=f"set {name}",
        )
    return value


def _pin() -> str:
    if path := os.environ.get("INTERLOCK_PKCS11_PIN_FILE"):
        raw = files.read_private(Path(path))
        if raw is not None:
            return raw.decode().strip("\r\n")
    return _setting("INTERLOCK_PKCS11_PIN", "the PIN of the token's user, here or in a file")


def _refused(verb: str, got: str) -> SetupError:
    return SetupError(
        "the PKCS#11 token did not do what was asked",
        code="key-pkcs11",
        got=f"{verb}: {got[-300:]}",
        expected="the token the key was sealed with, its PIN, and a library that can AES-GCM",
        fix="check INTERLOCK_PKCS11_MODULE, _TOKEN and _PIN_FILE; nothing was overwritten",
    )


def _perform(request: dict[str, str]) -> str:
    """Do one thing with the token; in the process of its own."""
    import pkcs11
    from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass

    wanted: dict[Any, Any] = {
        Attribute.CLASS: ObjectClass.SECRET_KEY,
        Attribute.ID: bytes.fromhex(request["key"]),
    }
    data = base64.b64decode(request["data"])
    token = pkcs11.lib(request["module"]).get_token(token_label=request["token"])
    verb = request["verb"]
    with token.open(rw=verb in ("make", "destroy"), user_pin=request["pin"]) as session:
        if verb == "make":
            template = {Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False}
            key = session.generate_key(
                KeyType.AES,
                256,
                id=wanted[Attribute.ID],
                label="interlock key-encryption key",
                store=True,
                template=template,
            )
        else:
            found = list(session.get_objects(wanted))
            if len(found) != 1:
                raise LookupError(f"{len(found)} keys of id {request['key']} in the token")
            key = found[0]
        if verb == "destroy":
            key.destroy()
            return ""
        if verb == "open":
            gcm = pkcs11.GCMParams(data[:12], _CONTEXT)
            plain = key.decrypt(data[12:], mechanism=Mechanism.AES_GCM, mechanism_param=gcm)
            return base64.b64encode(plain).decode()
        nonce = os.urandom(12)
        gcm = pkcs11.GCMParams(nonce, _CONTEXT)
        sealed = key.encrypt(data, mechanism=Mechanism.AES_GCM, mechanism_param=gcm)
        return base64.b64encode(nonce + sealed).decode()


def _main() -> None:
    try:
        answer = {"data": _perform(json.loads(sys.stdin.buffer.read()))}
    except ImportError as error:
        answer = {"error": f"{error}; pip install 'interlock[pkcs11]'"}
    except Exception as error:  # noqa: BLE001 - vendor libraries raise what they like
        answer = {"error": f"{type(error).__name__}: {error}".rstrip(": ")}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    _main()
