"""Gate definitions and calls with their modifiers, measurements, resets, barriers and delays."""

from __future__ import annotations

import difflib
import random
import re
from collections.abc import Sequence

from interlock.circuits.canonical import Operation
from interlock.circuits.expression import Param, evaluate, split, symbols
from interlock.circuits.gates import ALIASES, GATES
from interlock.circuits.operation import finite_or_text
from interlock.circuits.qasm.expressions import Expressions
from interlock.circuits.qasm.lexer import Token
from interlock.circuits.qasm.library import INCLUDES, controlled, inverse
from interlock.circuits.qasm.reader import MAX_DEPTH, RESERVED, Gate, Scope
from interlock.circuits.qasm.values import Bits, Symbol, Value, binary

__all__ = ["Operations"]

_TIME = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9}


_NUMBER = r"-?(?:\d{1,40}(?:\.\d{0,40})?|\.\d{1,40})(?:[eE][+-]?\d+)?"
_PLAIN = re.compile(
    rf"[^\W\d]\w*(?:\(({_NUMBER}(?:, ?{_NUMBER})*)\))? "
    r"([^\W\d]\w*\[\d{1,9}\](?:, ?[^\W\d]\w*\[\d{1,9}\])*);"
)
_BIT = re.compile(r"(\w+)\[(\d+)\]")


class Operations(Expressions):
    """Reads what acts on qubits."""

    def _gate(self, token: Token) -> None:
        self._top(token)
        title = self.name("the name of a gate")
        name = self._fresh(title)
        if self._library(name):
            self._defined(name, title)
        params: list[str] = []
        if self.take("("):
            while self.peek() != ")":
                params.append(self.name("a parameter").text)
                if not self.take(","):
                    break
            self.need(")")
        qubits = [self.name("a qubit").text]
        while self.take(","):
            qubits.append(self.name("a qubit").text)
        if len({*params, *qubits}) != len(params) + len(qubits):
            self.fail("a gate has a name twice", title)
        for word in RESERVED[self.version].intersection([*params, *qubits]):
            self._defined(word, title)
        self.need("{")
        body = self.i
        self.gates[name] = Gate(tuple(params), tuple(qubits), body)
        gate = self.gates.pop(name)
        gate.native = _recognise(name, gate, self._try_body(gate, title))
        self.gates[name] = gate

    def _try_body(self, gate: Gate, title: Token) -> list[Operation]:
        """Run the body once with symbols, to find its errors and its end."""
        return self._run_body(
            gate, {p: Symbol.named(p) for p in gate.params}, list(range(len(gate.qubits))), title
        )

    def _run_body(
        self, gate: Gate, params: dict[str, Value], wires: list[int], token: Token
    ) -> list[Operation]:
        """Return what the body of a gate does on the given wires; leaves the reader behind it."""
        if len(self.frames) >= MAX_DEPTH:
            self.fail("gate definitions are nested too deep", token, code="circuit-too-large",
                      expected=f"at most {MAX_DEPTH}")  # fmt: skip
        self.frames.append((params, dict(zip(gate.qubits, wires, strict=True))))
        self.scopes.append(Scope())
        self.i = gate.body
        while not self.take("}"):
            inner = self.tokens[self.i]
            if inner.kind != "name":
                self.fail("a gate body holds gates only", inner, expected="a gate or '}'")
            if inner.text == "barrier":
                self.i += 1
                self._barrier(inner)
            else:
                self._call(inner)
        self.frames.pop()
        return self.scopes.pop().operations

    def _plain_call(self, token: Token) -> bool:
        """Read `name(numbers) q[1], q[2];` of a known gate at once, by far the most common call.

        Anything else, wrong calls too, is left for `_call`.
        """
        found = _PLAIN.match(self.source.text, token.at)
        if found is None or self.frames or token.text in self.gates:
            return False
        native = self._library(token.text)
        if native is None:
            return False
        numbers = found[1].split(",") if found[1] else []
        names = _BIT.findall(found[2])
        try:
            wires = tuple([self.qubits[name][int(index)] for name, index in names])
        except (KeyError, IndexError):
            return False
        if GATES[native] != (len(numbers), len(wires)) or len(set(wires)) < len(wires):
            return False
        if native == "gphase":
            return False
        params = tuple([finite_or_text(float(n)) for n in numbers])
        signs = found[1].count("-") - found[1].count("e-") - found[1].count("E-") if numbers else 0
        self.i += (2 * len(numbers) + 1 if numbers else 0) + signs + 5 * len(wires) + 1
        self._emit(Operation(native, params, wires), token)
        return True

    def _call(self, token: Token) -> None:
        """Read a gate call with its modifiers, and emit what it comes to."""
        modifiers: list[tuple[str, int]] = []
        while token.text in ("ctrl", "negctrl", "inv", "pow") and token.kind == "name":
            self.i += 1
            count = 1
            if token.text == "pow" or (token.text != "inv" and self.peek() == "("):
                self.need("(")
                count = self._whole("the count of a modifier")
                self.need(")")
            if token.text != "pow" and not 1 <= count <= 8:
                self.fail("a modifier has too many controls", token)
            self.need("@")
            if len(modifiers) >= MAX_DEPTH:
                self.fail("a gate has too many modifiers", token, code="circuit-too-large",
                          expected=f"at most {MAX_DEPTH}",
                          fix="write the gate out")  # fmt: skip
            modifiers.append((token.text, count))
            token = self.tokens[self.i]
        title = self.name("a gate")
        params: list[Value] = []
        if self.take("("):
            while self.peek() != ")":
                start = self.tokens[self.i]
                value = self._expression()
                if isinstance(value, Bits):
                    self.fail("a gate parameter cannot read bits", start)
                params.append(value)
                if not self.take(","):
                    break
            self.need(")")
        operands: list[list[int]] = []
        scalars: list[bool] = []
        while self.peek() != ";":
            first = self.i
            operands.append(self._wires())
            scalars.append(self.tokens[self.i - 1].text == "]" or self._is_scalar(first))
            if not self.take(","):
                break
        resume_at = self.i
        for wires in self._broadcast(operands, scalars, title):
            for op in self._modified(title, params, wires, modifiers):
                if op.name == "gphase" and not self.frames:
                    self._global_phase(op, title)
                else:
                    self._emit(op, title)
        self.i = resume_at
        self.need(";")

    def _global_phase(self, op: Operation, title: Token) -> None:
        """Take a phase that no qubit controls; that of a defined gate is dropped."""
        if title.text != "gphase":
            return
        if len(self.scopes) == 1:
            total = binary("+", _value(self.phase), _value(op.params[0]), version=2)
            self.phase = _param(total)
        else:
            self._emit(op, title)

    def _broadcast(
        self, operands: list[list[int]], scalars: list[bool], title: Token
    ) -> list[list[int]]:
        if all(scalars) and not any(len(o) > 1 for o in operands):
            return [[o[0] for o in operands]]
        pairs = zip(operands, scalars, strict=True)
        lengths = {len(o) for o, single in pairs if len(o) > 1 or not single}
        lengths.discard(1)
        if len(lengths) > 1:
            self.fail("the registers of a call have different lengths", title,
                      got=", ".join(str(len(o)) for o in operands),
                      expected="one length")  # fmt: skip
        rounds = lengths.pop() if lengths else 1
        return [[o[k] if len(o) > 1 else o[0] for o in operands] for k in range(rounds)]

    def _modified(
        self, title: Token, params: list[Value], wires: list[int], modifiers: list[tuple[str, int]]
    ) -> list[Operation]:
        if len(set(wires)) != len(wires):
            self.fail(
                "a gate uses a qubit twice", title, got=str(wires), expected="distinct qubits"
            )
        if not modifiers:
            return self._apply(title, params, wires)
        kind, count = modifiers[0]
        rest = modifiers[1:]
        if kind in ("ctrl", "negctrl"):
            if len(wires) < count:
                self.fail("a controlled gate has too few qubits", title)
            controls, inner = wires[:count], self._modified(title, params, wires[count:], rest)
            for control in controls:
                inner = self._control(inner, control, title)
            if kind == "negctrl":
                flips = [Operation("x", (), (c,)) for c in controls]
                inner = [*flips, *inner, *flips]
            return inner
        inner = self._modified(title, params, wires, rest)
        if kind == "inv" or count < 0:
            inner = self._inverse(inner, title)
        if kind == "pow":
            if abs(count) * max(1, len(inner)) > self.limits.max_operations:
                self.fail("a power is too large", title, code="circuit-too-large", got=str(count))
            inner = inner * abs(count)
        return inner

    def _control(self, ops: list[Operation], control: int, title: Token) -> list[Operation]:
        out: list[Operation] = []
        for op in ops:
            more = controlled(op, control)
            if more is None:
                self.fail(f"a controlled {op.name!r} is not supported", title,
                          code="qasm-unsupported", expected="a gate with a controlled form",
                          fix="write it out in cx and single-qubit gates")  # fmt: skip
            out += more or []
        return out

    def _inverse(self, ops: list[Operation], title: Token) -> list[Operation]:
        out: list[Operation] = []
        for op in reversed(ops):
            more = inverse(op)
            if more is None:
                self.fail(f"the inverse of {op.name!r} is not supported", title,
                          code="qasm-unsupported", expected="a gate with a known inverse",
                          fix="write the inverse out")  # fmt: skip
            out += more or []
        return out

    def _apply(self, title: Token, params: list[Value], wires: list[int]) -> list[Operation]:
        name = title.text
        if name == "gphase" and self.version == 3 and len(params) == 1 and not wires:
            return [Operation("gphase", (_param(params[0]),))]
        gate = self.gates.get(name)
        native = gate.native if gate else self._library(name)
        if gate is None and native is None:
            near = self._near(name)
            self.fail(f"the gate {name!r} is not defined", title, code="qasm-undefined",
                      expected=near, fix="include the standard library, or define it")  # fmt: skip
        want = (len(gate.params), len(gate.qubits)) if gate else GATES[str(native)]
        if want != (len(params), len(wires)):
            self.fail(f"the gate {name!r} has other arguments", title,
                      got=f"{len(params)} parameters, {len(wires)} qubits",
                      expected=f"{want[0]} parameters, {want[1]} qubits")  # fmt: skip
        if native is not None:
            return [Operation(native, tuple(_param(p) for p in params), tuple(wires))]
        assert gate is not None
        return self._run_body(gate, dict(zip(gate.params, params, strict=True)), wires, title)

    def _near(self, name: str) -> str:
        names = [*self.gates, *(g for i in self.includes for g in INCLUDES[i]), "U"]
        found = difflib.get_close_matches(name, names, 1)
        if found:
            return f"did you mean {found[0]!r}?"
        return "a gate that is defined or included" if self.includes else 'include "stdgates.inc";'

    def _measure_into(self, bits: list[int], token: Token) -> None:
        if not self.take("measure"):
            self.fail("a bit can be set by a measurement only", code="qasm-unsupported",
                      expected="measure", fix="drop the classical assignment")  # fmt: skip
        self._measured(self._wires(), bits, token)

    def _measure(self, token: Token) -> None:
        wires = self._wires()
        if not self.take("->"):
            self.fail("a measurement must say where its outcome goes", code="qasm-unsupported",
                      expected="measure q -> c or c = measure q", fix="name a bit")  # fmt: skip
        self._measured(wires, self._bit_list(), token)

    def _measured(self, wires: list[int], bits: list[int], token: Token) -> None:
        if self.frames:
            self.fail("a gate cannot measure", token)
        if len(wires) != len(bits):
            self.fail("a measurement has other numbers of qubits and bits", token,
                      got=f"{len(wires)} qubits, {len(bits)} bits",
                      expected="one for one")  # fmt: skip
        for wire, bit in zip(wires, bits, strict=True):
            self._emit(Operation("measure", (), (wire,), (bit,)), token)
        self.need(";")

    def _reset(self, token: Token) -> None:
        for wire in self._wires():
            self._emit(Operation("reset", (), (wire,)), token)
        self.need(";")

    def _barrier(self, token: Token) -> None:
        wires: list[int] = []
        if self.peek() == ";":
            wires = list(range(self.num_qubits))
        else:
            wires += self._wires()
            while self.take(","):
                wires += self._wires()
        self._emit(Operation("barrier", (), tuple(dict.fromkeys(wires))), token)
        self.need(";")

    def _delay(self, token: Token) -> None:
        self.need("[")
        at = self.tokens[self.i]
        value = self._expression()
        unit = self.name("a unit of time")
        self.need("]")
        if isinstance(value, Bits) or (unit.text != "dt" and unit.text not in _TIME):
            self.fail("the length of a delay cannot be read", at,
                      expected="a number and s, ms, us, ns or dt")  # fmt: skip
        if unit.text == "dt":
            name, length = "delay_dt", value
        else:
            name, length = "delay", binary("*", value, _TIME[unit.text], version=self.version)
        wires: list[int] = []
        while self.peek() != ";":
            wires += self._wires()
            if not self.take(","):
                break
        for wire in wires or range(self.num_qubits):
            self._emit(Operation(name, (_param(length),), (wire,)), token)
        self.need(";")


def _value(param: Param) -> Value:
    return Symbol(param) if isinstance(param, str) else param


def _param(value: Value) -> Param:
    if isinstance(value, Symbol):
        return str(value)
    assert not isinstance(value, Bits)
    return finite_or_text(float(value))


#: Draws the angles that a definition is compared at; nobody can prepare for them.
_RANDOM = random.SystemRandom()


def _recognise(name: str, gate: Gate, body: Sequence[Operation]) -> str | None:
    """Return the gate of the vocabulary that a definition is, going by its matrix.

    Angles have to be linear in the parameters: anything else may agree only where it is looked at.
    """
    native = ALIASES.get(name, name)
    if GATES.get(native) != (len(gate.params), len(gate.qubits)):
        return None
    from interlock.circuits.matrices import same_gate

    texts = {p for op in body for p in op.params if isinstance(p, str)}
    if not all(map(_is_linear, texts)):
        return None
    for _ in range(3 if gate.params else 1):
        point = tuple(_RANDOM.uniform(-8, 8) for _ in gate.params)
        values = dict(zip(gate.params, point, strict=True))
        bound = [
            Operation(
                op.name,
                tuple(evaluate(p, values) if isinstance(p, str) else p for p in op.params),
                op.qubits,
                op.clbits,
                op.control,
            )
            for op in body
        ]
        if not same_gate(bound, Operation(native, point, tuple(range(len(gate.qubits))))):
            return None
    return native


def _is_linear(text: str) -> bool:
    return symbols(text) != frozenset() and all(
        not factors or (len(factors) == 1 and factors[0][1] == 1 and factors[0][0][0] == "symbol")
        for _, factors in split(text)
    )
