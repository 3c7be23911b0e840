"""Covert channels found at 1 % false positives, by window length; power by size; the blind zone.

python benchmarks/covert_power.py [--windows 300] [--lengths 200,1000,5000] [--detectors N]
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy import stats

from interlock.monitor.covert import CHANNELS, CovertDetector, embed, legitimate


def iid(count: int, rng: np.random.Generator) -> np.ndarray:
    return 1000.0 * np.exp(0.13 * rng.standard_normal(count))


def share(found: int, count: int) -> str:
    """A share with its exact 95 % interval (Clopper and Pearson 1934)."""
    low = stats.beta.ppf(0.025, found, count - found + 1) if found else 0.0
    high = stats.beta.ppf(0.975, found + 1, count - found) if found < count else 1.0
    return f"{found / count:.4f} [{low:.4f}, {high:.4f}]"


def calibration(length: int, detectors: int, windows: int) -> None:
    """False positives of detectors calibrated apart: one detector's own share varies around 1 %."""
    shares, found = [], 0
    for seed in range(detectors):
        rng = np.random.default_rng([77, length, seed])
        detector = CovertDetector(np.array([legitimate(length, rng=rng) for _ in range(1500)]))
        mine = sum(detector.test(legitimate(length, rng=rng)).found for _ in range(windows))
        shares.append(mine / windows)
        found += mine
    print(f"n={length}: {detectors} detectors calibrated apart, 500 windows for each threshold")
    print(f"  false positives together {share(found, detectors * windows)},"
          f" of one {min(shares):.4f} to {max(shares):.4f}")  # fmt: skip


def table(length: int, windows: int) -> None:
    rng = np.random.default_rng(length)
    honest = np.array([legitimate(length, rng=rng) for _ in range(4500 if length < 5000 else 2400)])
    detector = CovertDetector(honest)
    found = sum(detector.test(legitimate(length, rng=rng)).found for _ in range(3 * windows))
    print(f"n={length}: false positives {share(found, 3 * windows)}")
    for name in CHANNELS:
        verdicts = [
            detector.test(embed(legitimate(length, rng=rng), name, rng=rng)) for _ in range(windows)
        ]
        hits = np.mean([v.found for v in verdicts])
        bits = np.mean([v.bits_per_interval for v in verdicts])
        print(
            f"  {name:<10} found {hits:.3f}  estimated {bits:.2f} bits/interval "
            f"(true {CHANNELS[name][1]:.2f})"
        )


def power(windows: int, length: int = 2000) -> None:
    rng = np.random.default_rng(7)
    detector = CovertDetector(np.array([legitimate(length, rng=rng) for _ in range(1200)]))
    print(f"power by shift of one bit's pulses, n={length}, in sd of the honest jitter")
    for size in (0.0, 0.1, 0.2, 0.3, 0.5, 0.8):
        hits = 0
        for _ in range(windows):
            bits = rng.integers(0, 2, length) - 0.5
            hits += detector.test(legitimate(length, rng=rng) * np.exp(0.134 * size * bits)).found
        print(f"  {size:.1f} sd  found {hits / windows:.3f}")
    print(f"marked pulses with timing jitter, n={length}")
    for jitter in (1.0, 4.0, 8.0, 16.0):
        hits = 0
        for _ in range(windows):
            sent = embed(legitimate(length, rng=rng), "lsb", rng=rng)
            hits += detector.test(sent + rng.normal(0.0, jitter, length)).found
        print(f"  lsb, {jitter:.0f} ns  found {hits / windows:.3f}")
    blind = CovertDetector(np.array([iid(length, rng) for _ in range(1200)]))
    print("blind zone: honest timing independent, channel copies its distribution")
    for name in ("mbctc", "trctc"):
        hits = np.mean(
            [blind.test(embed(iid(length, rng), name, rng=rng)).found for _ in range(windows)]
        )
        print(f"  {name:<10} found {hits:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, default=300)
    parser.add_argument("--lengths", default="200,1000,5000")
    parser.add_argument("--detectors", type=int, default=0, help="only calibrate so many apart")
    args = parser.parse_args()
    if args.detectors:
        for length in map(int, args.lengths.split(",")):
            calibration(length, args.detectors, 3 * args.windows)
        return
    for length in map(int, args.lengths.split(",")):
        table(length, args.windows)
    power(max(50, args.windows // 3))


if __name__ == "__main__":
    main()
