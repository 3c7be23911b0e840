"""What every job is held to before the path, whatever the policy says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from interlock.circuits.canonical import Circuit
from interlock.circuits.expression import symbols
from interlock.errors import InputError
from interlock.guard.control import Program

__all__ = ["bindings_of", "checked", "is_finite"]

#: The finest precision an estimate may ask for: 1e18 shots.
FINEST = 1e-9


def checked(programs: Sequence[Program], kind: str) -> None:
    """Refuse a job without circuits, and shots and precisions that are none.

    Raises:
        InputError: says which circuit; nothing has been reserved.
    """
    if not programs:
        raise InputError(
            "the job has no circuit",
            code="job-empty",
            got="an empty list",
            expected="at least one circuit",
            fix="leave the call out when there is nothing to run",
        )
    for index, program in enumerate(programs):
        shots, precision = program.shots, program.precision
        least = 0 if kind == "estimate" else 1
        whole = isinstance(shots, int) and not isinstance(shots, bool) and shots >= least
        exact = precision is None or (
            isinstance(precision, float) and (precision == 0 or precision >= FINEST)
        )
        if not whole or not exact or precision == math.inf:
            raise InputError(
                f"circuit {index} asks for a number of shots or a precision that is none",
                code="job-shots",
                got=f"shots {shots!r}, precision {precision!r}",
                expected="shots: a whole number >= 1; precision: 0 (exact) or a number >= 1e-9",
                fix="pass for instance shots=1024",
            )


def is_finite(circuit: Circuit) -> bool:
    """Whether every number of a circuit is finite; free parameters are none yet.

    Example:
        >>> from interlock.circuits.canonical import Operation
        >>> is_finite(Circuit(num_qubits=1, operations=(Operation("rx", ("NaN",), (0,)),)))
        False
    """
    numbers: list[Any] = [circuit.global_phase]
    for op in circuit.walk():
        numbers += op.params
    return not any(isinstance(n, str) and not symbols(n) for n in numbers) and not any(
        isinstance(n, float) and not math.isfinite(n) for n in numbers
    )


def bindings_of(programs: Sequence[Program]) -> list[dict[str, Any]]:
    """Return what the circuits run with, as plain values for the record."""
    return [
        {
            "circuit": p.circuit.sha256,
            "parameters": list(p.parameters),
            "values": [[float(v) for v in row] for row in p.values],
            "observables": list(p.observables),
        }
        for p in programs
    ]
