"""One instruction of a circuit in canonical form, and the registers it may name."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from interlock.circuits.expression import Param

__all__ = ["BARRIERS", "Control", "Json", "Operation", "Register", "finite_or_text"]

#: Operations that hold others apart and do nothing themselves.
BARRIERS = frozenset({"barrier", "break_loop", "continue_loop"})

#: A classical expression or a loop's values as nested JSON lists.
Json: TypeAlias = Any


class Control(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The classical part of a control-flow operation.

    Attributes:
        condition: what is tested, as nested lists: `["bit", 3]`, `["bits", [0, 1]]`,
            `["value", 5, width]`, `["==", left, right]`, ... For a `for_loop` the values it takes,
            `["range", start, stop, step]` or `["set", [..]]`.
        blocks: the bodies, on the same bit numbers as the circuit.
        cases: for `switch_case`, the labels of each block; an empty tuple is the default.
        symbol: for `for_loop`, the parameter the loop sets, or "".
    """

    condition: Json
    blocks: tuple[tuple[Operation, ...], ...]
    cases: tuple[tuple[int, ...], ...] = ()
    symbol: str = ""


class Operation(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """One instruction.

    Attributes:
        name: from the vocabulary in `circuits.gates`, `unitary`, or a control-flow name.
        params: numbers, or canonical expression text; of `unitary` the matrix, row by row, each
            entry as real and imaginary part.
        qubits: bit numbers in the order the gate takes them.
        clbits: bit numbers written (`measure`) or used.
        control: condition and blocks of a control-flow operation.
    """

    name: str
    params: tuple[Param, ...] = ()
    qubits: tuple[int, ...] = ()
    clbits: tuple[int, ...] = ()
    control: Control | None = None

    def __str__(self) -> str:
        params = ", ".join(p if isinstance(p, str) else f"{p:.6g}" for p in self.params[:8])
        wires = ", ".join(f"q[{q}]" for q in self.qubits[:8])
        more = ", ..." if len(self.qubits) > 8 else ""
        bits = " -> " + ", ".join(f"c[{c}]" for c in self.clbits[:8]) if self.clbits else ""
        return f"{self.name}{f'({params})' if params else ''} {wires}{more}{bits}".rstrip()


class Register(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A named classical register: the bit numbers it holds, least significant first."""

    name: str
    clbits: tuple[int, ...]


def finite_or_text(value: float) -> Param:
    """Return a number fit for JSON: NaN and the infinities become text, -0.0 becomes 0.0."""
    if value - value == 0.0:
        return value + 0.0
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
