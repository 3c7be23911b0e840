"""What confinement costs a warm 5-qubit, 1024-shot job: `python benchmarks/health_isolation.py`."""

from __future__ import annotations

import json
import time

import numpy as np
from qiskit import QuantumCircuit, transpile

from interlock.backends import ConfinedSampler, TwinSampler, twin


def main() -> None:
    device = twin("manila")
    circuit = QuantumCircuit(5)
    circuit.h(0)
    circuit.cx(range(4), range(1, 5))
    circuit.measure_all()
    isa = transpile(circuit, device, seed_transpiler=1)
    seconds: dict[str, list[float]] = {"direct": [], "confined": []}
    samplers = {"direct": TwinSampler(device, seed=1), "confined": ConfinedSampler(device, seed=1)}
    for sampler in samplers.values():
        sampler.run([isa]).result()
    for _ in range(60):
        for name, sampler in samplers.items():
            started = time.perf_counter()
            sampler.run([isa]).result()
            seconds[name].append(time.perf_counter() - started)
    report = {f"{k}_ms": round(float(np.median(v)) * 1e3, 2) for k, v in seconds.items()}
    extra = np.array(seconds["confined"]) - np.array(seconds["direct"])
    report["confinement_ms_median"] = round(float(np.median(extra)) * 1e3, 2)
    report["confinement_ms_fastest"] = round(
        (min(seconds["confined"]) - min(seconds["direct"])) * 1e3, 2
    )
    print(json.dumps(report))


if __name__ == "__main__":
    main()
