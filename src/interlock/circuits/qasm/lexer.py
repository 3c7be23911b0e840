"""Tokens of OpenQASM, with their place in the text."""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import NamedTuple, NoReturn

from interlock.errors import InputError

__all__ = ["Source", "Token"]

_TOKEN = re.compile(
    r"[ \t\r\n]*+(?:(?P<space>\Z|//[^\n]*|/\*.*?\*/)"
    r"|(?P<open>/\*)"
    r"|(?P<float>\d[\d_]*\.[\d_]*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?|\d[\d_]*[eE][+-]?\d+)"
    r"|(?P<int>0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO][0-7_]+|\d[\d_]*)"
    r"|(?P<name>[^\W\d]\w*)"
    r"|(?P<physical>\$\d+)"
    r'|(?P<string>"[^"\n]*"|\'[^\'\n]*\')'
    r"|(?P<op>->|==|!=|<=|>=|&&|\|\||<<|>>|\*\*|\+\+|[-+*/%^(){}\[\];,:@=<>!&|~#.]))",
    re.DOTALL,
)


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
        append = self.tokens.append
        make, match = tuple.__new__, _TOKEN.match
        at, end = 0, len(text)
        while at < end:
            found = match(text, at)
            if found is None:
                at += len(text[at:]) - len(text[at:].lstrip(" \t\r\n"))
                self.fail(
                    "the text has a character that OpenQASM does not know",
                    at,
                    got=repr(text[at]),
                    expected="OpenQASM 2 or 3",
                )
            kind = found.lastgroup or ""
            at = found.end()
            if kind != "space":
                start, at = found.span(kind)
                append(make(Token, (kind, found[kind], start)))
                if kind == "open":
                    self.fail("a comment has no end", start, got="/*", expected="*/")
                if len(self.tokens) > max_tokens:
                    self.fail(
                        "the text is too long",
                        start,
                        code="circuit-too-large",
                        got=f"over {max_tokens} tokens",
                        expected="a smaller file",
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
