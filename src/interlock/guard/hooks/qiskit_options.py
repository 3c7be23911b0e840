"""Options of a backend's `run`: what they multiply is written out, the others go on record."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from interlock.errors import InputError

__all__ = ["MAX_EXPERIMENTS", "refuse_multiplying", "written_out"]

#: Most circuits that parameter binds are written out to.
MAX_EXPERIMENTS = 10_000
#: Options of `run` that make one circuit several, past `parameter_binds`.
_MULTIPLYING = ("parameterizations",)


def refuse_multiplying(options: Mapping[str, Any]) -> None:
    """Refuse run options under which a device runs more than the circuits it is given.

    Raises:
        InputError: code `job-options`.
    """
    found = [name for name in _MULTIPLYING if options.get(name)]
    if found:
        raise InputError(
            "a run option multiplies what runs",
            code="job-options",
            got=", ".join(found),
            expected="options that leave the number of circuits as it is",
            fix="pass parameter_binds=[{parameter: [values]}], or the circuits themselves",
        )


def written_out(circuits: Sequence[Any], binds: Any) -> list[Any]:
    """Return one circuit for each set of values, in the order in which Aer answers them.

    Every control then sees each of them: budget, limits, counts, filter and record.

    Args:
        circuits: with free parameters.
        binds: for each circuit a mapping of parameter to its values.

    Raises:
        InputError: code `job-options`; the values do not fit the circuits, or are too many.
    """
    tables = list(binds) if isinstance(binds, Sequence) and not isinstance(binds, str) else None
    if tables is None or len(tables) != len(circuits):
        raise _wrong(f"{len(circuits)} circuits", "one mapping of parameter to values a circuit")
    out: list[Any] = []
    for circuit, table in zip(circuits, tables, strict=True):
        for row in _rows(table, MAX_EXPERIMENTS - len(out)):
            used = {p: v for p, v in row.items() if p in circuit.parameters}
            made = circuit.assign_parameters(used)
            made.name = circuit.name
            out.append(made)
    return out


def _rows(table: Any, left: int) -> Iterator[dict[Any, float]]:
    if not isinstance(table, Mapping):
        raise _wrong(type(table).__name__, "a mapping of parameter to its values")
    if not table:
        return iter(({},))
    try:
        lengths = {len(values) for values in table.values()}
    except TypeError as error:
        raise _wrong("a value that is no list", "a list of values a parameter") from error
    if len(lengths) != 1:
        raise _wrong(f"lists of {sorted(lengths)} values", "as many values of each parameter")
    (number,) = lengths
    if not 0 < number <= left:
        raise _wrong(f"{number} sets of values", f"1 to {left} more")
    try:
        rows = [{p: float(v[i]) for p, v in table.items()} for i in range(number)]
    except (TypeError, ValueError) as error:
        raise _wrong(f"{type(error).__name__}: {error}"[:200], "real numbers") from error
    for row in rows:
        if not all(map(math.isfinite, row.values())):
            raise _wrong("NaN or infinity", "finite numbers")
    return iter(rows)


def _wrong(got: str, expected: str) -> InputError:
    return InputError(
        "the parameter binds do not fit the circuits",
        code="job-options",
        got=got,
        expected=expected,
        fix="pass parameter_binds=[{parameter: [values]}], one mapping a circuit",
    )
