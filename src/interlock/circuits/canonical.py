"""The canonical form of a circuit: flat, immutable, versioned, with a SHA-256 identity.

The identity is that of the circuit, not of the way it was written down. Operations that share no
wire may be listed in any order, spacing and names of a single register do not count, a parameter
expression counts in its normal form, and the global phase, which no measurement can see, is left
out. Everything else counts: barriers, delays, bit numbers, and angles to the last bit.

Format: `docs/reference/circuit-format.md`; schema: `circuit-v1.schema.json` beside this module.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import msgspec

from interlock.circuits.expression import Param, substitute, symbols
from interlock.circuits.levels import Summary, ordered, summarise
from interlock.circuits.operation import BARRIERS, Control, Operation, Register
from interlock.errors import InputError
from interlock.types import CircuitFacts

__all__ = ["VERSION", "Circuit", "Control", "Operation", "Register", "shared"]

VERSION = 1
_DOMAIN = b"interlock-circuit-v1\n"


class Circuit(msgspec.Struct, frozen=True, dict=True, kw_only=True, forbid_unknown_fields=True):
    """A circuit in canonical form.

    Attributes:
        num_qubits: width.
        num_clbits: classical bits.
        operations: instructions in the order of the source.
        registers: named classical registers.
        global_phase: kept for exact unitaries, not part of the identity.
        version: of this format.
        lines: (line, column) of each operation in the source text, or empty. Not persisted.

    Example:
        >>> bell = Circuit(num_qubits=2, num_clbits=2, operations=(
        ...     Operation("h", (), (0,)), Operation("cx", (), (0, 1)),
        ...     Operation("measure", (), (0,), (0,)), Operation("measure", (), (1,), (1,))))
        >>> bell.depth, bell.two_qubit_ops, bell.sha256[:12]
        (3, 1, '3d1110c82a8d')
        >>> Circuit.from_json(bell.to_json()) == bell
        True
    """

    num_qubits: int
    num_clbits: int = 0
    operations: tuple[Operation, ...] = ()
    registers: tuple[Register, ...] = ()
    global_phase: Param = 0.0
    version: int = VERSION
    lines: tuple[tuple[int, int], ...] = ()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Circuit):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in _PERSISTED)

    def __hash__(self) -> int:
        return hash(self.sha256)

    @cached_property
    def _summary(self) -> Summary:
        return summarise(
            self.operations, [0] * (self.num_qubits + self.num_clbits), self.num_qubits
        )

    @property
    def depth(self) -> int:
        """Longest chain of operations that share wires; barriers align and count nothing.

        A block counts with its own depth, times the number of rounds of a `for_loop`.
        """
        return self._summary.depth

    @property
    def size(self) -> int:
        """Number of operations without barriers, blocks written out, `for_loop` rounds counted."""
        return self._summary.size

    @property
    def two_qubit_ops(self) -> int:
        """Gates on two or more qubits, counted as `size` counts."""
        return self._summary.two_qubit_ops

    @property
    def bounded(self) -> bool:
        """Whether it ends for sure: no `while_loop`."""
        return self._summary.bounded

    @cached_property
    def used_qubits(self) -> frozenset[int]:
        """Qubits that something other than a barrier acts on."""
        return frozenset(q for op in self.walk() if op.name not in BARRIERS for q in op.qubits)

    @cached_property
    def used_edges(self) -> frozenset[tuple[int, int]]:
        """Pairs of qubits that a two-qubit gate acts on, in the order the gate takes them."""
        return frozenset(
            (op.qubits[0], op.qubits[1])
            for op in self.walk()
            if len(op.qubits) == 2 and op.control is None and op.name not in BARRIERS
        )

    @cached_property
    def measured(self) -> tuple[tuple[int, int], ...]:
        """(qubit, clbit) of each measurement, in order, blocks included."""
        return tuple((op.qubits[0], op.clbits[0]) for op in self.walk() if op.name == "measure")

    @property
    def measured_clbits(self) -> frozenset[int]:
        """Classical bits that a measurement writes."""
        return frozenset(c for _, c in self.measured)

    @cached_property
    def parameters(self) -> tuple[str, ...]:
        """Names of the free parameters, sorted. Symbols that a loop sets are not free."""
        return tuple(sorted(_free(self.operations) | _symbols_of(self.global_phase)))

    def walk(self) -> Iterator[Operation]:
        """Yield every operation, those in blocks after the operation that holds them."""
        stack = [iter(self.operations)]
        while stack:
            for op in stack[-1]:
                yield op
                if op.control is not None:
                    stack.append(op2 for block in op.control.blocks for op2 in block)
                    break
            else:
                stack.pop()

    @cached_property
    def sha256(self) -> str:
        """Identity: hex SHA-256 of `identity_bytes`."""
        return hashlib.sha256(self.identity_bytes()).hexdigest()

    def identity_bytes(self) -> bytes:
        """Return what the identity is the hash of: domain line, then compact JSON."""
        ops = self.operations
        listed = [
            op if op.control is None and op.name not in BARRIERS else ordered(op, self.num_qubits)
            for op in map(ops.__getitem__, self._summary.order)
        ]
        names = self.registers if len(self.registers) > 1 else ()
        body = (self.num_qubits, self.num_clbits, listed, sorted(names, key=lambda r: r.clbits))
        return _DOMAIN + msgspec.json.encode(body)

    def facts(
        self, *, bindings: int = 1, shots: int = 0, precision: float | None = None
    ) -> CircuitFacts:
        """Return what the record keeps of this circuit."""
        s = self._summary
        return CircuitFacts(
            sha256=self.sha256,
            num_qubits=self.num_qubits,
            num_clbits=self.num_clbits,
            size=s.size,
            depth=s.depth,
            two_qubit_ops=s.two_qubit_ops,
            bindings=bindings,
            shots=shots,
            precision=precision,
        )

    def bind(self, values: Mapping[str, float]) -> Circuit:
        """Return the circuit with parameters set; all of them must have a value.

        Raises:
            InputError: code `circuit-expression`; a value is missing.
        """
        return msgspec.structs.replace(
            self,
            operations=_bind(self.operations, values, frozenset()),
            global_phase=_value(self.global_phase, values, frozenset()),
        )

    def to_json(self) -> bytes:
        """Return the persisted form: compact JSON."""
        return msgspec.json.encode({name: getattr(self, name) for name in _PERSISTED})

    @classmethod
    def from_json(cls, data: bytes | str) -> Circuit:
        """Read the persisted form and check it.

        Raises:
            InputError: code `circuit-json` or `circuit-invalid`.
        """
        try:
            _refuse_repeated(data)
            circuit = msgspec.json.decode(data, type=cls)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise InputError(
                "the text is not a circuit in canonical form",
                code="circuit-json",
                got=str(error),
                expected=f"the JSON of docs/reference/circuit-format.md, version {VERSION}",
                fix="write it with Circuit.to_json()",
            ) from error
        from interlock.circuits.validate import validate

        circuit = msgspec.structs.replace(circuit, lines=())
        validate(circuit)
        return circuit


#: Circuits that have come by, so that what was computed of one is there when it comes again.
_seen: dict[tuple[Any, ...], Circuit] = {}
_SEEN = 1024
_SMALL = 4096


def shared(circuit: Circuit) -> Circuit:
    """Return the one object for circuits that are equal, with all that is known of it by now.

    A program submits the same few circuits many times: their identity, depth and parameters are
    then computed once. Circuits over 4096 operations, or with control flow, are returned as they
    are. Numbers must be floats, as every reader makes them: 1 and 1.0 are equal here, and are not
    in the identity.
    """
    if len(circuit.operations) > _SMALL:
        return circuit
    key = tuple([getattr(circuit, name) for name in _PERSISTED])
    try:
        known = _seen.get(key)
    except TypeError:  # control flow holds lists
        return circuit
    if known is None:
        if len(_seen) >= _SEEN:
            _seen.clear()
        known = _seen[key] = circuit
    return known


_PERSISTED = ("version", "num_qubits", "num_clbits", "registers", "global_phase", "operations")


def _refuse_repeated(data: bytes | str) -> None:
    """Refuse a member that stands twice; a circuit is one object, with lists inside.

    A decoder takes the last of them and says nothing: then some of the text is missing.

    Raises:
        msgspec.DecodeError: a member stands twice, or its name is written with escapes.
    """
    plain = data.encode() if isinstance(data, str) else bytes(data)
    text = msgspec.json.format(plain, indent=-1)
    members = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    kept = sum(len(name.encode()) + len(bytes(value)) + 4 for name, value in members.items())
    if members and len(text) != kept + 1:
        raise msgspec.DecodeError("a member that stands twice, or a name with escapes")


def _symbols_of(param: Param) -> frozenset[str]:
    return symbols(param) if isinstance(param, str) else frozenset()


def _free(operations: Sequence[Operation]) -> set[str]:
    out: set[str] = set()
    for op in operations:
        for param in op.params:
            if isinstance(param, str):
                out |= symbols(param)
        if op.control is not None:
            for block in op.control.blocks:
                out |= _free(block) - {op.control.symbol}
    return out


def _value(param: Param, values: Mapping[str, float], kept: frozenset[str]) -> Param:
    if not isinstance(param, str):
        return param
    names = symbols(param)
    missing = names - values.keys() - kept
    if missing:
        raise InputError(
            "a parameter has no value",
            code="circuit-unbound",
            got=", ".join(sorted(values)) or "no values",
            expected="a value for " + ", ".join(sorted(missing)),
            fix="give every free parameter a number",
        )
    if not names:
        return param
    return substitute(param, {n: v for n, v in values.items() if n in names and n not in kept})


def _bind(
    operations: Sequence[Operation], values: Mapping[str, float], kept: frozenset[str]
) -> tuple[Operation, ...]:
    out: list[Operation] = []
    for op in operations:
        params = op.params
        if any(isinstance(p, str) for p in params):
            params = tuple(_value(p, values, kept) for p in params)
        control = op.control
        if control is not None:
            inner = kept | {control.symbol} if control.symbol else kept
            control = msgspec.structs.replace(
                control, blocks=tuple(_bind(b, values, inner) for b in control.blocks)
            )
        out.append(Operation(op.name, params, op.qubits, op.clbits, control))
    return tuple(out)
