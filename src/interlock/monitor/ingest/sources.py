"""The sources a listener knows, and how each proves that it is the one.

A source with a `public_key` signs every request: Ed25519 over path, name, a number that only rises
and the body. A source with a `token_sha256` sends a bearer token, as any exporter can; then TLS
protects the token, and a replay is told by its times alone.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from interlock.crypto import signing
from interlock.errors import InputError, IntegrityError
from interlock.monitor.documents import read_document
from interlock.monitor.frames import Origin, StreamKind, StreamSpec
from interlock.monitor.ingest.source import refusal

__all__ = ["SignedPush", "Source", "authenticate", "claimed", "read_sources"]

NAME, NUMBER, SIGNATURE = "x-interlock-source", "x-interlock-number", "x-interlock-signature"
SIGNATURE_BYTES = 64


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One source of a listener.

    Attributes:
        source: its id.
        kind: what it measures.
        channels: series it sends, as `name` or `name{key=value}`, in column order.
        period_ms: nominal time between rows.
        origin: simulated, lab-driver or cloud-api.
        device: the device its alarms concern; the source's id by default.
        public_key: Ed25519, hexadecimal; or
        token_sha256: SHA-256 of its bearer token, hexadecimal.
    """

    source: str
    kind: StreamKind
    channels: tuple[str, ...]
    period_ms: float
    origin: Origin
    device: str = ""
    public_key: str = ""
    token_sha256: str = ""

    def spec(self) -> StreamSpec:
        """Return what this source promises."""
        return StreamSpec(
            source=self.source,
            kind=self.kind,
            channels=self.channels,
            period_ns=round(self.period_ms * 1e6),
            origin=self.origin,
        )


def read_sources(path: Path) -> tuple[Source, ...]:
    """Read a sources file, YAML or JSON: `sources: [...]`.

    Raises:
        InputError: it is not such a file, or a source has not exactly one key.
    """
    try:
        sources = read_document(path, dict[str, list[Source]])["sources"]
        for s in sources:
            s.spec()
            keys = (bytes.fromhex(s.public_key), bytes.fromhex(s.token_sha256))
            if sorted(map(len, keys)) != [0, 32]:
                raise ValueError(f"{s.source} has not exactly one key of 32 bytes")
        if not sources or len({s.source for s in sources}) != len(sources):
            raise ValueError("no source, or two of one name")
    except (OSError, KeyError, ValueError, OverflowError, RecursionError) as error:
        raise InputError(
            f"the sources file {path.name} cannot be used",
            code="monitor-sources-file",
            got=f"{type(error).__name__}: {error}"[:300],
            expected="sources: [{source, kind, channels, period_ms, origin, public_key}]",
            fix="mend the file; docs/how-to/watch-telemetry.md shows one",
        ) from error
    return tuple(sources)


def _message(path: str, name: str, number: int, body: bytes) -> bytes:
    head = f"{path}\x00{name}\x00{number}\x00".encode()
    return b"interlock-telemetry-push-v1\x00" + head + hashlib.sha256(body).digest()


def claimed(
    sources: Mapping[str, Source], headers: Mapping[str, str]
) -> tuple[Source, int | None, bytes]:
    """Return who a request says it is from, its number and its signature, by the headers alone.

    A token is proof already (no number, no signature then); a signature still has to be checked
    against the body.

    Raises:
        IntegrityError: nobody known can have sent this, whatever its body.
    """
    name = headers.get(NAME, "")
    kind, _, token = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and not headers.get(SIGNATURE):
        digest = hashlib.sha256(token.strip().encode()).hexdigest()
        for source in sources.values():
            if source.token_sha256 and hmac.compare_digest(source.token_sha256.lower(), digest):
                if name and name != source.source:
                    raise refusal(name, f"the token of {source.source!r}")
                return source, None, b""
        raise refusal(name, "an unknown token")
    known = sources.get(name)
    if known is None or not known.public_key:
        raise refusal(name, "no source of this name signs its requests")
    text = headers.get(NUMBER, "")
    try:
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1
        signature = bytes.fromhex(headers.get(SIGNATURE, ""))
    except ValueError as error:
        raise refusal(name, "a malformed signature") from error
    if number < 0:
        raise refusal(name, "no number that could rise")
    if len(signature) != SIGNATURE_BYTES:
        raise refusal(name, "a malformed signature")
    return known, number, signature


def authenticate(
    sources: Mapping[str, Source], path: str, headers: Mapping[str, str], body: bytes
) -> tuple[Source, int | None]:
    """Return the source that sent a request, and its number where it is signed.

    Args:
        sources: by id.
        path: of the request; a signature for one path serves no other.
        headers: lower-case names.
        body: as it came, still compressed.

    Raises:
        IntegrityError: nobody known sent this.
    """
    source, number, signature = claimed(sources, headers)
    if number is None:
        return source, None
    name, key = source.source, bytes.fromhex(source.public_key)
    try:
        signing.verify("ed25519", key, signature, _message(path, name, number, body))
    except IntegrityError as error:
        raise refusal(name, "wrong signature") from error
    return source, number


class SignedPush:
    """Signs requests of the `requests` library: `session.auth = SignedPush("fridge", key)`.

    The standard OTLP exporter over HTTP takes such a session.

    Args:
        source: the source's id.
        key: its Ed25519 key.
        clock_ns: gives the number of each request; it has to rise.
    """

    def __init__(self, source: str, key: signing.PrivateKey, *, clock_ns: Any = None) -> None:
        import time

        self._source, self._key = source, key
        self._clock_ns = clock_ns or time.time_ns
        self._last = 0

    def headers(self, path: str, body: bytes) -> dict[str, str]:
        """Return the headers that sign one request."""
        self._last = max(self._last + 1, int(self._clock_ns()))
        signature = self._key.sign(_message(path, self._source, self._last, body))
        return {NAME: self._source, NUMBER: str(self._last), SIGNATURE: signature.hex()}

    def __call__(self, request: Any) -> Any:
        """Sign a prepared request."""
        request.headers.update(self.headers(request.path_url, request.body or b""))
        return request
