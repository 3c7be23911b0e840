r"""Read notebooks as their author sees them: decoded strings, each with the line it stands on.

A notebook keeps text as JSON strings, so quotes arrive as `\\"` and lines as separate strings;
expressions written for source code miss most of what is there. Every string of the document is
decoded before matching, outputs, reprs and metadata included.
"""

from __future__ import annotations

import bisect
import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from interlock.errors import InputError

__all__ = ["Piece", "code_cells", "pieces", "strip_outputs"]

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_MAGIC = re.compile(r"^\s*(?:[%!?]|.*\?\s*$)")


@dataclass(slots=True)
class Piece:
    """One decoded text of a notebook.

    Attributes:
        where: `cell 3, output 1` and the like, counted from 1.
        text: decoded text, colour codes removed.
        lines: for each line of `text`, its line in the file.
        code: a code cell's source.
    """

    where: str
    text: str
    lines: list[int] = field(default_factory=list)
    code: bool = False


class _Document:
    """Parsed JSON beside the file line of each string, in document order."""

    def __init__(self, raw: bytes) -> None:
        self.root = json.loads(raw, object_pairs_hook=_Pairs)
        newlines = [m.start() for m in re.finditer(b"\n", raw)]
        self._lines = [bisect.bisect_left(newlines, m.start()) + 1 for m in _STRING.finditer(raw)]
        self._next = 0

    def line(self) -> int:
        """Return the file line of the next string in document order."""
        number = self._lines[self._next] if self._next < len(self._lines) else 0
        self._next += 1
        return number


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as its pairs: order and duplicates kept."""


def pieces(raw: bytes) -> list[Piece]:
    r"""Decode a notebook.

    Raises:
        InputError: not JSON, or nested too deep.

    Example:
        >>> raw = b'{"cells": [{"cell_type": "code", "source": ["a = \\"x\\"\\n", "b"]}]}'
        >>> [(p.where, p.text, p.lines) for p in pieces(raw) if p.code]
        [('cell 1', 'a = "x"\nb', [1, 1])]
    """
    try:
        document = _Document(raw)
        return list(_read(document, document.root, ()))
    except (ValueError, RecursionError) as error:
        raise InputError(
            "the notebook cannot be decoded",
            code="scan-notebook-broken",
            got=f"{type(error).__name__}: {error}"[:160],
            expected="a JSON document in nbformat 3 or 4",
            fix="open and save it in Jupyter; it was scanned as plain text",
        ) from error


def _where(trail: tuple[str, ...]) -> tuple[str, bool]:
    cell = output = ""
    for before, part in itertools.pairwise(trail):
        if before == "cells" and part.isdigit():
            cell = f"cell {int(part) + 1}"
        elif before == "outputs" and part.isdigit():
            output = f", output {int(part) + 1}"
    last = next((p for p in reversed(trail) if not p.isdigit()), "")
    source = bool(cell) and not output and last in ("source", "input")
    name = cell + output if cell else "notebook"
    if not source and last not in ("text", "text/plain", "data"):
        name += f", {last}"
    return name, source


def _read(document: _Document, node: Any, trail: tuple[str, ...]) -> Iterator[Piece]:
    if isinstance(node, _Pairs):
        kind = next((v for k, v in node if k == "cell_type" and isinstance(v, str)), "code")
        for key, value in node:
            key_line = document.line()
            if isinstance(value, str) and len(trail) < 60:
                # the name belongs to the value: {"token": "..."} must read as an assignment
                line = document.line()
                if _is_image(key):
                    continue
                where, source = _where((*trail, key))
                text = _ANSI.sub("", value)
                if not source and key not in ("text", "text/plain", "text/html", "source"):
                    text = f"{key} = {json.dumps(text)}"
                    line = key_line
                yield Piece(where, text, [line] * (text.count("\n") + 1), source and kind == "code")
                continue
            for piece in _read(document, value, (*trail, key)):
                piece.code = piece.code and kind == "code"
                if not _is_image(key):
                    yield piece
    elif isinstance(node, list):
        yield from _read_list(document, node, trail)
    elif isinstance(node, str):
        where, _ = _where(trail)
        yield Piece(where, _ANSI.sub("", node), [document.line()] * (node.count("\n") + 1))


def _read_list(document: _Document, node: list[Any], trail: tuple[str, ...]) -> Iterator[Piece]:
    if node and all(isinstance(item, str) for item in node):
        text, lines = [], []
        for item in node:
            number = document.line()
            text.append(item)
            lines.extend([number] * item.count("\n"))
        lines.append(number)
        where, source = _where(trail)
        joined = "".join(text) if source or "\n" in node[0] or len(node) == 1 else "\n".join(text)
        if joined.count("\n") >= len(lines):
            lines += [lines[-1]] * (joined.count("\n") + 1 - len(lines))
        yield Piece(where, _ANSI.sub("", joined), lines, source)
        return
    for index, item in enumerate(node):
        yield from _read(document, item, (*trail, str(index)))


def _is_image(key: str) -> bool:
    return key.startswith(("image/", "audio/", "video/")) or key == "application/pdf"


def code_cells(found: list[Piece]) -> tuple[str, list[tuple[str, int]]]:
    """Join the code cells into one Python module; shell lines and magics become blank lines.

    Returns the module and, for each of its lines, (place, line in the file).
    """
    text: list[str] = []
    places: list[tuple[str, int]] = []
    for piece in found:
        if not piece.code or piece.text.lstrip().startswith("%%"):
            continue
        for number, line in enumerate(piece.text.split("\n")):
            text.append("pass" if _MAGIC.match(line) and line.startswith(("%", "!", "?")) else line)
            at = piece.lines[number] if number < len(piece.lines) else 0
            places.append((piece.where, at))
    return "\n".join(text) + "\n", places


def strip_outputs(raw: bytes) -> tuple[bytes, int]:
    """Return the notebook without outputs, execution counts and volatile metadata, and a count.

    Raises:
        InputError: not a notebook.
    """
    try:
        data = json.loads(raw)
        cells = data["cells"]
        removed = 0
        for cell in cells:
            if cell.get("cell_type") == "code":
                removed += len(cell.get("outputs", ()))
                cell["outputs"], cell["execution_count"] = [], None
            for key in ("execution", "collapsed", "scrolled"):
                cell.get("metadata", {}).pop(key, None)
        data.get("metadata", {}).pop("widgets", None)
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            "not a notebook this can strip",
            code="scan-notebook-broken",
            got=f"{type(error).__name__}: {error}"[:160],
            expected="nbformat 4: an object with a list of cells",
            fix="open and save it in Jupyter first",
        ) from error
    text = json.dumps(data, indent=1, ensure_ascii=False, sort_keys=False)
    return text.encode(errors="backslashreplace") + b"\n", removed
