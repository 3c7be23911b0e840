"""False alarms in each regime in control, and recall on five fault kinds, beside two baselines.

python benchmarks/telemetry_alarms.py [--seeds 5] [--rows 1000000] [--faults 40] [--beyond]

`--beyond` counts alarms on noise outside the five regimes instead, `--blocks` those of four
channels in blocks of several lengths.
"""

from __future__ import annotations

import argparse

import numpy as np

from interlock.monitor.detectors.alarms import AlarmBank, incidents
from interlock.monitor.detectors.baselines import detrended_ewma_scores, onsets, static_scores
from interlock.monitor.pipeline import AssetMonitor
from interlock.monitor.simulator import REGIMES, inject, regime
from interlock.monitor.simulator.regimes import jump_times

TRAIN, GRACE = 10_000, 1000
BLOCKS, CHANNELS = (64, 256, 1024), 4
BEYOND = {
    "exponential": lambda rng, n: rng.exponential(1.0, n),
    "gamma, shape .3": lambda rng, n: rng.gamma(0.3, 1.0, n),
    "lognormal, sd of log .5": lambda rng, n: rng.lognormal(0.0, 0.5, n),
    "lognormal, sd of log 1": lambda rng, n: rng.lognormal(0.0, 1.0, n),
    "cycles of 5,000 rows": lambda rng, n: cycles(rng, n, 5_000),
    "cycles of 20,000 rows": lambda rng, n: cycles(rng, n, 20_000),
    "exp of AR(1), sd .5": lambda rng, n: np.exp(0.5 * regime("autocorrelated", n, rng=rng)),
}
KINDS = ("shift", "noise", "frozen", "spike", "ramp")


def false_alarms(rows_at: list[int], jumps: np.ndarray, grace: int = GRACE) -> int:
    """Count alarms that are not the first incident after a true jump."""
    owned, false = set(), 0
    for row in rows_at:
        k = int(np.searchsorted(jumps, row, side="right")) - 1
        if k >= 0 and row - jumps[k] < grace and k not in owned:
            owned.add(k)
        else:
            false += 1
    return false


def cycles(rng: np.random.Generator, rows: int, period: int) -> np.ndarray:
    """AR(1) on a wave of five standard deviations."""
    return regime("autocorrelated", rows, rng=rng) + 5 * np.sin(
        2 * np.pi * np.arange(rows) / period
    )


def beyond(rows: int, seeds: int) -> dict[str, float]:
    """Return incidents per million rows of noise outside the five regimes."""
    return {
        name: sum(
            len(
                incidents(
                    AlarmBank(1, seed=s).update(noise(np.random.default_rng(s), rows)[:, None])
                )
            )
            for s in range(seeds)
        )
        / (rows * seeds)
        * 1e6
        for name, noise in BEYOND.items()
    }


def control(rows: int, seeds: int) -> dict[str, dict[str, float]]:
    """Return false alarms per million rows: regime -> detector -> number."""
    table: dict[str, dict[str, float]] = {}
    for name in REGIMES:
        counts = {"3-sigma": 0, "detrend+EWMA": 0, "interlock": 0}
        for seed in range(seeds):
            x = regime(name, rows, rng=seed)[:, None]
            jumps = jump_times(rows) if name == "after-jumps" else np.array([], int)
            groups = incidents(AlarmBank(1, seed=seed).update(x))
            counts["interlock"] += false_alarms([g[0].row for g in groups], jumps)
            for label, scores in (
                ("3-sigma", static_scores(x, TRAIN)),
                ("detrend+EWMA", detrended_ewma_scores(x, TRAIN)),
            ):
                counts[label] += false_alarms(onsets(scores, 3.0).tolist(), jumps)
        table[name] = {k: v / (rows * seeds) * 1e6 for k, v in counts.items()}
    return table


def blocks(rows: int, seeds: int) -> dict[str, dict[int, float]]:
    """Return false alarms per million rows: regime -> rows a block -> number."""
    table: dict[str, dict[int, float]] = {}
    for name in REGIMES:
        jumps = jump_times(rows) if name == "after-jumps" else np.array([], int)
        counts = dict.fromkeys(BLOCKS, 0)
        for seed in range(seeds):
            parts = [regime(name, rows, rng=CHANNELS * seed + c) for c in range(CHANNELS)]
            x = np.stack(parts, axis=1).astype(np.float32)
            for block in BLOCKS:
                groups = incidents(AssetMonitor(CHANNELS, block=block, seed=seed).update(x), block)
                counts[block] += false_alarms(
                    [g[0].row for g in groups], jumps, max(GRACE, 8 * block)
                )
        table[name] = {k: v / (rows * seeds) * 1e6 for k, v in counts.items()}
    return table


def recall(faults: int, *, lead: int = 20_000) -> dict[str, dict[str, tuple[float, float]]]:
    """Return fault kind -> detector -> (recall, median delay in rows), on the drifting regime."""
    table: dict[str, dict[str, tuple[float, float]]] = {}
    for kind in KINDS:
        delays: dict[str, list[int]] = {"detrend+EWMA": [], "interlock": []}
        for seed in range(faults):
            clean = regime("slow-drift", lead + 4000, rng=1000 + seed)[:, None]
            x, fault = inject(clean, kind, lead + 500, size=2.0, rng=seed)
            hits = {
                "interlock": [a.row for a in AlarmBank(1, seed=seed).update(x)],
                "detrend+EWMA": onsets(detrended_ewma_scores(x, TRAIN), 3.0).tolist(),
            }
            for label, rows_at in hits.items():
                inside = [r - fault.start for r in rows_at if fault.start <= r < fault.stop + 20]
                delays[label] += inside[:1]
        table[kind] = {
            label: (len(d) / faults, float(np.median(d)) if d else float("nan"))
            for label, d in delays.items()
        }
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--faults", type=int, default=40)
    parser.add_argument("--beyond", action="store_true")
    parser.add_argument("--blocks", action="store_true")
    args = parser.parse_args()
    if args.blocks:
        print(f"false alarms per 1e6 rows in control, {args.seeds} x {args.rows} rows, in blocks")
        for name, of_block in blocks(args.rows, args.seeds).items():
            print(f"  {name:<15}" + "  ".join(f"{k} {v:6.1f}" for k, v in of_block.items()))
        return
    if args.beyond:
        print(f"incidents per 1e6 rows outside the five regimes, {args.seeds} x {args.rows} rows")
        for name, count in beyond(args.rows, args.seeds).items():
            print(f"  {name:<24} {count:6.1f}")
        return
    print(f"false alarms per 1e6 rows in control, {args.seeds} x {args.rows} rows")
    for name, row in control(args.rows, args.seeds).items():
        print(f"  {name:<15}" + "  ".join(f"{k} {v:8.1f}" for k, v in row.items()))
    print(f"recall (median delay, rows) on the drifting regime, {args.faults} faults a kind")
    for kind, row in recall(args.faults).items():
        cells = "  ".join(f"{k} {r:.2f} ({d:.0f})" for k, (r, d) in row.items())
        print(f"  {kind:<15}{cells}")


if __name__ == "__main__":
    main()
