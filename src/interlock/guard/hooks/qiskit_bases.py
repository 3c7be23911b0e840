"""How many circuits an estimate runs: one for each basis it measures each parameter set in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from qiskit.exceptions import QiskitError
from qiskit.quantum_info import PauliList

__all__ = ["executions", "paired"]

#: Up to this many pairs of parameter set and observable are looked at one by one.
MAX_PAIRS = 100_000
#: Up to this many terms are grouped; the time for that grows with their square.
MAX_TERMS = 2000


def executions(pub: Any, estimator: Any) -> int:
    """Return the circuits that an estimator runs for a pub, or more.

    As `BackendEstimatorV2` does: for each parameter set the terms of its observables, grouped by
    qubit-wise commutation. Terms that cannot be grouped, or are too many, count one by one. An
    estimator that extrapolates runs each at each noise factor.
    """
    inner = getattr(estimator, "interlock_wrapped", estimator)
    grouped = getattr(getattr(inner, "options", None), "abelian_grouping", True) is not False
    parameters, observables = pub.parameter_values, pub.observables
    rows = int(np.prod(parameters.shape, dtype=int))
    cells = [frozenset(o) for o in np.asarray(observables.tolist(), dtype=object).ravel()]
    if len(set(cells)) == 1 or rows == 1 or len(cells) * rows > MAX_PAIRS:
        total = rows * _bases(frozenset().union(*cells), grouped)
    else:
        which = np.arange(rows).reshape(parameters.shape)
        place = np.arange(len(cells)).reshape(observables.shape)
        terms: list[set[str]] = [set() for _ in range(rows)]
        for row, cell in zip(*(a.ravel() for a in np.broadcast_arrays(which, place)), strict=True):
            terms[row] |= cells[cell]
        known: dict[frozenset[str], int] = {}
        for found in map(frozenset, terms):
            if found not in known:
                known[found] = _bases(found, grouped)
        total = sum(known[frozenset(found)] for found in terms)
    return int(max(total, 1)) * _factors(inner)


def paired(observables: Sequence[Mapping[str, float]], rows: int) -> int:
    """Return the same for observables that stand beside their parameter sets, as at a gateway.

    Example:
        >>> paired([{"ZZ": 1.0, "XX": 1.0}], 3), paired([{"ZZ": 1.0}, {"XX": 1.0}], 2)
        (6, 2)
    """
    terms = [frozenset(o) for o in observables]
    if len(terms) == rows:
        return sum(_bases(t, grouped=True) for t in terms)
    return max(rows, 1) * _bases(frozenset().union(*terms), grouped=True)


def _bases(terms: frozenset[str], grouped: bool) -> int:
    if len(terms) <= 1 or not grouped or len(terms) > MAX_TERMS:
        return max(len(terms), 1)
    try:
        return len(PauliList(sorted(terms)).group_commuting(qubit_wise=True))
    except QiskitError:  # projectors, which are no Pauli strings
        return len(terms)


def _factors(estimator: Any) -> int:
    """Return at how many noise factors an estimator of a provider runs each circuit."""
    options = getattr(estimator, "options", None)
    resilience = getattr(options, "resilience", None)
    asked = getattr(resilience, "zne_mitigation", None) is True
    level = getattr(options, "resilience_level", None)
    if not asked and not (isinstance(level, int) and level >= 2):
        return 1
    factors = getattr(getattr(resilience, "zne", None), "noise_factors", None)
    return len(factors) if isinstance(factors, list | tuple) and factors else 3
