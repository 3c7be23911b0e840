"""Qiskit: `QuantumCircuit` to the canonical form and back.

Gates Qiskit itself defines are taken by name only after their class says that they are what the
name says; every other gate is written out by its definition, so that a custom gate called `cx`
cannot pass for one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from interlock.circuits.canonical import Circuit, Operation, Register, shared
from interlock.circuits.convert import too_large, unsupported
from interlock.circuits.expression import Param, linear, normalise, quote
from interlock.circuits.faces import disagree
from interlock.circuits.gates import ALIASES, GATES
from interlock.circuits.operation import finite_or_text
from interlock.circuits.qiskit_faces import data_key, hold, hold_standard, own_data
from interlock.circuits.validate import MAX_NESTING, MAX_OPERATIONS, MAX_QUBITS

if TYPE_CHECKING:
    from qiskit import QuantumCircuit

__all__ = ["Reader", "from_qiskit", "read_with", "to_qiskit"]

_NAMES = {**{name: name for name in GATES}, **ALIASES}
#: Gates that Qiskit makes from numbers -> what they were read as and held to, on qubits 0, 1, ...
_written_as: dict[Any, list[Operation]] = {}
_MOST_WRITTEN = 4096
_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "ps": 1e-12}


def from_qiskit(circuit: QuantumCircuit) -> Circuit:
    """Return the canonical form of a circuit.

    Args:
        circuit: any circuit of Qiskit 2; composite gates are written out.

    Raises:
        InputError: `circuit-unsupported` for what the form cannot say, `circuit-too-large` for a
            circuit that grows beyond bounds when written out.

    Example:
        >>> from qiskit import QuantumCircuit
        >>> qc = QuantumCircuit(2)
        >>> _ = qc.h(0), qc.cx(0, 1)
        >>> [str(op) for op in from_qiskit(qc).operations]
        ['h q[0]', 'cx q[0], q[1]']
    """
    return read_with(Reader(), circuit)


def read_with(reader: Reader, circuit: QuantumCircuit) -> Circuit:
    """Return the canonical form as a new reader reads it."""
    if circuit.num_qubits > MAX_QUBITS or len(circuit.data) > MAX_OPERATIONS:
        raise too_large(f"{circuit.num_qubits} qubits, {len(circuit.data)} instructions")
    qubits = {bit: i for i, bit in enumerate(circuit.qubits)}
    clbits = {bit: i for i, bit in enumerate(circuit.clbits)}
    operations: list[Operation] = []
    if circuit.num_vars or circuit.num_stretches:
        raise unsupported(
            "a classical variable", f"{circuit.num_vars} variables", "use classical registers"
        )
    reader.read(circuit, qubits, clbits, operations, 0)
    return shared(
        Circuit(
            num_qubits=len(qubits),
            num_clbits=len(clbits),
            operations=tuple(operations),
            registers=tuple(
                Register(reg.name, tuple([clbits[bit] for bit in reg])) for reg in circuit.cregs
            ),
            global_phase=reader.param(circuit.global_phase),
        )
    )


@cache
def _plain() -> dict[type, str]:
    """Return the instructions that are no gates and have nothing but wires."""
    from qiskit.circuit import Barrier, Measure, Reset

    kinds = {Barrier: "barrier", Measure: "measure", Reset: "reset"}
    return kinds | {type(Measure()): "measure", type(Reset()): "reset"}


def _written(op: Any) -> list[Operation]:
    """Return what a gate without classical bits is defined as, on its own wires."""
    out: list[Operation] = []
    Reader().definition(op, tuple(range(op.num_qubits)), (), out, 0)
    return out


@cache
def _standard(kind: type) -> tuple[Operation, ...]:
    return tuple(_written(kind()))


def _unmodified(op: Any, kind: type) -> bool:
    """Whether a controlled X has every control on 1 and the definition of its class."""
    if op.ctrl_state != 2**op.num_ctrl_qubits - 1:
        return False
    return tuple(_written(op)) == _standard(kind)


def _swaps(pattern: list[int], qubits: tuple[int, ...]) -> list[Operation]:
    """Return the swaps that bring what is on the wire `pattern[k]` to the wire k."""
    held = list(range(len(pattern)))
    place = list(held)
    out = []
    for k, wanted in enumerate(pattern):
        other, there = place[wanted], held[k]
        if other != k:
            out.append(Operation("swap", (), (qubits[k], qubits[other])))
            held[other], place[there] = there, other
    return out


#: What to do about an instruction that only a simulator knows.
_OF_AER = (
    "leave what only a simulator can do (save_..., set_..., noise channels) out of guarded "
    "circuits: Statevector(circuit) gives states, noise_model=... the noise"
)


class Reader:
    """Reads one circuit; keeps the expressions seen and the number of operations.

    Attributes:
        custom: whether anything was read from an object that may be another the next time.
    """

    def __init__(self) -> None:
        self.cache: dict[Any, Param] = {}
        self.count = 0
        self.custom = False

    def read(
        self,
        circuit: QuantumCircuit,
        qubits: Mapping[Any, int],
        clbits: Mapping[Any, int],
        out: list[Operation],
        level: int,
    ) -> None:
        """Append the operations of `circuit`, on the given bit numbers, to `out`."""
        if level > MAX_NESTING:
            raise too_large(f"definitions nested over {MAX_NESTING} deep")
        self.count += len(circuit.data)
        if self.count > MAX_OPERATIONS:
            raise too_large(f"over {MAX_OPERATIONS} operations")
        names = _NAMES
        append = out.append
        for item in circuit.data:
            wires = tuple([qubits[q] for q in item.qubits])
            if item.is_standard_gate():
                name = names.get(item.name)
                if name is not None:
                    if level:
                        hold_standard(item.operation)
                    params = item.params
                    append(
                        Operation(
                            name,
                            tuple([
                                p + 0.0 if type(p) is float and p - p == 0.0 else self.param(p)
                                for p in params
                            ]) if params else (),
                            wires,
                        )
                    )  # fmt: skip
                    continue
            self.other(item, wires, tuple([clbits[c] for c in item.clbits]), clbits, out, level)

    def param(self, value: Any) -> Param:
        """Return a number, or the normal form of a parameter expression."""
        if isinstance(value, (int, float)):
            return finite_or_text(float(value))
        from qiskit.circuit import Parameter, ParameterExpression

        if isinstance(value, Parameter):
            return quote(value.name)
        if not isinstance(value, ParameterExpression):
            return self.number(value)
        found = self.cache.get(value)
        if found is None:
            found = self.cache[value] = self.expression(value)
        return found

    @staticmethod
    def number(value: Any) -> Param:
        """Return anything that is a real number as one."""
        try:
            return finite_or_text(float(value))
        except (TypeError, ValueError, OverflowError) as error:
            raise unsupported(
                "a parameter", f"{type(value).__name__}: {value!r}"[:80], "bind it to a real number"
            ) from error

    def expression(self, value: Any) -> Param:
        """Return the normal form of an expression: from its slopes where it is linear."""
        from qiskit.circuit import Parameter

        names = sorted(value.parameters, key=lambda p: p.name)
        if not names:
            return self.number(value.numeric())
        slopes: dict[str, float] = {}
        for symbol in names:
            slope = value.gradient(symbol)
            if not isinstance(slope, (int, float)):
                break
            slopes[symbol.name] = float(slope)
        else:
            constant = value.bind(dict.fromkeys(names, 0.0)).numeric()
            if isinstance(constant, complex):
                raise unsupported("a complex parameter", str(value), "use real parameters")
            return linear(float(constant), slopes)
        plain = {symbol: Parameter(f"p{i}") for i, symbol in enumerate(names)}
        text = str(value.subs(plain))
        back = {f"p{i}": quote(symbol.name) for i, symbol in enumerate(names)}
        found = normalise(_rename(text, back))
        _agree(value, names, found)
        return found

    def other(
        self,
        item: Any,
        qubits: tuple[int, ...],
        clbits: tuple[int, ...],
        outer: Mapping[Any, int],
        out: list[Operation],
        level: int,
    ) -> None:
        """Append what is no standard gate."""
        op = item.operation
        kind = getattr(op, "base_class", type(op))
        if kind is not type(op) and not isinstance(op, kind):
            raise disagree(item.name, f"a {type(op).__name__} in place of a {kind.__name__}")
        plain = _plain().get(type(op))
        if plain is not None:
            out.append(Operation(plain, (), qubits, clbits))
            return
        from qiskit.circuit import BreakLoopOp, ContinueLoopOp, Delay
        from qiskit.circuit.library import C3XGate, C4XGate, PermutationGate, UnitaryGate

        if type(op) is Delay:
            out.append(self.delay(op, qubits))
            return
        self.custom = True
        if kind is UnitaryGate:
            matrix = op.params[0]
            flat = [finite_or_text(float(x)) for z in matrix.ravel() for x in (z.real, z.imag)]
            out.append(Operation("unitary", tuple(flat), qubits))
        elif kind in (BreakLoopOp, ContinueLoopOp):
            out.append(Operation(item.name, (), qubits, clbits))
        elif item.is_control_flow():
            from interlock.circuits import qiskit_control

            out.append(qiskit_control.read(self, op, qubits, clbits, outer, level))
        elif kind is PermutationGate and own_data(op):  # it has no definition
            out += _swaps(op.params[0].tolist(), qubits)
        elif kind in (C3XGate, C4XGate) and _unmodified(op, kind):
            out.append(Operation(f"c{len(qubits) - 1}x", (), qubits))
        else:
            self.definition(op, qubits, clbits, out, level)

    def delay(self, op: Any, qubits: tuple[int, ...]) -> Operation:
        """Return a delay in seconds or in device cycles."""
        value = self.param(op.duration)
        if op.unit == "dt":
            return Operation("delay_dt", (value,), qubits)
        if op.unit not in _UNITS:
            raise unsupported(f"a delay in {op.unit!r}", str(op.duration), "use s, ms, us, ns, dt")
        unit = _UNITS[op.unit]
        scaled = normalise(f"{unit!r}*({value})") if isinstance(value, str) else value * unit
        return Operation("delay", (scaled,), qubits)

    def definition(
        self,
        op: Any,
        qubits: tuple[int, ...],
        clbits: tuple[int, ...],
        out: list[Operation],
        level: int,
    ) -> None:
        """Append what a composite gate is defined as."""
        given = getattr(op, "_definition", None) is not None
        key = None if clbits else data_key(op)
        known = None if key is None else _written_as.get(key)
        if known is not None and not given:
            self.count += len(known)
            if self.count > MAX_OPERATIONS:
                raise too_large(f"over {MAX_OPERATIONS} operations")
            out += [
                Operation(s.name, s.params, tuple([qubits[q] for q in s.qubits])) for s in known
            ]
            return
        try:
            inner = getattr(op, "definition", None)
        except Exception as error:
            raise unsupported(
                f"the gate {op.name!r}", f"{type(error).__name__}: {error}", "mend its definition"
            ) from error
        if inner is None:
            raise unsupported(
                f"the opaque instruction {op.name!r}",
                f"{type(op).__name__} without a definition",
                _OF_AER
                if type(op).__module__.startswith("qiskit_aer.")
                else "give it a definition in terms of known gates",
            )
        if len(inner.qubits) != len(qubits) or len(inner.clbits) != len(clbits):
            raise unsupported(
                f"the gate {op.name!r}", "a definition of another width", "mend its definition"
            )
        start = len(out)
        self._inner(inner, qubits, clbits, out, level)
        # A definition made on demand is not compared: nested ones would be read again each level.
        place = {q: i for i, q in enumerate(qubits)}
        local = [
            Operation(s.name, s.params, tuple([place[q] for q in s.qubits]), s.clbits, s.control)
            for s in (out[start:] if key is not None else ())
        ]
        if known is not None and known == local:
            return
        again = (lambda fresh: Reader().written(fresh, qubits, clbits, level)) if given else None
        hold(op, qubits, out[start:], again)
        if key is not None and len(_written_as) < _MOST_WRITTEN:
            _written_as[key] = local

    def _inner(
        self, inner: Any, qubits: tuple[int, ...], clbits: tuple[int, ...], out: list[Operation],
        level: int,
    ) -> None:  # fmt: skip
        self.read(
            inner,
            dict(zip(inner.qubits, qubits, strict=True)),
            dict(zip(inner.clbits, clbits, strict=True)),
            out,
            level + 1,
        )

    def written(
        self, op: Any, qubits: tuple[int, ...], clbits: tuple[int, ...], level: int
    ) -> list[Operation]:
        """Return what a gate is defined as, on the given bits."""
        out: list[Operation] = []
        self._inner(op.definition, qubits, clbits, out, level)
        return out


def _rename(text: str, names: Mapping[str, str]) -> str:
    import re

    return re.sub(r"\bp\d+\b", lambda m: names[m[0]], text)


def _agree(value: Any, names: Iterable[Any], found: Param) -> None:
    """Hold the normal form to the expression it was made from, at three points.

    Raises:
        InputError: they differ, so the text of the expression did not say all of it.
    """
    import cmath

    from interlock.circuits.expression import evaluate

    for seed in (0.371, 0.642, 0.885):
        at = {p: seed + 0.137 * i % 0.1 for i, p in enumerate(names)}
        try:
            want = complex(value.bind(at).numeric())
        except (TypeError, ValueError, ZeroDivisionError):
            continue
        got = (
            evaluate(found, {p.name: v for p, v in at.items()}) if isinstance(found, str) else found
        )
        if not cmath.isclose(want, got, rel_tol=1e-9, abs_tol=1e-12):
            raise unsupported("a parameter expression", str(value)[:80], "simplify or bind it")


def to_qiskit(circuit: Circuit) -> QuantumCircuit:
    """Return a Qiskit circuit with the same identity.

    Raises:
        InputError: `circuit-unsupported` for a name that Qiskit has no gate for.

    Example:
        >>> from interlock.circuits.canonical import Circuit, Operation
        >>> to_qiskit(Circuit(num_qubits=1, operations=(Operation("h", (), (0,)),))).size()
        1
    """
    from interlock.circuits.qiskit_writer import write

    return write(circuit)
