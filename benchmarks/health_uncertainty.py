"""Coverage of nominal 90 % intervals: `python -m benchmarks.health_uncertainty [--small]`.

Sampling alone: proportions anywhere, and near 0 and 1. Combined: random circuits on device twins;
the figure is the most likely outcome's probability, the truth is the noiseless one. The factor is
learnt on half of the circuits of a device and tested on the other half.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
from qiskit import QuantumCircuit, transpile
from qiskit.quantum_info import Statevector

from interlock.backends import TwinSampler, twin
from interlock.circuits.qiskit_adapter import from_qiskit
from interlock.guard.health.esp import predict
from interlock.guard.stats.uncertainty import combined, conformal_quantile, jeffreys, noise_scale

SHOTS = 500


def sampling(low: float, high: float, runs: int, rng: np.random.Generator) -> float:
    hits = 0
    for p in rng.uniform(low, high, runs):
        a, b = jeffreys(int(rng.binomial(SHOTS, p)), SHOTS)
        hits += a <= p <= b
    return hits / runs


def figures(device_name: str, circuits: int, rng: np.random.Generator) -> list[tuple]:
    device = twin(device_name)
    found = []
    for _ in range(circuits):
        width = 3
        logical = QuantumCircuit(width)
        for _ in range(int(rng.integers(1, 4))):
            for q in range(width):
                logical.ry(rng.uniform(0, np.pi), q)
                logical.rz(rng.uniform(0, np.pi), q)
            logical.cx(0, 1)
            logical.cx(1, 2)
        ideal = Statevector(logical).probabilities_dict()
        logical.measure_all()
        isa = transpile(logical, device, optimization_level=1, seed_transpiler=1)
        success = predict(from_qiskit(isa), device.calibration).success
        seed = int(rng.integers(2**31))
        data = TwinSampler(device, seed=seed).run([isa], shots=SHOTS).result()[0].data.meas
        counts = data.get_counts()
        for bits in rng.choice([format(i, "03b") for i in range(8)], 4, replace=False):
            value = counts.get(str(bits), 0) / SHOTS
            scale = noise_scale(value, SHOTS, success, 1 / 8)
            found.append((value, scale, float(ideal.get(str(bits), 0.0)), counts.get(str(bits), 0)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true")
    args = parser.parse_args()
    rng = np.random.default_rng(1)
    runs = 1000 if args.small else 4000
    report: dict = {
        "sampling_anywhere": sampling(0, 1, runs, rng),
        "sampling_0_to_0.02": sampling(0, 0.02, runs, rng),
        "sampling_0.98_to_1": sampling(0.98, 1, runs, rng),
    }
    covered, naive, total = 0, 0, 0
    for name in ("manila", "nairobi") if args.small else ("manila", "nairobi", "quito", "jakarta"):
        rows = figures(name, 60 if args.small else 240, rng)
        half = len(rows) // 2
        factor = conformal_quantile([abs(v - t) / s for v, s, t, _ in rows[:half]])
        for value, scale, truth, count in rows[half:]:
            low, high = combined(value, scale, factor)
            covered += low <= truth <= high
            a, b = jeffreys(count, SHOTS)
            naive += a <= truth <= b
            total += 1
    report["combined"] = {"coverage": covered / total, "figures": total}
    report["sampling_interval_for_the_noiseless_value"] = naive / total
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
