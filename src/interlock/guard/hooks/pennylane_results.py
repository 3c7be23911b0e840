"""PennyLane's results in the form of no SDK, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pennylane as qml

from interlock.circuits.pennylane_adapter import Tape
from interlock.guard.hooks.common import counted, expanded
from interlock.guard.result import Estimates, Result, Samples

__all__ = ["bases", "bounds", "finite", "item", "plain", "to_native"]


def plain(value: Any) -> Any:
    """Return results as NumPy arrays and plain mappings, without their gradient graph."""
    if isinstance(value, Mapping):
        return {k: int(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(plain(v) for v in value)
    return np.asarray(qml.math.toarray(qml.math.detach(value)))


def finite(derivatives: Any) -> None:
    """Refuse derivatives that are not finite: they are handed over beside the values.

    Raises:
        ValueError: one of them is a NaN or an infinity.
    """
    if isinstance(derivatives, (list, tuple)):
        for part in derivatives:
            finite(part)
    elif derivatives is not None and not np.isfinite(plain(derivatives)).all():
        raise ValueError("derivatives that are not finite")


def bases(tape: Any) -> int:
    """Return how many times a device runs a tape: once for each basis it measures in, or more."""
    words = [process.obs is None or _is_word(process.obs) for process in tape.measurements]
    if len(words) == 1 and words[0]:
        return 1
    try:
        return len(qml.transforms.split_non_commuting(tape)[0])
    except Exception:  # noqa: BLE001 - whatever it cannot split counts term by term
        reps = [getattr(process.obs, "pauli_rep", None) for process in tape.measurements]
        return sum(len(rep) if rep else 1 for rep in reps)


def _is_word(observable: Any) -> bool:
    words = observable.pauli_rep
    return words is not None and len(words) == 1


def bounds(tape: Any) -> tuple[float, ...]:
    """Return the largest absolute value of what a tape measures, or nothing when it is unknown."""
    found = [_bound(process) for process in tape.measurements]
    return tuple(found) if all(map(math.isfinite, found)) else ()


def _bound(process: Any) -> float:
    kind = type(process).__name__
    if kind in ("ProbabilityMP", "StateMP", "DensityMatrixMP", "PurityMP"):
        return 1.0
    if kind in ("SampleMP", "CountsMP") and process.obs is None:
        return 1.0
    if process.obs is None and process.mv is None:
        return math.inf
    largest = 1.0 if process.obs is None else _norm(process.obs)
    return largest**2 if kind == "VarianceMP" else largest


def _norm(observable: Any) -> float:
    words = observable.pauli_rep
    if words is not None:
        return float(
            sum(abs(complex(qml.math.toarray(qml.math.detach(c)))) for c in words.values())
        )
    try:
        return float(np.max(np.abs(plain(observable.eigvals()))))
    except Exception:  # noqa: BLE001 - no eigenvalues, so no bound
        return math.inf


def item(result: Any, tape: Any, reading: Tape) -> Samples | Estimates:
    """Return the result of one tape in the form of no SDK.

    Raises:
        ValueError: it is none of this tape.
    """
    copies = list(result) if tape.shots.has_partitioned_shots else [result]
    rows = [
        list(copy) if isinstance(copy, tuple) and len(tape.measurements) > 1 else [copy]
        for copy in copies
    ]
    for row in rows:
        if len(row) != len(tape.measurements):
            raise ValueError(f"{len(row)} values for {len(tape.measurements)} measurements")
    return _samples(rows, tape, reading) if reading.samples else _estimates(rows, tape)


def _samples(rows: list[list[Any]], tape: Any, reading: Tape) -> Samples:
    batch = tape.batch_size or 1
    shots = list(tape.shots)  # one number of shots a copy
    registers: dict[str, list[dict[str, int]]] = {}
    widths = {r.name: len(r.clbits) for r in reading.circuit.registers}
    for number, (name, width) in enumerate(widths.items()):
        total: list[dict[str, int]] = [{} for _ in range(batch)]
        for row, drawn in zip(rows, shots, strict=True):
            found = _counts(plain(row[number]), tape, width, drawn)
            for into, counts in zip(total, found, strict=True):
                for outcome, count in counts.items():
                    into[outcome] = into.get(outcome, 0) + count
        registers[name] = total
    return Samples(registers=registers, widths=widths, shots=int(tape.shots.total_shots))


def _counts(value: Any, tape: Any, width: int, shots: int) -> list[dict[str, int]]:
    """Return counts, one mapping for each entry of the batch; keys have the first wire last."""
    if isinstance(value, Mapping):
        value = [value]
    if isinstance(value, (list, tuple)):
        return [{str(k)[::-1]: int(n) for k, n in counts.items() if n} for counts in value]
    batch = tape.batch_size or 1
    if value.dtype.kind == "f":  # probabilities; shares of the shots
        shares = value.reshape(batch, 2**width) * shots
        whole = np.rint(shares).astype(int)
        if np.abs(shares - whole).max() > 1e-6 * shots:
            raise ValueError("probabilities that are no shares of the shots")
        return [
            {format(k, f"0{width}b")[::-1]: int(n) for k, n in enumerate(row) if n} for row in whole
        ]
    bits = value.reshape(batch, shots, width)
    if not np.isin(bits, (0, 1)).all():
        raise ValueError("samples that are no bits")
    return [counted(row) for row in bits]


def _estimates(rows: list[list[Any]], tape: Any) -> Estimates:
    """Return every value; of several runs of one circuit (a shot vector) the means over all."""
    drawn = list(tape.shots) or [0]
    total = sum(drawn)
    values: list[float] = []
    errors: list[float] = []
    for number, process in enumerate(tape.measurements):
        each = np.array([_numbers(plain(row[number]), process) for row in rows], float)
        found = np.average(each, axis=0, weights=drawn if total else None)
        values += found.tolist()
        errors += [_error(process, v, total) for v in found.tolist()]
    return Estimates(values=values, errors=errors, shape=(len(values),))


#: Measurements whose values have an imaginary part.
_COMPLEX = ("StateMP", "DensityMatrixMP", "ClassicalShadowMP")


def _numbers(value: Any, process: Any) -> list[float]:
    """Return the numbers of a result: of counts and samples their means.

    Raises:
        ValueError: one has an imaginary part where it must be real.
    """
    if isinstance(value, Mapping):
        value = [value]
    if isinstance(value, (list, tuple)):
        return [x for counts in value for x in _mean_of_counts(counts)]
    if value.dtype.kind == "c":
        if type(process).__name__ not in _COMPLEX:
            if (value.imag != 0).any() or np.isnan(value.imag).any():
                raise ValueError(f"a complex value for {type(process).__name__}")
            return [float(x) for x in value.real.ravel()]
        return [float(x) for z in value.ravel() for x in (z.real, z.imag)]
    if value.dtype.kind in "iub" and value.ndim:  # samples
        return [float(x) for x in np.atleast_1d(value.mean(axis=0)).ravel()]
    return [float(x) for x in value.ravel()]


def _mean_of_counts(counts: Mapping[Any, int]) -> list[float]:
    total = sum(counts.values())
    keys = list(counts)
    if keys and isinstance(keys[0], str):
        width = len(keys[0])
        return [sum(n for k, n in counts.items() if k[i] == "1") / total for i in range(width)]
    return [sum(float(k) * n for k, n in counts.items()) / total] if total else []


def _error(process: Any, value: float, shots: int) -> float:
    """Return the largest standard error a value can have, from its bound; 0 for an exact one.

    A quantity within [-B, B] with mean v has at most the variance B^2 - v^2 (Bhatia and Davis,
    Am. Math. Mon. 107, 353 (2000)).
    """
    if not shots:
        return 0.0
    bound = _bound(process)
    if not math.isfinite(bound):
        return max(1.0, abs(value)) / math.sqrt(shots)
    if type(process).__name__ == "VarianceMP":
        return bound / math.sqrt(shots)
    return math.sqrt(max(bound**2 - value**2, 0.0) / shots)


def to_native(result: Result, tapes: Sequence[Any]) -> tuple[Any, ...]:
    """Make PennyLane's results from counts that came in the form of no SDK.

    Raises:
        ValueError: they are not of these tapes.
    """
    return tuple(_of_counts(i, t) for i, t in zip(result.items, tapes, strict=True))


def _of_counts(found: Samples | Estimates, tape: Any) -> Any:
    if not isinstance(found, Samples) or tape.batch_size or tape.shots.has_partitioned_shots:
        raise ValueError("only counts of one circuit at a time come back from a gateway")
    values = []
    for number, process in enumerate(tape.measurements):
        name = f"m{number}"
        bits = expanded(found.registers[name][0], found.shots, found.widths[name])
        wires = process.wires or tape.wires
        values.append(process.process_samples(bits.astype(int), wires))
    return values[0] if len(values) == 1 else tuple(values)
