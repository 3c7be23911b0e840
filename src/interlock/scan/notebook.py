r"""Read notebooks as their author sees them: decoded strings, each with the line it stands on.

A notebook keeps text as JSON strings, so quotes arrive as `\\"` and lines as separate strings;
expressions written for source code miss most of what is there. Every string of the document is
decoded before matching, outputs, reprs and metadata included.
"""

from __future__ import annotations

import ast
import bisect
import itertools
import json
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from interlock.errors import InputError

__all__ = ["Piece", "code_cells", "pieces", "strip_outputs"]

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_ASKED = re.compile(r"\s*(?:[%!?].*|[%\w.*]+\?{1,2}\s*)$")
_ASSIGNED = re.compile(r"^(\s*[\w.,\s\[\]]+=\s*)[%!].*$")


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
        InputError: not JSON, without a list of cells, or nested too deep.

    Example:
        >>> raw = b'{"cells": [{"cell_type": "code", "source": ["a = \\"x\\"\\n", "b"]}]}'
        >>> [(p.where, p.text, p.lines) for p in pieces(raw) if p.code]
        [('cell 1', 'a = "x"\nb', [1, 1])]
    """
    try:
        document = _Document(raw)
        if not any(isinstance(value, list) for value in _cells_of(document.root)):
            raise ValueError("no list of cells")
        return list(_read(document, document.root, ()))
    except (ValueError, RecursionError) as error:
        raise InputError(
            "the notebook cannot be decoded",
            code="scan-notebook-broken",
            got=f"{type(error).__name__}: {error}"[:160],
            expected="a JSON document in nbformat 3 or 4",
            fix="open and save it in Jupyter; it was scanned as plain text",
        ) from error


def _cells_of(root: Any) -> Iterator[Any]:
    if isinstance(root, _Pairs):
        yield from (value for key, value in root if key in ("cells", "worksheets"))


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
            if len(key) >= 16:
                yield Piece(_where((*trail, key))[0], key, [key_line])
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


def code_cells(found: list[Piece]) -> tuple[str, list[tuple[str, int]], list[str]]:
    """Join the code cells into one Python module; what only IPython reads becomes blank.

    A cell that is no Python even then is left out: it must not hide the others.

    Returns the module, for each of its lines (place, line in the file), and the cells left out.
    """
    text: list[str] = []
    places: list[tuple[str, int]] = []
    left_out: list[str] = []
    for piece in found:
        if not piece.code or piece.text.lstrip().startswith("%%"):
            continue
        cell = piece.text.split("\n")
        if not _parses(cell):
            cell = [_plain(line) for line in cell]
            if not _parses(cell):
                left_out.append(piece.where)
                continue
        text.extend(cell)
        places.extend(
            (piece.where, piece.lines[n] if n < len(piece.lines) else 0) for n in range(len(cell))
        )
    return "\n".join(text) + "\n", places, left_out


def _parses(lines: list[str]) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse("\n".join(lines))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _plain(line: str) -> str:
    """Return a line without IPython's magics, shell commands and requests for help."""
    if _ASKED.match(line):
        return line[: len(line) - len(line.lstrip())] + "pass"
    return _ASSIGNED.sub(r"\1None", line)


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
