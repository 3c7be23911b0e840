"""Control flow: if, while, for, switch, box. A loop that picks bits is written out."""

from __future__ import annotations

import itertools
from typing import Any

from interlock.circuits.canonical import Circuit, Control, Operation
from interlock.circuits.expression import symbols
from interlock.circuits.qasm.lexer import Token
from interlock.circuits.qasm.operations import Operations
from interlock.circuits.qasm.reader import RESERVED, Scope, UnrollError
from interlock.circuits.qasm.values import Bits, Symbol, Value, condition_of

__all__ = ["Flow"]


class Flow(Operations):
    """Reads operations with blocks."""

    def _block(self, values: dict[str, Value] | None = None) -> tuple[Operation, ...]:
        self.scopes.append(Scope(values=values or {}))
        names = len(self.qubits)
        try:
            if self.take("{"):
                while not self.take("}"):
                    if self.tokens[self.i].kind == "end":
                        self.fail("a block has no end", expected="'}'")
                    self._statement()
            else:
                self._statement()
        finally:
            scope = self.scopes.pop()
            while len(self.qubits) > names:  # an alias ends with its block
                self.qubits.popitem()
        return tuple(scope.operations)

    def _if(self, token: Token) -> None:
        self.need("(")
        condition = self._condition()
        self.need(")")
        blocks = [self._block()]
        if self.take("else"):
            blocks.append(self._block())
        self._control_flow("if_else", condition.node, condition.reads, blocks, token)

    def _condition(self) -> Bits:
        token = self.tokens[self.i]
        value = self._expression()
        found: list[Bits] = []

        def read() -> Value:
            found.append(condition_of(value))
            return value

        self._try(read, token)
        return found[0]

    def _while(self, token: Token) -> None:
        self.need("(")
        condition = self._condition()
        self.need(")")
        self.rounds += 1
        body = self._block()
        self.rounds -= 1
        self._control_flow("while_loop", condition.node, condition.reads, [body], token)

    def _for(self, token: Token) -> None:
        kind = self.name("a type")
        if kind.text not in ("int", "uint"):
            self.fail("a loop over something else than whole numbers", kind,
                      code="qasm-unsupported", expected="int or uint", fix="use int")  # fmt: skip
        self._skip_width()
        variable = self._loop_variable()
        self.need("in")
        values = self._loop_values()
        symbol = self._uncaught(variable)
        start, before = self.i, self.count
        registers = len(self.registers)
        self.loops += 1
        self.rounds += 1
        rounds = self.rounds
        depth = self.depth, len(self.scopes), len(self.frames)
        try:
            body = self._block({variable: Symbol.named(symbol)})
        except UnrollError:
            self.depth, self.rounds = depth[0], rounds
            del self.scopes[depth[1] :], self.frames[depth[2] :]
            body = None
        finally:
            self.loops -= 1
            self.rounds -= 1
        if body is not None:
            spec: Any = ["set", values]
            if isinstance(values, range):
                spec = ["range", values.start, values.stop, values.step]
            sets = symbol if _mentions(body, symbol) else ""
            self._control_flow("for_loop", spec, frozenset(), [body], token, symbol=sets)
            return
        self.count = before
        del self.registers[registers:]
        if not values:
            self.fail("a loop over nothing picks a bit", token, code="qasm-unsupported",
                      expected="at least one value", fix="remove the loop")  # fmt: skip
        if _longer(values, self.limits.max_operations):
            self.fail("a loop that picks bits is too long", token, code="circuit-too-large",
                      got="too many rounds",
                      expected=f"at most {self.limits.max_operations}")  # fmt: skip
        self.rounds += 1
        for value in values:
            self.i = start
            ops = self._block({variable: value})
            if any(o.name in ("break_loop", "continue_loop") for o in ops):
                self.fail("a loop that picks bits cannot break", token, code="qasm-unsupported",
                          expected="a loop without break", fix="write the loop out")  # fmt: skip
            self.count -= len(ops)
            for op in ops:
                self._emit(op, token)
        self.rounds -= 1

    def _loop_variable(self) -> str:
        """Return the name of a loop variable; a constant of the name is hidden in the loop."""
        token = self.name()
        name = token.text
        if name in self.qubits or name in self.bits or name in RESERVED[self.version]:
            self._defined(name, token)
        return name

    def _uncaught(self, variable: str) -> str:
        """Return a name for a loop variable that no value in force is made from.

        Constants and the bodies of gates may hold another symbol of the variable's name.
        """
        live = {
            name
            for scope in self.scopes
            for value in scope.values.values()
            if isinstance(value, Symbol)
            for name in symbols(value)
        }
        names = itertools.chain([variable], (f"{variable}_{n}" for n in itertools.count(1)))
        return next(name for name in names if name not in live)

    def _loop_values(self) -> range | list[int]:
        token = self.tokens[self.i]
        if self.take("{"):
            values = [self._whole("a loop value")]
            while self.take(","):
                values.append(self._whole("a loop value"))
            self.need("}")
            return values
        self.need("[")
        first = self._whole("a loop bound")
        self.need(":")
        last, step = self._whole("a loop bound"), 1
        if self.take(":"):
            step, last = last, self._whole("a loop bound")
        self.need("]")
        if step == 0 or max(abs(first), abs(last), abs(step)) > 1 << 62:
            self.fail("the bounds of a loop make no sense", token)
        return range(first, last + (1 if step > 0 else -1), step)

    def _switch(self, token: Token) -> None:
        self.need("(")
        target = self._expression()
        if not isinstance(target, Bits):
            self.fail("a switch needs classical bits", token)
        assert isinstance(target, Bits)
        self.need(")")
        self.need("{")
        blocks: list[tuple[Operation, ...]] = []
        cases: list[tuple[int, ...]] = []
        known: set[int] = set()
        while not self.take("}"):
            start = self.tokens[self.i]
            labels: list[int] = []
            if not self.take("default"):
                self.need("case")
                labels = [self._whole("a label")]
                while self.take(","):
                    labels.append(self._whole("a label"))
            count = len(known) + len(labels)
            known.update(labels)
            if len(known) < count or (cases and not cases[-1]):
                self.fail("a switch has a label twice, or one after its default", start,
                          expected="each label once, default last")  # fmt: skip
            cases.append(tuple(labels))
            if self.peek() != "{":
                self.fail("a case needs a block", expected="'{'")
            blocks.append(self._block())
        if not blocks:
            self.fail("a switch has no case", token)
        self._control_flow(
            "switch_case", target.node, target.reads, blocks, token, cases=tuple(cases)
        )

    def _box(self, token: Token) -> None:
        if self.peek() == "[":
            self.fail("a box with a duration is not supported", code="qasm-unsupported",
                      expected="box { ... }", fix="remove the duration")  # fmt: skip
        self._control_flow("box", None, frozenset(), [self._block()], token)

    def _jump(self, token: Token) -> None:
        if not self.rounds:
            self.fail(f"{token.text!r} stands outside of a loop", token)
        self._emit(Operation(f"{token.text}_loop"), token)
        self.need(";")

    def _control_flow(
        self,
        name: str,
        condition: Any,
        reads: frozenset[int],
        blocks: list[tuple[Operation, ...]],
        token: Token,
        *,
        cases: tuple[tuple[int, ...], ...] = (),
        symbol: str = "",
    ) -> None:
        qubits = sorted({q for block in blocks for op in block for q in op.qubits})
        clbits = sorted({*reads, *(c for block in blocks for op in block for c in op.clbits)})
        control = Control(condition, tuple(blocks), cases, symbol)
        self._emit(Operation(name, (), tuple(qubits), tuple(clbits), control), token)


def _longer(values: range | list[int], limit: int) -> bool:
    """Whether there are more than `limit` values; a range may be too long for `len`."""
    try:
        return len(values) > limit
    except OverflowError:
        return True


def _mentions(operations: tuple[Operation, ...], name: str) -> bool:
    probe = Circuit(num_qubits=0, operations=operations)
    return name in probe.parameters
