"""A client of ETSI GS QKD 014 v1.1.1 (REST key delivery) over mutual TLS."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interlock.crypto import files
from interlock.crypto.patience import within
from interlock.errors import BackendError, InputError

__all__ = ["QkdClient", "QkdKey"]

_MAX_ANSWER = 4 << 20


@dataclass(frozen=True, slots=True)
class QkdKey:
    """A key from a key management entity. Use it once."""

    id: str
    key: bytes

    def __repr__(self) -> str:
        """Return the id only."""
        return f"QkdKey({self.id!r})"


class QkdClient:
    """Talks to one KME as one SAE; who it is stands in the client certificate.

    Args:
        url: `https://host:port` of the KME.
        certificate: client certificate, PEM.
        private_key: its key, PEM, readable by its owner alone.
        authority: certificates that the KME's certificate must lead to, PEM.
        timeout_s: for each request, from the connection to the last byte of the answer.

    Raises:
        InputError: not https, or files that are no certificates.
        SetupError: others can read the private key.
    """

    def __init__(
        self,
        url: str,
        *,
        certificate: Path,
        private_key: Path,
        authority: Path,
        timeout_s: float = 5.0,
    ) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme != "https" or not parts.hostname:
            raise InputError(
                "a KME is reached over mutual TLS only",
                code="qkd-url",
                got=url,
                expected="https://host:port",
                fix="give the https address of the KME",
            )
        self._host, self._port = parts.hostname, parts.port or 443
        self._timeout_s = timeout_s
        if private_key.exists():
            files.check_private(private_key)
        try:
            self._context = ssl.create_default_context(cafile=str(authority))
            self._context.minimum_version = ssl.TLSVersion.TLSv1_2
            self._context.load_cert_chain(str(certificate), str(private_key))
        except (OSError, ssl.SSLError) as error:
            raise InputError(
                "the certificates for the KME cannot be used",
                code="qkd-certificate",
                got=str(error),
                expected="a client certificate, its key and the authority, PEM",
                fix="check the three files",
            ) from error

    def status(self, slave: str) -> dict[str, Any]:
        """Return what the KME says of the keys it shares with `slave`."""
        return self._ask("GET", f"/api/v1/keys/{urllib.parse.quote(slave, safe='')}/status")

    def enc_keys(self, slave: str, *, number: int = 1, size: int = 256) -> list[QkdKey]:
        """Take fresh keys to use towards `slave` (as master)."""
        body = {"number": number, "size": size}
        path = f"/api/v1/keys/{urllib.parse.quote(slave, safe='')}/enc_keys"
        return self._keys(self._ask("POST", path, body), number, size)

    def dec_keys(self, master: str, ids: list[str]) -> list[QkdKey]:
        """Fetch the keys that `master` took, by their ids (as slave). Each is given once."""
        body = {"key_IDs": [{"key_ID": one} for one in ids]}
        path = f"/api/v1/keys/{urllib.parse.quote(master, safe='')}/dec_keys"
        keys = self._keys(self._ask("POST", path, body), len(ids), None)
        if [key.id for key in keys] != ids:
            raise _answer("other key ids than asked for", "the ids asked for, in order")
        return keys

    def _ask(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        try:
            status, raw = within(self._timeout_s, lambda: self._exchange(method, path, body))
        except (OSError, http.client.HTTPException) as error:
            raise BackendError(
                "the KME cannot be reached",
                code="qkd-unreachable",
                got=f"{self._host}:{self._port}: {error}",
                expected=f"an answer within {self._timeout_s} s over mutual TLS",
                fix="check the KME; a policy that requires QKD stays unmet until it is back",
            ) from error
        try:
            document = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise _answer(f"{status}, not JSON", "JSON") from error
        if status != 200 or not isinstance(document, dict):
            message = document.get("message") if isinstance(document, dict) else document
            raise BackendError(
                "the KME refused",
                code="qkd-refused",
                got=f"{status}: {str(message)[:200]}",
                expected="200 and keys",
                fix="check the SAE ids and the client certificate; wait when keys have run out",
            )
        return document

    def _exchange(self, method: str, path: str, body: object) -> tuple[int, bytes]:
        connection = http.client.HTTPSConnection(
            self._host, self._port, timeout=self._timeout_s, context=self._context
        )
        try:
            data = None if body is None else json.dumps(body).encode()
            connection.request(method, path, data, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read(_MAX_ANSWER)
        finally:
            connection.close()

    @staticmethod
    def _keys(document: dict[str, Any], number: int, size: int | None) -> list[QkdKey]:
        try:
            keys = [
                QkdKey(str(item["key_ID"]), base64.b64decode(item["key"], validate=True))
                for item in document["keys"]
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise _answer(f"{type(error).__name__}: {error}", "a key container") from error
        if len(keys) != number or len({key.id for key in keys}) != number:
            raise _answer(f"{len(keys)} keys", f"{number} different keys")
        if size is not None and any(len(key.key) * 8 != size for key in keys):
            raise _answer("keys of another size", f"{size} bits")
        return keys


def _answer(got: str, expected: str) -> BackendError:
    return BackendError(
        "the KME's answer is not of the protocol",
        code="qkd-answer",
        got=got,
        expected=expected,
        fix="check the KME with `qkdsec doctor`",
    )
