"""Coverage of the nominal 90 % intervals: `python -m benchmarks.health_uncertainty [--small]`.

Counts: proportions anywhere, and near 0 and 1. Figures as `validate.interval` reports them, for the
noiseless value of circuits of `known.FAMILIES` on device twins, also with a model's own error on
top: with widths learnt from one half of the devices on the other half and the other way round (the
shipped widths are learnt from the first half: `--learn` makes them anew); and with the record of
each device's own, where kinds with too few figures have the shipped widths.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from qiskit import QuantumCircuit, transpile
from qiskit.quantum_info import Statevector

from interlock.backends import TwinSampler, snapshot, twin
from interlock.circuits.qiskit_adapter import from_qiskit
from interlock.guard.health import known
from interlock.guard.health.esp import predict
from interlock.guard.result import Estimates, Result, Samples
from interlock.guard.stats.uncertainty import ESTIMATES, FIGURES, conformal_bounds, jeffreys
from interlock.guard.validate.interval import Noise, figures

SHOTS = (250, 1000, 4000)
#: The snapshots of 5 to 33 qubits.
NAMES = (
    "algiers", "almaden", "athens", "auckland", "belem", "boeblingen", "bogota", "burlington",
    "cairo", "cambridge", "casablanca", "essex", "geneva", "guadalupe", "hanoi", "jakarta",
    "johannesburg", "kolkata", "lagos", "lima", "london", "manila", "melbourne", "montreal",
    "mumbai", "nairobi", "oslo", "ourense", "paris", "peekskill", "perth", "poughkeepsie",
    "prague", "quito", "rome", "santiago", "singapore", "sydney", "toronto", "valencia", "vigo",
    "yorktown",
)  # fmt: skip
HALVES = NAMES[::2], NAMES[1::2]
Make = Callable[[int, np.random.Generator], QuantumCircuit]
Laws = tuple[Mapping[str, float], Mapping[str, float], float]


def sampling(low: float, high: float, runs: int, rng: np.random.Generator) -> float:
    hits = 0
    for p in rng.uniform(low, high, runs):
        a, b = jeffreys(int(rng.binomial(500, p)), 500)
        hits += a <= p <= b
    return hits / runs


def runs(
    name: str, circuits: int, rng: np.random.Generator, make: Make = known.known_circuit
) -> Iterator[tuple[Mapping[str, float], Mapping[str, float], float]]:
    """Noiseless and noisy distribution and predicted success of circuits on a twin."""
    device = twin(name, now=0.0)
    for _ in range(circuits):
        width = int(rng.integers(2, 6))
        logical = make(width, rng)
        isa = transpile(logical, device, optimization_level=1, seed_transpiler=1)
        success = predict(from_qiskit(isa), device.calibration).worst
        if success is None:
            continue
        bare = logical.remove_final_measurements(inplace=False)
        yield Statevector(bare).probabilities_dict(), device.probabilities(isa), success


def drawn(law: Mapping[str, float], shots: int, rng: np.random.Generator) -> dict[str, int]:
    counts = rng.multinomial(shots, list(law.values()))
    return {b: int(c) for b, c in zip(law, counts, strict=True) if c}


def scores_from(laws: Iterable[Laws], rng: np.random.Generator) -> dict[str, list[float]]:
    scores: dict[str, list[float]] = {}
    for truth, law, success in laws:
        for shots in SHOTS:
            for kind, value in known.scores_of(drawn(law, shots, rng), truth, success, rng):
                scores.setdefault(kind, []).append(value)
    return scores


def learn(circuits: int) -> None:
    rng = np.random.default_rng(2024)
    scores = scores_from((r for name in HALVES[0] for r in runs(name, circuits, rng)), rng)
    print({kind: len(rows) for kind, rows in scores.items()})
    points = {
        kind: [round(float(v), 5) for v in np.quantile(rows, np.linspace(0, 1, 401))]
        for kind, rows in scores.items()
    }
    path = Path(known.__file__).with_name("known.json")
    path.write_text(json.dumps(points, separators=(",", ":")) + "\n", "utf-8")


Bounds = Mapping[str, tuple[float, float]]


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


def parity(dist: Mapping[str, float], mask: int) -> float:
    return sum(p * (1 - 2 * ((int(b, 2) & mask).bit_count() % 2)) for b, p in dist.items())


def check(
    laws: Iterable[Laws], bounds: Bounds, tallies: dict[str, Tally], rng: np.random.Generator
) -> None:
    for truth, law, success in laws:
        shots = int(rng.choice(SHOTS))
        counts = drawn(law, shots, rng)
        width = len(next(iter(counts)))
        item = Samples(registers={"m": [counts]}, widths={"m": width}, shots=shots)
        noise = Noise("known", (success,), bounds)
        found, _, _ = figures(Result(items=(item,)), 0.9, noise)
        for figure in found:
            bits = figure["name"].split("(")[1].rstrip(")")
            tallies["combined"].add(truth.get(bits, 0.0), figure["low"], figure["high"])
            tallies["shots alone"].add(truth.get(bits, 0.0), *figure["sampling"])
        share = {b: c / shots for b, c in counts.items()}
        mask = 2**width - 1 if rng.random() < 0.5 else int(rng.integers(1, 2**width))
        value, right = parity(share, mask), (1 + parity(truth, mask)) / 2
        error = float(np.sqrt(max(1 - value * value, 1 / shots) / shots))
        single = Result(items=(Estimates(values=[value], errors=[error], shape=(1,)),))
        (figure,), _, _ = figures(single, 0.9, noise)
        tallies["estimates"].add(right, *(
            (1 + figure[k]) / 2 for k in ("low", "high")))  # fmt: skip
        # A model adds an error of its own, of the size it states.
        size = 0.05
        off = Result(
            items=(Estimates(values=[value + rng.normal(0, size)], errors=[error], shape=(1,)),)
        )
        (figure,), _, _ = figures(off, 0.9, noise._replace(model=(size,)))
        tallies["with a model"].add(right, *(
            (1 + figure[k]) / 2 for k in ("low", "high")))  # fmt: skip


def report_of(tallies: dict[str, Tally]) -> dict[str, Any]:
    return {k: t.report() for k, t in tallies.items()}


def empty() -> dict[str, Tally]:
    return {k: Tally() for k in ("combined", "shots alone", "estimates", "with a model")}


def across(circuits: int, seed: int) -> dict[str, Any]:
    """Each half of the devices with widths from the other half."""
    rng = np.random.default_rng(seed)
    laws = [[r for name in half for r in runs(name, circuits, rng)] for half in HALVES]
    tallies = empty()
    for mine, others in ((0, 1), (1, 0)):
        scores = scores_from(laws[others], rng)
        bounds = {
            k.name: conformal_bounds(scores[k.name], 0.9, k.below) for k in (*FIGURES, *ESTIMATES)
        }
        check(laws[mine], bounds, tallies, rng)
    return report_of(tallies)


def coverage(names: Iterable[str], circuits: int, own: int, seed: int) -> dict[str, Any]:
    """With the shipped widths, or with a record of `own` circuits on each device itself."""
    rng = np.random.default_rng(seed)
    tallies, basis = empty(), ""
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            if own:
                device = twin(name, now=0.0)
                known.learn(TwinSampler(device, seed=seed), device.calibration, device.target,
                            Path(folder), circuits=own, rng=seed)  # fmt: skip
            bounds, basis = known.bounds_for(Path(folder), f"ibm_{name}", 0.9)
        check(runs(name, circuits, rng), bounds, tallies, rng)
    return {"basis": basis} | report_of(tallies)


def families(names: Iterable[str], circuits: int, seed: int) -> dict[str, Any]:
    """With the shipped widths, each family of circuits by itself."""
    rng = np.random.default_rng(seed)
    bounds = {k.name: known._shipped_bounds(k, 0.9) for k in (*FIGURES, *ESTIMATES)}
    made = {}
    for family, make in known.FAMILIES.items():
        tallies = empty()
        for name in names:
            check(runs(name, circuits, rng, make), bounds, tallies, rng)
        made[family] = {k: tallies[k].report() for k in ("combined", "estimates")}
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--learn", action="store_true")
    parser.add_argument("--across", action="store_true", help="the halves alone")
    args = parser.parse_args()
    if args.learn:
        learn(60)
        return
    if args.across:
        print(json.dumps(across(25, 7), indent=1))
        return
    rng = np.random.default_rng(1)
    many = 1000 if args.small else 4000
    report: dict[str, Any] = {
        "counts_anywhere": sampling(0, 1, many, rng),
        "counts_0_to_0.02": sampling(0, 0.02, many, rng),
        "counts_0.98_to_1": sampling(0.98, 1, many, rng),
    }
    if not args.small:
        report["widths from the other half of the devices"] = across(25, 7)
    names = [n for n in HALVES[1] if snapshot(n).num_qubits <= 7]
    if args.small:
        names = ["manila", "nairobi"]
    circuits = 25
    report["shipped widths by family, devices of 5 to 7 qubits"] = families(names, 12, 9)
    report["own record of 120 circuits, devices of 5 to 7 qubits"] = coverage(
        names, circuits, 120, 8
    )
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
