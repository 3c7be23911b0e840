"""Someone leads the detector astray slowly: which check notices, and is recall still there then?

    python benchmarks/telemetry_evasion.py [--seeds 6]

On an autocorrelated stream, after 20,000 rows in control, one feature is moved for 60,000 rows: a
slow boil of the level at three speeds, of the spread, and added samples that imitate the stream.
Given are the rows until each check first speaks (- never) and recall of planted shifts before and
when the first one spoke. False alarms are those of the same checks on streams left alone.
"""

from __future__ import annotations

import argparse

import numpy as np

from interlock.monitor.detectors.alarms import AlarmBank
from interlock.monitor.health import InputDrift, UniformityMartingale, canary, ks_p, psi
from interlock.monitor.simulator import regime

START, ROWS, STEP, REFERENCE = 20_000, 80_000, 1000, 8192
CHECKS = ("long mean", "PSI", "KS", "uniformity")


def moved(rows: np.ndarray, kind: str) -> np.ndarray:
    out, length = rows.copy(), ROWS - START
    ramp = np.linspace(0.0, 1.0, length)
    if kind.startswith("level"):
        out[START:] += float(kind.split()[1]) * ramp
    elif kind == "spread x3":
        out[START:] *= 1.0 + 2.0 * ramp
    elif kind == "imitation":
        out[START:] = out[:length].copy() if length <= START else np.resize(out[:START], length)
    return out


def notices(rows: np.ndarray) -> dict[str, int]:
    """Return check -> first row after START at which it speaks."""
    bank, martingale = AlarmBank(1, seed=0), UniformityMartingale()
    reference = rows[2000 : 2000 + REFERENCE]
    drift, first = InputDrift(reference[:, None], limit=1.5), {}
    for at in range(0, ROWS, STEP):
        part = rows[at : at + STEP, None]
        alarms = bank.update(part, keep_trace=True)
        if alarms:
            martingale = UniformityMartingale()
        else:
            martingale.update(bank.p_values.ravel())
        if at < 2000 + REFERENCE:
            continue
        drift.update(part)
        recent = rows[max(0, at + STEP - 4096) : at + STEP]
        said = {
            "long mean": bool(drift.out),
            "PSI": psi(reference, recent) >= 0.2,
            # every 64th row: the test supposes independent samples
            "KS": ks_p(reference[::64], recent[::64]) < 1e-5,
            "uniformity": martingale.peak_log10 >= 4.0,
        }
        for name, yes in said.items():
            if yes:
                first.setdefault(name, at + STEP - START)
    return first


def recall(rows: np.ndarray, at: int) -> float:
    bank = AlarmBank(1, seed=0)
    bank.update(rows[:at, None])
    recent = rows[at - 4096 : at, None]
    return float(np.mean([canary(bank, recent, seed=k).found for k in range(5)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=6)
    seeds = parser.parse_args().seeds
    print(f"{seeds} streams a kind (simulated); rows until a check speaks, median; recall")
    for kind in ("none", "level 2", "level 4", "level 8", "spread x3", "imitation"):
        found: list[dict[str, int]] = []
        before, then = [], []
        for seed in range(seeds):
            rows = moved(regime("autocorrelated", ROWS, rng=seed), kind)
            found.append(notices(rows))
            before.append(recall(rows, START))
            first = min(found[-1].values(), default=ROWS - START)
            then.append(recall(rows, START + max(first, 0)))
        cells = []
        for name in CHECKS:
            rows_at = [f[name] for f in found if name in f]
            said = f"{np.median(rows_at):,.0f}" if rows_at else "-"
            cells.append(f"{name} {said} ({len(rows_at)}/{seeds})")
        change = f"recall {np.mean(before):.2f} -> {np.mean(then):.2f}"
        print(f"  {kind:<10} {'  '.join(cells)}  {change}", flush=True)


if __name__ == "__main__":
    main()
