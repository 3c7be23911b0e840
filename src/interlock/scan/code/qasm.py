"""Rules over OpenQASM 2 and 3 text, on a statement-level reading that never executes anything.

This is for files under review. The guarded path reads circuits with a full parser.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from interlock.scan.code.base import Hit
from interlock.scan.finding import Severity

__all__ = ["QASM_RULES", "QasmProgram"]

_MAX_STATEMENT = 4096
_STATEMENT = re.compile(r"[^;{}]*[;{}]|[^;{}]+\Z")
_REGISTER = re.compile(
    r"^(qreg|creg)\s+(\w+)\s*\[\s*(\d+)\s*\]|"
    r"^(qubit|bit)(?:\s*\[\s*(\d+)\s*\])?\s+(\w+)"
)
_OPERAND = re.compile(r"([A-Za-z_$]\w*)\s*(?:\[\s*(\d+)\s*\])?")
_MEASURE = re.compile(
    r"^(?:(?P<to>[^=]+?)\s*=\s*)?measure\s+(?P<from>[^-;]+?)"
    r"(?:\s*->\s*(?P<to2>.+?))?$"
)
_KEYWORDS = {
    "OPENQASM", "include", "qreg", "creg", "qubit", "bit", "measure", "reset", "barrier",
    "if", "for", "while", "else", "gate", "opaque", "def", "defcal", "cal", "input",
    "output", "const", "int", "uint", "float", "angle", "bool", "duration", "stretch",
    "let", "box", "delay", "extern", "return", "pragma", "complex", "array", "end",
    "break", "continue", "switch", "case", "default", "gphase", "nop",
}  # fmt: skip


_DEFINITIONS = {"gate", "def", "defcal", "cal"}
_CONDITIONS = {"if", "else", "switch", "case"}


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement: its text, line, and how many braces it stands in."""

    text: str
    line: int
    depth: int
    in_gate: bool
    conditional: bool


def _without_comments(text: str) -> str:
    """Blank comments out, line breaks kept; an unclosed one runs to the end."""
    out: list[str] = []
    position = 0
    line, block = text.find("//"), text.find("/*")
    while True:
        if 0 <= line < position:
            line = text.find("//", position)
        if 0 <= block < position:
            block = text.find("/*", position)
        start = min((at for at in (line, block) if at >= 0), default=-1)
        if start < 0:
            return "".join([*out, text[position:]])
        closer, size = ("\n", 0) if start == line else ("*/", 2)
        end = text.find(closer, start + 2)
        end = len(text) if end < 0 else end + size
        out += [text[position:start], " ", "\n" * text.count("\n", start, end)]
        position = end


class QasmProgram:
    """The statements and registers of an OpenQASM program."""

    def __init__(self, text: str) -> None:
        clean = _without_comments(text)
        self.version = ""
        self.statements: list[Statement] = []
        self.qubits: dict[str, int] = {}
        self.clbits: dict[str, int] = {}
        self.includes: list[tuple[int, str]] = []
        blocks: list[tuple[bool, bool]] = []
        line = 1
        for match in _STATEMENT.finditer(clean):
            raw = match[0]
            lead = len(raw) - len(raw.lstrip())
            at = line + raw[:lead].count("\n")
            line += raw.count("\n")
            closer, body = raw[-1:], raw.strip().rstrip(";{}").strip()
            in_gate, conditional = blocks[-1] if blocks else (False, False)
            if body and len(body) <= _MAX_STATEMENT:
                self._statement(body, at, len(blocks), in_gate, conditional)
            if closer == "{":
                head = re.split(r"\W", body, maxsplit=1)[0]
                in_gate |= head in _DEFINITIONS
                blocks.append((in_gate, conditional or head in _CONDITIONS))
            elif closer == "}" and blocks:
                blocks.pop()

    def _statement(
        self, body: str, line: int, depth: int, in_gate: bool, conditional: bool
    ) -> None:
        if body.startswith("OPENQASM"):
            self.version = body.split()[-1]
            return
        if body.startswith("include"):
            self.includes.append((line, body[7:].strip().strip("\"'")))
            return
        found = _REGISTER.match(body)
        if found and not depth:
            kind, name = found[1] or found[4], found[2] or found[6]
            size = int(found[3] or found[5] or 1)
            (self.qubits if kind in ("qreg", "qubit") else self.clbits)[name] = size
            return
        conditional |= body.startswith("if")
        self.statements.append(Statement(body, line, depth, in_gate, conditional))

    def gates(self) -> Iterator[tuple[Statement, str, list[tuple[str, int | None]]]]:
        """Yield (statement, gate, operands) of gate calls outside definitions."""
        for statement in self.statements:
            body = re.sub(r"^if\s*\([^)]*\)\s*", "", statement.text)
            body = re.sub(r"^(?:ctrl|negctrl|inv|pow)\s*(?:\([^)]*\))?\s*@\s*", "", body)
            name = re.match(r"[A-Za-z_]\w*", body)
            if statement.in_gate or name is None or name[0] in _KEYWORDS or "=" in body:
                continue
            rest = re.sub(r"^\s*\((?:[^()]|\([^()]*\))*\)", "", body[name.end() :])
            operands = [(m[1], int(m[2]) if m[2] else None) for m in _OPERAND.finditer(rest)]
            if operands:
                yield statement, name[0], operands

    def measures(self) -> Iterator[tuple[Statement, tuple[str, int | None], str | None]]:
        """Yield (statement, source, target text) of measurements outside definitions."""
        for statement in self.statements:
            found = _MEASURE.match(re.sub(r"^if\s*\([^)]*\)\s*", "", statement.text))
            if found and not statement.in_gate:
                source = _OPERAND.match(found["from"].strip())
                if source:
                    target = found["to"] or found["to2"]
                    pair = (source[1], int(source[2]) if source[2] else None)
                    yield statement, pair, target.strip() if target else None


class QasmMissingMeasure:
    """Gates and no measurement in a program that declares classical bits or none at all."""

    id: ClassVar[str] = "qasm-missing-measure"
    title: ClassVar[str] = "OpenQASM program never measures"
    severity: ClassVar[Severity] = Severity.MEDIUM
    confidence: ClassVar[str] = "medium"
    why: ClassVar[str] = "a sampler returns nothing, or counts of nothing"
    fix: ClassVar[str] = "measure the qubits whose values you need"

    def check(self, program: QasmProgram) -> Iterator[Hit]:
        """Yield at most one place: the last gate."""
        gates = list(program.gates())
        if gates and not any(True for _ in program.measures()):
            yield Hit(gates[-1][0].line, 1, f"{len(gates)} gates and no measurement")


class QasmMidCircuit:
    """A gate on a measured qubit without a reset, outside a condition."""

    id: ClassVar[str] = "qasm-mid-circuit"
    title: ClassVar[str] = "Measured qubit used again without reset"
    severity: ClassVar[Severity] = Severity.MEDIUM
    confidence: ClassVar[str] = "medium"
    why: ClassVar[str] = "the gate acts on a collapsed state"
    fix: ClassVar[str] = "reset the qubit, put the gate under a condition, or measure at the end"

    def check(self, program: QasmProgram) -> Iterator[Hit]:
        """Yield the gates."""
        measured: set[tuple[str, int | None]] = set()
        gates = {id(s): (name, ops) for s, name, ops in program.gates()}
        sources = {id(s): source for s, source, _ in program.measures()}
        for statement in program.statements:
            if id(statement) in sources:
                measured.add(sources[id(statement)])
            elif statement.text.startswith("reset"):
                found = _OPERAND.match(statement.text[5:].strip())
                if found:
                    spot = (found[1], int(found[2]) if found[2] else None)
                    measured = {
                        m
                        for m in measured
                        if m != spot and (spot[1] is not None or m[0] != spot[0])
                    }
            elif id(statement) in gates and not statement.conditional and not statement.depth:
                name, operands = gates[id(statement)]
                for operand in operands:
                    if operand in measured or (operand[0], None) in measured:
                        yield Hit(
                            statement.line, 1, f"{name} on {_spell(operand)} after its measurement"
                        )
                        measured.discard(operand)
                        break


class QasmRegister:
    """An operand that no register has, an index past the end, one qubit twice in a gate."""

    id: ClassVar[str] = "qasm-register"
    title: ClassVar[str] = "Operand does not fit the registers"
    severity: ClassVar[Severity] = Severity.HIGH
    confidence: ClassVar[str] = "high"
    why: ClassVar[str] = "the program is refused, or a lenient reader runs another circuit"
    fix: ClassVar[str] = "declare the register, or correct the index"

    def check(self, program: QasmProgram) -> Iterator[Hit]:
        """Yield the statements."""
        for statement, name, operands in program.gates():
            if statement.depth:
                continue
            for operand in operands:
                yield from self._one(program.qubits, statement, operand, f"{name}")
            if len(set(operands)) < len(operands):
                yield Hit(statement.line, 1, f"{name} names one qubit twice")
        for statement, source, target in program.measures():
            if statement.depth:
                continue
            yield from self._one(program.qubits, statement, source, "measure")
            found = _OPERAND.search(target.split()[-1]) if target else None
            if found:
                spot = (found[1], int(found[2]) if found[2] else None)
                yield from self._one(program.clbits, statement, spot, "measure")

    def _one(
        self,
        registers: dict[str, int],
        statement: Statement,
        operand: tuple[str, int | None],
        name: str,
    ) -> Iterator[Hit]:
        register, index = operand
        if register.startswith("$"):
            return
        if register not in registers:
            yield Hit(statement.line, 1, f"{name}: no register {register}")
        elif index is not None and index >= registers[register]:
            size = registers[register]
            yield Hit(statement.line, 1, f"{name}: {_spell(operand)} and {register} has {size}")


class QasmInclude:
    """An include that is not the standard library: a path the parser would open."""

    id: ClassVar[str] = "qasm-include"
    title: ClassVar[str] = "Include of another file"
    severity: ClassVar[Severity] = Severity.HIGH
    confidence: ClassVar[str] = "high"
    why: ClassVar[str] = "a parser opens whatever file the circuit's author names"
    fix: ClassVar[str] = "put the definitions into the file itself"

    def check(self, program: QasmProgram) -> Iterator[Hit]:
        """Yield the includes."""
        for line, name in program.includes:
            if name not in ("qelib1.inc", "stdgates.inc"):
                yield Hit(line, 1, f"includes {name[:80]!r}")


class QasmVersion:
    """No version line, or OpenQASM 3 words in a version 2 program."""

    id: ClassVar[str] = "qasm-version"
    title: ClassVar[str] = "Version line missing or wrong"
    severity: ClassVar[Severity] = Severity.LOW
    confidence: ClassVar[str] = "high"
    why: ClassVar[str] = "two parsers may read two different circuits"
    fix: ClassVar[str] = "begin with OPENQASM 3.0; or OPENQASM 2.0; and keep to that language"

    def check(self, program: QasmProgram) -> Iterator[Hit]:
        """Yield at most one place."""
        if not program.version:
            yield Hit(1, 1, "no OPENQASM line")
        elif program.version.startswith("2"):
            for statement in program.statements:
                if re.match(
                    r"(?:for|while|def|input|let|box|int|float|angle|ctrl)\b", statement.text
                ):
                    yield Hit(statement.line, 1, "OpenQASM 3 in a version 2 program")
                    return


def _spell(operand: tuple[str, int | None]) -> str:
    return operand[0] if operand[1] is None else f"{operand[0]}[{operand[1]}]"


QASM_RULES = (
    QasmMissingMeasure(), QasmMidCircuit(), QasmRegister(), QasmInclude(), QasmVersion(),
)  # fmt: skip
