"""The canonical form as a Qiskit circuit."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from interlock.circuits.canonical import Circuit, Operation
from interlock.circuits.expression import Param, split, symbols
from interlock.errors import InputError

if TYPE_CHECKING:
    from qiskit import QuantumCircuit

__all__ = ["definition", "write"]

_METHODS = {"asin": "arcsin", "acos": "arccos", "atan": "arctan"}


@cache
def _gates() -> dict[str, Callable[..., Any]]:
    from qiskit.circuit.library import C3SXGate, C3XGate, C4XGate
    from qiskit.circuit.library.standard_gates import get_standard_gate_name_mapping

    gates = {name: gate.base_class for name, gate in get_standard_gate_name_mapping().items()}
    gates |= {"U": gates["u"], "c3x": C3XGate, "c4x": C4XGate, "c3sx": C3SXGate}
    gates["gphase"] = gates["global_phase"]
    return gates


def write(circuit: Circuit) -> QuantumCircuit:
    """Return a Qiskit circuit with the same identity."""
    from qiskit import QuantumCircuit
    from qiskit.circuit import ClassicalRegister, Clbit, QuantumRegister

    bits = [Clbit() for _ in range(circuit.num_clbits)]
    out = QuantumCircuit()
    if circuit.num_qubits:
        out.add_register(QuantumRegister(circuit.num_qubits, "q"))
    out.add_bits(bits)
    for register in circuit.registers:
        out.add_register(
            ClassicalRegister(name=register.name, bits=[bits[i] for i in register.clbits])
        )
    writer = _Writer(circuit.parameters, out)
    out.global_phase = writer.param(circuit.global_phase)
    writer.fill(out, circuit.operations)
    return out


class _Writer:
    def __init__(self, names: Sequence[str], outer: QuantumCircuit) -> None:
        from qiskit.circuit import Parameter, ParameterVector

        self.outer = outer
        self.symbols: dict[str, Any] = {}
        vectors: dict[str, int] = {}
        for name in names:
            if match := re.fullmatch(r"(.+)\[(\d{1,6})\]", name):
                vectors[match[1]] = max(vectors.get(match[1], 0), int(match[2]) + 1)
        made = {name: ParameterVector(name, length) for name, length in vectors.items()}
        for name in names:
            match = re.fullmatch(r"(.+)\[(\d{1,6})\]", name)
            self.symbols[name] = made[match[1]][int(match[2])] if match else Parameter(name)
        self.cache: dict[str, Any] = {}

    def param(self, value: Param) -> Any:
        if not isinstance(value, str):
            return value
        if not symbols(value):
            return float(value)
        if value not in self.cache:
            self.cache[value] = self.expression(value)
        return self.cache[value]

    def expression(self, text: str) -> Any:
        total: Any = 0.0
        for coefficient, factors in split(text):
            term: Any = None
            for atom, power in factors:
                part = self.atom(atom)
                part = part if power == 1 else part**power
                term = part if term is None else term * part
            if term is None:
                term = coefficient
            elif coefficient != 1:
                term = coefficient * term
            total = term if isinstance(total, float) and total == 0.0 else total + term
        return total

    def atom(self, atom: tuple[str, ...]) -> Any:
        kind, *rest = atom
        if kind == "symbol":
            return self.symbols[rest[0]]
        argument = self.param(_as_param(rest[0]))
        if kind == "pow":
            exponent = self.param(_as_param(rest[1]))
            return argument**exponent
        if kind == "sqrt":
            return argument**0.5
        if kind == "abs":
            return abs(argument)
        return getattr(argument, _METHODS.get(kind, kind))()

    def fill(self, out: QuantumCircuit, operations: Sequence[Operation]) -> None:
        """Append operations, on the bits of the outer circuit, to `out`."""
        from qiskit.circuit import CircuitInstruction

        qubits, clbits = self.outer.qubits, self.outer.clbits
        for op in operations:
            out._append(
                CircuitInstruction(
                    self.operation(op),
                    [qubits[q] for q in op.qubits],
                    [clbits[c] for c in op.clbits],
                )
            )

    def operation(self, op: Operation) -> Any:
        from qiskit.circuit import Barrier, Delay, Measure, Reset
        from qiskit.circuit.library import UnitaryGate

        name = op.name
        if op.control is not None or name in ("break_loop", "continue_loop"):
            return self.control(op)
        if name == "measure":
            return Measure()
        if name == "reset":
            return Reset()
        if name == "barrier":
            return Barrier(len(op.qubits))
        if name in ("delay", "delay_dt"):
            length = self.param(op.params[0])
            if name == "delay_dt":
                return Delay(int(length) if isinstance(length, float) else length, "dt")
            return Delay(length, "s")
        if name == "unitary":
            import numpy as np

            flat = np.array([float(x) for x in op.params]).view(complex)
            size = math.isqrt(len(flat))
            return UnitaryGate(flat.reshape(size, size))
        gate = _gates().get(name)
        if gate is None:
            raise InputError(
                f"Qiskit has no gate for {name!r}",
                code="circuit-unsupported",
                got=str(op),
                expected="a gate of the vocabulary in docs/reference/circuit-format.md",
                fix="write the gate out in known gates",
            )
        return gate(*[self.param(p) for p in op.params])

    def control(self, op: Operation) -> Any:
        from qiskit import QuantumCircuit, circuit
        from qiskit.circuit import Parameter

        from interlock.circuits.qiskit_control import write_condition

        if op.name == "break_loop":
            return circuit.BreakLoopOp(len(op.qubits), len(op.clbits))
        if op.name == "continue_loop":
            return circuit.ContinueLoopOp(len(op.qubits), len(op.clbits))
        control = op.control
        assert control is not None
        symbol = Parameter(control.symbol) if control.symbol else None
        shadowed = self.symbols.get(control.symbol)
        if symbol is not None:
            self.symbols[control.symbol] = symbol
            self.cache.clear()
        condition = None
        if op.name in ("if_else", "while_loop", "switch_case"):
            condition = write_condition(control.condition, self.outer)
        blocks = []
        for body in control.blocks:
            block = QuantumCircuit(
                [self.outer.qubits[q] for q in op.qubits], [self.outer.clbits[c] for c in op.clbits]
            )
            self.fill(block, body)
            blocks.append(block)
        if symbol is not None:
            self.cache.clear()
            self.symbols.pop(control.symbol)
            if shadowed is not None:
                self.symbols[control.symbol] = shadowed
        if op.name == "if_else":
            return circuit.IfElseOp(condition, blocks[0], blocks[1] if len(blocks) > 1 else None)
        if op.name == "while_loop":
            return circuit.WhileLoopOp(condition, blocks[0])
        if op.name == "for_loop":
            kind, *rest = control.condition
            indices = range(*rest) if kind == "range" else rest[0]
            return circuit.ForLoopOp(indices, symbol, blocks[0])
        if op.name == "switch_case":
            pairs = [
                (labels or circuit.CASE_DEFAULT, block)
                for labels, block in zip(control.cases, blocks, strict=True)
            ]
            return circuit.SwitchCaseOp(condition, pairs)
        return circuit.BoxOp(blocks[0])


def _as_param(text: str) -> Param:
    try:
        return float(text)
    except ValueError:
        return text


def definition(op: Operation) -> QuantumCircuit:
    """Return what a gate of the vocabulary is defined as, one level down."""
    gate = _gates()[op.name](*op.params)
    return gate.definition
