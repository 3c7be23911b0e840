"""Qiskit gates that are no standard gates: definition, matrix and name have to be one gate.

Simulators take the matrix where a gate has one, Aer takes many gates by their names, and
transpilers and the canonical form take the definition.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from interlock.circuits.canonical import Operation
from interlock.circuits.faces import FACE_QUBITS, agree, disagree, of_sdk, patched
from interlock.circuits.gates import ALIASES, GATES
from interlock.circuits.matrices import gate_matrix
from interlock.errors import InputError

__all__ = ["METHODS", "data_key", "hold", "hold_kept", "hold_standard", "own_data"]

_NAMES = {**{name: name for name in GATES}, **ALIASES}
#: What a gate must not have of its own over its class.
METHODS = ("__array__", "to_matrix", "definition", "_define")
#: Names that Aer runs by themselves, whatever the definition says. The vocabulary's are compared.
_NATIVE = frozenset({
    "diagonal", "initialize", "kraus", "mcp", "mcphase", "mcr", "mcrx", "mcry", "mcrz", "mcswap",
    "mcsx", "mcu", "mcu1", "mcu2", "mcu3", "mcx", "mcx_gray", "mcy", "mcz", "multiplexer", "pauli",
    "quantum_channel", "qerror_loc", "roerror", "store", "superop", "unitary",
})  # fmt: skip
_DATA = (type(None), bool, int, float, complex, str, np.ndarray)
_AT = (0.371, 1.142, 2.885, 0.713, 1.979)


def hold_standard(op: Any) -> None:
    """Refuse an object in a block or a definition that only passes for a standard gate.

    A circuit's own standard gates are made anew when it is copied; those inside are not.
    """
    kind = getattr(op, "base_class", type(op))
    if not of_sdk(kind, "qiskit") or patched(op, METHODS):
        raise disagree(op.name, f"a {kind.__qualname__} in place of the standard gate")


def hold_kept(circuit: Any, copy: Any, places: Iterable[int] | None = None) -> tuple[int, ...]:
    """Refuse a gate that was changed in place after it was appended.

    Qiskit keeps a gate's own object beside what the circuit has of it. Aer runs the object;
    transpilers, other samplers and copies take what the circuit has.

    Args:
        circuit: what was submitted.
        copy: a copy of it, instruction by instruction.
        places: the instructions to look at, as returned before; None for all.

    Returns:
        Where the circuit keeps such objects.

    Raises:
        InputError: `circuit-two-faces`.
    """
    kept = []
    for place in range(len(circuit._data)) if places is None else places:
        item = circuit._data[place]
        if item.is_standard_gate() and not item.params:
            continue
        op = item.operation
        if not _read_by_circuit(item, op) or op is not circuit._data[place].operation:
            continue  # made anew each time it is asked for, so nobody holds it
        kept.append(place)
        if not _unchanged(op, copy._data[place].operation):
            raise InputError(
                "a gate was changed in place after it was appended",
                code="circuit-two-faces",
                got=f"instruction {place}: a {op.name!s:.60} that is not what the circuit has",
                expected="a gate that the circuit and its own object agree on",
                fix="assign the instruction anew: "
                "circuit.data[i] = circuit.data[i].replace(operation=gate)",
            )
    return tuple(kept)


def _read_by_circuit(item: Any, op: Any) -> bool:
    """Whether a circuit takes what it has of an operation out of the object when it is appended."""
    from qiskit.circuit import ControlFlowOp, Delay
    from qiskit.circuit.library import UnitaryGate

    kind = getattr(op, "base_class", type(op))
    return item.is_standard_gate() or kind in (Delay, UnitaryGate) or isinstance(op, ControlFlowOp)


def _unchanged(op: Any, copied: Any) -> bool:
    from qiskit.circuit import ControlFlowOp

    if isinstance(op, ControlFlowOp):
        return (
            op.name == copied.name
            and _condition(op) == _condition(copied)
            and all(
                hold_kept(mine, own) is not None and mine == own
                for mine, own in zip(op.blocks, copied.blocks, strict=True)
            )
        )
    return (
        op.name == copied.name
        and len(op.params) == len(copied.params)
        and all(_equal(a, b) for a, b in zip(op.params, copied.params, strict=True))
    )


def _condition(op: Any) -> Any:
    return getattr(op, "condition", getattr(op, "target", None))


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other, equal_nan=True)
    return bool(one == other or (one != one and other != other))  # NaN is refused elsewhere


def hold(
    op: Any, wires: Sequence[int], steps: Sequence[Operation], again: Callable[[Any], Any] | None
) -> None:
    """Hold a gate to the steps its definition was read as.

    Args:
        op: the gate.
        wires: its qubits.
        steps: what was read.
        again: reads the definition of another gate on the same wires; None where the gate has just
            made its own.

    Raises:
        InputError: `circuit-two-faces`.
    """
    method = patched(op, METHODS)
    library = _from_library(op) and method is None
    if library and again is not None:
        fresh = op.to_mutable() if hasattr(op, "to_mutable") else copy.copy(op)
        fresh._definition = None
        if list(again(fresh)) != list(steps):
            raise disagree(op.name, f"a {type(op).__name__} with another definition")
    if method in ("definition", "_define"):
        raise disagree(op.name, f"{method} of its own")
    symbols = sorted(
        {s for p in op.params for s in getattr(p, "parameters", ())}, key=lambda s: str(s.name)
    )
    numbers = {s: 0.371 + 0.477 * i % 2.9 for i, s in enumerate(symbols)}
    values = {s.name: v for s, v in numbers.items()}
    bound = [p.bind(numbers, allow_unknown_parameters=True).numeric()
             if hasattr(p, "bind") else p for p in op.params]  # fmt: skip
    _hold_name(op, bound, wires, steps, values)
    _hold_base(op, wires, steps, numbers, values)
    # Qiskit's own classes make definition and matrix from the same data.
    if not library and (hasattr(op, "__array__") or _own_matrix(op)):
        agree(op.name, steps, wires, _matrix(op, bound, len(wires)), values)


def _from_library(op: Any) -> bool:
    """Whether the class is one of Qiskit's own that make their definition themselves."""
    from qiskit.circuit import ControlledGate, Gate, Instruction

    kind = getattr(op, "base_class", type(op))
    if kind in (ControlledGate, Gate, Instruction) or not of_sdk(kind, "qiskit"):
        return False
    if type(op) is kind:
        return True
    try:
        return op is kind()  # the one immutable gate of its class
    except TypeError:
        return False


def own_data(op: Any) -> bool:
    """Whether a gate is of Qiskit's own classes, and made from numbers and texts alone."""
    return (
        _from_library(op)
        and not patched(op, METHODS)
        and all(_plain(v) for k, v in vars(op).items() if k not in ("_definition", "_params"))
    )


def data_key(op: Any) -> Any:
    """Return what all gates have that Qiskit makes alike, or None for a gate that may differ."""
    if not own_data(op):
        return None
    items = {k: v for k, v in vars(op).items() if k not in ("_definition", "_label")}
    try:
        return getattr(op, "base_class", type(op)), *((k, _hashed(v)) for k, v in items.items())
    except TypeError:
        return None


def _plain(value: Any) -> bool:
    from qiskit.circuit import Instruction

    if type(value) in (list, tuple):
        return all(_plain(v) for v in value)
    if isinstance(value, Instruction):
        return own_data(value)
    return type(value) in _DATA


def _hashed(value: Any) -> Any:
    """Return a stand-in of a value that equals that of the same value alone."""
    from qiskit.circuit import Instruction

    if isinstance(value, (list, tuple)):
        return tuple(_hashed(v) for v in value)
    if isinstance(value, np.ndarray):
        return value.shape, str(value.dtype), value.tobytes()
    if isinstance(value, Instruction):
        key = data_key(value)
        if key is None:
            raise TypeError
        return key
    if type(value) not in _DATA:
        raise TypeError
    return type(value), repr(value)


def _hold_name(
    op: Any, bound: Sequence[Any], wires: Sequence[int], steps: Sequence[Operation], values: Any
) -> None:
    """Hold a gate to what its name says, where a simulator runs gates by that name."""
    name = str(op.name)
    if name in _NAMES:
        try:
            wanted = gate_matrix(_NAMES[name], [float(p) for p in bound])
        except (TypeError, ValueError):
            wanted = None
        agree(name, steps, wires, wanted, values)
        if values and not _from_library(op):
            raise disagree(name, "a definition with free parameters, compared at one value of them")
    elif _from_library(op) and str(type(op).__module__).startswith("qiskit.circuit.library."):
        return
    elif name in ("mcx", "mcx_gray") and len(wires) <= FACE_QUBITS:
        size = 2 ** len(wires)
        order = np.arange(size)
        order[[size // 2 - 1, size - 1]] = size - 1, size // 2 - 1
        agree(name, steps, wires, np.eye(size)[order], values)
    elif name in _NATIVE or name.startswith(("save_", "set_")):
        raise disagree(name, "a custom gate with a name that simulators run by themselves")


def _hold_base(
    op: Any, wires: Sequence[int], steps: Sequence[Operation], numbers: Any, values: Any
) -> None:
    """Hold a controlled gate to the control of the gate it says it controls."""
    base = getattr(op, "base_gate", None)
    controls = getattr(op, "num_ctrl_qubits", 0)
    if base is None or len(wires) > FACE_QUBITS or controls + base.num_qubits != len(wires):
        return
    key = data_key(base), controls, int(op.ctrl_state)
    matrix = _bases.get(key) if key[0] is not None else None
    if matrix is None:
        try:
            matrix = _controlled(base, controls, int(op.ctrl_state), numbers)
        except Exception as error:
            raise disagree(op.name, f"{type(error).__name__}: {error}") from error
        if key[0] is not None and len(_bases) < _MOST_BASES:
            _bases[key] = matrix
    agree(op.name, steps, wires, matrix, values)


#: Matrices of controlled gates that Qiskit makes from numbers.
_bases: dict[Any, Any] = {}
_MOST_BASES = 64


def _controlled(base: Any, controls: int, state: int, numbers: Any) -> Any:
    from qiskit import QuantumCircuit
    from qiskit.quantum_info import Operator

    alone = QuantumCircuit(base.num_qubits)
    alone.append(base, alone.qubits)
    matrix = np.eye(2 ** (controls + base.num_qubits), dtype=complex)
    where = state + 2**controls * np.arange(2**base.num_qubits)
    matrix[np.ix_(where, where)] = Operator(alone.assign_parameters(numbers, strict=False)).data
    return matrix


def _own_matrix(op: Any) -> bool:
    from qiskit.circuit import Gate

    found = getattr(type(op), "to_matrix", None)
    return "to_matrix" in vars(op) or (found is not None and found is not Gate.to_matrix)


def _matrix(op: Any, bound: Sequence[Any], width: int) -> Any:
    if width > FACE_QUBITS:
        raise disagree(op.name, f"{width} qubits")
    try:
        if any(hasattr(p, "bind") for p in op.params):
            op = copy.deepcopy(op)
            op.params = list(bound)
        matrix = op.to_matrix()
        if hasattr(op, "__array__") and not np.allclose(op.__array__(), matrix, atol=1e-6):
            raise disagree(op.name, "two different matrices")
    except InputError:
        raise
    except Exception as error:
        raise disagree(op.name, f"{type(error).__name__}: {error}") from error
    return matrix
