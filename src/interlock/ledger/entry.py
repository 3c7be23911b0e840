"""What one ledger entry is, byte for byte.

A leaf is `RFC 8785 header || SHA-256(stored payload)`. The header holds the event, the caller's
flat fields, the index, the id of the key that the payload is encrypted under, the time and the
format version. Nothing in it may be personal: headers stay for ever, payloads can be erased.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, TypeAlias

import msgspec

from interlock.errors import InputError, IntegrityError
from interlock.ledger.tree import leaf_hash

__all__ = ["Draft", "Entry", "HeaderValue", "draft", "format_time", "receipt_id"]

HeaderValue: TypeAlias = str | int | bool | None

FORMAT = 1
_EVENT = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_FIELD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_RECEIPT = re.compile(r"(0|[1-9][0-9]{0,15})-([a-z2-7]{10})")
_BASE32 = "abcdefghijklmnopqrstuvwxyz234567"
#: Where the ten characters of a receipt id begin in the first 56 bits of the leaf hash.
_PLACES = tuple(range(51, 1, -5))
_SAFE = 2**53 - 1
_MAX_HEADER = 64 << 10
_MAX_PAYLOAD = 64 << 20
_SHAPE = {"event": str, "header": dict, "index": int, "key": str, "time": str}
_SCALARS = (str, int, bool, type(None))


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One recorded event.

    Attributes:
        index: its place, from 0.
        id: short receipt id, `<index>-<ten characters of the leaf hash in base32>`.
        event: what kind of event.
        time: when it was put in order, RFC 3339 UTC with microseconds; never goes back.
        header: the caller's flat fields, in the clear and for ever.
        payload: the caller's JSON values, or None when the subject's key has been destroyed.
        leaf_hash: the leaf of the Merkle tree.
        key: id of the data key the payload is encrypted under.
        erased: whether that key has been destroyed.
    """

    index: int
    id: str
    event: str
    time: str
    header: Mapping[str, HeaderValue]
    payload: Mapping[str, Any] | None
    leaf_hash: bytes
    key: str
    erased: bool = False


class Draft(msgspec.Struct, kw_only=True):
    """An entry that has no place and no time yet.

    Attributes:
        event: what kind of event.
        header: the caller's fields.
        fields: the same as `canonical` writes them.
        payload: the caller's values, or their JSON text.
        data: their JSON text.
        key: id of the data key.
        seal: encrypts the text under that key.
        stored: the payload as it is stored, once it is sealed.
    """

    event: str
    header: Mapping[str, HeaderValue]
    fields: bytes
    payload: Mapping[str, Any] | bytes
    data: bytes
    key: str
    seal: Callable[[bytes], bytes]
    stored: bytes = b""

    def place(self, index: int, time: str) -> tuple[bytes, bytes]:
        """Return the canonical header and the leaf hash at this place and time."""
        header = (
            b'{"event":"%b","header":%b,"index":%d,"key":"%b","time":"%b","v":%d}'
            % (self.event.encode(), self.fields, index, self.key.encode(), time.encode(), FORMAT)
        )  # fmt: skip
        return header, leaf_hash(header + hashlib.sha256(self.stored).digest())


def draft(
    event: str, header: Mapping[str, HeaderValue], payload: Mapping[str, Any] | bytes
) -> tuple[bytes, bytes]:
    """Check what a caller wants recorded; return header (canonical) and payload as JSON text.

    Raises:
        InputError: a name, a header value or a payload value cannot be recorded exactly.
    """
    if not _EVENT.fullmatch(event):
        raise _bad("the event", event, "lower-case letters, digits, dot, dash; 1-64 characters")
    for name, value in header.items():
        if not _FIELD.fullmatch(name):
            raise _bad("the name of a header field", name, "letters, digits, dot, dash, underscore")
        if not isinstance(value, _SCALARS):
            raise _bad(f"header field {name}", type(value).__name__, "str, int, bool or None")
        if isinstance(value, int) and abs(value) > _SAFE:
            raise _bad(f"header field {name}", str(value), "at most 2^53 - 1; pass it as text")
    try:
        data = payload if isinstance(payload, bytes) else _encode(payload).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise _bad("the payload", str(error), "JSON values; no NaN, no infinity") from error
    if len(data) > _MAX_PAYLOAD:
        raise _bad("the payload", f"{len(data)} B", f"at most {_MAX_PAYLOAD} B; record its hash")
    try:
        fields = canonical(header)
    except UnicodeEncodeError as error:
        raise _bad("a header value", str(error), "text that UTF-8 can carry") from error
    if len(fields) > _MAX_HEADER:
        raise _bad("the header", f"{len(fields)} B", f"at most {_MAX_HEADER} B; use the payload")
    return fields, data


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        raise TypeError("a set has no order; pass a sorted list")
    raise TypeError(f"{type(value).__name__} is not a JSON value")


def _base(value: object) -> object:
    """Return a value of a class derived from str or int, as NumPy's text, as the base class's."""
    return str(value) if isinstance(value, str) else int(value)  # type: ignore[call-overload]


_encode_sorted = msgspec.json.Encoder(order="deterministic", enc_hook=_base).encode


def canonical(header: Mapping[str, HeaderValue]) -> bytes:
    """Return a header as RFC 8785 writes a flat object whose names are ASCII.

    Example:
        >>> canonical({"outcome": "DENY", "n": 1})
        b'{"n":1,"outcome":"DENY"}'
    """
    return _encode_sorted(dict(header))


_encode = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain
).encode


def receipt_id(index: int, leaf: bytes) -> str:
    """Return the receipt id of an entry.

    Example:
        >>> receipt_id(42, bytes(32))
        '42-aaaaaaaaaa'
    """
    bits = int.from_bytes(leaf[:7], "big")
    return f"{index}-" + "".join([_BASE32[bits >> place & 31] for place in _PLACES])


def parse_receipt(text: str) -> int:
    """Return the index in a receipt id."""
    match = _RECEIPT.fullmatch(text.strip().lower())
    if match is None:
        raise InputError(
            "this is not a receipt id",
            code="receipt-format",
            got=repr(text[:60]),
            expected="a number, a dash and ten characters, like 42-k3qf7w2mhd",
            fix="copy the id from the job's line or its receipt",
        )
    return int(match[1])


def format_time(time_ns: int) -> str:
    """Return a time in nanoseconds since 1970 as RFC 3339 UTC with microseconds.

    Example:
        >>> format_time(1_500_000)
        '1970-01-01T00:00:00.001500Z'
    """
    seconds, rest = divmod(time_ns, 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, UTC).isoformat()
    return f"{moment[:19]}.{rest // 1000:06d}Z"


def parse_time(text: str) -> int:
    """Return what `format_time` wrote as nanoseconds."""
    moment = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%f%z")
    return int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1000


def header_fields(raw: bytes) -> dict[str, Any]:
    """Return a stored header as a dictionary.

    Raises:
        IntegrityError: it is not a header of a known format.
    """
    try:
        document = json.loads(raw)
        version = document["v"]
        complete = all(isinstance(document[name], kind) for name, kind in _SHAPE.items())
    except (ValueError, KeyError, TypeError) as error:
        raise _unreadable(raw[:80].decode("utf-8", "replace")) from error
    if version != FORMAT or not complete:
        raise _unreadable(f"format version {version}")
    fields: dict[str, Any] = document
    return fields


def read(raw: bytes, leaf: bytes, payload: bytes | None) -> Entry:
    """Return a stored row as an entry; `payload` is the decrypted JSON, None when erased."""
    fields = header_fields(raw)
    return Entry(
        index=fields["index"],
        id=receipt_id(fields["index"], leaf),
        event=fields["event"],
        time=fields["time"],
        header=MappingProxyType(fields["header"]),
        payload=None if payload is None else json.loads(payload),
        leaf_hash=leaf,
        key=fields["key"],
        erased=payload is None,
    )


def _unreadable(got: str) -> IntegrityError:
    return IntegrityError(
        "an entry's header cannot be read",
        code="entry-format",
        got=got,
        expected=f"a header of format version {FORMAT}",
        fix="run `interlock verify`; a newer format needs a newer Interlock",
    )


def _bad(what: str, got: str, expected: str) -> InputError:
    return InputError(
        f"{what} cannot be recorded",
        code="ledger-entry",
        got=got[:200],
        expected=expected,
        fix="change what is passed to `append`",
    )
