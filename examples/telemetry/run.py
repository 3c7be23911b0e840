"""Qubit telemetry: false alarms at matched recall, and recalibration before the excursion.

    python examples/telemetry/run.py [--seeds 20] [--quick] [--report report.html]

Simulated device of four channels on a drifting, autocorrelated stream; one fault of each of five
kinds a seed. Thresholds of the two baselines are chosen on validation seeds for recall >= 0.90,
each detector is then counted on other seeds. A false alarm is a window of 512 rows with an alarm in
it, outside every fault and the 2,000 rows after it, counted alike for all three. The report shows
one device's timelines, alarms against the true faults, and the same figures.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from interlock.monitor.detectors.alarms import AlarmBank
from interlock.monitor.detectors.baselines import detrended_ewma_scores, static_scores
from interlock.monitor.frames import Frame, Origin, StreamKind, StreamSpec
from interlock.monitor.report import render
from interlock.monitor.simulator import Fault, inject, regime
from interlock.monitor.watch import watch

ROWS, TRAIN, CHANNELS, GAP = 100_000, 10_000, 4, 512
KINDS = ("shift", "noise", "frozen", "spike", "ramp")
LIMIT, AFTER = 4.0, 8000


def stream(seed: int, kinds: tuple[str, ...]) -> tuple[np.ndarray, list[Fault]]:
    """Return one device's samples and its faults."""
    rng = np.random.default_rng(seed)
    data = np.stack([regime("slow-drift", ROWS, rng=rng) for _ in range(CHANNELS)], axis=1)
    faults = []
    for k, kind in enumerate(rng.permutation(np.array(kinds))):
        start = 25_000 + 14_000 * k + int(rng.integers(0, 4000))
        channel = (int(rng.integers(CHANNELS)),)
        data, fault = inject(data, str(kind), start, channels=channel, size=2.5, rng=rng)
        faults.append(fault)
    return data, faults


def count(rows_at: np.ndarray, faults: list[Fault], after: int = 2000) -> tuple[int, int]:
    """Return (faults found, windows of 512 rows in alarm outside every fault and its aftermath)."""
    found = sum(bool(((rows_at >= f.start) & (rows_at < f.stop + 20)).any()) for f in faults)
    outside = np.ones(len(rows_at), bool)
    for f in faults:
        outside &= (rows_at < f.start) | (rows_at >= f.stop + after)
    return found, len(np.unique(rows_at[outside] // GAP))


def threshold_for(scores: list[np.ndarray], truth: list[list[Fault]], recall: float) -> float:
    """Return the highest threshold that finds at least `recall` of the faults."""
    peaks = [
        s[f.start : f.stop + 20].max()
        for s, faults in zip(scores, truth, strict=True)
        for f in faults
    ]
    return float(np.quantile(peaks, 1.0 - recall, method="lower") * 0.999)


def interval(values: list[float], rng: np.random.Generator) -> tuple[float, float]:
    """Return the bootstrap 95 % interval of the mean."""
    means = rng.choice(np.array(values), (4000, len(values))).mean(axis=1)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def compare(kinds: tuple[str, ...], seeds: int) -> dict[str, tuple[float, list[float]]]:
    """Return detector -> (recall, false alarms of each seed)."""
    scorers = {
        "static 3-sigma": lambda x: static_scores(x, TRAIN),
        "detrend + EWMA": lambda x: detrended_ewma_scores(x, TRAIN),
    }
    validation = [stream(10_000 + s, kinds) for s in range(max(5, seeds))]
    limits = {
        name: threshold_for([f(x) for x, _ in validation], [t for _, t in validation], 0.97)
        for name, f in scorers.items()
    }
    found: dict[str, int] = dict.fromkeys((*scorers, "interlock"), 0)
    false: dict[str, list[float]] = {name: [] for name in found}
    for seed in range(seeds):
        x, faults = stream(seed, kinds)
        fired = {name: np.flatnonzero(f(x) > limits[name]) for name, f in scorers.items()}
        fired["interlock"] = np.array([a.row for a in AlarmBank(CHANNELS, seed=seed).update(x)])
        for name, rows_at in fired.items():
            hits, wrong = count(rows_at, faults)
            found[name] += hits
            false[name].append(float(wrong))
    return {name: (found[name] / (seeds * len(kinds)), false[name]) for name in found}


def preventive(seeds: int) -> tuple[int, int, int]:
    """Return (excursions prevented, all excursions, needless recalibrations proposed)."""
    prevented = total = needless = 0
    for seed in range(seeds):
        rng = np.random.default_rng(500 + seed)
        x = regime("autocorrelated", ROWS, rng=rng)[:, None]
        ramps = []
        for start in (30_000, 55_000, 80_000):
            x, fault = inject(x, "ramp", start, size=4.0, rows=8000, rng=rng)
            ramps.append(fault)
        fired = np.array([a.row for a in AlarmBank(1, seed=seed).update(x)])
        for fault in ramps:
            crossing = fault.start + int(8000 * LIMIT / 8.0)
            prevented += bool(((fired >= fault.start) & (fired < crossing)).any())
            total += 1
        needless += count(fired, ramps, AFTER)[1]
    return prevented, total, needless


def figures(seeds: int, say: Callable[[str], None]) -> None:
    """Say the comparison and the preventive recalibrations, line by line."""
    rng = np.random.default_rng(0)
    for label, kinds in (
        ("five fault kinds", KINDS),
        ("without frozen", ("shift", "noise", "spike", "ramp")),
    ):
        say(f"{label}: {seeds} seeds x {ROWS} rows, false alarms a seed [95 % interval]")
        table = compare(kinds, seeds)
        ours = np.mean(table["interlock"][1])
        for name, (recall, wrong) in table.items():
            low, high = interval(wrong, rng)
            less = 100 * (1 - ours / np.mean(wrong)) if np.mean(wrong) else 0.0
            beside = "" if name == "interlock" else f"   interlock has {less:.1f} % fewer"
            say(
                f"  {name:<15} recall {recall:.2f}  {np.mean(wrong):8.2f} [{low:.2f}, {high:.2f}]"
                + beside
            )
    prevented, total, needless = preventive(seeds)
    say(
        f"preventive recalibration: {prevented} of {total} excursions prevented, "
        f"{needless} needless proposals in {seeds * ROWS} rows"
    )


def page(lines: list[str]) -> str:
    """Return the report: one device, its alarms against the truth, and the figures."""
    names = tuple(f"q{k}.t1" for k in range(CHANNELS))
    spec = StreamSpec(source="qpu-0", kind=StreamKind.CALIBRATION, channels=names,
                      period_ns=1_000_000, origin=Origin.SIMULATED)  # fmt: skip
    x, faults = stream(0, KINDS)
    frames = (Frame.of(spec, x[k : k + 4096], first_seq=k) for k in range(0, len(x), 4096))
    seen = watch(frames)
    assert seen is not None
    truth = [(f.start, f.stop, f.channels[0]) for f in faults]
    return render(
        title="qpu-0", origin="simulated", channels=names, values=seen.values.astype("f8"),
        alarms=seen.alarms, e_process=seen.e_process, attributions=seen.attributions,
        budget_per_million=10.0, truth=truth, figures="\n".join(lines),
        first_row=seen.first_row, alarm_level=seen.alarm_level,
    )  # fmt: skip


def main() -> None:
    """Print the figures; write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="two seeds")
    parser.add_argument("--report", type=Path)
    args = parser.parse_args()
    lines: list[str] = []

    def say(line: str) -> None:
        print(line, flush=True)
        lines.append(line)

    figures(2 if args.quick else args.seeds, say)
    if args.report:
        args.report.write_text(page(lines), encoding="utf-8")
        print(f"report: {args.report}")


if __name__ == "__main__":
    main()
