"""Detection delay of the entanglement heartbeat against the share of intercepted pairs.

Rounds from an abstract sampler, then from Bell pairs that Qiskit Aer simulates (gate error 1 %)
with an eavesdropper who measures and sends on; settings are drawn for each round.

usage: python benchmarks/qkd_heartbeat.py [--runs 40] [--aer-runs 10]
"""

import argparse

import numpy as np

from interlock.crypto.qkd.heartbeat import ClassicalityTest, DriftTest, Trial, win_probability
from interlock.crypto.qkd.pairs import AerPairs

HEALTHY = 2.8


def trials_until(test, chsh, limit, rng, stop):
    for won in rng.random(limit) < win_probability(chsh):
        if stop(test.update(bool(won))):
            return test.trials
    return None


def aer_trials_until(share, limit, seed):
    """Rounds until the drift alarm, from simulated pairs."""
    source, settings = AerPairs(intercept=share, seed=seed), np.random.default_rng(seed + 1000)
    test = DriftTest(HEALTHY)
    for x, y in settings.integers(0, 2, (limit, 2)):
        if test.update(Trial(int(x), int(y), *source(int(x), int(y))).won):
            return test.trials
    return None


def middle(values, limit):
    found = sorted(limit + 1 if v is None else v for v in values)
    value = found[len(found) // 2]
    return f"> {limit}" if value > limit else str(value)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--aer-runs", type=int, default=10)
    options = parser.parse_args()
    runs = options.runs
    print("not local (e >= 1e6), median trials")
    for chsh in (2.7, 2.5, 2.3):
        values = [
            trials_until(
                ClassicalityTest(), chsh, 60_000, np.random.default_rng(s), lambda e: e >= 1e6
            )
            for s in range(runs)
        ]
        print(f"  S = {chsh}: {middle(values, 60_000)}")
    print("drift alarm (threshold 1e5, healthy 2.80, margin 0.08), median trials")
    for share in (1.0, 0.5, 0.3, 0.2, 0.1):
        chsh = share * 2**0.5 + (1 - share) * HEALTHY
        values = [
            trials_until(DriftTest(HEALTHY), chsh, 60_000, np.random.default_rng(s), bool)
            for s in range(runs)
        ]
        print(f"  intercepted {share}: {middle(values, 60_000)}")
    alarms = sum(
        trials_until(DriftTest(HEALTHY), HEALTHY, 200_000, np.random.default_rng(s), bool)
        is not None
        for s in range(4)
    )
    print(f"false alarms in 4 x 200000 healthy trials: {alarms}")
    print("drift alarm, pairs from Qiskit Aer, median rounds")
    for share in (1.0, 0.5, 0.3, 0.2):
        values = [aer_trials_until(share, 20_000, seed) for seed in range(options.aer_runs)]
        print(f"  intercepted {share}: {middle(values, 20_000)}")
    alarms = sum(
        aer_trials_until(0.0, 50_000, seed) is not None for seed in range(options.aer_runs)
    )
    print(f"false alarms in {options.aer_runs} x 50000 healthy rounds: {alarms}")


if __name__ == "__main__":
    main()
