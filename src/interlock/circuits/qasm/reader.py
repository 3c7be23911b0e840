"""What all parts of the reader share: tokens, names in force, and the operations so far."""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass, field
from typing import Any

from interlock.circuits.canonical import Operation, Register
from interlock.circuits.expression import Param
from interlock.circuits.gates import ALIASES
from interlock.circuits.qasm.lexer import Source, Token
from interlock.circuits.qasm.library import INCLUDES
from interlock.circuits.qasm.values import Symbol, Value

__all__ = ["CONSTANTS", "MAX_DEPTH", "Gate", "Limits", "Reader", "Scope", "UnrollError"]

MAX_DEPTH = 48
CONSTANTS = {"pi": math.pi, "π": math.pi, "tau": math.tau, "τ": math.tau, "euler": math.e,
              "ℇ": math.e, "true": 1, "false": 0}  # fmt: skip

_WORDS_2 = frozenset(
    {"OPENQASM", "include", "qreg", "creg", "gate", "opaque", "if", "measure", "reset", "barrier",
     "pi", "sin", "cos", "tan", "exp", "ln", "sqrt", "U", "CX"}
)  # fmt: skip
#: Version -> words of the language, which name nothing else.
RESERVED = {
    2: _WORDS_2,
    3: (_WORDS_2 - {"pi", "sin", "cos", "tan", "exp", "ln", "sqrt", "CX"})
    | {"qubit", "bit", "bool", "int", "uint", "float", "angle", "complex", "array", "void",
       "duration", "stretch", "durationof", "delay", "box", "let", "const", "input", "output",
       "else", "for", "in", "while", "break", "continue", "end", "switch", "case", "default",
       "def", "cal", "defcal", "defcalgrammar", "extern", "return", "pragma", "readonly",
       "mutable", "ctrl", "negctrl", "inv", "pow", "gphase", "true", "false"},
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a text may hold at most."""

    max_tokens: int = 4_000_000
    max_operations: int = 500_000
    max_qubits: int = 65_536
    max_clbits: int = 1_048_576


@dataclass(slots=True)
class Gate:
    """A defined gate; `native` when it is one of the vocabulary."""

    params: tuple[str, ...]
    qubits: tuple[str, ...]
    body: int
    native: str | None = None


@dataclass(slots=True)
class Scope:
    """A block under construction."""

    operations: list[Operation] = field(default_factory=list)
    lines: list[tuple[int, int]] = field(default_factory=list)
    values: dict[str, Value] = field(default_factory=dict)


class UnrollError(Exception):
    """A loop variable picked a bit: the loop has to be written out."""


class Reader(abc.ABC):
    """Tokens and the state of reading."""

    def __init__(self, text: str, limits: Limits) -> None:
        self.limits = limits
        self.source = Source(text, limits.max_tokens)
        self.tokens = self.source.tokens
        self.i = 0
        self.version = 3
        self.includes: list[str] = []
        self.qubits: dict[str, list[int]] = {}
        self.bits: dict[str, list[int]] = {}
        self.registers: list[Register] = []
        self.gates: dict[str, Gate] = {}
        self.num_qubits = self.num_clbits = 0
        self.physical = False
        self.scopes = [Scope()]
        self.count = 0
        self.depth = 0
        self.loops = 0
        self.rounds = 0
        self.phase: Param = 0.0
        self.frames: list[tuple[dict[str, Value], dict[str, int]]] = []

    def fail(self, message: str, token: Token | None = None, **more: Any) -> Any:
        """Refuse the text at a token."""
        token = token or self.tokens[self.i]
        more.setdefault("got", token.text)
        self.source.fail(message, token.at, **more)

    def peek(self) -> str:
        """Return the text of the next token, of a string nothing."""
        token = self.tokens[self.i]
        return token.text if token.kind != "string" else ""

    def take(self, *texts: str) -> str | None:
        """Take the next token if it is one of these."""
        token = self.tokens[self.i]
        if token.text in texts and token.kind in ("op", "name"):
            self.i += 1
            return token.text
        return None

    def need(self, text: str) -> Token:
        """Take the next token, which must be this."""
        token = self.tokens[self.i]
        if token.text != text or token.kind == "string":
            self.fail(f"{text!r} is missing", expected=repr(text))
        self.i += 1
        return token

    def name(self, what: str = "a name") -> Token:
        """Take a name."""
        token = self.tokens[self.i]
        if token.kind != "name":
            self.fail(f"{what} is missing", expected=what)
        self.i += 1
        return token

    def _emit(self, op: Operation, token: Token) -> None:
        self.count += 1
        if self.count > self.limits.max_operations:
            self.fail("the program is too large when written out", token,
                      code="circuit-too-large", got=f"over {self.limits.max_operations} operations",
                      expected="fewer operations")  # fmt: skip
        scope = self.scopes[-1]
        scope.operations.append(op)
        if len(self.scopes) == 1:
            scope.lines.append(self.source.place(token.at))

    def _top(self, token: Token) -> None:
        if len(self.scopes) > 1 or self.frames:
            self.fail(f"{token.text!r} may stand at the top level only", token)

    def _fresh(self, token: Token) -> str:
        name = token.text
        taken = (self.qubits, self.bits, self.gates, self.scopes[-1].values, CONSTANTS)
        if any(name in table for table in (*taken, RESERVED[self.version])):
            self._defined(name, token)
        return name

    def _defined(self, name: str, token: Token) -> None:
        self.fail(f"{name!r} is defined already", token, code="qasm-undefined",
                  expected="a new name", fix="rename it")  # fmt: skip

    def _size(self) -> int:
        token = self.tokens[self.i]
        size = self._whole("a size")
        if size < 1:
            self.fail("a register needs at least one bit", token)
        return size

    def _whole(self, what: str) -> int:
        token = self.tokens[self.i]
        value = self._expression()
        if isinstance(value, Symbol) and self.loops:
            raise UnrollError
        if not isinstance(value, int):
            self.fail(f"{what} is not a whole number", token, expected="a whole number")
        return int(value)  # type: ignore[arg-type]

    def _library(self, name: str) -> str | None:
        if name == "U" or (name == "CX" and self.version == 2):
            return ALIASES.get(name, name)
        for include in self.includes:
            if name in INCLUDES[include]:
                return ALIASES.get(name, name)
        return None

    def _skip_width(self) -> None:
        if self.take("["):
            self._size()
            self.need("]")

    @abc.abstractmethod
    def _expression(self, level: int = 0) -> Value: ...

    @abc.abstractmethod
    def _statement(self) -> None: ...
