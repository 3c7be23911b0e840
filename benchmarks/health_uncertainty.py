"""Coverage of the nominal 90 % intervals: `python -m benchmarks.health_uncertainty [--small]`.

Counts: proportions anywhere, and near 0 and 1. Figures as `validate.interval` reports them, every
outcome seen, for the noiseless value of circuits of `known.FAMILIES` on device twins, also with a
model's own error on top: each device with widths learnt from the other 41 (the shipped widths are
learnt from all 42: `--learn` makes them anew), and with a record of each device's own, where
strata with too few figures have the widths of the others.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from qiskit import transpile
from qiskit.quantum_info import Statevector

from interlock.backends import twin
from interlock.circuits.qiskit_adapter import from_qiskit
from interlock.guard.health import known
from interlock.guard.health.esp import predict
from interlock.guard.result import Estimates, Result, Samples
from interlock.guard.stats.uncertainty import (
    ESTIMATES,
    FIGURES,
    WIDTHS,
    conformal_bounds,
    jeffreys,
    stratum,
)
from interlock.guard.stats.uncertainty import Bounds as Ends
from interlock.guard.validate.figures import Noise, figures

SHOTS = (250, 1000, 4000)
#: Results of each circuit and number of shots that are learnt from: with one, the luck of a few
#: circuits of one qubit moved what is least common among them.
DRAWS = 4
#: The snapshots of 5 to 33 qubits.
NAMES = (
    "algiers", "almaden", "athens", "auckland", "belem", "boeblingen", "bogota", "burlington",
    "cairo", "cambridge", "casablanca", "essex", "geneva", "guadalupe", "hanoi", "jakarta",
    "johannesburg", "kolkata", "lagos", "lima", "london", "manila", "melbourne", "montreal",
    "mumbai", "nairobi", "oslo", "ourense", "paris", "peekskill", "perth", "poughkeepsie",
    "prague", "quito", "rome", "santiago", "singapore", "sydney", "toronto", "valencia", "vigo",
    "yorktown",
)  # fmt: skip


def sampling(low: float, high: float, runs: int, rng: np.random.Generator) -> float:
    hits = 0
    for p in rng.uniform(low, high, runs):
        a, b = jeffreys(int(rng.binomial(500, p)), 500)
        hits += a <= p <= b
    return hits / runs


class Run(NamedTuple):
    """A circuit on a device: what it should give, what it gives, its predicted success."""

    truth: Mapping[str, float]
    law: Mapping[str, float]
    success: float
    family: str


def runs(name: str, circuits: int, rng: np.random.Generator) -> Iterator[Run]:
    device = twin(name, now=0.0)
    for _ in range(circuits):
        width = int(rng.integers(2, 6))
        family = sorted(known.FAMILIES)[int(rng.integers(len(known.FAMILIES)))]
        logical = known.FAMILIES[family](width, rng)
        isa = transpile(logical, device, optimization_level=1, seed_transpiler=1)
        success = predict(from_qiskit(isa), device.calibration).worst
        if success is None:
            continue
        bare = logical.remove_final_measurements(inplace=False)
        truth = Statevector(bare).probabilities_dict()
        yield Run(truth, device.probabilities(isa), success, family)


def drawn(law: Mapping[str, float], shots: int, rng: np.random.Generator) -> dict[str, int]:
    counts = rng.multinomial(shots, list(law.values()))
    return {b: int(c) for b, c in zip(law, counts, strict=True) if c}


def scores_from(laws: Iterable[Run], rng: np.random.Generator) -> dict[str, list[float]]:
    scores: dict[str, list[float]] = {}
    for truth, law, success, _ in laws:
        for shots in SHOTS * DRAWS:
            for kind, value in known.scores_of(drawn(law, shots, rng), truth, success, rng):
                scores.setdefault(kind, []).append(value)
    return scores


def laws_of(circuits: int, seed: int) -> dict[str, list[Run]]:
    """What circuits on each device should give and give."""
    return {
        name: list(runs(name, circuits, np.random.default_rng([seed, number])))
        for number, name in enumerate(NAMES)
    }


def write(laws: Mapping[str, list[Run]]) -> None:
    scores = scores_from((r for rows in laws.values() for r in rows), np.random.default_rng(5))
    points = {
        name: [round(float(v), 5) for v in np.quantile(rows, np.linspace(0, 1, 201))]
        for name, rows in sorted(scores.items())
    }
    path = Path(known.__file__).with_name("known.json")
    path.write_text(json.dumps(points, separators=(",", ":")) + "\n", "utf-8")
    print({name: len(rows) for name, rows in sorted(scores.items())})


Bounds = Mapping[str, Ends]


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
    laws: Iterable[Run], bounds: Bounds, tallies: dict[str, Tally], rng: np.random.Generator
) -> None:
    for run in laws:
        for shots in SHOTS:
            _check(run, shots, bounds, tallies, rng)


def _check(
    run: Run, shots: int, bounds: Bounds, tallies: dict[str, Tally], rng: np.random.Generator
) -> None:
    truth, law, success, family = run
    counts = drawn(law, shots, rng)
    width = len(next(iter(counts)))
    item = Samples(registers={"m": [counts]}, widths={"m": width}, shots=shots)
    noise = Noise("known", (success,), bounds, (), (width,))
    ends = intervals(item, noise)
    plain = intervals(item, Noise())
    kinds = ["counts", f"counts, {family}"]
    if width == 1 and family == "state":
        kinds.append(f"counts, one bit in state {max(truth, key=lambda bits: truth[bits])}")
    for bits in counts:
        for kind in kinds:
            tallies[kind].add(truth.get(bits, 0.0), *ends[bits])
        tallies["shots alone"].add(truth.get(bits, 0.0), *plain[bits])
    share = {b: c / shots for b, c in counts.items()}
    for mask in {2**width - 1, int(rng.integers(1, 2**width))}:
        value, right = parity(share, mask), (1 + parity(truth, mask)) / 2
        error = float(np.sqrt(max(1 - value * value, 1 / shots) / shots))
        # A model adds an error of its own, of the size it states.
        for name, size in (("estimates", 0.0), ("estimates with a model", 0.05)):
            given = value + float(rng.normal(0, size))
            single = Result(items=(Estimates(values=[given], errors=[error], shape=(1,)),))
            (figure,) = figures(single, 0.9, noise._replace(model=(size,) if size else ())).named
            for tally in (name, f"{name}, {family}"):
                tallies[tally].add(right, (1 + figure["low"]) / 2, (1 + figure["high"]) / 2)


def intervals(item: Samples, noise: Noise) -> dict[str, tuple[float, float]]:
    """Outcome -> interval, from the table or, where all are named, from these."""
    found = figures(Result(items=(item,)), 0.9, noise)
    if not found.tables:
        return {f["name"].split("(")[1][:-1]: (f["low"], f["high"]) for f in found.named}
    (table,) = found.tables
    ends = dict(zip(table["count"], zip(table["low"], table["high"], strict=True), strict=True))
    return {bits: ends[count] for bits, count in item.registers["m"][0].items()}


def report_of(tallies: dict[str, Tally]) -> dict[str, Any]:
    return {
        name: tally.report() if "," not in name else tally.report()["all"]
        for name, tally in tallies.items()
    }


Scores = Mapping[str, Sequence[float]]


def bounds_of(scores: Iterable[Scores]) -> dict[str, Ends]:
    given = list(scores)
    return {
        stratum(k, w): conformal_bounds(
            [x for s in given for x in s.get(stratum(k, w), ())], 0.9, k.below
        )
        for k in (*FIGURES, *ESTIMATES)
        for w in range(1, WIDTHS + 1)
    }


def apart(laws: Mapping[str, list[Run]], seed: int) -> dict[str, Any]:
    """Each device with widths learnt from all others."""
    rng = np.random.default_rng(seed)
    scores = {name: scores_from(rows, rng) for name, rows in laws.items()}
    tallies: dict[str, Tally] = defaultdict(Tally)
    for name, rows in laws.items():
        check(rows, bounds_of(s for n, s in scores.items() if n != name), tallies, rng)
    return report_of(tallies)


def owned(laws: Mapping[str, list[Run]], seed: int, folds: int = 4) -> dict[str, Any]:
    """Each quarter of a device's circuits with the record of the other three, as `learn` keeps it.

    Strata with too few scores have widths from the other devices.
    """
    rng = np.random.default_rng(seed)
    scores = {name: scores_from(rows, rng) for name, rows in laws.items()}
    tallies: dict[str, Tally] = defaultdict(Tally)
    for name, rows in laws.items():
        others = bounds_of(s for n, s in scores.items() if n != name)
        for fold in range(folds):
            own: dict[str, list[float]] = defaultdict(list)
            for number, run in enumerate(rows):
                if number % folds != fold:
                    counts = drawn(run.law, 1000, rng)
                    for key, value in known.scores_of(counts, run.truth, run.success, rng):
                        own[key].append(value)
            mine = bounds_of([own])
            bounds = {k: mine[k] if len(own[k]) >= known.LEAST else others[k] for k in others}
            check(rows[fold::folds], bounds, tallies, rng)
    return report_of(tallies)


def coverage(names: Iterable[str], circuits: int, seed: int) -> dict[str, Any]:
    """With the shipped widths."""
    rng = np.random.default_rng(seed)
    tallies: dict[str, Tally] = defaultdict(Tally)
    with tempfile.TemporaryDirectory() as folder:
        bounds, _ = known.bounds_for(Path(folder), "none", 0.9)
    for name in names:
        check(runs(name, circuits, rng), bounds, tallies, rng)
    return report_of(tallies)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--learn", action="store_true")
    args = parser.parse_args()
    if args.learn:
        write(laws_of(48, 11))
        return
    rng = np.random.default_rng(1)
    many = 1000 if args.small else 4000
    report: dict[str, Any] = {
        "counts_anywhere": sampling(0, 1, many, rng),
        "counts_0_to_0.02": sampling(0, 0.02, many, rng),
        "counts_0.98_to_1": sampling(0.98, 1, many, rng),
    }
    laws = laws_of(2 if args.small else 48, 11)
    report["each device with widths from the other 41"] = apart(laws, 7)
    report["with a record of its own"] = owned(laws, 3)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
