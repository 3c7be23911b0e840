"""Detection delay of the entanglement heartbeat against the share of intercepted pairs.

usage: python benchmarks/qkd_heartbeat.py [--runs 40]
"""

import argparse

import numpy as np

from interlock.crypto.qkd.heartbeat import ClassicalityTest, DriftTest, win_probability

HEALTHY = 2.8


def trials_until(test, chsh, limit, rng, stop):
    for won in rng.random(limit) < win_probability(chsh):
        if stop(test.update(bool(won))):
            return test.trials
    return None


def middle(values, limit):
    found = sorted(limit + 1 if v is None else v for v in values)
    value = found[len(found) // 2]
    return f"> {limit}" if value > limit else str(value)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=40)
    runs = parser.parse_args().runs
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


if __name__ == "__main__":
    main()
