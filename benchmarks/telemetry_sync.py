"""What synchronising two sources is worth to a detector that looks at both.

    python benchmarks/telemetry_sync.py [--seeds 20]

A fridge and a qubit's frequency, sampled every 10 ms, share a slow wave; at faults the frequency
leaves it for 400 ms. The fridge's clock is 200 ms late and 5 % of its rows are lost. Rows are
paired by time as they come, and after the listener's source account has taken the skew out; the
score is the residual of the one on the other. Area under the curve, row by row; simulated.
"""

from __future__ import annotations

import argparse

import numpy as np

from interlock.monitor.frames import Frame, Origin, StreamKind, StreamSpec
from interlock.monitor.ingest.source import SKEW_LIMIT_NS, Account

PERIOD_NS, SKEW_NS, ROWS = 10_000_000, 200_000_000, 20_000


def auc(score: np.ndarray, label: np.ndarray) -> float:
    rank = np.empty(len(score))
    rank[np.argsort(score)] = np.arange(1, len(score) + 1)
    n, m = int(label.sum()), int((~label).sum())
    return float((rank[label].sum() - n * (n + 1) / 2) / (n * m))


def streams(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    t = np.arange(ROWS) * 0.01
    wave = np.sin(2 * np.pi * t / 2.0 + rng.uniform(0, 6)) + np.sin(2 * np.pi * t / 0.9)
    label = np.zeros(ROWS, bool)
    for start in rng.choice(np.arange(500, ROWS - 100, 200), 40, replace=False):
        label[start : start + 40] = True
    fridge = wave + 0.1 * rng.standard_normal(ROWS)
    return fridge, wave + 0.6 * label + 0.1 * rng.standard_normal(ROWS), label


def received(values: np.ndarray, rng: np.random.Generator) -> tuple[Frame, Frame, Account]:
    """Return the fridge's rows as sent and as the account gives them."""
    spec = StreamSpec(source="fridge", kind=StreamKind.TEMPERATURE, channels=("mxc",),
                      period_ns=PERIOD_NS, origin=Origin.SIMULATED)  # fmt: skip
    keep = rng.random(len(values)) > 0.05
    seq = np.flatnonzero(keep)
    sent = Frame(spec=spec, t_ns=seq * PERIOD_NS - SKEW_NS, seq=seq,
                 values=values[keep, None].astype("f4"))  # fmt: skip
    account, times = Account(), []
    for at in range(0, len(seq), 100):
        part = Frame(spec=spec, t_ns=sent.t_ns[at : at + 100], seq=seq[at : at + 100],
                     values=sent.values[at : at + 100])  # fmt: skip
        lag = SKEW_NS + int(rng.exponential(2e6))
        times.append(account.take(part, lag_ns=lag, limit_ns=SKEW_LIMIT_NS).t_ns)
    fixed = Frame(spec=spec, t_ns=np.concatenate(times), seq=seq, values=sent.values)
    return sent, fixed, account


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    seeds = parser.parse_args().seeds
    table: dict[str, list[float]] = {"as it came": [], "skew taken out": [], "true times": []}
    skew, missing = [], []
    for seed in range(seeds):
        fridge, qubit, label = streams(seed)
        t = np.arange(ROWS) * PERIOD_NS
        sent, fixed, account = received(fridge, np.random.default_rng(1000 + seed))
        skew.append(account.skew_ns / 1e6)
        missing.append(account.missing / ROWS)
        truth = sent.t_ns + SKEW_NS
        for name, times in (("as it came", sent.t_ns), ("skew taken out", fixed.t_ns),
                            ("true times", truth)):  # fmt: skip
            other = np.interp(t, times, sent.values[:, 0])
            table[name].append(auc(np.abs(qubit - other), label))
    print(f"{seeds} seeds; clock 200 ms off, told as {np.mean(skew):.1f} ms; "
          f"5 % lost, counted {100 * np.mean(missing):.1f} %")  # fmt: skip
    for name, values in table.items():
        print(f"  {name:<15} AUC {np.mean(values):.3f} [{min(values):.3f}, {max(values):.3f}]")


if __name__ == "__main__":
    main()
