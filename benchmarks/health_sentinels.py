"""Sentinels: false alarms over a device's life, and shots to alarm, against four other rules.

`python benchmarks/health_sentinels.py [--small]`. The failure rate of a mirror sentinel comes from
the device twin at each noise level; the streams are Bernoulli with that rate, in jobs of 20
sentinel shots. All rules see the same streams. The z-test at the nominal level shows what looking
again and again costs; the z-test and CUSUM of the second part have their thresholds set so that
they alarm as rarely in control as the e-process does by proof, and the worst case is shown too.
`--estimator` runs whole jobs of a `SentinelEstimator` instead, one sentinel of 100 shots each.
"""

from __future__ import annotations

import argparse
import json

import numpy as np

from interlock.backends import TwinSampler, snapshot, twin
from interlock.guard.health.mirror import allowed_failure, mirror_of
from interlock.guard.stats.eprocess import RATIOS, Evidence, update

ALPHA = 1e-3
JOB = 20


def device_rates(name: str, scales: tuple[float, ...], shots: int = 100_000) -> tuple[float, list]:
    from qiskit import QuantumCircuit, transpile

    circuit = QuantumCircuit(4)
    circuit.h(0)
    for q in range(3):
        circuit.cx(q, q + 1)
        circuit.rz(0.3 * (q + 1), q + 1)
    circuit.measure_all()
    reported = twin(name)
    isa = transpile(circuit, reported, optimization_level=1, seed_transpiler=1)
    rng = np.random.default_rng(5)
    mirrors = [mirror_of(isa, rng) for _ in range(8)]
    allowed = float(np.mean([allowed_failure(m.circuit, snapshot(name)) for m in mirrors]))
    rates = []
    for scale in scales:
        sampler = TwinSampler(twin(name, noise_scale=scale), seed=3)
        jobs = sampler.run([m.circuit for m in mirrors], shots=shots // len(mirrors)).result()
        wrong = [
            1 - job.data.sentinel.get_counts().get(m.answer, 0) / job.data.sentinel.num_shots
            for m, job in zip(mirrors, jobs, strict=True)
        ]
        rates.append(float(np.mean(wrong)))
    return allowed, rates


def e_process(stream: np.ndarray, p0: float) -> int | None:
    state = Evidence()
    for index, failures in enumerate(stream):
        state = update(state, failures=int(failures), shots=JOB, p0=p0)
        if state.alarms(ALPHA):
            return (index + 1) * JOB
    return None


def e_process_alarms(streams: np.ndarray, p0: float) -> np.ndarray:
    """Whether each stream ever alarms: `update` for many streams at once."""
    odds = p0 / (1 - p0)
    p1 = np.array([r * odds / (1 + r * odds) for r in RATIOS])
    up, down = np.log(p1 / p0), np.log((1 - p1) / (1 - p0))
    bets = np.full((len(streams), len(RATIOS)), -np.inf)
    ever = np.zeros(len(streams), bool)
    for index in range(streams.shape[1]):
        job, seen = index + 1, streams[:, index, None]
        bets = np.logaddexp(bets, -np.log(job * (job + 1))) + seen * up + (JOB - seen) * down
        value = np.logaddexp(
            np.logaddexp.reduce(bets, axis=1) - np.log(len(RATIOS)), -np.log(job + 1)
        )
        ever |= value >= np.log(1 / ALPHA)
    return ever


def z_test(stream: np.ndarray, p0: float, limit: float) -> int | None:
    n = JOB * np.arange(1, len(stream) + 1)
    z = (np.cumsum(stream) - n * p0) / np.sqrt(n * p0 * (1 - p0))
    hits = np.flatnonzero(z > limit)
    return int(n[hits[0]]) if len(hits) else None


def cusum(stream: np.ndarray, p0: float, limit: float, ratio: float = 2.0) -> int | None:
    odds = ratio * p0 / (1 - p0)
    p1 = odds / (1 + odds)
    up, down = np.log(p1 / p0), np.log((1 - p1) / (1 - p0))
    gains = stream * up + (JOB - stream) * down
    total = 0.0
    for index, gain in enumerate(gains):
        total = max(0.0, total + gain)
        if total > limit:
            return (index + 1) * JOB
    return None


def estimator(name: str, scales: tuple[float, ...], streams: int, jobs: int) -> None:
    """Print failure rates and shots to alarm of an estimator's sentinels, end to end."""
    from qiskit import QuantumCircuit, transpile
    from qiskit.quantum_info import SparsePauliOp

    from interlock.backends import TwinEstimator
    from interlock.guard.execute.sentinels import METADATA, SentinelEstimator

    circuit = QuantumCircuit(4)
    circuit.h(0)
    for q in range(3):
        circuit.cx(q, q + 1)
        circuit.rz(0.3 * (q + 1), q + 1)
    for scale in scales:
        device = twin(name, noise_scale=scale)
        isa = transpile(circuit, device, optimization_level=1, seed_transpiler=1)
        wanted = SparsePauliOp("ZZII").apply_layout(isa.layout)
        alarms, shots, failures, allowed = [], 0, 0, []
        for stream in range(streams):
            run = SentinelEstimator(TwinEstimator(device, precision=0.1), rng=stream)
            state, alarm = Evidence(), None
            for _ in range(jobs):
                (row,) = run.run([(isa, wanted)]).result().metadata[METADATA].rows
                state = update(
                    state, failures=row["failures"], shots=row["shots"], p0=row["allowed"]
                )
                shots, failures = shots + row["shots"], failures + row["failures"]
                allowed.append(row["allowed"])
                if state.alarms(ALPHA):
                    alarm = state.shots
                    break
            alarms.append(alarm)
        found = [a for a in alarms if a is not None]
        row = {
            "noise": scale, "allowed": round(float(np.mean(allowed)), 3),
            "failed": round(failures / shots, 3), "alarms": f"{len(found)} of {streams}",
            "median_shots": float(np.median(found)) if found else None,
        }  # fmt: skip
        print(json.dumps(row), flush=True)


def share(hits: list[int | None]) -> float:
    return float(np.mean([h is not None for h in hits]))


def calibrated(rule, streams: np.ndarray, p0: float, low: float, high: float) -> float:
    """The lowest threshold that never alarms on these in-control streams."""
    for _ in range(18):
        middle = (low + high) / 2
        if share([rule(s, p0, middle) for s in streams]) > 0:
            low = middle
        else:
            high = middle
    return high


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--estimator", action="store_true")
    args = parser.parse_args()
    if args.estimator:
        estimator("manila", (1.0, 2.0, 3.0), 5 if args.small else 20, 20)
        return
    runs, jobs = (50, 250) if args.small else (300, 1000)
    scales = (1.0, 1.5, 2.0, 3.0, 5.0)
    for name in ("manila",) if args.small else ("manila", "nairobi"):
        p0, rates = device_rates(name, scales)
        rng = np.random.default_rng(1)
        edge = rng.binomial(JOB, p0, (runs, jobs))
        tuning = rng.binomial(JOB, p0, (runs, jobs))
        many = rng.binomial(JOB, p0, (500 if args.small else 10_000, jobs))
        few = many[:20]
        assert [e_process(s, p0) is not None for s in few] == list(e_process_alarms(few, p0))
        z_limit = calibrated(z_test, tuning, p0, 2.0, 8.0)
        c_limit = calibrated(cusum, tuning, p0, 1.0, 40.0)
        report: dict = {
            "device": name, "allowed_failure": round(p0, 4),
            "failure_by_noise": dict(zip(map(str, scales), np.round(rates, 4), strict=True)),
            "shots_a_run": jobs * JOB, "runs": runs,
            "false_alarms_at_the_limit": {
                "e_process": f"{int(e_process_alarms(many, p0).sum())} of {len(many)} runs",
                "z_test_3.09": share([z_test(s, p0, 3.09) for s in edge]),
                "z_test_tuned": share([z_test(s, p0, z_limit) for s in edge]),
                "cusum_tuned": share([cusum(s, p0, c_limit) for s in edge]),
            },
            "median_shots_to_alarm": {},
        }  # fmt: skip
        for scale, rate in zip(scales, rates, strict=True):
            streams = rng.binomial(JOB, rate, (min(runs, 200), jobs))
            row = {
                "e_process": [e_process(s, p0) for s in streams],
                "z_test_tuned": [z_test(s, p0, z_limit) for s in streams],
                "cusum_tuned": [cusum(s, p0, c_limit) for s in streams],
            }
            report["median_shots_to_alarm"][f"x{scale:g}"] = {
                key: {
                    "detected": share(hits),
                    "median": float(np.median([np.inf if h is None else h for h in hits])),
                }
                for key, hits in row.items()
            } | {"esp_threshold": "never: the reported calibration does not change"}
        print(json.dumps(report, indent=1, default=float))


if __name__ == "__main__":
    main()
