"""Checks of a canonical circuit that came from outside: numbers in range, known names, bounds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from interlock.circuits.canonical import VERSION, Circuit, Operation
from interlock.circuits.expression import Param, normalise
from interlock.circuits.gates import CONTROL_FLOW, GATES, NON_UNITARY
from interlock.errors import InputError

__all__ = ["MAX_CLBITS", "MAX_NESTING", "MAX_OPERATIONS", "MAX_QUBITS", "validate"]

MAX_QUBITS = 65_536
MAX_CLBITS = 1_048_576
MAX_OPERATIONS = 500_000
MAX_NESTING = 64
_CONSTANTS = ("NaN", "Infinity", "-Infinity")
_NAMES = (*GATES, *sorted(NON_UNITARY), *sorted(CONTROL_FLOW), "unitary")
_ARITY = {
    "bit": 1, "bits": 1, "value": 2, "bool": 1, "uint": 2, "index": 2, "~": 1, "!": 1, "&": 2,
    "|": 2, "^": 2, "&&": 2, "||": 2, "==": 2, "!=": 2, "<": 2, "<=": 2, ">": 2, ">=": 2,
    "<<": 2, ">>": 2, "+": 2, "-": 2, "*": 2, "/": 2,
}  # fmt: skip


def _bad(message: str, got: object, expected: str) -> InputError:
    return InputError(
        message,
        code="circuit-invalid",
        got=str(got)[:120],
        expected=expected,
        fix="write the circuit with Circuit.to_json(), or mend the named instruction",
    )


def validate(circuit: Circuit) -> None:
    """Refuse a circuit that is no canonical form.

    Raises:
        InputError: `circuit-invalid`, with the instruction and what is wrong with it.
    """
    if circuit.version != VERSION:
        raise _bad("the format version is unknown", circuit.version, str(VERSION))
    if not 0 <= circuit.num_qubits <= MAX_QUBITS:
        raise _bad("the number of qubits is out of bounds", circuit.num_qubits, f"0..{MAX_QUBITS}")
    if not 0 <= circuit.num_clbits <= MAX_CLBITS:
        raise _bad("the number of clbits is out of bounds", circuit.num_clbits, f"0..{MAX_CLBITS}")
    _param(circuit.global_phase, "global phase")
    seen: set[str] = set()
    for register in circuit.registers:
        if register.name in seen or not register.name:
            raise _bad("a register has no name of its own", register.name, "distinct names")
        seen.add(register.name)
        _bits(register.clbits, range(circuit.num_clbits), f"register {register.name}")
    budget = [MAX_OPERATIONS]
    _block(
        circuit.operations,
        range(circuit.num_qubits),
        range(circuit.num_clbits),
        budget,
        0,
        in_loop=False,
    )


def _block(
    operations: Sequence[Operation],
    qubits: Any,
    clbits: Any,
    budget: list[int],
    level: int,
    *,
    in_loop: bool,
) -> None:
    if level > MAX_NESTING:
        raise _bad("blocks are nested too deep", level, f"at most {MAX_NESTING}")
    budget[0] -= len(operations)
    if budget[0] < 0:
        raise _bad("there are too many operations", "more", f"at most {MAX_OPERATIONS}")
    for number, op in enumerate(operations):
        where = f"instruction {number} ({op.name[:40]})"
        _bits(op.qubits, qubits, where)
        _bits(op.clbits, clbits, where)
        for param in op.params:
            _param(param, where)
        _shape(op, where, in_loop=in_loop)
        if op.control is not None:
            _control(op, where)
            inner_loop = in_loop or op.name in ("while_loop", "for_loop")
            for block in op.control.blocks:
                _block(
                    block,
                    frozenset(op.qubits),
                    frozenset(op.clbits),
                    budget,
                    level + 1,
                    in_loop=inner_loop,
                )


def _bits(bits: tuple[int, ...], allowed: Any, where: str) -> None:
    if len(set(bits)) != len(bits):
        raise _bad(f"{where} uses a bit twice", bits, "distinct bits")
    for bit in bits:
        if bit not in allowed:
            raise _bad(f"{where} uses a bit that is not there", bit, f"one of {allowed!s:.60}")


def _param(param: Param, where: str) -> None:
    if isinstance(param, str):
        if param not in _CONSTANTS and normalise(param) != param:
            raise _bad(f"{where} has a parameter not in normal form", param, repr(normalise(param)))
    elif not math.isfinite(param) or math.copysign(1.0, param) < 0 == param:
        raise _bad(f"{where} has a parameter not in normal form", param, "a finite number")


def _shape(op: Operation, where: str, *, in_loop: bool) -> None:
    params, qubits, clbits = len(op.params), len(op.qubits), len(op.clbits)
    name = op.name
    fits: bool
    if name in GATES:
        fits = (params, qubits) == GATES[name] and clbits == 0
    elif name == "unitary":
        fits = 1 <= qubits <= 10 and params == 2 * 4**qubits and clbits == 0
    elif name == "measure":
        fits = (params, qubits, clbits) == (0, 1, 1)
    elif name == "reset":
        fits = (params, qubits, clbits) == (0, 1, 0)
    elif name == "barrier":
        fits = (params, clbits) == (0, 0)
    elif name in ("delay", "delay_dt"):
        fits = (params, qubits, clbits) == (1, 1, 0)
    elif name in ("break_loop", "continue_loop"):
        fits = in_loop and params == 0
    elif name in CONTROL_FLOW:
        fits = params == 0 and op.control is not None
    else:
        raise _bad(f"{where} is unknown", repr(name[:60]), "one of " + ", ".join(_NAMES))
    has_blocks = name in CONTROL_FLOW and name not in ("break_loop", "continue_loop")
    if not fits or (op.control is not None) != has_blocks:
        raise _bad(
            f"{where} has the wrong shape",
            f"{params} parameters, {qubits} qubits, {clbits} clbits",
            f"what {name} takes",
        )


def _control(op: Operation, where: str) -> None:
    control = op.control
    assert control is not None
    counts: dict[str, Callable[[int], bool]] = {
        "if_else": lambda n: n in (1, 2),
        "while_loop": lambda n: n == 1,
        "for_loop": lambda n: n == 1,
        "box": lambda n: n == 1,
        "switch_case": lambda n: n >= 1,
    }
    if not counts[op.name](len(control.blocks)):
        raise _bad(f"{where} has a wrong number of blocks", len(control.blocks), "its blocks")
    if len(control.cases) != (len(control.blocks) if op.name == "switch_case" else 0):
        raise _bad(f"{where} has labels that do not match", control.cases, "labels of each block")
    labels = [label for case in control.cases for label in case]
    if len(set(labels)) < len(labels) or () in control.cases[:-1]:
        raise _bad(f"{where} has a label twice", control.cases, "each label once, the default last")
    if control.symbol and op.name != "for_loop":
        raise _bad(f"{where} sets a parameter", control.symbol, "only a for_loop does")
    if op.name == "box":
        if control.condition is not None:
            raise _bad(f"{where} has a condition", control.condition, "null")
    elif op.name == "for_loop":
        _indices(control.condition, where)
    else:
        _condition(control.condition, frozenset(op.clbits), where, 0)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _indices(values: Any, where: str) -> None:
    if isinstance(values, list) and len(values) == 4 and values[0] == "range":
        if all(_is_int(v) for v in values[1:]) and values[3] != 0:
            return
    elif (
        isinstance(values, list)
        and len(values) == 2
        and values[0] == "set"
        and isinstance(values[1], list)
        and all(_is_int(v) for v in values[1])
    ):
        return
    raise _bad(
        f"{where} has no loop values", values, '["range", start, stop, step] or ["set", [..]]'
    )


def _condition(node: Any, clbits: frozenset[int], where: str, level: int) -> None:
    wrong = _bad(f"{where} has a wrong condition", node, "the lists of circuit-format.md")
    if level > MAX_NESTING or not isinstance(node, list) or not node:
        raise wrong
    kind, *rest = node
    if not isinstance(kind, str) or _ARITY.get(kind) != len(rest):
        raise wrong
    if kind == "bit":
        if not _is_int(rest[0]) or rest[0] not in clbits:
            raise wrong
    elif kind == "bits":
        bits = rest[0]
        if not isinstance(bits, list) or not all(_is_int(b) and b in clbits for b in bits):
            raise wrong
    elif kind == "value":
        if not (isinstance(rest[0], int) and _is_int(rest[1]) and rest[0] >= 0 and rest[1] > 0):
            raise wrong
    else:
        parts = rest[:1] if kind == "uint" else rest
        for part in parts:
            _condition(part, clbits, where, level + 1)
        if kind == "uint" and not _is_int(rest[1]):
            raise wrong
