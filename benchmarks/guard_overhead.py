"""What the guard costs, beside the same jobs unguarded, in one run.

    python benchmarks/guard_overhead.py [--jobs 200] [--json]

Jobs go to Aer without noise, 5 qubits with 1024 shots and 20 qubits with 4096 shots, and to the
noisy twin of a real device, 5 qubits with 1024 shots. "Confined worker" is the first of these in a
confined process, whose own CPU is not counted, beside the same raw job in this one. Raw and guarded
jobs alternate in blocks, so that a busy machine is busy for both. CPU is that of the whole process,
all threads; medians over the blocks, and of the CPU added the mean too, which holds the seldom and
long collections of Python's garbage. "One by one" waits for each job; "in flight" submits a block
and then waits, so that receipts share commits.

Aer gets one thread for raw and guarded jobs alike: its idle OpenMP threads spin while the guard
works, and their CPU would be counted as the guard's.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when Aer is loaded

import yaml
from qiskit import QuantumCircuit, transpile
from qiskit_aer import AerSimulator
from qiskit_aer.primitives import SamplerV2

import interlock
from interlock.backends import ConfinedSampler, TwinSampler, twin

SIZES = ((5, 1024, False), (5, 1024, True), (20, 4096, False))
TWIN = "manila"
POLICY = Path(interlock.__file__).parent / "guard" / "starter.yaml"


def circuit(qubits: int, device: Any) -> QuantumCircuit:
    """Return two layers of rotations and a chain of entanglers, in a device's gates."""
    made = QuantumCircuit(qubits)
    for layer in range(2):
        for q in range(qubits):
            made.ry(0.1 * q + layer, q)
        for q in range(qubits - 1):
            made.cx(q, q + 1)
    made.measure_all()
    if device is None:
        return transpile(made, basis_gates=["rz", "sx", "cx"], seed_transpiler=7)
    return transpile(made, device, optimization_level=1, seed_transpiler=7)


def block(
    sampler: Any, work: QuantumCircuit, shots: int, jobs: int, *, flight: bool
) -> list[float]:
    """Run a block of jobs and return wall and CPU milliseconds a job."""
    wall, cpu = time.perf_counter(), time.process_time()
    if flight:
        for job in [sampler.run([work], shots=shots) for _ in range(jobs)]:
            job.result()
    else:
        for _ in range(jobs):
            sampler.run([work], shots=shots).result()
    done = time.perf_counter() - wall, time.process_time() - cpu
    return [value / jobs * 1e3 for value in done]


def compare(
    raw: Any, guarded: Any, work: QuantumCircuit, shots: int, jobs: int, *, flight: bool
) -> dict[str, float]:
    """Return the medians over alternating blocks."""
    rounds = 7
    size = max(jobs // rounds, 1)
    rows: dict[str, list[list[float]]] = {"raw": [], "guarded": []}
    for sampler in (raw, guarded):
        block(sampler, work, shots, min(size, 10), flight=flight)
    for _ in range(rounds):
        rows["raw"].append(block(raw, work, shots, size, flight=flight))
        rows["guarded"].append(block(guarded, work, shots, size, flight=flight))
    found = {
        f"{name}_{unit}_ms": statistics.median(r[i] for r in values)
        for name, values in rows.items()
        for i, unit in enumerate(("wall", "cpu"))
    }
    found["added_cpu_ms"] = found["guarded_cpu_ms"] - found["raw_cpu_ms"]
    means = {name: statistics.fmean(r[1] for r in values) for name, values in rows.items()}
    found["mean_added_cpu_ms"] = means["guarded"] - means["raw"]
    found["wall_ratio"] = found["guarded_wall_ms"] / found["raw_wall_ms"]
    return found


def where(guarded: Any, work: QuantumCircuit, shots: int, jobs: int) -> list[tuple[str, float]]:
    """Return the guard's own parts and the thread time each takes, in milliseconds a job."""
    import interlock.guard.gather as gather
    import interlock.guard.hooks.qiskit as hooks
    from interlock.guard.service import Guard
    from interlock.ledger.sequencer import Sequencer

    spent: dict[str, float] = {}
    kept: list[tuple[Any, str, Any]] = []

    def time_it(owner: Any, name: str, label: Callable[..., str]) -> None:
        inner = getattr(owner, name)
        kept.append((owner, name, inner))

        def timed(*arguments: Any, **options: Any) -> Any:
            started = time.thread_time()
            try:
                return inner(*arguments, **options)
            finally:
                key = label(*arguments)
                spent[key] = spent.get(key, 0.0) + time.thread_time() - started

        setattr(owner, name, timed)

    time_it(gather, "_evidence", lambda bound, _: f"gather {bound.control.stage}.{bound.id}")
    time_it(hooks, "_copied_sampler_pub", lambda *_: "copy and read the circuit")
    time_it(hooks, "neutral", lambda *_: "read the result (part of execute.run)")
    time_it(Guard, "_record", lambda *_: "hand in the record of the job")
    time_it(Sequencer, "_commit", lambda *_: "commit")
    try:
        block(guarded, work, shots, jobs, flight=False)
    finally:
        for owner, name, inner in kept:
            setattr(owner, name, inner)
    return sorted(((k, v / jobs * 1e3) for k, v in spent.items()), key=lambda kv: -kv[1])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=210)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    document = yaml.safe_load(POLICY.read_text("utf-8"))
    document["health"]["fidelity"]["minimum"] = 0.0  # the wide circuit is not expected to survive
    document["health"]["fidelity"]["on_unknown"] = "allow"  # without noise there is nothing to tell
    document["health"]["calibration"] = {"on_red": "allow", "on_missing": "allow"}
    shares: list[tuple[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        for number, (qubits, shots, noisy) in enumerate(SIZES):
            device = twin(TWIN, age_s=60.0)
            work = circuit(qubits, device if noisy else None)
            raw = TwinSampler(device, seed=7) if noisy else SamplerV2(seed=7)
            guarded = interlock.guard(raw, policy=document, home=Path(folder) / str(number))
            jobs = options.jobs if qubits <= 5 else max(options.jobs // 5, 7)
            for flight in (False, True):
                row = compare(raw, guarded, work, shots, jobs, flight=flight)
                how = ("twin, " if noisy else "") + ("in flight" if flight else "one by one")
                rows.append({"qubits": qubits, "shots": shots, "how": how, **row})
            if number == 0:
                shares = where(guarded, work, shots, 100)
                sampler = ConfinedSampler(AerSimulator())
                apart = interlock.guard(sampler, policy=document, home=Path(folder) / "apart")
                row = compare(raw, apart, work, shots, jobs // 2, flight=False)
                rows.append({"qubits": qubits, "shots": shots, "how": "confined worker", **row})
    if options.json:
        print(json.dumps({"rows": rows, "where_ms": dict(shares)}, indent=2))
        return
    print(
        "milliseconds a job         raw wall  guarded  ratio   raw cpu  guarded    added     mean"
    )
    for r in rows:
        label = f"{r['qubits']} qubits, {r['shots']} shots, {r['how']}"
        print(
            f"{label:40}{r['raw_wall_ms']:8.2f} {r['guarded_wall_ms']:8.2f} {r['wall_ratio']:6.2f}"
            f"  {r['raw_cpu_ms']:8.2f} {r['guarded_cpu_ms']:8.2f} {r['added_cpu_ms']:8.2f}"
            f" {r['mean_added_cpu_ms']:8.2f}"
        )
    print("\nwhere it goes, 5 qubits, milliseconds of CPU a job")
    for part, value in shares[:14]:
        print(f"  {part:40}{value:8.3f}")


if __name__ == "__main__":
    main()
