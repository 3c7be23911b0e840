"""The reader of OpenQASM 2 and 3: statements into operations.

Recursive descent over a bounded number of tokens with a bounded depth. Loops whose variable picks
a bit are written out; gates are written out by their definition, unless a definition is, by its
matrix, the gate of the vocabulary that it is named after.
"""

from __future__ import annotations

from collections.abc import Callable

from interlock.circuits.canonical import Circuit, Register
from interlock.circuits.qasm.flow import Flow
from interlock.circuits.qasm.lexer import Token
from interlock.circuits.qasm.library import INCLUDES
from interlock.circuits.qasm.reader import MAX_DEPTH, Limits
from interlock.circuits.qasm.values import Bits, Symbol

__all__ = ["Limits", "parse"]

_REFUSED = frozenset(
    {"def", "extern", "cal", "defcal", "defcalgrammar", "array", "return", "opaque", "duration",
     "stretch", "complex", "pragma", "durationof", "readonly", "mutable", "output", "end", "nop"}
)  # fmt: skip
_NUMBER_TYPES = frozenset({"int", "uint", "float", "angle", "bool"})


def parse(text: str, limits: Limits | None = None) -> Circuit:
    """Read an OpenQASM program.

    Raises:
        InputError: `qasm-syntax`, `qasm-undefined`, `qasm-unsupported` or `circuit-too-large`;
            the message starts with line and column.

    Example:
        >>> c = parse('OPENQASM 3.0; include "stdgates.inc"; qubit[2] q; h q[0]; cx q[0], q[1];')
        >>> [str(op) for op in c.operations]
        ['h q[0]', 'cx q[0], q[1]']
    """
    return _Parser(text, limits or Limits()).run()


class _Parser(Flow):
    """Reads declarations, and sends every statement to its reader."""

    def run(self) -> Circuit:
        self._header()
        while self.tokens[self.i].kind != "end":
            self._statement()
        scope = self.scopes[0]
        return Circuit(
            num_qubits=self.num_qubits,
            num_clbits=self.num_clbits,
            operations=tuple(scope.operations),
            registers=tuple(self.registers),
            global_phase=self.phase,
            lines=tuple(scope.lines),
        )

    def _header(self) -> None:
        first = self.tokens[self.i]
        if first.text != "OPENQASM":
            self.fail("the text does not start with its version", first,
                      expected="OPENQASM 2.0; or OPENQASM 3.0;")  # fmt: skip
        self.i += 1
        token = self.tokens[self.i]
        if token.text not in ("2", "2.0", "3", "3.0", "3.1"):
            self.fail("the version of OpenQASM is unknown", token, expected="2.0, 3.0 or 3.1")
        self.version = int(token.text[0])
        self.i += 1
        self.need(";")

    def _statement(self) -> None:
        token = self.tokens[self.i]
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.fail("blocks are nested too deep", token, code="circuit-too-large",
                      expected=f"at most {MAX_DEPTH}")  # fmt: skip
        handler = _STATEMENTS.get(token.text) if token.kind == "name" else None
        if handler is not None:
            self.i += 1
            handler(self, token)
        elif token.kind == "name" and token.text in _REFUSED:
            self.fail(f"{token.text!r} is not supported", token, code="qasm-unsupported",
                      expected="gates, measure, reset, barrier, delay, if, for, while, switch",
                      fix="write the program without it")  # fmt: skip
        elif token.kind == "op" and token.text in ("#", "@"):
            self.fail("pragmas and annotations are not supported", token, code="qasm-unsupported",
                      expected="plain statements", fix="remove it")  # fmt: skip
        elif token.kind == "name" and token.text in _NUMBER_TYPES:
            self._number(token)
        elif token.kind == "name" and self.tokens[self.i + 1].text in ("=", "["):
            self._assignment_or_call(token)
        elif token.kind == "name":
            if not self._plain_call(token):
                self._call(token)
        elif token.text == ";":
            self.i += 1
        else:
            self.fail("a statement cannot start here", token, expected="a statement")
        self.depth -= 1

    def _assignment_or_call(self, token: Token) -> None:
        if token.text not in self.bits:
            self._call(token)
            return
        bits = self._bit_list()
        self.need("=")
        self._measure_into(bits, token)

    def _include(self, token: Token) -> None:
        self._top(token)
        file = self.tokens[self.i]
        name = file.text[1:-1] if file.kind == "string" else ""
        if name not in INCLUDES:
            self.fail("only the standard includes are read", file, code="qasm-unsupported",
                      expected=" or ".join(INCLUDES), fix="paste the gates it defines")  # fmt: skip
        self.i += 1
        if self.includes:
            self.fail("gates are included twice", file, code="qasm-undefined",
                      expected="one include", fix="keep one of them")  # fmt: skip
        for again in sorted(INCLUDES[name] & self.gates.keys()):
            self._defined(again, file)
        self.includes.append(name)
        self.need(";")

    def _declare(self, token: Token) -> None:
        """Declare qubits or bits: `qreg q[2];` of version 2, `qubit[2] q;` of version 3."""
        self._top(token)
        quantum = token.text in ("qreg", "qubit")
        size = 1
        scalar = True
        if token.text in ("qubit", "bit") and self.take("["):
            size, scalar = self._size(), False
            self.need("]")
        name = self._fresh(self.name())
        if token.text in ("qreg", "creg"):
            if self.take("["):
                size, scalar = self._size(), False
                self.need("]")
        elif self.version == 2:
            self.fail(f"{token.text!r} is of OpenQASM 3", token, expected="qreg or creg")
        total = size + (self.num_qubits if quantum else self.num_clbits)
        limit = self.limits.max_qubits if quantum else self.limits.max_clbits
        if total > limit:
            self.fail("there are too many bits", token, code="circuit-too-large", got=str(total),
                      expected=f"at most {limit}")  # fmt: skip
        if quantum:
            if self.physical:
                self.fail("physical and virtual qubits cannot be mixed", token)
            self.qubits[name] = list(range(self.num_qubits, total))
            self.num_qubits = total
        else:
            self.bits[name] = list(range(self.num_clbits, total))
            self.num_clbits = total
            self.registers.append(Register(name, tuple(self.bits[name])))
            if self.take("="):
                self._measure_into(self.bits[name], token)
                return
        del scalar
        self.need(";")

    def _input(self, token: Token) -> None:
        self._top(token)
        kind = self.name("a type")
        if kind.text not in ("float", "angle"):
            self.fail("an input that is no angle", kind, code="qasm-unsupported",
                      expected="float or angle", fix="use float")  # fmt: skip
        self._skip_width()
        name = self._fresh(self.name())
        self.scopes[-1].values[name] = Symbol.named(name)
        self.need(";")

    def _const(self, _token: Token) -> None:
        kind = self.name("a type")
        if kind.text not in _NUMBER_TYPES:
            self.fail("a constant that is no number", kind, code="qasm-unsupported",
                      expected=", ".join(sorted(_NUMBER_TYPES)), fix="use a number")  # fmt: skip
        self._skip_width()
        name = self._fresh(self.name())
        self.need("=")
        start = self.tokens[self.i]
        value = self._expression()
        if isinstance(value, Bits):
            self.fail("a constant cannot read bits", start)
        if kind.text in ("float", "angle") and isinstance(value, int):
            value = float(value)
        if kind.text in ("int", "uint", "bool") and not isinstance(value, int):
            self.fail("the value is not a whole number", start)
        self.scopes[-1].values[name] = value
        self.need(";")

    def _number(self, token: Token) -> None:
        self.fail("variables are not supported", token, code="qasm-unsupported",
                  expected=f"const {token.text} name = value;", fix="make it a const")  # fmt: skip

    def _let(self, token: Token) -> None:
        name = self._fresh(self.name())
        self.need("=")
        wires = self._wires()
        while self.take("++"):
            wires = wires + self._wires()
        if len(set(wires)) != len(wires):
            self.fail("an alias names a qubit twice", token)
        self.qubits[name] = wires
        self.need(";")


_STATEMENTS: dict[str, Callable[[_Parser, Token], None]] = {
    "include": _Parser._include,
    "qreg": _Parser._declare,
    "creg": _Parser._declare,
    "qubit": _Parser._declare,
    "bit": _Parser._declare,
    "input": _Parser._input,
    "const": _Parser._const,
    "let": _Parser._let,
    "gate": _Parser._gate,
    "measure": _Parser._measure,
    "reset": _Parser._reset,
    "barrier": _Parser._barrier,
    "delay": _Parser._delay,
    "if": _Parser._if,
    "while": _Parser._while,
    "for": _Parser._for,
    "switch": _Parser._switch,
    "box": _Parser._box,
    "break": _Parser._jump,
    "continue": _Parser._jump,
}
