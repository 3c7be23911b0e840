"""Redact secrets from a live log: line in, line out, within milliseconds."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import BinaryIO

from interlock.scan.secrets.engine import Engine, Match, redacting_engine
from interlock.scan.secrets.mask import mask

__all__ = ["LineRedactor", "RedactingFilter", "known_values", "redact_stream"]

_CONTEXT = 1024
_MAX_LINE = 64 * 1024
_OVERLAP = 4096
_BEGIN = re.compile(rb"-----BEGIN (?:[A-Z0-9]{2,12} ){0,2}PRIVATE KEY(?: BLOCK)?-----")
_END = re.compile(rb"-----END [A-Z0-9 ]{0,24}PRIVATE KEY(?: BLOCK)?-----")
_SECRET_NAME = re.compile(r"(?i)(?:token|secret|passw|api_?key|credential|access_key)")
_KEY_LINES = 400
_WORD = re.compile(rb"[A-Za-z0-9_\-]*")
_COLOUR = re.compile(rb"\x1b\[[\d;]{0,12}m")
_LINE_END = re.compile(rb"\r\n|\n|\r")


def known_values(environment: Mapping[str, str] | None = None) -> tuple[bytes, ...]:
    """Return the values of variables whose names say secret: redacted wherever they appear.

    Example:
        >>> known_values({"QC_TOKEN": "abcdefghij", "HOME": "/root", "PIN_TOKEN": "1"})
        (b'abcdefghij',)
    """
    source = os.environ if environment is None else environment
    found = {
        v.encode(errors="surrogateescape")
        for k, v in source.items()
        if _SECRET_NAME.search(k) and len(v) >= 8
    }
    return tuple(sorted(found, key=len, reverse=True))


class LineRedactor:
    """Redacts one line after another, with the lines before as context.

    Args:
        engine: the rules.
        values: exact secrets to redact besides.
        on_match: called with each match.

    Example:
        >>> LineRedactor(values=(b"hunter2hunter2",))(b"pw hunter2hunter2 ok")
        b'pw ****(14) ok'
    """

    def __init__(
        self,
        engine: Engine | None = None,
        *,
        values: Iterable[bytes] = (),
        on_match: Callable[[Match], None] | None = None,
    ) -> None:
        self._engine = engine or redacting_engine()
        self._values = tuple(v for v in values if v)
        self._on_match = on_match or (lambda _match: None)
        self._before = b""
        self._in_key = 0
        self.redacted = 0

    def __call__(self, line: bytes) -> bytes:
        """Return the line without its secrets; its line ending stays."""
        body = line.rstrip(b"\r\n")
        ending = line[len(body) :]
        body = self._key_block(body)
        for value in self._values:
            if value in body:
                self.redacted += body.count(value)
                body = body.replace(value, b"****(%d)" % len(value))
        context = self._before + b"\n"
        for match in reversed(self._covering(context + body)):
            start, end = max(0, match.start - len(context)), match.end - len(context)
            if end <= 0:
                continue
            skip = _colour_left(body, start)
            hidden = mask(match.rule, match.secret[skip:]).encode()
            body = body[: start + skip] + hidden + body[end:]
            self.redacted += 1
            self._on_match(match)
        self._before = (context + body)[-_CONTEXT:]
        return body + ending

    def _covering(self, text: bytes) -> list[Match]:
        """Matches in order that cover whatever any of them covers, each byte once.

        A scan keeps the best of those that overlap; a log must not show the rest of the others,
        nor what is glued to the end of a token.
        """
        found = self._engine.all_matches(text)
        found.sort(key=lambda m: (m.start, m.rule.generic, -m.end))
        kept: list[Match] = []
        for match in found:
            tail = None if match.rule.redact_only else _WORD.match(text, match.end)
            end = tail.end() if tail else match.end
            if not kept or match.start >= kept[-1].end:
                kept.append(replace(match, end=end))
            elif end > kept[-1].end:
                kept[-1] = replace(kept[-1], end=end)
        return kept

    def _key_block(self, body: bytes) -> bytes:
        """Hide a private key that comes line by line, until its end or 400 lines."""
        if self._in_key:
            self._in_key -= 1
            end = _END.search(body)
            if end:
                self._in_key = 0
                return b"****" + body[end.end() :]
            return b"****"
        begin = _BEGIN.search(body)
        if begin and not _END.search(body, begin.end()):
            self._in_key = _KEY_LINES
            self.redacted += 1
            return body[: begin.end()] + b" ****"
        return body


def _colour_left(body: bytes, start: int) -> int:
    """How many bytes of a colour code are left at `start`: a terminal would swallow the mask."""
    near = max(0, start - 16)
    codes = (code.span() for code in _COLOUR.finditer(body, near, start + 16))
    return next((end - start for begin, end in codes if begin < start < end), 0)


def _pieces(source: BinaryIO) -> Iterator[bytes]:
    """Yield lines as they come, ended by a newline or by the carriage return of a progress bar.

    A line over 64 KiB comes in parts.
    """
    read = getattr(source, "read1", source.read)
    held = b""
    while block := read(_MAX_LINE):
        begin, seen, held = 0, len(held), held + block
        for end in _LINE_END.finditer(held, seen):
            yield held[begin : end.end()]
            begin = end.end()
        held = held[begin:]
        while len(held) >= _MAX_LINE:
            yield held[:_MAX_LINE]
            held = held[_MAX_LINE:]
    if held:
        yield held


def redact_stream(source: BinaryIO, sink: BinaryIO, redactor: LineRedactor) -> int:
    """Copy a stream line by line, redacted and flushed at once; return the lines copied.

    A line over 64 KiB goes out in parts; the last 4 KiB of a part waits for the next, so that a
    secret across the cut is whole when it is looked at.
    """
    lines = 0
    held = b""
    after = b""
    for piece in _pieces(source):
        if piece == b"\n" and after == b"\r":  # a `\r\n` that came in two parts
            text = piece
            sink.write(text)
        else:
            text, held = held + piece, b""
            if piece[-1:] not in (b"\n", b"\r") and len(piece) >= _MAX_LINE:
                cut = text.rfind(b" ", len(text) - 2 * _OVERLAP, len(text) - 64)
                cut = cut if cut > 0 else len(text) - _OVERLAP
                text, held = text[:cut], text[cut:]
            sink.write(redactor(text))
            lines += not held
        after = text[-1:]
        sink.flush()
    if held:
        sink.write(redactor(held))
        sink.flush()
        lines += 1
    return lines


class RedactingFilter(logging.Filter):
    """A `logging` filter that redacts messages before any handler sees them.

    Example:
        >>> record = logging.LogRecord("a", 20, "", 0, "key %s", ("hunter2hunter2",), None)
        >>> _ = RedactingFilter(values=(b"hunter2hunter2",)).filter(record)
        >>> record.getMessage()
        'key ****(14)'
    """

    def __init__(self, *, values: Iterable[bytes] = ()) -> None:
        super().__init__()
        self._redactor = LineRedactor(values=values)

    def filter(self, record: logging.LogRecord) -> bool:
        """Redact the message, the traceback and the stack; always lets the record through."""
        record.msg, record.args = self._clean(record.getMessage()), None
        if record.exc_info:
            text = record.exc_text or logging.Formatter().formatException(record.exc_info)
            record.exc_text, record.exc_info = self._clean(text), None
        if record.stack_info:
            record.stack_info = self._clean(record.stack_info)
        return True

    def _clean(self, text: str) -> str:
        lines = text.encode(errors="surrogatepass").split(b"\n")
        return b"\n".join(map(self._redactor, lines)).decode(errors="surrogatepass")
