"""What a deviation is put down to: `python -m benchmarks.health_attribution [--small]`.

Circuits on device twins; the exact distribution of each arm is computed once, and counts are drawn
from it, so that thousands of trials are cheap. The truth is one cause at a time; the calibration
that the expectation comes from never knows of it.
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

from interlock.backends import Twin, TwinSpec, twin
from interlock.backends.noise import scaled
from interlock.guard.health.probe import arms_of, inverted, mean_of
from interlock.guard.stats.attribution import Arm, attribute

BATCHES = 8
#: Truth -> strengths: over-rotation in rad; share of shots moved to one answer; noise at the end of
#: the run; noise of the gates throughout.
TRUTHS = {
    "coherent": (0.1, 0.2, 0.4), "bias": (0.02, 0.05, 0.1), "drift": (1.5, 2.0, 3.0),
    "noise": (1.5, 2.0, 3.0),
}  # fmt: skip


def circuit(device: Twin, seed: int, layers: int = 3) -> QuantumCircuit:
    rng = np.random.default_rng(seed)
    made = QuantumCircuit(3)
    for _ in range(layers):
        for q in range(3):
            made.ry(rng.uniform(0, np.pi), q)
        made.cx(0, 1)
        made.cx(1, 2)
    made.measure_all()
    return transpile(made, device, optimization_level=1, seed_transpiler=1)


@lru_cache(maxsize=64)
def device_of(name: str, cause: str, size: float) -> Twin:
    reported = twin(name, now=0.0).calibration
    if cause == "coherent":
        return Twin(TwinSpec(reported=reported, coherent_rad=size))
    truth = scaled(reported, size) if cause in ("drift", "noise") else None
    if truth is not None and cause == "noise":
        truth = msgspec.structs.replace(
            truth,
            qubits=tuple(
                msgspec.structs.replace(q, p01=r.p01, p10=r.p10)
                for q, r in zip(truth.qubits, reported.qubits, strict=True)
            ),
        )
    return Twin(TwinSpec(reported=reported, truth=truth))


@lru_cache(maxsize=64)
def arms(name: str, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The circuits of each arm and what the calibration expects of them, turned back."""
    honest = device_of(name, "", 0.0)
    made = arms_of(circuit(honest, seed), honest.target, BATCHES, seed)
    said = {
        arm: mean_of([honest.probabilities(c) for c in {id(c): c for c in circuits}.values()])
        for arm, circuits in made.items()
    }
    return made, said


def laws(device_name: str, seed: int, cause: str, size: float) -> dict[str, Any]:
    """Expected and true distributions, a row a batch, of each arm (flipped ones turned back)."""
    circuits_of, said = arms(device_name, seed)
    made = {}
    for name, circuits in circuits_of.items():
        turn = inverted if name == "flipped" else dict
        known: dict[tuple[int, float], dict[str, float]] = {}
        rows = []
        for batch, c in enumerate(circuits):
            strength = 1 + (size - 1) * batch / (BATCHES - 1) if cause == "drift" else size
            key = (id(c), strength)
            if key not in known:
                law = device_of(device_name, cause, strength).probabilities(c)
                if cause == "bias":
                    law = {b: p * (1 - size) for b, p in law.items()}
                    law["111"] = law.get("111", 0.0) + size
                known[key] = turn(law)
            rows.append(known[key])
        made[name] = (turn(said[name]), rows)
    return made


def trial(made: dict[str, Any], shots: int, rng: np.random.Generator) -> str:
    run = {}
    for name, (said, rows) in made.items():
        counts = []
        for row in rows:
            drawn = rng.multinomial(shots // BATCHES, np.array(list(row.values())))
            counts.append(dict(zip(row, map(int, drawn), strict=True)))
        run[name] = Arm(counts=tuple(counts), expected=said)
    return attribute(run).cause


def matrix(trials: int, shots: tuple[int, ...], devices: tuple[str, ...]) -> list[dict[str, Any]]:
    rng = np.random.default_rng(1)
    rows = []
    cases = [("shot noise", 0.0)] + [(c, s) for c, sizes in TRUTHS.items() for s in sizes]
    for cause, size in cases:
        made = [laws(d, seed, cause, size) for d in devices for seed in range(3)]
        many = trials * (10 if cause == "shot noise" else 1)
        for n in shots:
            said = Counter(trial(made[i % len(made)], n, rng) for i in range(many))
            shares = {k: round(v / many, 4) for k, v in said.most_common()}
            rows.append({"truth": cause, "size": size, "shots": n, "trials": many, "said": shares})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true")
    args = parser.parse_args()
    sizes = (40, (1000, 4000), ("manila",)) if args.small else (
        200, (1000, 4000, 16000), ("manila", "nairobi"))  # fmt: skip
    for row in matrix(*sizes):
        print(json.dumps(row))


if __name__ == "__main__":
    main()
