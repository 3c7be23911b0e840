"""Forecasts beside the historic mean and persistence, on real series and on simulated T1.

    python benchmarks/telemetry_forecast.py FOLDER [--origins 40]

FOLDER holds NAB CSV files (timestamp, value). Each series is brought to its regular step by means
(hours become days for the two long ones), and forecast again and again from its own past: the
forecaster chooses its method on that past alone. MAE in logarithms, at 1 and 7 steps; the share of
truths inside the 80 % interval. T1 is simulated by the two-level-system model.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np

from interlock.monitor.forecast import forecast
from interlock.monitor.simulator import TlsDevice

HISTORY, HORIZON = 120, 7
#: file -> samples a step
SERIES = {
    "ambient_temperature_system_failure.csv": 24,
    "nyc_taxi.csv": 48,
    "ec2_request_latency_system_failure.csv": 12,
    "speed_t4013.csv": 12,
    "TravelTime_451.csv": 12,
}


def read(path: Path, every: int) -> np.ndarray:
    with path.open() as source:
        values = np.array([float(r["value"]) for r in csv.DictReader(source)])
    values = values[: len(values) // every * every].reshape(-1, every).mean(axis=1)
    return np.maximum(values, 1e-3)


def backtest(values: np.ndarray, origins: int) -> dict[str, object]:
    ends = np.unique(np.linspace(40, len(values) - HORIZON, origins).astype(int))
    error: dict[str, list[np.ndarray]] = {"ours": [], "mean": [], "persistence": []}
    inside, chosen = [], []
    for k in ends:
        past, future = values[max(0, k - HISTORY) : k], np.log(values[k : k + HORIZON])
        got = forecast(past, horizon=HORIZON)
        error["ours"].append(np.abs(np.log(got.path) - future))
        error["mean"].append(np.abs(np.log(past).mean() - future))
        error["persistence"].append(np.abs(np.log(past[-1]) - future))
        inside.append((np.log(got.low) <= future) & (future <= np.log(got.high)))
        chosen.append(got.method)
    return {
        "error": {n: np.mean(e, axis=0) for n, e in error.items()},
        "inside": float(np.mean(inside)),
        "chosen": max(set(chosen), key=chosen.count),
        "origins": len(ends),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--origins", type=int, default=40)
    args = parser.parse_args()
    table = {n.removesuffix(".csv"): read(args.folder / n, e) for n, e in SERIES.items()}
    t1 = TlsDevice(qubits=5).sample(200, rng=1)
    table |= {f"T1 of qubit {q} (simulated)": t1[:, q] for q in range(5)}
    print("MAE of ln value at 1 / 7 steps; ours chooses on the past alone")
    sums: dict[str, list[np.ndarray]] = {}
    for name, values in table.items():
        got = backtest(values, args.origins)
        error: dict[str, np.ndarray] = got["error"]  # type: ignore[assignment]
        figures = "  ".join(f"{n} {e[0]:.3f}/{e[-1]:.3f}" for n, e in error.items())
        print(f"  {name:<38} {figures}  inside {got['inside']:.2f}  mostly {got['chosen']}")
        for n, e in error.items():
            kind = "simulated" if "simulated" in name else "real"
            sums.setdefault(f"{kind} {n}", []).append(e / error["persistence"])
    for key, ratios in sums.items():
        mean = np.mean(ratios, axis=0)
        print(f"  {key:<18} / persistence: {mean[0]:.3f} at 1 step, {mean[-1]:.3f} at 7")


if __name__ == "__main__":
    main()
