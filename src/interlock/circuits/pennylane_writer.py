"""The canonical form as a PennyLane tape."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from interlock.circuits.canonical import Circuit, Operation
from interlock.circuits.controlled import exchange
from interlock.circuits.convert import no_place
from interlock.circuits.expression import Param, evaluate, symbols
from interlock.circuits.matrices import gate_matrix
from interlock.errors import InputError

__all__ = ["vocabulary_gate", "write"]


@cache
def vocabulary_gate() -> Any:
    """Return the class of the operations that stand for gates PennyLane lacks."""
    import pennylane as qml

    class VocabularyGate(qml.operation.Operation):  # type: ignore[misc]
        """A gate of the canonical vocabulary, by its matrix."""

        num_params = 0
        grad_method = None

        def __init__(self, canonical: str, angles: tuple[float, ...], wires: Any) -> None:
            self._hyperparameters = {"canonical": canonical, "angles": tuple(angles)}
            super().__init__(wires=wires)

        @property
        def canonical(self) -> str:
            return str(self.hyperparameters["canonical"])

        @property
        def angles(self) -> tuple[float, ...]:
            return tuple(self.hyperparameters["angles"])

        def _flatten(self) -> Any:
            return (), (self.canonical, self.angles, self.wires)

        @classmethod
        def _unflatten(cls, _data: Any, metadata: Any) -> Any:
            return cls(*metadata)

        @staticmethod
        def compute_matrix(*, canonical: str, angles: tuple[float, ...]) -> Any:
            matrix = gate_matrix(canonical, angles)
            assert matrix is not None  # only gates that have one are written so
            n = round(math.log2(len(matrix)))
            # The first wire is the most significant bit for PennyLane, the least for us.
            tensor = matrix.reshape([2] * (2 * n))
            order = [*reversed(range(n)), *reversed(range(n, 2 * n))]
            return tensor.transpose(order).reshape(2**n, 2**n)

    return VocabularyGate


@cache
def _direct() -> Mapping[str, Any]:
    import pennylane as qml

    from interlock.circuits.pennylane_rules import NAMES

    table: dict[str, Any] = {name: getattr(qml, kind) for kind, name in NAMES.items()}
    adjoints = {"sdg": qml.S, "tdg": qml.T, "sxdg": qml.SX}
    table |= {n: (lambda wires, g=gate: qml.adjoint(g(wires))) for n, gate in adjoints.items()}
    table["id"] = qml.Identity
    for name, gate, controls in (
        ("cs", qml.S, 1), ("csx", qml.SX, 1), ("c3x", qml.PauliX, 3), ("c4x", qml.PauliX, 4),
    ):  # fmt: skip
        table[name] = lambda wires, g=gate, n=controls: qml.ctrl(g(wires[n:]), wires[:n])
    table["csdg"] = lambda wires: qml.ctrl(qml.adjoint(qml.S(wires[1:])), wires[:1])
    return table


def write(module: Any, circuit: Circuit, values: Mapping[str, Any]) -> Any:
    """Return a tape with the same identity."""
    return _Writer(module, circuit, values).made()


class _Writer:
    def __init__(self, module: Any, circuit: Circuit, values: Mapping[str, Any]) -> None:
        self.qml = module
        self.circuit = circuit
        self.values = values
        missing = sorted(set(circuit.parameters) - set(values))
        if missing:
            raise InputError(
                "a parameter has no value",
                code="circuit-unbound",
                got=", ".join(sorted(values)) or "no values",
                expected="a value for " + ", ".join(missing),
                fix="pass values={name: number or array}",
            )
        self.measured: dict[int, Any] = {}
        self.last = self._terminal()

    def _terminal(self) -> dict[int, int]:
        """Return bit -> qubit where all measurements are last on their qubits, else nothing."""
        source: dict[int, int] = {}
        for op in self.circuit.operations:
            if op.name == "measure":
                if op.clbits[0] in source:
                    raise no_place("PennyLane", "a bit that is written twice", "use a bit for each")
                source[op.clbits[0]] = op.qubits[0]
            elif set(op.qubits) & set(source.values()) or op.clbits:
                return {}
        return source

    def made(self) -> Any:
        qml = self.qml
        with qml.QueuingManager.stop_recording():
            operations = [made for op in self.circuit.operations for made in self.operation(op)]
            phase = self.number(self.circuit.global_phase)
            if np.any(phase):
                operations.append(qml.GlobalPhase(-phase))
            processes = [qml.counts(wires=w) for w in self._registers()] if self.last else []
            return qml.tape.QuantumScript(operations, processes)

    def _registers(self) -> list[list[int]]:
        registers = [r.clbits for r in self.circuit.registers]
        registers = registers or [tuple(range(self.circuit.num_clbits))]
        return [[self.last[b] for b in bits if b in self.last] for bits in registers]

    def number(self, param: Param) -> Any:
        """Return the value of a parameter: a number, or an array of the batch's size."""
        if not isinstance(param, str):
            return param
        names = symbols(param)
        if not names:
            return float(param)
        if param in self.values:
            return self.values[param]
        columns = np.broadcast_arrays(*(np.asarray(self.values[n], float) for n in names))
        if columns[0].ndim == 0:
            return evaluate(param, {n: float(c) for n, c in zip(names, columns, strict=True)})
        rows = zip(*(c.tolist() for c in columns), strict=True)
        return np.array([evaluate(param, dict(zip(names, row, strict=True))) for row in rows])

    def operation(self, op: Operation) -> list[Any]:
        qml, wires, name = self.qml, list(op.qubits), op.name
        if name == "measure":
            if self.last:
                return []
            made = qml.ops.MidMeasure(wires=qml.wires.Wires(wires), meas_uid=f"c{op.clbits[0]}")
            self.measured[op.clbits[0]] = made
            return [made]
        if name == "reset":
            uid = f"reset{len(self.measured)}-{wires[0]}"
            return [qml.ops.MidMeasure(wires=qml.wires.Wires(wires), reset=True, meas_uid=uid)]
        if name == "barrier":
            return [qml.Barrier(wires=wires)]
        if name == "gphase":
            return [qml.GlobalPhase(-self.number(op.params[0]))]
        if name == "unitary":
            flat = np.array([float(x) for x in op.params]).view(complex)
            size = math.isqrt(len(flat))
            return [qml.QubitUnitary(flat.reshape(size, size), wires=wires[::-1])]
        if name == "if_else":
            return self.conditional(op)
        params = [self.number(p) for p in op.params]
        make = _direct().get(name)
        if make is not None:
            return [make(*params, wires=wires)]
        return self.written(op, params, wires)

    def written(self, op: Operation, params: list[Any], wires: list[int]) -> list[Any]:
        if op.name == "U" and any(np.ndim(p) for p in params):
            return [self.qml.U3(*params, wires=wires)]
        if op.name == "xx_plus_yy" and np.ndim(params[0]):
            if op.params[1] != 0.0:
                return [made for step in exchange(op) for made in self.operation(step)]
            return [self.qml.IsingXY(-params[0], wires=wires)]
        if any(np.ndim(p) for p in params):
            raise no_place(
                "PennyLane", f"an array of angles of {op.name!r}", "bind one set at a time"
            )
        if op.control is not None or gate_matrix(op.name, params) is None:
            raise no_place("PennyLane", f"the operation {op.name!r}", "write it out in known gates")
        return [vocabulary_gate()(op.name, tuple(float(p) for p in params), wires)]

    def conditional(self, op: Operation) -> list[Any]:
        assert op.control is not None
        kind, *rest = op.control.condition
        negated = kind == "!" and rest[0][0] == "bit"
        bit = rest[0][1] if negated else rest[0] if kind == "bit" else None
        if bit not in self.measured:
            raise no_place("PennyLane", "this condition", "test one bit that was measured before")
        value = self.qml.ops.MeasurementValue([self.measured[bit]])
        out = []
        for block, holds in zip(op.control.blocks, (not negated, negated), strict=False):
            condition = value if holds else ~value
            out += [
                self.qml.ops.Conditional(condition, made)
                for inner in block
                for made in self.operation(inner)
            ]
        return out
