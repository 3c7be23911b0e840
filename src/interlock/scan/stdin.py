"""Scan standard input: it has no name, so its first bytes and its text say what it is."""

from __future__ import annotations

import ast
import io
import itertools
import re
import tempfile
import warnings
from collections.abc import Iterator
from typing import BinaryIO

from interlock.errors import InputError
from interlock.scan import archives
from interlock.scan.finding import Report
from interlock.scan.models import formats
from interlock.scan.reading import is_binary
from interlock.scan.scanner import Scanner
from interlock.scan.secrets.engine import BLOCK_BYTES

__all__ = ["kind_of_text", "scan_stdin"]

_NAME = "(standard input)"
_MAX_PACKED = 2 * 1024 * 1024 * 1024
_HEAD = 64 * 1024
_MAX_PARSED = 1024 * 1024
_PYTHON = re.compile(
    rb"^(?:import [A-Za-z_]|from [\w.]+ import |(?:async )?def \w+\(|class \w+[(:])", re.MULTILINE
)
_QASM = re.compile(rb"\A(?:\s|//[^\n]*\n|/\*.*?\*/)*OPENQASM\s", re.DOTALL)


def kind_of_text(data: bytes) -> str:
    """Return the suffix a whole text would have: a notebook, OpenQASM, Python, or none.

    Example:
        >>> kind_of_text(b"import os"), kind_of_text(b"OPENQASM 3.0;"), kind_of_text(b"a log")
        ('.py', '.qasm', '')
        >>> kind_of_text(b'{"cells": [], "nbformat": 4}')
        '.ipynb'
    """
    if _QASM.match(data):
        return ".qasm"
    if data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{":
        return ".ipynb" if b'"cells"' in data and b'"nbformat"' in data else ""
    if _PYTHON.search(data):
        return ".py"
    return ".py" if len(data) <= _MAX_PARSED and _parses(data) else ""


def _parses(data: bytes) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            body = ast.parse(data).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(isinstance(node, ast.Call) for item in body for node in ast.walk(item))


def scan_stdin(scanner: Scanner, stdin: BinaryIO) -> None:
    """Scan standard input: archives are unpacked, notebooks and code parsed, the rest matched.

    What is over `max_document_bytes` and no archive is matched as it comes. Ctrl-C ends it: what
    came until then is looked at.

    Raises:
        InputError: code alone was asked for, and it is none.
    """
    report, limit = scanner.report, scanner.options.max_document_bytes
    pieces = _pieces(report, stdin)
    held = [next(pieces, b"")]
    size = len(held[0])
    if archives.kind_of(held[0], ""):
        _packed(scanner, itertools.chain(held, pieces))
        return
    while size <= limit and (piece := next(pieces, b"")):
        held.append(piece)
        size += len(piece)
    head = b"".join(itertools.islice(held, 0, _first(held)))
    if archives.kind_of(head, ""):  # it came in small pieces
        _packed(scanner, itertools.chain(held, pieces))
        return
    data = b"".join(held) if size <= limit else head
    suffix = "" if is_binary(head[:8192]) else kind_of_text(data)
    if not suffix and scanner.options.families == ("code",):
        raise InputError(
            "standard input is no code that the rules read",
            code="scan-empty",
            got="neither Python, OpenQASM nor a notebook",
            expected="one of them, whole",
            fix="save it to a file whose name ends in .py, .qasm or .ipynb and scan that",
        )
    if size <= limit:
        looked = bool(data) and scanner.stream(io.BytesIO(data), _NAME, suffix=suffix)
        report.files += looked
        return
    if "models" in scanner.options.families:
        report.findings.extend(formats.examine_head(head, _NAME))
    if suffix and "code" in scanner.options.families:
        report.note(_NAME, "too-large-to-parse", f"over {limit} bytes: matched as text")
    rest = _counted(report, itertools.chain(_drained(held), pieces))
    scanner.blocks(rest, _NAME, "", binary=is_binary(head[:8192]))
    report.files += 1


def _first(held: list[bytes]) -> int:
    """How many pieces make the first 64 KiB."""
    size = 0
    for count, piece in enumerate(held, 1):
        size += len(piece)
        if size >= _HEAD:
            return count
    return len(held)


def _drained(held: list[bytes]) -> Iterator[bytes]:
    held.reverse()
    while held:
        yield held.pop()


def _packed(scanner: Scanner, pieces: Iterator[bytes]) -> None:
    """An archive is read from its end: it is kept on disk for as long as that takes."""
    with tempfile.TemporaryFile() as copy:
        for piece in pieces:
            copy.write(piece)
            if copy.tell() > _MAX_PACKED:
                scanner.report.note(_NAME, "archive-limit", f"over {_MAX_PACKED} bytes packed")
                return
        copy.seek(0)
        scanner.report.files += scanner.stream(copy, _NAME)


def _pieces(report: Report, stdin: BinaryIO) -> Iterator[bytes]:
    """Yield what comes as it comes; Ctrl-C ends the stream, so what came until then is matched.

    `read` would wait for a whole block and lose it when it is interrupted.
    """
    read = getattr(stdin, "read1", stdin.read)
    try:
        while piece := read(BLOCK_BYTES):
            yield piece
    except KeyboardInterrupt:
        report.interrupted = True


def _counted(report: Report, pieces: Iterator[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        report.bytes += len(piece)
        yield piece
