"""Qiskit control flow and classical expressions, both ways."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from interlock.circuits.convert import unsupported
from interlock.circuits.faces import of_sdk, patched
from interlock.circuits.operation import Control, Json, Operation
from interlock.errors import InputError

if TYPE_CHECKING:
    from interlock.circuits.qiskit_adapter import Reader

__all__ = ["read", "write_condition"]

_BINARY = {
    "BIT_AND": "&", "BIT_OR": "|", "BIT_XOR": "^", "LOGIC_AND": "&&", "LOGIC_OR": "||",
    "EQUAL": "==", "NOT_EQUAL": "!=", "LESS": "<", "LESS_EQUAL": "<=", "GREATER": ">",
    "GREATER_EQUAL": ">=", "SHIFT_LEFT": "<<", "SHIFT_RIGHT": ">>", "ADD": "+", "SUB": "-",
    "MUL": "*", "DIV": "/",
}  # fmt: skip
_UNARY = {"BIT_NOT": "~", "LOGIC_NOT": "!"}
_BUILDERS = {
    "&": "bit_and", "|": "bit_or", "^": "bit_xor", "&&": "logic_and", "||": "logic_or",
    "==": "equal", "!=": "not_equal", "<": "less", "<=": "less_equal", ">": "greater",
    ">=": "greater_equal", "<<": "shift_left", ">>": "shift_right", "+": "add", "-": "sub",
    "*": "mul", "/": "div", "~": "bit_not", "!": "logic_not",
}  # fmt: skip


def _unsupported(what: str, got: object) -> InputError:
    return unsupported(what, repr(got), "write it with classical registers and whole numbers")


def read(
    reader: Reader,
    op: Any,
    qubits: tuple[int, ...],
    clbits: tuple[int, ...],
    outer: Mapping[Any, int],
    level: int,
) -> Operation:
    """Return the canonical form of a control-flow operation.

    Args:
        reader: the reader of the circuit, for the blocks.
        op: the Qiskit operation.
        qubits: its qubits as bit numbers.
        clbits: its classical bits as bit numbers.
        outer: bit numbers of the classical bits that conditions name.
        level: nesting so far.
    """
    name = op.name
    if not of_sdk(type(op), "qiskit") or patched(op, ("blocks", "condition", "replace_blocks")):
        raise _unsupported("a control-flow operation that is not Qiskit's", type(op).__qualname__)
    cases: tuple[tuple[int, ...], ...] = ()
    symbol = ""
    blocks = list(op.blocks)
    if name in ("if_else", "while_loop"):
        condition = _condition(op.condition, outer)
    elif name == "for_loop":
        indexset, parameter, _ = op.params
        condition = _indices(indexset)
        # one that the body lacks would catch another of its name
        symbol = str(parameter.name) if parameter in blocks[0].parameters else ""
    elif name == "switch_case":
        from qiskit.circuit import CASE_DEFAULT

        condition = _target(op.target, outer)
        pairs = list(op.cases_specifier())
        blocks = [block for _, block in pairs]
        cases = tuple(
            () if CASE_DEFAULT in labels else tuple(int(x) for x in labels) for labels, _ in pairs
        )
    elif name == "box":
        condition = None
        if getattr(op, "duration", None) is not None:
            raise _unsupported("a box with a duration", op.duration)
    else:
        raise _unsupported(f"the operation {name!r}", op)
    bodies = []
    for block in blocks:
        if block.num_vars or block.num_stretches:
            raise _unsupported("a block with classical variables", block)
        body: list[Operation] = []
        inner_clbits = dict(zip(block.clbits, clbits, strict=True))
        inner = dict(zip(block.qubits, qubits, strict=True))
        reader.read(block, inner, {**outer, **inner_clbits}, body, level + 1)
        bodies.append(tuple(body))
    return Operation(name, (), qubits, clbits, Control(condition, tuple(bodies), cases, symbol))


def _indices(indexset: Any) -> Json:
    if isinstance(indexset, range):
        return ["range", indexset.start, indexset.stop, indexset.step]
    try:
        values = [int(value) for value in indexset]
    except (TypeError, ValueError) as error:
        raise _unsupported("a loop over something else than whole numbers", indexset) from error
    return ["set", values]


def _condition(condition: Any, clbits: Mapping[Any, int]) -> Json:
    if isinstance(condition, tuple):
        target, value = condition
        left = _target(target, clbits)
        if left[0] == "bit":
            return left if int(value) else ["!", left]
        return ["==", left, ["value", int(value), len(left[1])]]
    return _expression(condition, clbits)


def _target(target: Any, clbits: Mapping[Any, int]) -> Json:
    from qiskit.circuit import ClassicalRegister, Clbit

    if isinstance(target, Clbit):
        return ["bit", clbits[target]]
    if isinstance(target, ClassicalRegister):
        return ["bits", [clbits[bit] for bit in target]]
    return _expression(target, clbits)


def _expression(node: Any, clbits: Mapping[Any, int]) -> Json:
    from qiskit.circuit.classical import expr, types

    if not of_sdk(type(node), "qiskit"):
        raise _unsupported("a condition of a class that is not Qiskit's", type(node).__qualname__)
    if isinstance(node, expr.Var):
        if not isinstance(node.var, str) and node.standalone is False:
            return _target(node.var, clbits)
        raise _unsupported("a classical variable", node)
    if isinstance(node, expr.Value):
        if isinstance(node.type, types.Bool):
            return ["value", int(node.value), 1]
        if isinstance(node.type, types.Uint):
            return ["value", int(node.value), node.type.width]
        raise _unsupported("a classical value", node)
    if isinstance(node, expr.Cast):
        if isinstance(node.type, types.Bool):
            return ["bool", _expression(node.operand, clbits)]
        if isinstance(node.type, types.Uint):
            return ["uint", _expression(node.operand, clbits), node.type.width]
        raise _unsupported("a classical cast", node)
    if isinstance(node, expr.Unary) and node.op.name in _UNARY:
        return [_UNARY[node.op.name], _expression(node.operand, clbits)]
    if isinstance(node, expr.Binary) and node.op.name in _BINARY:
        left, right = _expression(node.left, clbits), _expression(node.right, clbits)
        return [_BINARY[node.op.name], left, right]
    if isinstance(node, expr.Index):
        return ["index", _expression(node.target, clbits), _expression(node.index, clbits)]
    raise _unsupported("a classical expression", node)


def write_condition(condition: Json, circuit: Any) -> Any:
    """Return the Qiskit expression for a canonical condition on the bits of `circuit`.

    A register that holds just the named bits is used; else a register over them is added.
    """
    from qiskit.circuit import ClassicalRegister
    from qiskit.circuit.classical import expr, types

    kind, *rest = condition
    if kind == "bit":
        return expr.lift(circuit.clbits[rest[0]])
    if kind == "bits":
        bits = [circuit.clbits[i] for i in rest[0]]
        for register in circuit.cregs:
            if list(register) == bits:
                return expr.lift(register)
        register = ClassicalRegister(bits=bits, name=f"bits_{'_'.join(map(str, rest[0]))}")
        circuit.add_register(register)
        return expr.lift(register)
    if kind == "value":
        value, width = rest
        return expr.Value(value, types.Uint(width)) if width != 1 else expr.lift(bool(value))
    if kind == "bool":
        return expr.cast(write_condition(rest[0], circuit), types.Bool())
    if kind == "uint":
        return expr.cast(write_condition(rest[0], circuit), types.Uint(rest[1]))
    if kind == "index":
        return expr.index(*(write_condition(part, circuit) for part in rest))
    if kind in _BUILDERS:
        parts = [write_condition(part, circuit) for part in rest]
        return getattr(expr, _BUILDERS[kind])(*parts)
    raise _unsupported("a condition", condition)
