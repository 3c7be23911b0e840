"""Acting on noise, and the power to act on signal: `python benchmarks/health_significance.py`.

Ten thousand questions without any effect, ten looks of 100 shots each, acting as soon as the
evidence allows; then the power curve. Beside it, a z-test at the same level that looks as often.
"""

from __future__ import annotations

import json
import math

import numpy as np

from interlock.guard.stats.significance import count_evidence

ALPHA, LOOKS, SHOTS = 0.01, 10, 100


def acted(rng: np.random.Generator, p: float, runs: int) -> tuple[float, float]:
    counts = np.cumsum(rng.binomial(SHOTS, p, (runs, LOOKS)), axis=1)
    n = SHOTS * np.arange(1, LOOKS + 1)
    need = math.log(1 / ALPHA)
    ours = [
        any(count_evidence(int(c), int(m), 0.5) >= need for c, m in zip(row, n, strict=True))
        for row in counts
    ]
    z = np.abs(counts - n / 2) / np.sqrt(n / 4)
    return float(np.mean(ours)), float((z > 2.5758).any(axis=1).mean())


def main() -> None:
    rng = np.random.default_rng(1)
    report = {"alpha": ALPHA, "looks": LOOKS, "shots_a_look": SHOTS}
    report["pure_noise_10000_runs"] = dict(
        zip(("e_process", "z_test"), acted(rng, 0.5, 10_000), strict=True)
    )
    report["power"] = {
        f"p={p:g}": dict(zip(("e_process", "z_test"), acted(rng, p, 1000), strict=True))
        for p in (0.52, 0.55, 0.575, 0.6, 0.65, 0.7)
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
