"""A witness: cosigns a checkpoint only when it continues what it has cosigned before.

Protocol: c2sp.org/tlog-witness (`add-checkpoint`). The state, one checkpoint an origin, is on the
disk before a cosignature leaves. A witness keeps no entries and learns nothing but sizes and
roots; run it under another administrator than the ledger, or it adds nothing.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from interlock.crypto import files
from interlock.crypto.keys import KeyStore
from interlock.errors import InputError, IntegrityError, InterlockError, SetupError
from interlock.ledger.note import (
    COSIGN_ED25519,
    ML_DSA_44,
    Checkpoint,
    NoteKey,
    NoteSigner,
    parse_note,
    sign_checkpoint,
    verify_checkpoint,
)
from interlock.ledger.tree import EMPTY_ROOT, verify_consistency

__all__ = ["Answer", "Witness", "request_body", "serve"]

_OLD = re.compile(r"old (0|[1-9][0-9]{0,18})")
_LENGTH = re.compile(r"[0-9]{1,9}")
_MAX_BODY = 1 << 18
_TIMEOUT_S = 10.0
_WHOLE_S = 30.0
_MAX_CONNECTIONS = 64
_STATE = struct.Struct(">Q32s")


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer."""

    status: int
    body: str = ""
    content_type: str = "text/plain; charset=utf-8"


def request_body(old: int, path: Sequence[bytes], note: str) -> str:
    """Return the body of an `add-checkpoint` request."""
    lines = [f"old {old}", *(base64.b64encode(node).decode() for node in path)]
    return "\n".join(lines) + "\n\n" + note


def _parse_request(body: str) -> tuple[int, list[bytes], str]:
    head, blank, note = body.partition("\n\n")
    first, *rest = head.split("\n")
    match = _OLD.fullmatch(first)
    if match is None or not blank or len(rest) > 63:
        raise InputError(
            "not an add-checkpoint request", code="witness-request", got=repr(first[:40])
        )
    try:
        path = [base64.b64decode(line, validate=True) for line in rest]
    except ValueError as error:
        raise InputError(
            "a proof line is not base64", code="witness-request", got=str(error)
        ) from error
    return int(match[1]), path, note


class Witness:
    """The state and keys of one witness.

    Args:
        home: folder for keys and state.
        name: the witness's name, like `witness.example.org/w1`.
        logs: origin -> keys; a checkpoint must carry all of an origin's signatures.
        clock: POSIX seconds.
    """

    def __init__(
        self,
        home: Path,
        name: str,
        logs: Mapping[str, Sequence[NoteKey]],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        files.own_dir(home)
        store = KeyStore(home / "keys")
        self._state = files.private_dir(home / "state")
        self._lock = home / "keys" / ".state-lock"
        self._clock = clock
        self._logs = {origin: list(keys) for origin, keys in logs.items()}
        pairs = (("ed25519", COSIGN_ED25519), ("ml-dsa-44", ML_DSA_44))
        self.signers = []
        for algorithm, kind in pairs:
            private = store.signing_key(f"witness-{algorithm}", algorithm)
            key = NoteKey(name, kind, private.public_key().public_bytes_raw())
            self.signers.append(NoteSigner(key, private))
        text = "".join(f"{signer.key}\n" for signer in self.signers)
        files.write_private(home / "witness.vkeys", text.encode(), mode=0o644)

    def _path(self, origin: str) -> Path:
        return self._state / f"{hashlib.sha256(origin.encode()).hexdigest()[:32]}.head"

    def latest(self, origin: str) -> tuple[int, bytes]:
        """Return size and root of what was last cosigned for an origin."""
        raw = files.read_private(self._path(origin))
        if raw is None:
            return 0, EMPTY_ROOT
        if len(raw) != _STATE.size:
            raise IntegrityError(
                "what this witness cosigned last is damaged; it cosigns nothing for this ledger",
                code="witness-state",
                got=f"{len(raw)} B in {self._path(origin)}",
                expected=f"{_STATE.size} B",
                fix="restore the file from a copy; without it the witness could cosign a fork",
            )
        size, root = _STATE.unpack(raw)
        return size, root

    def add_checkpoint(self, body: str) -> Answer:
        """Answer an `add-checkpoint` request."""
        try:
            old, path, note = _parse_request(body)
            origin = Checkpoint.parse(parse_note(note)[0]).origin
        except InterlockError as error:
            return Answer(400, error.message + "\n")
        if origin not in self._logs:
            return Answer(404, "unknown origin\n")
        try:
            checkpoint, _ = verify_checkpoint(note, self._logs[origin], origin=origin)
        except InterlockError as error:
            return Answer(403, error.message + "\n")
        if old > checkpoint.size:
            return Answer(400, "the old size is larger than the checkpoint\n")
        with files.locked(self._lock):
            return self._advance(old, path, checkpoint)

    def _advance(self, old: int, path: list[bytes], checkpoint: Checkpoint) -> Answer:
        size, root = self.latest(checkpoint.origin)
        if old != size:
            return Answer(409, f"{size}\n", "text/x.tlog.size")
        if old == checkpoint.size and root != checkpoint.root:
            return Answer(409, f"{size}\n", "text/x.tlog.size")
        try:
            verify_consistency(old, checkpoint.size, root, checkpoint.root, path)
        except InterlockError as error:
            return Answer(422, error.message + "\n")
        record = _STATE.pack(checkpoint.size, checkpoint.root)
        files.write_private(self._path(checkpoint.origin), record)
        signatures = sign_checkpoint(checkpoint, self.signers, int(self._clock()))
        return Answer(200, "".join(signature.line() for signature in signatures))


class _Server(ThreadingHTTPServer):
    """Answers so many at a time, each within a time as a whole: anybody may connect."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._places = threading.BoundedSemaphore(_MAX_CONNECTIONS)
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread for it
            self._places.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        # The handler's time-out starts anew with every byte; this one does not.
        late = threading.Timer(_WHOLE_S, _hang_up, (request,))
        late.daemon = True
        late.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            late.cancel()
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # whoever asked is gone: nothing to tell
            super().handle_error(request, client_address)


def _hang_up(request: socket.socket) -> None:
    with contextlib.suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)


def serve(witness: Witness, host: str, port: int) -> ThreadingHTTPServer:
    """Return an HTTP server for a witness, bound and not yet running."""

    class Handler(BaseHTTPRequestHandler):
        timeout = _TIMEOUT_S
        server_version = "interlock-witness"
        sys_version = ""

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "")
            if self.path.rstrip("/") != "/add-checkpoint":
                self._send(Answer(404))
            elif _LENGTH.fullmatch(length) is None or int(length) > _MAX_BODY:
                self._send(Answer(413, f"at most {_MAX_BODY} bytes\n"))
            else:
                raw = self.rfile.read(int(length))
                try:
                    answer = witness.add_checkpoint(raw.decode())
                except UnicodeDecodeError:
                    answer = Answer(400, "not UTF-8\n")
                except InterlockError as error:
                    answer = Answer(500, error.message + "\n")
                self._send(answer)

        def _send(self, answer: Answer) -> None:
            data = answer.body.encode()
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(len(data)))
            try:
                self.end_headers()
                self.wfile.write(data)
            except ConnectionError:
                self.close_connection = True  # whoever asked is gone; the state is on disk

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (inherited name)
            """Say nothing: requests carry nothing worth a line."""

    try:
        server = _Server((host, port), Handler)
    except (OSError, OverflowError) as error:
        raise SetupError(
            "the witness cannot listen there",
            code="witness-listen",
            got=f"{host}:{port}: {error}",
            expected="an address of this machine and a free port",
            fix="give --host and --port",
        ) from error
    return server


def start(server: ThreadingHTTPServer) -> threading.Thread:
    """Run a server in a background thread."""
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    return thread
