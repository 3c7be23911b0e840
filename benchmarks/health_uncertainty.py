"""Coverage of the nominal 90 % intervals: `python -m benchmarks.health_uncertainty [--small]`.

Counts: proportions anywhere, and near 0 and 1. Figures as `validate.interval` reports them, for the
noiseless value of random circuits on device twins: with the shipped widths on devices those were
not learnt from; with the device's own record; and with a model's own error on top.
`--learn` makes the shipped widths anew, from other devices and other circuits.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from qiskit import transpile
from qiskit.quantum_info import Statevector

from interlock.backends import TwinSampler, twin
from interlock.circuits.qiskit_adapter import from_qiskit
from interlock.guard.health import known
from interlock.guard.health.esp import predict
from interlock.guard.result import Estimates, Result, Samples
from interlock.guard.stats.uncertainty import jeffreys
from interlock.guard.validate.interval import Noise, figures

SHOTS = (250, 1000, 4000)
TRAIN = ("lima", "belem", "quito", "bogota", "athens", "lagos", "perth", "oslo", "valencia", "rome")
TEST = ("manila", "nairobi", "jakarta", "casablanca", "santiago", "essex")


def sampling(low: float, high: float, runs: int, rng: np.random.Generator) -> float:
    hits = 0
    for p in rng.uniform(low, high, runs):
        a, b = jeffreys(int(rng.binomial(500, p)), 500)
        hits += a <= p <= b
    return hits / runs


def runs(
    name: str, circuits: int, rng: np.random.Generator
) -> Iterator[tuple[Mapping[str, float], Mapping[str, float], float]]:
    """Noiseless and noisy distribution and predicted success of random circuits on a twin."""
    device = twin(name, now=0.0)
    for _ in range(circuits):
        width = int(rng.integers(2, 6))
        logical = known.known_circuit(width, rng)
        isa = transpile(logical, device, optimization_level=1, seed_transpiler=1)
        success = predict(from_qiskit(isa), device.calibration).success
        if success is None:
            continue
        bare = logical.remove_final_measurements(inplace=False)
        yield Statevector(bare).probabilities_dict(), device.probabilities(isa), success


def drawn(law: Mapping[str, float], shots: int, rng: np.random.Generator) -> dict[str, int]:
    counts = rng.multinomial(shots, list(law.values()))
    return {b: int(c) for b, c in zip(law, counts, strict=True) if c}


def learn(circuits: int) -> None:
    rng = np.random.default_rng(2024)
    scores: dict[str, list[float]] = {}
    for name in TRAIN:
        for truth, law, success in runs(name, circuits, rng):
            for shots in SHOTS:
                for kind, value in known.scores_of(drawn(law, shots, rng), truth, success):
                    scores.setdefault(kind, []).append(value)
    print({kind: len(rows) for kind, rows in scores.items()})
    points = {
        kind: [round(float(v), 5) for v in np.quantile(rows, np.linspace(0, 1, 401))]
        for kind, rows in scores.items()
    }
    path = Path(known.__file__).with_name("known.json")
    path.write_text(json.dumps(points, separators=(",", ":")) + "\n", "utf-8")


class Tally:
    """Covered and all, by where the truth lies."""

    def __init__(self) -> None:
        self.rows: list[tuple[float, bool]] = []

    def add(self, truth: float, low: float, high: float) -> None:
        self.rows.append((truth, low - 1e-12 <= truth <= high + 1e-12))

    def report(self) -> dict[str, Any]:
        parts = {"all": (-1, 2), "below 0.04": (-1, 0.04), "between": (0.04, 0.96)}
        parts["above 0.96"] = (0.96, 2)
        made = {}
        for name, (low, high) in parts.items():
            hits = [c for t, c in self.rows if low <= t < high]
            if hits:
                made[name] = {"figures": len(hits), "covered": round(sum(hits) / len(hits), 4)}
        return made


def z_of(dist: Mapping[str, float]) -> float:
    return sum(p * (1 - 2 * int(b[-1])) for b, p in dist.items())


def coverage(names: tuple[str, ...], circuits: int, own: int, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    tallies = {k: Tally() for k in ("combined", "shots alone", "estimates", "with a model")}
    basis = ""
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            if own:
                device = twin(name, now=0.0)
                known.learn(TwinSampler(device, seed=seed), device.calibration, device.target,
                            Path(folder), circuits=own, rng=seed)  # fmt: skip
            bounds, basis = known.bounds_for(Path(folder), f"ibm_{name}", 0.9)
        for truth, law, success in runs(name, circuits, rng):
            shots = int(rng.choice(SHOTS))
            counts = drawn(law, shots, rng)
            width = len(next(iter(counts)))
            item = Samples(registers={"m": [counts]}, widths={"m": width}, shots=shots)
            noise = Noise(basis, (success,), bounds)
            found, _, _ = figures(Result(items=(item,)), 0.9, noise)
            for figure in found:
                bits = figure["name"].split("(")[1].rstrip(")")
                tallies["combined"].add(truth.get(bits, 0.0), figure["low"], figure["high"])
                tallies["shots alone"].add(truth.get(bits, 0.0), *figure["sampling"])
            share = {b: c / shots for b, c in counts.items()}
            value = z_of(share)
            error = float(np.sqrt(max(1 - value * value, 1 / shots) / shots))
            single = Result(items=(Estimates(values=[value], errors=[error], shape=(1,)),))
            (figure,), _, _ = figures(single, 0.9, noise)
            tallies["estimates"].add((1 + z_of(truth)) / 2, *(
                (1 + figure[k]) / 2 for k in ("low", "high")))  # fmt: skip
            # A model adds an error of its own, of the size it states.
            size = 0.05
            off = Result(
                items=(Estimates(values=[value + rng.normal(0, size)], errors=[error], shape=(1,)),)
            )
            (figure,), _, _ = figures(off, 0.9, noise._replace(model=(size,)))
            tallies["with a model"].add((1 + z_of(truth)) / 2, *(
                (1 + figure[k]) / 2 for k in ("low", "high")))  # fmt: skip
    return {"basis": basis} | {k: t.report() for k, t in tallies.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--learn", action="store_true")
    args = parser.parse_args()
    if args.learn:
        learn(60)
        return
    rng = np.random.default_rng(1)
    many = 1000 if args.small else 4000
    report: dict[str, Any] = {
        "counts_anywhere": sampling(0, 1, many, rng),
        "counts_0_to_0.02": sampling(0, 0.02, many, rng),
        "counts_0.98_to_1": sampling(0.98, 1, many, rng),
    }
    names, circuits = (TEST[:2], 40) if args.small else (TEST, 80)
    report["unseen devices, shipped widths"] = coverage(names, circuits, 0, 7)
    report["own record of 120 circuits"] = coverage(names, circuits, 120, 8)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
