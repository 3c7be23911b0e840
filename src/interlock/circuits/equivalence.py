"""Is what runs what was reviewed? Equivalent, not equivalent, or unknown.

Ladder: the same identity; the matrices of up to seven qubits; random states, which give a witness
when two circuits differ; QCEC (Burgholzer and Wille, IEEE TCAD 2021) under a hard deadline; the
same compiler once more with the same seed, and the same identity; for templates, Clifford canaries
with an allow-list of parameter expressions. Where a circuit measures, equal means that every
measurement has the same distribution for every input. Unknown is never a pass. Everything but the
identity and the compiler runs in a confined child that is killed at the deadline.
"""

from __future__ import annotations

import enum
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import cache
from typing import Any, TypeAlias

import msgspec

from interlock.circuits.canonical import Circuit, Operation
from interlock.circuits.expression import symbols
from interlock.confine import ForkServer, Level
from interlock.confine import Limits as Bounds
from interlock.errors import BackendError, InputError

__all__ = [
    "Answer",
    "Comparison",
    "Placement",
    "Recompile",
    "compare",
    "placement_of",
    "recompiler",
]

_CHILD = "interlock.circuits.equivalence_child"
_CACHE_SIZE = 4096


class Answer(enum.StrEnum):
    """What a comparison can say."""

    EQUIVALENT = "equivalent"
    NOT_EQUIVALENT = "not-equivalent"
    UNKNOWN = "unknown"


class Placement(msgspec.Struct, frozen=True):
    """Where a compiler put each qubit: qubit number -> device qubit, ancillas included.

    Attributes:
        initial: before the first operation.
        final: after the last.
    """

    initial: tuple[int, ...]
    final: tuple[int, ...]


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """The answer, and what it rests on.

    Attributes:
        answer: see `Answer`.
        method: `identity`, `matrix`, `random-states`, `qcec`, `re-transpile`, `clifford-canary`, or
            `none`.
        strength: `proven`; `evidenced` when it rests on random parameter values or on the compiler;
            else "".
        reason: why, for a person.
        witness: where they differ: an input, a parameter set, a bit.
        seconds: time it took.
        seed: of the random values, to do it again.
        resolution: the smallest rotation of a qubit, in rad, that the method tells from rounding;
            None where it compares to the last bit, or gave no "equivalent".
    """

    answer: Answer
    method: str
    strength: str = ""
    reason: str = ""
    witness: dict[str, Any] | None = None
    seconds: float = 0.0
    seed: int | None = None
    resolution: float | None = None


def placement_of(native: Any) -> Placement | None:
    """Return the placement a Qiskit circuit carries from its transpilation, or None."""
    layout = getattr(native, "layout", None)
    if layout is None:
        return None
    return Placement(
        tuple(layout.initial_index_layout()),
        tuple(layout.final_index_layout(filter_ancillas=False)),
    )


#: Compiles a source again: the result and where it put the qubits.
Recompile: TypeAlias = Callable[[Circuit], tuple[Circuit, Placement | None]]


def recompiler(backend: Any, *, level: int, seed: int) -> Recompile:
    """Return what compiles with Qiskit for a backend at a level with a seed, as users do.

    It runs in this process: at levels up to 2 the compiler ends in seconds.
    """

    def again(source: Circuit) -> tuple[Circuit, Placement | None]:
        from qiskit import transpile

        from interlock.circuits.qiskit_adapter import from_qiskit, to_qiskit

        made = transpile(to_qiskit(source), backend, optimization_level=level, seed_transpiler=seed)
        return from_qiskit(made), placement_of(made)

    return again


class _Flat(msgspec.Struct, frozen=True):
    """A circuit without its final measurements, on numbered wires."""

    num_qubits: int
    operations: tuple[Operation, ...]
    measured: dict[int, int]


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What the child is asked: two lists of gates on the same wires.

    Attributes:
        num_qubits: wires in use.
        left: the reviewed circuit.
        right: the one to run, on the wires of the reviewed one.
        output: wire on which the right circuit ends with each qubit.
        measured: qubits that are measured; empty when the whole state counts.
        symbols: free parameters.
        seed: of random values.
        skip: methods to leave out.
    """

    num_qubits: int
    left: tuple[Operation, ...]
    right: tuple[Operation, ...]
    output: tuple[int, ...]
    measured: tuple[int, ...]
    symbols: tuple[str, ...]
    seed: int
    skip: tuple[str, ...] = ()


_Key = tuple[str, str, Placement | None, bool]
_known: OrderedDict[_Key, Comparison] = OrderedDict()
_lock = threading.Lock()


def compare(
    source: Circuit,
    compiled: Circuit,
    *,
    placement: Placement | None = None,
    timeout_s: float = 10.0,
    seed: int | None = None,
    minimum: Level = Level.PROCESS,
    recompile: Recompile | None = None,
) -> Comparison:
    """Compare a compiled circuit with its source.

    Args:
        source: what was reviewed.
        compiled: what would run.
        placement: where the compiler put the qubits; None means qubit n is device qubit n.
        timeout_s: hard deadline of an attempt: with QCEC, and where it was stopped without.
        seed: of random states and values; secret by default, so that nobody can prepare for it.
        minimum: the weakest isolation of the child.
        recompile: compiles the source again as the compiled circuit is said to have been; asked
            when nothing proves an answer. Another result says nothing, so it is no witness.

    Example:
        >>> h = Circuit(num_qubits=1, operations=(Operation("h", (), (0,)),))
        >>> compare(h, h).method
        'identity'
    """
    started = time.perf_counter()
    if source.sha256 == compiled.sha256 and _trivial(placement, source.num_qubits):
        return Comparison(answer=Answer.EQUIVALENT, method="identity", strength="proven")
    key = (source.sha256, compiled.sha256, placement, recompile is not None)
    if seed is None:
        with _lock:
            if key in _known:
                _known.move_to_end(key)
                return msgspec.structs.replace(_known[key], seconds=time.perf_counter() - started)
    chosen = secrets.randbits(32) if seed is None else seed
    late = () if recompile is None else ("clifford-canary",)
    found = _ask(source, compiled, placement, timeout_s, chosen, minimum, late)
    if found.answer is Answer.UNKNOWN and recompile is not None:
        if _made_again(source, compiled, placement, recompile):
            again = Comparison(
                answer=Answer.EQUIVALENT,
                method="re-transpile",
                strength="evidenced",
                reason="the compiler makes the same of the source again, to the last bit",
            )
            found = after(found, again)
        elif source.parameters and not denied(found):
            last = _ask(source, compiled, placement, timeout_s, chosen, minimum, ("qcec",))
            found = after(found, last)
    found = msgspec.structs.replace(found, seconds=time.perf_counter() - started, seed=chosen)
    if found.answer is not Answer.UNKNOWN and seed is None:
        with _lock:
            _known[key] = found
            while len(_known) > _CACHE_SIZE:
                _known.popitem(last=False)
    return found


def _trivial(placement: Placement | None, width: int) -> bool:
    if placement is None:
        return True
    same = tuple(range(len(placement.initial)))
    return placement.initial == placement.final == same and width <= len(same)


def _unknown(reason: str) -> Comparison:
    return Comparison(answer=Answer.UNKNOWN, method="none", reason=reason)


#: How the reason begins where QCEC saw a difference and could not prove it.
DENIED = "QCEC says not_equivalent"
_DOUBTS = (DENIED, "QCEC says probably_not_equivalent")


def denied(found: Comparison) -> bool:
    """Whether QCEC saw a difference, without a proof.

    Samples at special parameter values must not overrule it. That the compiler makes the very same
    circuit of the source may: it does not rest on comparing what the circuits do.
    """
    return found.method == "qcec" and found.reason.startswith(_DOUBTS)


def after(first: Comparison, found: Comparison) -> Comparison:
    """Return an answer that says which stronger method gave none before it."""
    if not first.reason:
        return found
    reason = "; ".join(part for part in (found.reason, f"before it: {first.reason}") if part)
    return msgspec.structs.replace(found, reason=reason)


def _differs(reason: str, witness: dict[str, Any]) -> Comparison:
    return Comparison(
        answer=Answer.NOT_EQUIVALENT,
        method="structure",
        strength="proven",
        reason=reason,
        witness=witness,
    )


def _ask(
    source: Circuit,
    compiled: Circuit,
    placement: Placement | None,
    timeout_s: float,
    seed: int,
    minimum: Level,
    late: tuple[str, ...],
) -> Comparison:
    extra = set(compiled.parameters) - set(source.parameters)
    if extra:
        return _differs("the compiled circuit has other parameters", {"parameters": sorted(extra)})
    if any(isinstance(p, str) and not symbols(p) for op in compiled.walk() for p in op.params):
        return _differs("a parameter is not a finite number", {"parameters": ["NaN or infinity"]})
    left, right = _flatten(source), _flatten(compiled)
    if left is None or right is None:
        return _unknown("mid-circuit operations are beyond the methods")
    asked = _question(left, right, placement, (source, compiled), seed)
    if isinstance(asked, Comparison):
        return asked
    limits = Bounds(wall_s=timeout_s, cpu_s=timeout_s + 1, memory_mb=4096)
    last = _unknown("nothing was left to try")
    for skip in (late,) if late else ((), ("qcec",)):
        question = msgspec.structs.replace(asked, skip=skip)
        try:
            done = _server(minimum).run(
                f"{_CHILD}:compare", msgspec.msgpack.encode(question), limits
            )
        except BackendError as error:
            last = _unknown(f"{error.code}: {error.got}")
            continue
        except InputError as error:
            return _unknown(error.message)
        found = msgspec.msgpack.decode(done.result, type=Comparison)
        return found if skip == late else after(last, found)
    return last


def _made_again(
    source: Circuit, compiled: Circuit, placement: Placement | None, recompile: Recompile
) -> bool:
    """Whether compiling the source again gives the circuit, to the last bit of its identity."""
    try:
        again, where = recompile(source)
    except Exception:  # noqa: BLE001 - a compiler that fails says nothing about the circuit
        return False
    return again.sha256 == compiled.sha256 and where == placement


def _flatten(circuit: Circuit) -> _Flat | None:
    """Take the final measurements off; None when there is anything in the middle."""
    measured: dict[int, int] = {}
    done: set[int] = set()
    body: list[Operation] = []
    for op in circuit.operations:
        if op.name == "barrier" or op.name.startswith("delay"):
            continue
        if op.control is not None or op.name == "reset" or done & set(op.qubits):
            return None
        if op.name == "measure":
            if op.clbits[0] in measured:
                return None
            measured[op.clbits[0]] = op.qubits[0]
            done.add(op.qubits[0])
        else:
            body.append(op)
    return _Flat(circuit.num_qubits, tuple(body), measured)


def _question(
    left: _Flat,
    right: _Flat,
    placement: Placement | None,
    circuits: tuple[Circuit, Circuit],
    seed: int,
) -> Question | Comparison:
    source, compiled = circuits
    width = max(left.num_qubits, right.num_qubits)
    same = tuple(range(width))
    initial, final = (placement.initial, placement.final) if placement else (same, same)
    if sorted(initial) != list(same) or sorted(final) != list(same):
        return _unknown("the placement is no permutation of the device's qubits")
    wire = {device: qubit for qubit, device in enumerate(initial)}
    output = [wire[device] for device in final]
    if left.measured.keys() != right.measured.keys():
        bits = sorted(left.measured.keys() ^ right.measured.keys())
        return _differs("other classical bits are written", {"clbits": bits})
    if (named := _names(source, left.measured)) != (other := _names(compiled, right.measured)):
        moved_bits = sorted(bit for bit in named if named[bit] != other[bit])
        return _differs("the measured bits are in other registers", {"clbits": moved_bits[:32]})
    for bit, qubit in left.measured.items():
        output[qubit] = wire[right.measured[bit]]
    moved = [
        Operation(op.name, op.params, tuple(wire[q] for q in op.qubits)) for op in right.operations
    ]
    used = {q for op in (*left.operations, *moved) for q in op.qubits} | set(left.measured.values())
    while more := {output[q] for q in used} - used:
        used |= more
    measured = sorted(set(left.measured.values()))
    if len({output[q] for q in used}) != len(used):
        if set(measured) != used:
            return _unknown("the measurements do not match the placement")
        return _differs("two classical bits read one qubit", {"output": output[:32]})
    order = sorted(used)
    place = {q: i for i, q in enumerate(order)}

    def renumber(ops: list[Operation] | tuple[Operation, ...]) -> tuple[Operation, ...]:
        return tuple(
            Operation(op.name, op.params, tuple(place[q] for q in op.qubits)) for op in ops
        )

    return Question(
        num_qubits=len(order),
        left=renumber(left.operations),
        right=renumber(moved),
        output=tuple(place[output[q]] for q in order),
        measured=tuple(place[q] for q in measured),
        symbols=source.parameters,
        seed=seed,
    )


def _names(circuit: Circuit, measured: dict[int, int]) -> dict[int, tuple[str, int]]:
    """Return the register and place of each measured bit; with one register its name is nothing."""
    found = {
        bit: (register.name, place)
        for register in circuit.registers
        for place, bit in enumerate(register.clbits)
        if bit in measured
    }
    several = len({name for name, _ in found.values()}) > 1
    return {bit: found.get(bit, ("", bit)) if several else ("", bit) for bit in measured}


@cache
def _server(minimum: Level) -> ForkServer:
    return ForkServer((f"{_CHILD}:compare",), warm_up=(f"{_CHILD}:warm_up",), minimum=minimum)
