"""Faults injected into everything a device returns: `python benchmarks/health_faults.py [--small]`,
false alarms alone: `--clean 160`.

Each trial is a fresh home and five jobs of 1,000 shots with 128 sentinel shots each. A fault counts
as detected when a job is not released: by the count check, the sentinels (alpha 0.001) or the check
for repeated results. No fault: the share of trials with any alarm.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from qiskit import QuantumCircuit, transpile
from qiskit.primitives import BitArray, DataBin, PrimitiveResult, SamplerPubResult

import interlock
from benchmarks.health_fallback import policy
from interlock.backends import TwinSampler, twin
from interlock.guard.execute.sentinels import SentinelSampler

JOBS = 5
Shots = np.ndarray
Fault = Callable[[Shots, np.random.Generator], Shots]


def flip(share: float) -> Fault:
    def fault(bits: Shots, rng: np.random.Generator) -> Shots:
        hit = rng.random(len(bits)) < share
        bits[hit, -1] ^= True
        return bits

    return fault


def dead(bits: Shots, _: np.random.Generator) -> Shots:
    bits[:, -1] = False
    return bits


def order(bits: Shots, _: np.random.Generator) -> Shots:
    return bits[:, ::-1]


def tamper(share: float) -> Fault:
    def fault(bits: Shots, rng: np.random.Generator) -> Shots:
        bits[rng.random(len(bits)) < share] = True
        return bits

    return fault


def spoof(share: float) -> Fault:
    """Shots that were never run: uniformly random."""

    def fault(bits: Shots, rng: np.random.Generator) -> Shots:
        hit = rng.random(len(bits)) < share
        bits[hit] = rng.integers(0, 2, (int(hit.sum()), bits.shape[1]), dtype=bool)
        return bits

    return fault


def leak(share: float) -> Fault:
    """A leaked qubit reads 1 whatever it should be, more often late in the job."""

    def fault(bits: Shots, rng: np.random.Generator) -> Shots:
        late = np.linspace(0, 2 * share, len(bits))
        bits[rng.random(len(bits)) < late, 0] = True
        return bits

    return fault


class Faulty(TwinSampler):
    def __init__(self, backend: Any, fault: Fault | str | None, seed: int) -> None:
        super().__init__(backend)
        self.fault = fault
        self.rng = np.random.default_rng(seed)
        self.old: dict[int, Any] = {}

    @property
    def seed(self) -> None:
        return None

    def _run(self, pubs: Any) -> Any:
        self._seed = int(self.rng.integers(2**31))
        results = list(super()._run(pubs))
        self._seed = None
        if self.fault == "swap" and len(results) > 1:
            results = results[1:] + results[:1]
        elif self.fault == "stuck":
            for index, result in enumerate(results):
                name, bits = next(iter(result.data.items()))
                if name == "meas":
                    results[index] = self.old.setdefault(bits.num_shots, result)
        elif callable(self.fault):
            results = [self._faulty(r) for r in results]
        return PrimitiveResult(results)

    def _faulty(self, result: Any) -> Any:
        name, array = next(iter(result.data.items()))
        bits = self.fault(array.to_bool_array().copy(), self.rng)  # type: ignore[operator] # set where it is made
        return SamplerPubResult(DataBin(**{name: BitArray.from_bool_array(bits)}))


FAULTS: dict[str, Fault | str | None] = {
    "none": None, "readout flip 10 %": flip(0.1), "readout flip 30 %": flip(0.3),
    "readout flip 100 %": flip(1.0), "wrong bit order": order, "dead qubit": dead,
    "swapped results": "swap", "stuck result": "stuck",
    "tampering 5 %": tamper(0.05), "tampering 20 %": tamper(0.2), "tampering 50 %": tamper(0.5),
    "shot spoofing 5 %": spoof(0.05), "shot spoofing 20 %": spoof(0.2),
    "shot spoofing 50 %": spoof(0.5), "leakage 10 %": leak(0.1), "leakage 30 %": leak(0.3),
}  # fmt: skip


def circuit(device: Any) -> QuantumCircuit:
    made = QuantumCircuit(3)
    made.ry(0.6, 0)
    made.cx(0, 1)
    made.ry(1.1, 1)
    made.cx(1, 2)
    made.ry(0.4, 2)
    made.measure_all()
    return transpile(made, device, seed_transpiler=1)


@cache
def device_and_circuit() -> tuple[Any, QuantumCircuit]:
    device = twin("manila")
    return device, circuit(device)


def run(fault: Fault | str | None, seed: int) -> list[dict[str, Any]]:
    """The receipts of five jobs in a fresh home."""
    device, isa = device_and_circuit()
    sampler = SentinelSampler(Faulty(device, fault, seed), shots=128, sentinels=2, rng=seed + 10**6)
    rules = policy(health={"sentinels": {}}, validate={"sentinels": {}, "repeats": {}})
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        guarded = interlock.guard(
            sampler, policy=rules, home=Path(folder),
            fallback=lambda pubs: [{"000": 1000} for _ in pubs],
        )  # fmt: skip
        return [guarded.run([isa], shots=1000).result().metadata["interlock"] for _ in range(JOBS)]


def trial(fault: Fault | str | None, seed: int) -> tuple[bool, bool, str]:
    """Whether the first job and whether any of five was caught, and by which rule first."""
    receipts = run(fault, seed)
    caught = [r["outcome"] != "RELEASE" for r in receipts]
    by = next((str(r["rule"]) for r, bad in zip(receipts, caught, strict=True) if bad), "")
    return caught[0], any(caught), by


def rates(trials: int) -> dict[str, dict[str, Any]]:
    report = {}
    for name, fault in FAULTS.items():
        rows = [trial(fault, seed) for seed in range(trials if name != "none" else 2 * trials)]
        named = sorted({by for _, _, by in rows if by})
        report[name] = {
            "first_job": float(np.mean([r[0] for r in rows])),
            "five_jobs": float(np.mean([r[1] for r in rows])), "trials": len(rows), "by": named,
        }  # fmt: skip
    return report


def clean(homes: int) -> dict[str, Any]:
    """Jobs without any fault: how many were kept back, and what bounds the rate at 95 %."""
    from scipy.stats import beta

    alarms, rules = 0, []
    for seed in range(10_000, 10_000 + homes):
        receipts = run(None, seed)
        bad = [r for r in receipts if r["outcome"] != "RELEASE"]
        alarms += len(bad)
        rules += [str(r["rule"]) for r in bad]
    jobs = homes * JOBS
    bound = float(beta.ppf(0.975, alarms + 1, jobs - alarms))
    return {"homes": homes, "jobs": jobs, "alarms": alarms, "at_most": bound, "rules": rules}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--clean", type=int, help="only this many homes of five jobs without fault")
    args = parser.parse_args()
    if args.clean:
        print(json.dumps(clean(args.clean)))
        return
    for name, row in rates(4 if args.small else 20).items():
        print(f"{name:22} {json.dumps(row)}", flush=True)


if __name__ == "__main__":
    main()
