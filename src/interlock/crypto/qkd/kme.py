"""A small KME (ETSI GS QKD 014 v1.1.1) for tests and demonstrations.

Its keys are random numbers of this machine: it is a stand-in for a device, not a QKD system. Both
ends of a pair are served by one process. Who asks is the common name of the client certificate.
"""

from __future__ import annotations

import base64
import json
import os
import re
import ssl
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

__all__ = ["KeyPool", "serve"]

_PATH = re.compile(r"/api/v1/keys/([^/]{1,256})/(status|enc_keys|dec_keys)")
_MAX_BODY = 1 << 20


class _RefusedError(Exception):
    """A request that gets an HTTP error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class KeyPool:
    """The keys of all pairs of SAEs: how many are left, and which wait for their slave.

    Args:
        saes: ids that may ask.
        stored: keys a pair has at first.
    """

    key_size = 256
    min_size, max_size = 64, 1024
    max_per_request = 128

    def __init__(self, saes: set[str], *, stored: int = 1000) -> None:
        self._saes = saes
        self._max = stored
        self._left: dict[tuple[str, str], int] = {}
        self._waiting: dict[tuple[str, str, str], bytes] = {}
        self._lock = threading.Lock()

    def handle(self, caller: str, other: str, call: str, request: dict[str, Any]) -> dict[str, Any]:
        """Answer one request of an authenticated caller."""
        if caller not in self._saes:
            raise _RefusedError(401, "the certificate's SAE is not known")
        if other not in self._saes:
            raise _RefusedError(400, "no such SAE")
        with self._lock:
            if call == "status":
                return self._status(caller, other)
            if call == "enc_keys":
                return self._enc(caller, other, request)
            return self._dec(caller, other, request)

    def _status(self, caller: str, other: str) -> dict[str, Any]:
        return {
            "source_KME_ID": "kme-local-a",
            "target_KME_ID": "kme-local-b",
            "master_SAE_ID": caller,
            "slave_SAE_ID": other,
            "key_size": self.key_size,
            "stored_key_count": self._left.get((caller, other), self._max),
            "max_key_count": self._max,
            "max_key_per_request": self.max_per_request,
            "max_key_size": self.max_size,
            "min_key_size": self.min_size,
            "max_SAE_ID_count": 0,
        }

    def _enc(self, caller: str, other: str, request: dict[str, Any]) -> dict[str, Any]:
        number, size = request.get("number", 1), request.get("size", self.key_size)
        if not _whole(number) or not 1 <= number <= self.max_per_request:
            raise _RefusedError(400, f"number must be 1 to {self.max_per_request}")
        if not _whole(size) or not self.min_size <= size <= self.max_size or size % 8:
            raise _RefusedError(400, f"size must be {self.min_size} to {self.max_size}, by 8")
        if request.get("additional_slave_SAE_IDs"):
            raise _RefusedError(400, "additional_slave_SAE_IDs are not supported")
        if request.get("extension_mandatory"):
            raise _RefusedError(400, "not all extension_mandatory parameters are supported")
        left = self._left.get((caller, other), self._max)
        if number > left:
            raise _RefusedError(503, "not enough keys are left")
        self._left[caller, other] = left - number
        keys = [(str(uuid.uuid4()), os.urandom(size // 8)) for _ in range(number)]
        self._waiting |= {(caller, other, key_id): key for key_id, key in keys}
        return _container(keys)

    def _dec(self, caller: str, other: str, request: dict[str, Any]) -> dict[str, Any]:
        items = request.get("key_IDs")
        if not isinstance(items, list) or not 1 <= len(items) <= self.max_per_request:
            raise _RefusedError(400, "key_IDs must be a list")
        ids = [item.get("key_ID") if isinstance(item, dict) else None for item in items]
        if any((other, caller, key_id) not in self._waiting for key_id in ids):
            raise _RefusedError(404, "one or more keys are not found")
        if len(set(ids)) != len(ids):
            raise _RefusedError(400, "a key stands twice")
        return _container([(str(i), self._waiting.pop((other, caller, str(i)))) for i in ids])


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _container(keys: list[tuple[str, bytes]]) -> dict[str, Any]:
    return {
        "keys": [{"key_ID": key_id, "key": base64.b64encode(key).decode()} for key_id, key in keys]
    }


def serve(
    pool: KeyPool, host: str, port: int, *, certificate: Path, private_key: Path, authority: Path
) -> ThreadingHTTPServer:
    """Return an HTTPS server that asks every client for a certificate; bound, not yet running."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(str(certificate), str(private_key))
    context.load_verify_locations(str(authority))
    context.verify_mode = ssl.CERT_REQUIRED

    class Handler(BaseHTTPRequestHandler):
        timeout = 10
        protocol_version = "HTTP/1.1"
        server_version = "interlock-kme"
        sys_version = ""

        def setup(self) -> None:
            self.request.settimeout(10)
            self.request = context.wrap_socket(self.request, server_side=True)
            super().setup()

        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            request: dict[str, Any] = {}
            for name in ("number", "size"):
                if name in query:
                    text = query[name][0]
                    request[name] = int(text) if text.isdigit() and len(text) < 9 else text
            if "key_ID" in query:
                request["key_IDs"] = [{"key_ID": value} for value in query["key_ID"]]
            self._answer(request)

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "0")
            if not length.isdigit() or int(length) > _MAX_BODY:
                self._send(400, {"message": "the body is too large"})
                return
            raw = self.rfile.read(int(length))
            try:
                request = json.loads(raw or b"{}")
            except (ValueError, RecursionError):
                request = None
            if not isinstance(request, dict):
                self._send(400, {"message": "the body is not a JSON object"})
                return
            self._answer(request)

        def _caller(self) -> str:
            certificate = self.request.getpeercert() or {}
            names = [
                v for rdn in certificate.get("subject", ()) for k, v in rdn if k == "commonName"
            ]
            return names[0] if len(names) == 1 else ""

        def _answer(self, request: dict[str, Any]) -> None:
            match = _PATH.fullmatch(urlsplit(self.path).path)
            if match is None:
                self._send(404, {"message": "no such path"})
                return
            try:
                answer = pool.handle(self._caller(), unquote(match[1]), match[2], request)
                self._send(200, answer)
            except _RefusedError as error:
                self._send(error.status, {"message": error.message})

        def _send(self, status: int, document: dict[str, Any]) -> None:
            data = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (inherited name)
            """Say nothing: key ids have no place in a log."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, _request: Any, _address: Any) -> None:
            """A client without a certificate breaks the handshake; nothing to tell."""

    return Server((host, port), Handler)
