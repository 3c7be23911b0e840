"""Expressions, and operands: registers, their bits and slices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from interlock.circuits.qasm.lexer import Token
from interlock.circuits.qasm.reader import CONSTANTS, MAX_DEPTH, Reader
from interlock.circuits.qasm.values import Bits, Symbol, Value, binary, call, unary

__all__ = ["Expressions"]

_PRECEDENCE = (
    ("||",), ("&&",), ("|",), ("^",), ("&",), ("==", "!="), ("<", "<=", ">", ">="), ("<<", ">>"),
    ("+", "-"), ("*", "/", "%"),
)  # fmt: skip
_LEVEL = {op: level for level, ops in enumerate(_PRECEDENCE) for op in ops}


class Expressions(Reader):
    """Reads expressions by precedence climbing, and operands."""

    def _expression(self, level: int = 0) -> Value:
        """Read an expression by precedence climbing, of operators of this level and above."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.fail("an expression is nested too deep", code="circuit-too-large")
        value = self._unary()
        while True:
            token = self.tokens[self.i]
            found = _LEVEL.get(token.text, -1) if token.kind == "op" else -1
            if found < level or (token.text == "^" and self.version == 2):
                break
            self.i += 1
            right = self._expression(found + 1)
            value = self._try(lambda o=token.text, a=value, b=right: binary(  # type: ignore[misc]
                o, a, b, version=self.version), token)  # fmt: skip
        self.depth -= 1
        return value

    def _try(self, compute: Callable[[], Value], token: Token) -> Value:
        try:
            value = compute()
        except (ValueError, OverflowError, ZeroDivisionError) as error:
            self.fail(f"an expression has no value: {error}", token)
        return value

    def _unary(self) -> Value:
        token = self.tokens[self.i]
        if token.kind == "op" and token.text in ("-", "+", "!", "~"):
            self.i += 1
            self.depth += 1
            if self.depth > MAX_DEPTH:
                self.fail("an expression is nested too deep", token, code="circuit-too-large")
            value = self._unary()
            self.depth -= 1
            return self._try(lambda: unary(token.text, value), token)
        base = self._primary()
        power = self.tokens[self.i]
        if power.kind == "op" and (power.text == "**" or (power.text == "^" and self.version == 2)):
            self.i += 1
            self.depth += 1
            if self.depth > MAX_DEPTH:
                self.fail("an expression is nested too deep", power, code="circuit-too-large")
            exponent = self._unary()
            self.depth -= 1
            return self._try(lambda: binary("**", base, exponent, version=self.version), power)
        return base

    def _primary(self) -> Value:
        token = self.tokens[self.i]
        self.i += 1
        if token.kind == "float":
            return self._try(lambda: float(token.text.replace("_", "")), token)
        if token.kind == "int":
            if len(token.text) > 40:
                self.fail("a number is too long", token)
            digits = token.text.replace("_", "")
            return self._try(lambda: int(digits, 0) if digits[:1] == "0" and digits.strip("0") and
                             not digits.isdigit() else int(digits), token)  # fmt: skip
        if token.text == "(" and token.kind == "op":
            value = self._expression()
            self.need(")")
            return value
        if token.kind == "name":
            return self._named(token)
        return self.fail("an expression cannot go on here", token, expected="a number or a name")  # type: ignore[no-any-return]

    def _named(self, token: Token) -> Value:
        name = token.text
        if self.frames and name in self.frames[-1][0]:
            return self.frames[-1][0][name]
        if self.peek() == "(" and name not in self.bits:
            self.need("(")
            argument = self._expression()
            self.need(")")
            if name in ("float", "int", "uint", "angle", "bool", "bit"):
                if isinstance(argument, (Bits, Symbol)):
                    return argument
                return float(argument) if name in ("float", "angle") else int(argument)
            return self._try(lambda: call(name, argument), token)
        if not self.frames:
            for scope in reversed(self.scopes):
                if name in scope.values:
                    return scope.values[name]
        elif name in self.scopes[0].values:
            return self.scopes[0].values[name]
        if name in CONSTANTS:
            return CONSTANTS[name]
        if name in self.bits and not self.frames:
            members = self._indexed(self.bits[name], token)
            indexed = self.tokens[self.i - 1].text == "]"
            node: list[Any] = (
                ["bit", members[0]] if indexed and len(members) == 1 else ["bits", members]
            )
            return Bits(node, frozenset(members))
        return self.fail(f"{name!r} is not defined", token, code="qasm-undefined",  # type: ignore[no-any-return]
                         expected="a number, a constant or an input", fix="define it")  # fmt: skip

    def _wires(self) -> list[int]:
        """Read a qubit operand: a register, one of its bits, a slice, or a physical qubit."""
        token = self.tokens[self.i]
        plain = self._plain_bit(self.qubits)
        if plain is not None:
            return plain
        if token.kind == "physical":
            self.i += 1
            number = int(token.text[1:]) if len(token.text) < 8 else self.limits.max_qubits
            if self.qubits or number >= self.limits.max_qubits:
                self.fail("a physical qubit cannot be used here", token)
            self.physical = True
            self.num_qubits = max(self.num_qubits, number + 1)
            return [number]
        self.name("a qubit")
        if self.frames:
            wires = self.frames[-1][1]
            if token.text not in wires:
                self.fail(f"the qubit {token.text!r} is not defined", token, code="qasm-undefined",
                          expected=", ".join(wires), fix="use the gate's own qubits")  # fmt: skip
            return [wires[token.text]]
        if token.text not in self.qubits:
            self.fail(f"the qubit {token.text!r} is not defined", token, code="qasm-undefined",
                      expected=", ".join(self.qubits) or "a qubit register",
                      fix="declare it")  # fmt: skip
        return self._indexed(self.qubits[token.text], token)

    def _plain_bit(self, registers: dict[str, list[int]]) -> list[int] | None:
        """Read `name[number]`, by far the most common operand, or nothing when it is not that."""
        following = self.tokens[self.i : self.i + 4]
        if self.frames or len(following) < 4:
            return None
        name, bracket, index, end = following
        members = registers.get(name.text)
        if (
            members is None
            or bracket.text != "["
            or end.text != "]"
            or index.kind != "int"
            or not (index.text.isdecimal() and len(index.text) < 10)
        ):
            return None
        number = int(index.text)
        if number >= len(members):
            return None
        self.i += 4
        return [members[number]]

    def _bit_list(self) -> list[int]:
        plain = self._plain_bit(self.bits)
        if plain is not None:
            return plain
        token = self.name("a classical register")
        if token.text not in self.bits:
            self.fail(f"the bit {token.text!r} is not defined", token, code="qasm-undefined",
                      expected=", ".join(self.bits) or "a classical register",
                      fix="declare it")  # fmt: skip
        return self._indexed(self.bits[token.text], token)

    def _indexed(self, members: list[int], token: Token) -> list[int]:
        if not self.take("["):
            return list(members)
        if self.take("{"):
            picks = [self._index(members, token)]
            while self.take(","):
                picks.append(self._index(members, token))
            self.need("}")
            self.need("]")
            return [members[p] for p in picks]
        first = self._index(members, token)
        if self.take(":"):
            second = self._index(members, token)
            step = 1
            if self.take(":"):
                step, second = second, self._index(members, token)
            self.need("]")
            if step == 0:
                self.fail("a slice has the step 0", token)
            return [members[k] for k in range(first, second + (1 if step > 0 else -1), step)]
        self.need("]")
        return [members[first]]

    def _index(self, members: list[int], token: Token) -> int:
        index = self._whole("an index")
        if index < 0 and self.version == 3:
            index += len(members)
        if not 0 <= index < len(members):
            self.fail(f"the index is outside of {token.text!r}", token, got=str(index),
                      expected=f"0..{len(members) - 1}", fix="use a bit that is there")  # fmt: skip
        return index

    def _is_scalar(self, index: int) -> bool:
        token = self.tokens[index]
        if self.frames or token.kind == "physical":
            return True
        return len(self.qubits.get(token.text, ())) == 1
