"""VUS-PR of the baselines and of a contrastive encoder on a folder of NAB series.

    python benchmarks/telemetry_quality.py FOLDER [--no-encoder]

FOLDER holds NAB CSV files (timestamp, value) and windows.json. The split was fixed beforehand: each
detector learns on the first 15 % of a series and is scored on the rest. The encoder is a small 1-D
CNN with a triplet loss and a memory bank, in the manner of PaAno; no instance norm.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

import numpy as np

from interlock.monitor.detectors.subpca import SubPca
from interlock.monitor.metrics import vus_pr

WINDOW = 64


def series(path: Path, windows: list[list[str]]) -> tuple[np.ndarray, np.ndarray]:
    with path.open() as source:
        rows = list(csv.DictReader(source))
    times = np.array([r["timestamp"] for r in rows], dtype="datetime64[s]")
    labels = np.zeros(len(rows), bool)
    for start, stop in windows:
        labels |= (times >= np.datetime64(start[:19])) & (times <= np.datetime64(stop[:19]))
    return np.array([[float(r["value"])] for r in rows]), labels


def ewma(train: np.ndarray, x: np.ndarray) -> np.ndarray:
    level, out = train.mean(), []
    for value in x[:, 0]:
        out.append(abs(value - level))
        level += 0.1 * (value - level)
    return np.array(out)


def encoder(train: np.ndarray, x: np.ndarray) -> np.ndarray:
    import torch
    from torch import nn

    torch.manual_seed(0)
    torch.set_num_threads(1)
    centre, scale = train.mean(), train.std() + 1e-9

    def cut(rows: np.ndarray) -> torch.Tensor:
        z = ((rows[:, 0] - centre) / scale).astype("f4")
        view = np.lib.stride_tricks.sliding_window_view(z, WINDOW)
        return torch.from_numpy(np.ascontiguousarray(view))[:, None]

    net = nn.Sequential(
        nn.Conv1d(1, 32, 7, 2), nn.ReLU(), nn.Conv1d(32, 64, 5, 2), nn.ReLU(),
        nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(64, 32),
    )  # fmt: skip
    bank = cut(train)
    optimiser = torch.optim.Adam(net.parameters(), 1e-3)
    loss = nn.TripletMarginLoss(0.5)
    for _ in range(200):
        k = torch.randint(0, len(bank) - 2, (64,))
        near = (k + torch.randint(1, 3, (64,))).clamp(max=len(bank) - 1)
        far = torch.randint(0, len(bank), (64,))
        optimiser.zero_grad()
        loss(net(bank[k]), net(bank[near]), net(bank[far])).backward()
        optimiser.step()
    with torch.no_grad():
        stored = net(bank)[:: max(1, len(bank) // 500)]
        distance = torch.cdist(net(cut(x)), stored).topk(3, largest=False).values.mean(1).numpy()
    total = np.convolve(distance, np.ones(WINDOW))
    return total / np.convolve(np.ones(len(distance)), np.ones(WINDOW))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--no-encoder", action="store_true")
    args = parser.parse_args()
    windows = json.loads((args.folder / "windows.json").read_text())
    methods = {"EWMA": ewma, "Sub-PCA": lambda t, x: SubPca(window=WINDOW).fit(t).score(x)}
    if not args.no_encoder:
        methods["encoder"] = encoder
    table: dict[str, list[float]] = {name: [] for name in methods}
    for name in sorted(windows):
        x, labels = series(args.folder / name, windows[name])
        split = int(0.15 * len(x))
        for label, method in methods.items():
            table[label].append(vus_pr(method(x[:split], x[split:]), labels[split:]))
    print(f"VUS-PR, mean of {len(windows)} series")
    for name, values in table.items():
        print(f"  {name:<10}{np.mean(values):.3f}")
    if "encoder" in table:
        wins = np.array(table["encoder"]) > np.array(table["Sub-PCA"])
        print(f"  the encoder beats Sub-PCA on {wins.sum()} of {len(wins)}")


if __name__ == "__main__":
    main()
