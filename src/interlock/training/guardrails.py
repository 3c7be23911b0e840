"""Which guardrails to switch on: a QUBO, decided by CP-SAT; quantum solvers stand beside it.

Each guardrail covers some risks, costs time and blocks some good work; some conflict. Choose the
set with the least `cost + false blocks + weight of what is not covered + conflicts`. CP-SAT
decides and proves; greedy, random, QAOA and VQE are shown beside it and the exact answer (n <= 20)
always. At this size the classical solvers win: educational, no advantage is claimed.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interlock.errors import InputError, SetupError

__all__ = ["Choice", "Guardrails", "compare", "random_guardrails"]

Bits = NDArray[np.int8]
MAX_GUARDRAILS = 20
_LARGEST = 1e6


@dataclass(frozen=True, kw_only=True)
class Guardrails:
    """An instance.

    Attributes:
        cost: cost of each guardrail, shape (n,).
        false_blocks: good work each blocks, in units of cost, shape (n,).
        benefit: worth of what each covers alone, shape (n,).
        overlap: worth counted twice when both cover it, shape (n, n), symmetric, zero diagonal.
        conflict: penalty when both are on, shape (n, n), symmetric, zero diagonal.
    """

    cost: NDArray[np.float64]
    false_blocks: NDArray[np.float64]
    benefit: NDArray[np.float64]
    overlap: NDArray[np.float64]
    conflict: NDArray[np.float64]

    def __post_init__(self) -> None:
        n = len(self.cost)
        square = (self.overlap, self.conflict)
        fits = all(len(v) == n for v in (self.false_blocks, self.benefit)) and all(
            m.shape == (n, n) and np.allclose(m, m.T) and not m.diagonal().any() for m in square
        )
        numbers = (self.cost, self.false_blocks, self.benefit, *square)
        # NaN compares false; the bound keeps whole millionths within 64 bits.
        sound = all(bool((np.abs(v) <= _LARGEST).all()) for v in numbers)
        if not 1 <= n <= MAX_GUARDRAILS or not fits or not sound:
            raise InputError(
                "this is no instance of guardrail choice",
                code="guardrails-instance",
                got=f"{n} guardrails",
                expected=f"1 to {MAX_GUARDRAILS}, finite numbers up to {_LARGEST:g}, symmetric "
                "matrices with a zero diagonal",
                fix="group guardrails until there are no more than that",
            )

    @property
    def linear(self) -> NDArray[np.float64]:
        """Linear part of the QUBO."""
        return self.cost + self.false_blocks - self.benefit

    @property
    def quadratic(self) -> NDArray[np.float64]:
        """Quadratic part, upper triangle."""
        return np.triu(self.overlap + self.conflict)

    def energy(self, x: Bits) -> float:
        """Return the objective of one choice."""
        bits = x.astype(float)
        return float(self.linear @ bits + bits @ self.quadratic @ bits)

    def energies(self) -> NDArray[np.float64]:
        """Return the objective of all 2**n choices; bit i of the index is guardrail i."""
        n = len(self.cost)
        table = np.zeros(1)
        for i in range(n):
            step = np.full(len(table), self.linear[i])
            index = np.arange(len(table))
            for j in range(i):
                step += self.quadratic[j, i] * ((index >> j) & 1)
            table = np.concatenate([table, table + step])
        return table


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What one solver chose.

    Attributes:
        solver: its name; the quantum ones are simulated.
        on: guardrails switched on.
        energy: objective.
        seconds: time it took.
        proved: whether it proves that nothing is better.
    """

    solver: str
    on: tuple[int, ...]
    energy: float
    seconds: float
    proved: bool = False


def random_guardrails(n: int, seed: int) -> Guardrails:
    """Return a random instance for benchmarks."""
    rng = np.random.default_rng(seed)

    def symmetric(share: float, high: float) -> NDArray[np.float64]:
        upper = np.triu(rng.uniform(0, high, (n, n)) * (rng.random((n, n)) < share), 1)
        return np.round(upper + upper.T, 3)

    return Guardrails(
        cost=np.round(rng.uniform(0.1, 1, n), 3),
        false_blocks=np.round(rng.uniform(0, 0.6, n), 3),
        benefit=np.round(rng.uniform(0.5, 2.5, n), 3),
        overlap=symmetric(0.4, 0.8),
        conflict=symmetric(0.15, 2.0),
    )


def _bits(index: int, n: int) -> Bits:
    return np.array([(index >> i) & 1 for i in range(n)], dtype=np.int8)


def _exact(g: Guardrails, _seed: int) -> tuple[Bits, bool]:
    return _bits(int(np.argmin(g.energies())), len(g.cost)), True


def _cp_model() -> Any:
    try:
        from ortools.sat.python import cp_model
    except ImportError as error:
        raise SetupError(
            "the deciding solver is not installed",
            code="extra-missing",
            got=str(error),
            expected="ortools",
            fix="pip install 'interlock[opt]'",
        ) from error
    return cp_model


def _cp_sat(g: Guardrails, seed: int) -> tuple[Bits, bool]:
    cp_model = _cp_model()
    n, scale = len(g.cost), 1_000_000
    model: Any = cp_model.CpModel()
    x = [model.new_bool_var(f"x{i}") for i in range(n)]
    terms = [round(g.linear[i] * scale) * x[i] for i in range(n)]
    for i in range(n):
        for j in range(i + 1, n):
            if g.quadratic[i, j]:
                both = model.new_bool_var(f"y{i}_{j}")
                model.add_multiplication_equality(both, [x[i], x[j]])
                terms.append(round(g.quadratic[i, j] * scale) * both)
    model.minimize(sum(terms))
    solver: Any = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = seed
    solver.parameters.max_time_in_seconds = 30
    status = solver.solve(model)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return np.zeros(n, dtype=np.int8), False
    return np.array([solver.value(v) for v in x], dtype=np.int8), status == cp_model.OPTIMAL


def _greedy(g: Guardrails, _seed: int) -> tuple[Bits, bool]:
    x = np.zeros(len(g.cost), dtype=np.int8)
    best = 0.0
    while True:
        tries = []
        for i in np.flatnonzero(x == 0):
            y = x.copy()
            y[i] = 1
            tries.append((g.energy(y), int(i)))
        if not tries or min(tries)[0] >= best:
            return x, False
        best, chosen = min(tries)
        x[chosen] = 1


def _random(g: Guardrails, seed: int) -> tuple[Bits, bool]:
    rng = np.random.default_rng(seed)
    draws = rng.integers(0, 2, (1000, len(g.cost)), dtype=np.int8)
    return min(draws, key=g.energy), False


def _minimum(
    objective: Callable[[NDArray[np.float64]], float], start: NDArray[np.float64], steps: int
) -> NDArray[np.float64]:
    from scipy.optimize import minimize

    result = minimize(objective, start, method="COBYLA", options={"maxiter": steps})
    best: NDArray[np.float64] = result.x
    return best


def _most_likely(probabilities: NDArray[np.float64], g: Guardrails, seed: int) -> Bits:
    """Sample 1,000 shots, as a device would, and keep the best; random search has as many."""
    rng = np.random.default_rng(seed)
    share = probabilities / probabilities.sum()
    drawn = np.unique(rng.choice(len(share), 1000, p=share))
    energies = [g.energy(_bits(int(i), len(g.cost))) for i in drawn]
    return _bits(int(drawn[int(np.argmin(energies))]), len(g.cost))


def _qaoa(g: Guardrails, seed: int) -> tuple[Bits, bool]:
    table = g.energies()
    n, depth = len(g.cost), 3
    scaled = table / max(float(np.abs(table).max()), 1e-12)

    def state(angles: NDArray[np.float64]) -> NDArray[np.complex128]:
        psi = np.full(len(table), 2 ** (-n / 2), dtype=np.complex128)
        for gamma, beta in angles.reshape(depth, 2):
            psi = psi * np.exp(-1j * np.pi * gamma * scaled)
            for q in range(n):
                view = psi.reshape(-1, 2, 2**q)
                a, b = view[:, 0].copy(), view[:, 1].copy()
                view[:, 0] = np.cos(beta) * a - 1j * np.sin(beta) * b
                view[:, 1] = np.cos(beta) * b - 1j * np.sin(beta) * a
        return psi

    start = np.array([[0.5 * (k + 1), 0.6 * (1 - k / depth)] for k in range(depth)]).ravel()
    best = _minimum(lambda a: float(np.abs(state(a)) ** 2 @ scaled), start, 60)
    return _most_likely(np.abs(state(best)) ** 2, g, seed), False


def _vqe(g: Guardrails, seed: int) -> tuple[Bits, bool]:
    table = g.energies()
    n, depth = len(g.cost), 2
    index = np.arange(len(table))
    signs = np.ones(len(table))
    for q in range(n - 1):
        signs *= 1 - 2 * ((index >> q) & (index >> (q + 1)) & 1)

    def state(angles: NDArray[np.float64]) -> NDArray[np.float64]:
        psi = np.zeros(len(table))
        psi[0] = 1
        for layer in angles.reshape(depth, n):
            for q in range(n):
                view = psi.reshape(-1, 2, 2**q)
                a, b = view[:, 0].copy(), view[:, 1].copy()
                c, s = np.cos(layer[q] / 2), np.sin(layer[q] / 2)
                view[:, 0], view[:, 1] = c * a - s * b, s * a + c * b
            psi = psi * signs
        return psi

    rng = np.random.default_rng(seed)
    start = rng.uniform(0.2, np.pi - 0.2, depth * n)
    best = _minimum(lambda a: float(state(a) ** 2 @ table), start, 120)
    return _most_likely(state(best) ** 2, g, seed), False


_SOLVERS: dict[str, Callable[[Guardrails, int], tuple[Bits, bool]]] = {
    "exact": _exact,
    "cp-sat": _cp_sat,
    "greedy": _greedy,
    "random": _random,
    "qaoa": _qaoa,
    "vqe": _vqe,
}


def compare(
    guardrails: Guardrails, *, seed: int = 0, quantum: tuple[str, ...] = ("qaoa", "vqe")
) -> tuple[Choice, ...]:
    """Return the choice of every solver; the second, CP-SAT, is the one to use.

    Exact, CP-SAT, greedy and random are always there, so no quantum answer stands alone.

    Raises:
        InputError: CP-SAT and the exact enumeration disagree, or a solver has no such name.

    Example:
        >>> choices = compare(random_guardrails(6, 1), quantum=("qaoa",))
        >>> [c.solver for c in choices]
        ['exact', 'cp-sat', 'greedy', 'random', 'qaoa']
        >>> abs(choices[0].energy - choices[1].energy) < 1e-6
        True
    """
    unknown = set(quantum) - {"qaoa", "vqe"}
    if unknown:
        raise InputError(
            "there is no such quantum solver",
            code="guardrails-solver",
            got=", ".join(sorted(unknown)),
            expected="qaoa or vqe",
            fix="name one of these",
        )
    choices = []
    _cp_model()  # the first import takes seconds, and is no part of solving
    if quantum:
        importlib.import_module("scipy.optimize")
    for name in ("exact", "cp-sat", "greedy", "random", *quantum):
        started = time.perf_counter()
        x, proved = _SOLVERS[name](guardrails, seed)
        choices.append(
            Choice(
                solver=name,
                on=tuple(int(i) for i in np.flatnonzero(x)),
                energy=guardrails.energy(x),
                seconds=time.perf_counter() - started,
                proved=proved,
            )
        )
    if choices[1].proved and abs(choices[0].energy - choices[1].energy) > 1e-4:
        raise InputError(
            "two exact solvers disagree",
            code="guardrails-disagree",
            got=f"{choices[1].energy:.6f} by CP-SAT, {choices[0].energy:.6f} by enumeration",
            expected="one optimum",
            fix="round the instance to six decimals; report it if it stays",
        )
    return tuple(choices)
