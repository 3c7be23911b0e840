"""Tokens of OpenQASM, with their place in the text."""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import NamedTuple, NoReturn

from interlock.errors import InputError

__all__ = ["Source", "Token"]

# The most common kinds stand first; what begins with the same character is told apart in order.
_TOKEN = re.compile(
    r"[ \t\r\n]*+(?:([^\W\d]\w*)"
    r"|([\[\];,(){}])"
    r"|(\d[\d_]*\.[\d_]*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?|\d[\d_]*[eE][+-]?\d+)"
    r"|(0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO][0-7_]+|\d[\d_]*)"
    r"|(\Z|//[^\n]*|/\*.*?\*/)"
    r"|(/\*)"
    r"|(\$\d+)"
    r'|("[^"\n]*"|\'[^\'\n]*\')'
    r"|(->|==|!=|<=|>=|&&|\|\||<<|>>|\*\*|\+\+|[-+*/%^:@=<>!&|~#.]))",
    re.DOTALL,
)
_KINDS = ("", "name", "op", "float", "int", "space", "open", "physical", "string", "op")
_SPACE, _OPEN = _KINDS.index("space"), _KINDS.index("open")


class Token(NamedTuple):
    """Kind, text and offset of one token."""

    kind: str
    text: str
    at: int


class Source:
    """The text, its tokens, and errors that say where."""

    def __init__(self, text: str, max_tokens: int) -> None:
        self.text = text
        self.starts = [0, *(m.end() for m in re.finditer("\n", text))]
        self.tokens: list[Token] = []
        append, make = self.tokens.append, tuple.__new__
        at, end = 0, len(text)
        for found in _TOKEN.finditer(text):
            group = found.lastindex or 0
            start, after = found.span(group)
            if found.start() != at:
                break  # something in between is no token
            at = after
            if group == _SPACE:
                continue
            append(make(Token, (_KINDS[group], found[group], start)))
            if group == _OPEN:
                self.fail("a comment has no end", start, got="/*", expected="*/")
            if len(self.tokens) > max_tokens:
                self.fail(
                    "the text is too long",
                    start,
                    code="circuit-too-large",
                    got=f"over {max_tokens} tokens",
                    expected="a smaller file",
                )
        if at < end:
            at += len(text[at:]) - len(text[at:].lstrip(" \t\r\n"))
            self.fail(
                "the text has a character that OpenQASM does not know",
                at,
                got=repr(text[at]),
                expected="OpenQASM 2 or 3",
            )
        append(Token("end", "end of the text", end))

    def place(self, at: int) -> tuple[int, int]:
        """Return line and column, both from 1."""
        line = bisect_right(self.starts, at)
        return line, at - self.starts[line - 1] + 1

    def fail(
        self,
        message: str,
        at: int,
        *,
        got: str | None = None,
        expected: str | None = None,
        code: str = "qasm-syntax",
        fix: str = "mend the text at that place",
    ) -> NoReturn:
        """Raise an `InputError` that starts with line and column."""
        line, column = self.place(at)
        raise InputError(
            f"line {line}, column {column}: {message}",
            code=code,
            got=got if got is None or len(got) < 100 else got[:97] + "...",
            expected=expected,
            fix=fix,
        )
