"""The canonical form as a Cirq circuit."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from interlock.circuits.canonical import Circuit, Operation
from interlock.circuits.controlled import exchange
from interlock.circuits.convert import no_place
from interlock.circuits.expression import Param, symbols
from interlock.circuits.matrices import gate_matrix
from interlock.circuits.sympy_text import to_sympy
from interlock.errors import InputError

__all__ = ["Exact", "write"]


@dataclass(frozen=True)
class Exact:
    """Tag of an operation: the canonical operation it was written from, to the last bit.

    Anybody can set a tag, so it is believed only if the gate is the one that `write` would make.
    """

    name: str
    params: tuple[Param, ...]

    @property
    def direction(self) -> int:
        """-1 when the qubits are in reverse order, as for matrices."""
        return 1 if self.name in _direct() else -1

    def holds(self, module: Any, op: Any) -> bool:
        """Whether the operation is what the tag says."""
        try:
            made = _gate(module, self.name, self.params)
        except (InputError, TypeError, ValueError, KeyError):
            return False
        own = type(op) is module.GateOperation and type(op.gate) is type(made)
        return own and bool(made == op.gate)


def write(module: Any, circuit: Circuit) -> Any:
    """Return a Cirq circuit with the same identity."""
    return _Writer(module, circuit).made()


@cache
def _direct() -> Mapping[str, Callable[..., Any]]:
    """Return gate name -> what makes Cirq's gate from the parameters."""
    import cirq

    def turns(value: Any) -> Any:
        import sympy

        return value / (sympy.pi if isinstance(value, sympy.Basic) else math.pi)

    def pair(kind: Any) -> Callable[[Any], Any]:
        return lambda t: kind(exponent=turns(t), global_shift=-0.5)

    def fixed(gate: Any) -> Callable[[], Any]:
        return lambda: gate

    plain = {
        "id": cirq.I, "x": cirq.X, "y": cirq.Y, "z": cirq.Z, "h": cirq.H, "s": cirq.S,
        "sdg": cirq.S**-1, "t": cirq.T, "tdg": cirq.T**-1, "sx": cirq.X**0.5, "sxdg": cirq.X**-0.5,
        "cx": cirq.CX, "cz": cirq.CZ, "cs": cirq.CZ**0.5, "csdg": cirq.CZ**-0.5,
        "csx": cirq.CX**0.5, "swap": cirq.SWAP, "iswap": cirq.ISWAP, "ccx": cirq.CCX,
        "ccz": cirq.CCZ, "cswap": cirq.CSWAP, "cy": cirq.ControlledGate(cirq.Y),
        "ch": cirq.ControlledGate(cirq.H), "c3x": cirq.ControlledGate(cirq.X, 3),
        "c4x": cirq.ControlledGate(cirq.X, 4),
    }  # fmt: skip
    table: dict[str, Callable[..., Any]] = {name: fixed(gate) for name, gate in plain.items()}
    table |= {
        "rx": cirq.rx, "ry": cirq.ry, "rz": cirq.rz,
        "crx": lambda t: cirq.ControlledGate(cirq.rx(t)),
        "cry": lambda t: cirq.ControlledGate(cirq.ry(t)),
        "crz": lambda t: cirq.ControlledGate(cirq.rz(t)),
        "p": lambda t: cirq.ZPowGate(exponent=turns(t)),
        "u1": lambda t: cirq.ZPowGate(exponent=turns(t)),
        "cp": lambda t: cirq.CZPowGate(exponent=turns(t)),
        "rxx": pair(cirq.XXPowGate), "ryy": pair(cirq.YYPowGate), "rzz": pair(cirq.ZZPowGate),
        "r": lambda t, a: cirq.PhasedXPowGate(
            exponent=turns(t), phase_exponent=turns(a), global_shift=-0.5),
    }  # fmt: skip
    return table


def _gate(module: Any, name: str, params: tuple[Param, ...]) -> Any:
    """Return Cirq's gate for one of the vocabulary.

    Raises:
        InputError: there is none, and with free parameters no matrix either.
    """
    values = [to_sympy(p) for p in params]
    make = _direct().get(name)
    if make is not None:
        return make(*values)
    if any(isinstance(p, str) for p in params):
        raise no_place("Cirq", f"the gate {name!r} with free parameters", "bind them first")
    return module.MatrixGate(_matrix(name, params))


def _matrix(name: str, params: Sequence[Any]) -> Any:
    if name == "unitary":
        flat = np.array([float(x) for x in params]).view(complex)
        size = math.isqrt(len(flat))
        return flat.reshape(size, size)
    matrix = gate_matrix(name, params)
    if matrix is None:
        raise no_place("Cirq", f"the gate {name!r}", "write it out in known gates")
    return matrix


class _Writer:
    def __init__(self, module: Any, circuit: Circuit) -> None:
        self.cirq = module
        self.circuit = circuit
        self.qubits = module.LineQubit.range(circuit.num_qubits)
        self.whole = self._last_registers()
        self.key_of = self._keys()

    def _keys(self) -> dict[int, str]:
        registers = {r.name: r.clbits for r in self.circuit.registers}
        if not registers and self.circuit.num_clbits:
            registers = {"c": tuple(range(self.circuit.num_clbits))}
        keys: dict[int, str] = {}
        for name, bits in registers.items():
            for index, bit in enumerate(bits):
                if bit in keys:
                    raise no_place(
                        "Cirq", "registers that share a bit", "give each bit one register"
                    )
                keys[bit] = name if len(bits) == 1 else f"{name}[{index}]"
        written = [bit for _, bit in self.circuit.measured]
        if len(set(written)) != len(written):
            raise no_place("Cirq", "a bit that is written twice", "use a bit for each measurement")
        loose = sorted(set(written) - set(keys))
        if loose:
            raise no_place("Cirq", f"bits {loose} without a register", "put them into a register")
        return keys

    def _last_registers(self) -> dict[str, list[int]]:
        """Return the registers that one measurement at the end fills, with its qubits in order."""
        source: dict[int, int] = {}
        read: set[int] = set()
        for op in self.circuit.operations:
            for bit in [b for b, q in source.items() if q in op.qubits]:
                read.add(bit)
            read |= set(op.clbits) if op.name != "measure" else set()
            if op.name == "measure":
                source[op.clbits[0]] = op.qubits[0]
        registers = self.circuit.registers
        named = {r.name: r.clbits for r in registers}
        if not registers and self.circuit.num_clbits:
            named = {"c": tuple(range(self.circuit.num_clbits))}
        return {
            name: [source[b] for b in bits]
            for name, bits in named.items()
            if bits and all(b in source and b not in read for b in bits)
        }

    def made(self) -> Any:
        cirq = self.cirq
        out = [step for op in self.circuit.operations for step in self.operation(op)]
        for name, qubits in self.whole.items():
            out.append(cirq.measure(*(self.qubits[q] for q in qubits), key=name))
        phase = self.circuit.global_phase
        if isinstance(phase, str) and symbols(phase):
            raise no_place("Cirq", "a symbolic global phase", "bind it first")
        if float(phase):
            out.append(cirq.global_phase_operation(np.exp(1j * float(phase))))
        return cirq.Circuit(out)

    def operation(self, op: Operation) -> list[Any]:
        cirq = self.cirq
        wires = [self.qubits[q] for q in op.qubits]
        name = op.name
        if name == "measure":
            key = self.key_of[op.clbits[0]]
            return [] if key.partition("[")[0] in self.whole else [cirq.measure(*wires, key=key)]
        if name == "reset":
            return [cirq.reset(wires[0])]
        if name == "delay":
            seconds = to_sympy(op.params[0])
            return [cirq.wait(wires[0], picos=seconds * 1e12)]
        if name == "gphase":
            return [cirq.global_phase_operation(np.exp(1j * float(op.params[0])))]
        if name == "barrier":
            from interlock.circuits.cirq_adapter import BARRIER

            return [cirq.IdentityGate(len(wires)).on(*wires).with_tags(BARRIER)] if wires else []
        if name == "if_else":
            return self.conditional(op)
        if op.control is not None or name == "delay_dt":
            raise no_place("Cirq", f"the operation {name!r}", "write it out")
        return self.gates(op, wires)

    def gates(self, op: Operation, wires: list[Any]) -> list[Any]:
        if op.name in ("U", "u3", "u2") and any(isinstance(p, str) for p in op.params):
            theta = (math.pi / 2,) if op.name == "u2" else op.params[:1]
            phi, lam = op.params[-2:]
            parts = (("p", (lam,)), ("ry", theta), ("p", (phi,)))
            return [_gate(self.cirq, n, p).on(*wires) for n, p in parts]
        if op.name == "xx_plus_yy" and any(isinstance(p, str) for p in op.params):
            if op.params[1] != 0.0:
                return [made for step in exchange(op) for made in self.operation(step)]
            import sympy

            return [(self.cirq.ISWAP ** (-to_sympy(op.params[0]) / sympy.pi)).on(*wires)]
        gate = _gate(self.cirq, op.name, op.params)
        direct = op.name in _direct()
        made = gate.on(*(wires if direct else wires[::-1]))
        plain = not op.params and op.name not in ("cs", "csdg")  # for Cirq these are CZ to a power
        exact = direct and (plain or op.name in ("rx", "ry", "rz", "crx", "cry", "crz"))
        if exact or op.name == "unitary":
            return [made]
        return [made.with_tags(Exact(op.name, op.params))]

    def conditional(self, op: Operation) -> list[Any]:
        assert op.control is not None
        blocks = op.control.blocks
        made = [s.with_classical_controls(*self.conditions(op.control.condition))
                for part in blocks[0] for s in self.operation(part)]  # fmt: skip
        if len(blocks) > 1:
            negated = self.conditions(["!", op.control.condition])
            made += [s.with_classical_controls(*negated)
                     for part in blocks[1] for s in self.operation(part)]  # fmt: skip
        return made

    def conditions(self, condition: Any) -> list[Any]:
        """Return the condition as Cirq's list of conditions that must all hold."""
        kind, *rest = condition
        if kind == "bit":
            return [self.bit(rest[0], 1)]
        if kind == "!" and rest[0][0] == "bit":
            return [self.bit(rest[0][1], 0)]
        if kind == "!" and rest[0][0] == "!":
            return self.conditions(rest[0][1])
        if kind == "&&":
            return [*self.conditions(rest[0]), *self.conditions(rest[1])]
        if kind == "==" and rest[0][0] == "bits" and rest[1][0] == "value":
            bits, value = rest[0][1], rest[1][1]
            return [self.bit(bit, value >> i & 1) for i, bit in enumerate(bits)]
        raise no_place("Cirq", "this condition", "compare bits with a number")

    def bit(self, bit: int, value: int) -> Any:
        import sympy

        key = self.key_of[bit]
        if value:
            return self.cirq.KeyCondition(self.cirq.MeasurementKey(key))
        return self.cirq.SympyCondition(sympy.Eq(sympy.Symbol(key), 0))
