"""Choosing a mitigation or none: `python -m benchmarks.mitigation_choice [--seed N]`.

Fifty circuits of four families on twins of IBM snapshots; of every three devices one is as its
calibration says, one over-rotates, one is detuned while it waits. One ZZ observable a circuit, the
same shots for each figure under every method; the proxies' shots come on top and are reported.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
from qiskit import QuantumCircuit, transpile
from qiskit.quantum_info import SparsePauliOp

from interlock.backends import Twin, TwinSampler, twin
from interlock.guard.execute.mitigation import METHODS, estimate
from interlock.guard.execute.proxies import expectation, proxies_of
from interlock.guard.stats.mitigation import choose

DEVICES = ("manila", "nairobi", "quito", "jakarta", "bogota", "casablanca")
FAULTS: tuple[dict[str, float], ...] = ({}, {"coherent_rad": 0.05}, {"detuning_khz": 40.0})


@lru_cache
def device(name: str, fault: int) -> Twin:
    return Twin(msgspec.structs.replace(twin(name, now=0.0).spec, **FAULTS[fault]))


def logical(kind: int, width: int, rng: np.random.Generator) -> QuantumCircuit:
    made = QuantumCircuit(width)
    layers = int(rng.integers(1, 5))
    if kind == 0:  # hardware-efficient ansatz
        for _ in range(layers):
            for q in range(width):
                made.ry(rng.uniform(-1, 1), q)
            for q in range(width - 1):
                made.cx(q, q + 1)
    elif kind == 1:  # QAOA on a path
        made.h(range(width))
        for _ in range(layers):
            gamma, beta = rng.uniform(0, np.pi, 2)
            for q in range(width - 1):
                made.cx(q, q + 1)
                made.rz(gamma, q + 1)
                made.cx(q, q + 1)
            made.rx(beta, range(width))
    elif kind == 2:  # Trotterised Ising quench
        for _ in range(layers + 1):
            for q in range(width - 1):
                made.cx(q, q + 1)
                made.rz(0.4, q + 1)
                made.cx(q, q + 1)
            made.rx(0.3, range(width))
    else:  # Ramsey-like: one qubit waits while others work
        made.h(0)
        made.barrier()
        for _ in range(layers):
            for q in range(1, width - 1):
                made.cx(q, q + 1)
                made.ry(rng.uniform(-1, 1), q + 1)
        made.barrier()
        made.rz(rng.uniform(-1, 1), 0)
        made.h(0)
    return made


def one(index: int, shots: int, proxies: int, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng([seed, index])
    backend = device(DEVICES[index % len(DEVICES)], index % len(FAULTS))
    while True:
        width = int(rng.integers(3, 5))
        isa = transpile(
            logical(index % 4, width, rng), backend, optimization_level=1, seed_transpiler=1,
        )  # fmt: skip
        final = isa.layout.final_index_layout()
        first = final[0] if index % 4 == 3 else final[width // 2]
        label = ["I"] * isa.num_qubits
        label[first] = "Z"
        if index % 4 != 3:
            label[final[width // 2 - 1]] = "Z"
        observable = SparsePauliOp("".join(reversed(label)))
        bare = isa.copy()
        truth = expectation(bare, observable)
        if abs(truth) > 0.1:
            break

    class Fresh(TwinSampler):
        def run(self, pubs: Any, **options: Any) -> Any:
            self._seed = int(rng.integers(2**31))
            return super().run(pubs, **options)

    sampler = Fresh(backend)
    args = (backend.calibration, backend.target, shots, rng)
    copies = proxies_of(bare, observable, proxies, rng)
    jobs = [(c, observable) for c in copies]
    found = {name: estimate(sampler, jobs, m, *args) for name, m in METHODS.items()}
    choice = choose(
        [expectation(c, observable) for c in copies], found,
        {n: m.overhead for n, m in METHODS.items()},
    )  # fmt: skip
    errors = {
        name: estimate(sampler, [(bare, observable)], m, *args)[0][0] - truth
        for name, m in METHODS.items()
    }
    return {"choice": choice.method, "errors": errors}


def study(circuits: int, shots: int, proxies: int, seed: int) -> dict[str, Any]:
    rows = [one(i, shots, proxies, seed) for i in range(circuits)]
    rng = np.random.default_rng(seed)
    square = {n: np.array([r["errors"][n] ** 2 for r in rows]) for n in METHODS}
    square["choice"] = np.array([r["errors"][r["choice"]] ** 2 for r in rows])
    square["best in hindsight"] = np.min([square[n] for n in METHODS], axis=0)
    draws = rng.integers(circuits, size=(4000, circuits))

    def rmse(name: str) -> float:
        return round(float(np.sqrt(square[name].mean())), 4)

    def against(name: str) -> list[float]:
        gap = np.sqrt(square[name][draws].mean(1)) - np.sqrt(square["choice"][draws].mean(1))
        return [round(float(v), 4) for v in np.quantile(gap, (0.025, 0.975))]

    return {
        "circuits": circuits, "shots": shots, "proxies": proxies,
        "rmse": {n: rmse(n) for n in square},
        "rmse_saved_95": {n: against(n) for n in ("none", "zne", "readout", "readout+zne")},
        "chosen": dict(Counter(r["choice"] for r in rows).most_common()),
        "shots_for_the_choice_per_figure": proxies * len(METHODS) * shots,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--circuits", type=int, default=50)
    parser.add_argument("--shots", type=int, default=4000)
    parser.add_argument("--proxies", type=int, default=14)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    print(json.dumps(study(args.circuits, args.shots, args.proxies, args.seed), indent=1))


if __name__ == "__main__":
    main()
