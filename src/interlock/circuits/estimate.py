"""How long a circuit takes on a device, and what it costs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import msgspec

from interlock.circuits.canonical import Circuit, Operation
from interlock.circuits.levels import rounds_of
from interlock.circuits.packs import Limits
from interlock.circuits.target import Target

__all__ = ["Estimate", "busiest", "estimate", "shot_seconds"]


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """An estimate, not a quote. None where the device or the price is unknown.

    Attributes:
        shot_s: length of one shot on the device.
        seconds: all shots, with the pause between them.
        usd: cost.
        executions: shots over all parameter sets.
    """

    shot_s: float | None
    seconds: float | None
    usd: float | None
    executions: int


def shot_seconds(circuit: Circuit, target: Target) -> float | None:
    """Return the length of the longest path of one shot, delays and rounds of loops counted.

    Returns:
        None when nothing in the circuit has a known length, or when a delay has an unknown one: a
        parameter, or cycles of a device whose cycle is unknown.
    """
    known = [False]
    length = _path(circuit.operations, target, known)
    return length if known[0] and math.isfinite(length) else None


def _path(operations: Sequence[Operation], target: Target, known: list[bool]) -> float:
    ends: dict[int, float] = {}
    bits: dict[int, float] = {}
    gates = target.gates
    for op in operations:
        places = None
        if op.control is None and gates is not None and not op.name.startswith("delay"):
            places = gates.get(op.name)
        length = places.get(op.qubits) if places else None
        if length is not None:
            known[0] = True
        elif not places:
            length = _length(op, target, known)
            if math.isnan(length):
                return math.nan
        start = 0.0
        for q in op.qubits:
            if ends.get(q, 0.0) > start:
                start = ends[q]
        for c in op.clbits:
            if bits.get(c, 0.0) > start:
                start = bits[c]
        end = start + (length or 0.0)
        for q in op.qubits:
            ends[q] = end
        for c in op.clbits:
            bits[c] = end
    return max(ends.values(), default=0.0)


def _length(op: Operation, target: Target, known: list[bool]) -> float:
    if op.control is not None:
        inner = [_path(block, target, known) for block in op.control.blocks]
        unknown = any(math.isnan(length) for length in inner)
        return math.nan if unknown else max(inner, default=0.0) * rounds_of(op)
    if op.name in ("delay", "delay_dt"):
        known[0] = True
        value = op.params[0]
        cycle = 1.0 if op.name == "delay" else (target.cycle_s or math.nan)
        return math.nan if isinstance(value, str) else value * cycle
    return 0.0


def estimate(
    circuit: Circuit, target: Target, limits: Limits, *, shots: int, bindings: int = 1
) -> Estimate:
    """Return duration and cost of running a circuit."""
    executions = shots * bindings
    shot = shot_seconds(circuit, target)
    seconds = None
    if shot is not None:
        seconds = executions * (shot + (limits.repetition_s or 0.0))
    parts = []
    if limits.usd_per_task is not None:
        parts.append(limits.usd_per_task * bindings)
    if limits.usd_per_shot is not None:
        parts.append(limits.usd_per_shot * executions)
    if limits.usd_per_second is not None and seconds is not None:
        parts.append(limits.usd_per_second * seconds)
    return Estimate(
        shot_s=shot, seconds=seconds, usd=sum(parts) if parts else None, executions=executions
    )


def busiest(circuit: Circuit) -> int:
    """Return the number of operations on the busiest qubit, blocks counted once."""
    counts = Counter(q for op in circuit.walk() if op.name != "barrier" for q in op.qubits)
    return max(counts.values(), default=0)
