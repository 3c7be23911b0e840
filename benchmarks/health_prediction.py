"""Predicted against simulated fidelity: `python benchmarks/health_prediction.py [--small]`.

Fifteen device snapshots, nine circuit families at two widths. Nothing is fitted, so every row is
new to the predictor; but predictor and twin share one calibration, so the figures are an upper
bound for hardware. Rows compare ESP alone, circuit depth and two-qubit count in the same run.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable

import numpy as np
from qiskit import QuantumCircuit, transpile
from qiskit.quantum_info import Statevector

from interlock.backends import TwinSampler, twin
from interlock.circuits.qiskit_adapter import from_qiskit as from_qiskit
from interlock.guard.health.esp import hellinger, mixture_fidelity, predict

SNAPSHOTS = (
    "manila", "lima", "quito", "belem", "bogota", "athens",
    "santiago", "rome", "yorktown", "nairobi", "lagos", "jakarta",
    "perth", "guadalupe", "sherbrooke",
)  # fmt: skip
SHOTS = 4000


def ghz(n: int, _: np.random.Generator) -> QuantumCircuit:
    c = QuantumCircuit(n)
    c.h(0)
    for q in range(n - 1):
        c.cx(q, q + 1)
    return c


def w_state(n: int, _: np.random.Generator) -> QuantumCircuit:
    c = QuantumCircuit(n)
    c.x(0)
    for q in range(n - 1):
        c.cry(2 * np.arccos(np.sqrt(1 / (n - q))), q, q + 1)
        c.cx(q + 1, q)
    return c


def qft(n: int, rng: np.random.Generator) -> QuantumCircuit:
    c = QuantumCircuit(n)
    for q in range(n):
        c.ry(rng.uniform(0, np.pi), q)
    for q in range(n):
        c.h(q)
        for other in range(q + 1, n):
            c.cp(np.pi / 2 ** (other - q), other, q)
    return c


def bernstein(n: int, _: np.random.Generator) -> QuantumCircuit:
    c = QuantumCircuit(n)
    c.x(n - 1)
    c.h(range(n))
    for q in range(n - 1):
        c.cx(q, n - 1)
    c.h(range(n))
    return c


def qaoa(n: int, rng: np.random.Generator) -> QuantumCircuit:
    c = QuantumCircuit(n)
    c.h(range(n))
    for _ in range(2):
        gamma, beta = rng.uniform(0.2, 1.2, 2)
        for q in range(n):
            c.rzz(gamma, q, (q + 1) % n)
        c.rx(2 * beta, range(n))
    return c


def vqe(n: int, rng: np.random.Generator) -> QuantumCircuit:
    c = QuantumCircuit(n)
    for _ in range(3):
        for q in range(n):
            c.ry(rng.uniform(-np.pi, np.pi), q)
        for q in range(n - 1):
            c.cx(q, q + 1)
    return c


def ising(n: int, _: np.random.Generator) -> QuantumCircuit:
    c = QuantumCircuit(n)
    for _ in range(4):
        for q in range(n - 1):
            c.rzz(0.4, q, q + 1)
        c.rx(0.5, range(n))
    return c


def grover(n: int, _: np.random.Generator) -> QuantumCircuit:
    c = QuantumCircuit(n)
    c.h(range(3))
    for _ in range(2):
        c.ccz(0, 1, 2)
        c.h(range(3))
        c.x(range(3))
        c.ccz(0, 1, 2)
        c.x(range(3))
        c.h(range(3))
    return c


def clifford(n: int, rng: np.random.Generator) -> QuantumCircuit:
    c = QuantumCircuit(n)
    for _ in range(6 * n):
        kind = rng.integers(4)
        if kind == 3:
            c.cx(*[int(q) for q in rng.choice(n, 2, replace=False)])
        else:
            (c.h, c.s, c.sx)[kind](int(rng.integers(n)))
    return c


FAMILIES: dict[str, Callable[[int, np.random.Generator], QuantumCircuit]] = {
    f.__name__: f for f in (ghz, w_state, qft, bernstein, qaoa, vqe, ising, grover, clifford)
}


#: A rank correlation that there is not, and why.
FLAT = "none: one side does not differ from row to row"


def spearman(a: np.ndarray, b: np.ndarray) -> float | None:
    """Rank correlation with ties at their mean rank; None where all rows of a side are equal."""

    def ranks(x: np.ndarray) -> np.ndarray:
        _, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
        ends = np.cumsum(counts)
        return (ends - (counts - 1) / 2)[inverse]

    first, second = ranks(a), ranks(b)
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(np.corrcoef(first, second)[0, 1])


def rows(snapshots: list[str], widths: tuple[int, ...], shots: int = SHOTS) -> list[dict]:
    found = []
    for name in snapshots:
        device = twin(name)
        for family, make in FAMILIES.items():
            for width in widths:
                rng = np.random.default_rng(width)
                logical = make(width, rng)
                ideal = {k: float(p) for k, p in Statevector(logical).probabilities_dict().items()}
                logical.measure_all()
                isa = transpile(logical, device, optimization_level=2, seed_transpiler=1)
                made = predict(from_qiskit(isa), device.calibration)
                counts = TwinSampler(device, seed=11).run([isa], shots=shots).result()[0]
                seen = {k: v / shots for k, v in counts.data.meas.get_counts().items()}
                found.append(
                    {
                        "snapshot": name, "family": family, "width": width,
                        "observed": hellinger(ideal, seen), "esp": made.success,
                        "mixture": mixture_fidelity(ideal, made.success, width),
                        "depth": isa.depth(), "two_qubit": isa.num_nonlocal_gates(),
                    }
                )  # fmt: skip
    return found


def summary(found: list[dict]) -> dict[str, float | str]:
    observed = np.array([r["observed"] for r in found])
    result: dict[str, float | str] = {"rows": len(found)}
    for key, sign in (("mixture", 1), ("esp", 1), ("depth", -1), ("two_qubit", -1)):
        values = np.array([r[key] for r in found], dtype=float) * sign
        found_rank = spearman(values, observed)
        result[f"spearman_{key}"] = FLAT if found_rank is None else round(found_rank, 3)
    mixture = np.array([r["mixture"] for r in found])
    result["mae_mixture"] = round(float(np.abs(mixture - observed).mean()), 4)
    result["bias_mixture"] = round(float((mixture - observed).mean()), 4)
    esp = np.array([r["esp"] for r in found])
    result["mae_esp"] = round(float(np.abs(esp - observed).mean()), 4)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true")
    args = parser.parse_args()
    names = SNAPSHOTS[:3] if args.small else SNAPSHOTS
    found = rows(list(names), (4,) if args.small else (3, 5))
    print(json.dumps(summary(found), indent=1))
    for family in FAMILIES:
        own = [r for r in found if r["family"] == family]
        print(family, json.dumps({k: summary(own)[k] for k in ("spearman_mixture", "mae_mixture")}))


if __name__ == "__main__":
    main()
