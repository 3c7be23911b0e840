"""The reader of OpenQASM 2 and 3: statements into operations.

Recursive descent over a bounded number of tokens with a bounded depth. Loops whose variable picks
a bit are written out; gates are written out by their definition, unless a definition is, by its
matrix, the gate of the vocabulary that it is named after.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from interlock.circuits.canonical import Circuit, Control, Operation, Register, finite_or_text
from interlock.circuits.expression import Param
from interlock.circuits.gates import ALIASES, GATES
from interlock.circuits.qasm.lexer import Source, Token
from interlock.circuits.qasm.library import INCLUDES, controlled, inverse
from interlock.circuits.qasm.values import Bits, Symbol, Value, binary, call, condition_of, unary

__all__ = ["Limits", "parse"]

MAX_DEPTH = 48
_REFUSED = frozenset(
    {"def", "extern", "cal", "defcal", "defcalgrammar", "array", "return", "opaque", "duration",
     "stretch", "complex", "pragma", "durationof", "readonly", "mutable", "output", "end", "nop"}
)  # fmt: skip
_NUMBER_TYPES = frozenset({"int", "uint", "float", "angle", "bool"})
_PRECEDENCE = (
    ("||",), ("&&",), ("|",), ("^",), ("&",), ("==", "!="), ("<", "<=", ">", ">="), ("<<", ">>"),
    ("+", "-"), ("*", "/", "%"),
)  # fmt: skip
_CONSTANTS = {"pi": math.pi, "π": math.pi, "tau": math.tau, "τ": math.tau, "euler": math.e,
              "ℇ": math.e, "true": 1, "false": 0}  # fmt: skip
_TIME = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a text may hold at most."""

    max_tokens: int = 4_000_000
    max_operations: int = 1_000_000
    max_qubits: int = 65_536
    max_clbits: int = 1_048_576


@dataclass(slots=True)
class _Gate:
    params: tuple[str, ...]
    qubits: tuple[str, ...]
    body: int
    native: str | None = None


@dataclass(slots=True)
class _Scope:
    """A block under construction."""

    operations: list[Operation] = field(default_factory=list)
    lines: list[tuple[int, int]] = field(default_factory=list)
    values: dict[str, Value] = field(default_factory=dict)


class _UnrollError(Exception):
    """A loop variable picked a bit: the loop has to be written out."""


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


class _Parser:
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
        self.gates: dict[str, _Gate] = {}
        self.num_qubits = self.num_clbits = 0
        self.physical = False
        self.scopes = [_Scope()]
        self.count = 0
        self.depth = 0
        self.loops = 0
        self.rounds = 0
        self.phase: Param = 0.0
        self.frames: list[tuple[dict[str, Value], dict[str, int]]] = []

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

    def fail(self, message: str, token: Token | None = None, **more: Any) -> Any:
        token = token or self.tokens[self.i]
        more.setdefault("got", token.text)
        self.source.fail(message, token.at, **more)

    def peek(self) -> str:
        token = self.tokens[self.i]
        return token.text if token.kind != "string" else ""

    def take(self, *texts: str) -> str | None:
        token = self.tokens[self.i]
        if token.text in texts and token.kind in ("op", "name"):
            self.i += 1
            return token.text
        return None

    def need(self, text: str) -> Token:
        token = self.tokens[self.i]
        if token.text != text or token.kind == "string":
            self.fail(f"{text!r} is missing", expected=repr(text))
        self.i += 1
        return token

    def name(self, what: str = "a name") -> Token:
        token = self.tokens[self.i]
        if token.kind != "name":
            self.fail(f"{what} is missing", expected=what)
        self.i += 1
        return token

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
            self._call(token)
        elif token.text == ";":
            self.i += 1
        else:
            self.fail("a statement cannot start here", token, expected="a statement")
        self.depth -= 1

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

    def _include(self, token: Token) -> None:
        self._top(token)
        file = self.tokens[self.i]
        name = file.text[1:-1] if file.kind == "string" else ""
        if name not in INCLUDES:
            self.fail("only the standard includes are read", file, code="qasm-unsupported",
                      expected=" or ".join(INCLUDES), fix="paste the gates it defines")  # fmt: skip
        self.i += 1
        self.includes.append(name)
        self.need(";")

    def _fresh(self, token: Token) -> str:
        name = token.text
        taken = (self.qubits, self.bits, self.gates, self.scopes[-1].values)
        if any(name in table for table in taken) or name in _CONSTANTS or name == "U":
            self.fail(f"{name!r} is defined already", token, code="qasm-undefined",
                      expected="a new name", fix="rename it")  # fmt: skip
        return name

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
            raise _UnrollError
        if not isinstance(value, int):
            self.fail(f"{what} is not a whole number", token, expected="a whole number")
        return int(value)  # type: ignore[arg-type]

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

    def _skip_width(self) -> None:
        if self.take("["):
            self._size()
            self.need("]")

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

    def _gate(self, token: Token) -> None:
        self._top(token)
        title = self.name("the name of a gate")
        name = title.text
        if name in self.gates or name == "U" or self._library(name) or name in self.qubits:
            self.fail(f"the gate {name!r} is defined already", title, code="qasm-undefined",
                      expected="a new name", fix="rename it")  # fmt: skip
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
        self.need("{")
        body = self.i
        self.gates[name] = _Gate(tuple(params), tuple(qubits), body)
        gate = self.gates.pop(name)
        self._try_body(gate, title)
        gate.native = self._recognise(name, gate)
        self.gates[name] = gate

    def _try_body(self, gate: _Gate, title: Token) -> None:
        """Run the body once with symbols, to find its errors and its end."""
        self._run_body(
            gate, {p: Symbol.named(p) for p in gate.params}, list(range(len(gate.qubits))), title
        )

    def _run_body(
        self, gate: _Gate, params: dict[str, Value], wires: list[int], token: Token
    ) -> list[Operation]:
        """Return what the body of a gate does on the given wires; leaves the reader behind it."""
        if len(self.frames) >= MAX_DEPTH:
            self.fail("gate definitions are nested too deep", token, code="circuit-too-large",
                      expected=f"at most {MAX_DEPTH}")  # fmt: skip
        self.frames.append((params, dict(zip(gate.qubits, wires, strict=True))))
        self.scopes.append(_Scope())
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

    def _recognise(self, name: str, gate: _Gate) -> str | None:
        """Return the gate of the vocabulary that a definition is, going by its matrix."""
        native = ALIASES.get(name, name)
        if GATES.get(native) != (len(gate.params), len(gate.qubits)):
            return None
        from interlock.circuits.matrices import same_gate

        end = self.i
        points = ((0.3, 0.7, 1.1, 1.9), (-1.3, 2.2, 0.4, 0.9), (2.9, -0.6, -2.1, 0.2))
        good = True
        for point in points if gate.params else points[:1]:
            values: dict[str, Value] = dict(zip(gate.params, point, strict=False))
            body = self._run_body(gate, values, list(range(len(gate.qubits))), self.tokens[end])
            wanted = Operation(
                native, tuple(point[: len(gate.params)]), tuple(range(len(gate.qubits)))
            )
            good = good and same_gate(body, wanted)
        self.i = end
        return native if good else None

    def _library(self, name: str) -> str | None:
        if name == "U" or (name == "CX" and self.version == 2):
            return ALIASES.get(name, name)
        if any(name in INCLUDES[include] for include in self.includes):
            return ALIASES.get(name, name)
        return None

    def _assignment_or_call(self, token: Token) -> None:
        if token.text not in self.bits:
            self._call(token)
            return
        bits = self._bit_list()
        self.need("=")
        self._measure_into(bits, token)

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
                self._emit(op, title)
        self.i = resume_at
        self.need(";")

    def _is_scalar(self, index: int) -> bool:
        token = self.tokens[index]
        if self.frames or token.kind == "physical":
            return True
        return len(self.qubits.get(token.text, ())) == 1

    def _broadcast(
        self, operands: list[list[int]], scalars: list[bool], title: Token
    ) -> list[list[int]]:
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
            if len(self.scopes) == 1 and not self.frames:
                total = binary("+", _value(self.phase), params[0], version=2)
                self.phase = _param(total)
                return []
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
        ops = self._run_body(gate, dict(zip(gate.params, params, strict=True)), wires, title)
        return [op for op in ops if op.name != "gphase"] if not self.frames else ops

    def _near(self, name: str) -> str:
        names = [*self.gates, *(g for i in self.includes for g in INCLUDES[i]), "U"]
        found = difflib.get_close_matches(name, names, 1)
        if found:
            return f"did you mean {found[0]!r}?"
        return "a gate that is defined or included" if self.includes else 'include "stdgates.inc";'

    def _wires(self) -> list[int]:
        """Read a qubit operand: a register, one of its bits, a slice, or a physical qubit."""
        token = self.tokens[self.i]
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

    def _bit_list(self) -> list[int]:
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

    def _expression(self, level: int = 0) -> Value:
        if level == len(_PRECEDENCE):
            return self._unary()
        if level == 0:
            self.depth += 1
            if self.depth > MAX_DEPTH:
                self.fail("an expression is nested too deep", code="circuit-too-large")
        value = self._expression(level + 1)
        while True:
            token = self.tokens[self.i]
            if token.kind != "op" or token.text not in _PRECEDENCE[level]:
                break
            if token.text == "^" and self.version == 2:
                break
            self.i += 1
            right = self._expression(level + 1)
            value = self._try(lambda o=token.text, a=value, b=right: binary(  # type: ignore[misc]
                o, a, b, version=self.version), token)  # fmt: skip
        if level == 0:
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
        if name in _CONSTANTS:
            return _CONSTANTS[name]
        if name in self.bits and not self.frames:
            members = self._indexed(self.bits[name], token)
            indexed = self.tokens[self.i - 1].text == "]"
            node: list[Any] = (
                ["bit", members[0]] if indexed and len(members) == 1 else ["bits", members]
            )
            return Bits(node, frozenset(members))
        return self.fail(f"{name!r} is not defined", token, code="qasm-undefined",  # type: ignore[no-any-return]
                         expected="a number, a constant or an input", fix="define it")  # fmt: skip

    def _block(self, values: dict[str, Value] | None = None) -> tuple[Operation, ...]:
        self.scopes.append(_Scope(values=values or {}))
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
        variable = self.name().text
        self.need("in")
        values = self._loop_values()
        start, before = self.i, self.count
        registers = len(self.registers)
        self.loops += 1
        self.rounds += 1
        rounds = self.rounds
        depth = self.depth, len(self.scopes), len(self.frames)
        try:
            body = self._block({variable: Symbol.named(variable)})
        except _UnrollError:
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
            symbol = variable if _mentions(body, variable) else ""
            self._control_flow("for_loop", spec, frozenset(), [body], token, symbol=symbol)
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
        while not self.take("}"):
            if self.take("default"):
                cases.append(())
            else:
                self.need("case")
                labels = [self._whole("a label")]
                while self.take(","):
                    labels.append(self._whole("a label"))
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


def _value(param: Param) -> Value:
    return Symbol(param) if isinstance(param, str) else param


def _param(value: Value) -> Param:
    if isinstance(value, Symbol):
        return str(value)
    assert not isinstance(value, Bits)
    return finite_or_text(float(value))


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
