"""Ablation of the entropy-spike penalty on breast cancer, 4 qubits, 12 seeds, paired.

python -m benchmarks.entropy_spikes [seeds] [steps]
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from torch import nn

from interlock.training import EntropySpikeLoss, QuantumLayer
from interlock.training.spikes import SpikeTracker, linear_schedule


def data(seed: int) -> tuple[Any, ...]:
    x, y = load_breast_cancer(return_X_y=True)
    parts = train_test_split(x, y, test_size=0.3, random_state=seed, stratify=y)
    scale = StandardScaler().fit(parts[0])
    pca = PCA(4, random_state=seed).fit(scale.transform(parts[0]))
    angle = MinMaxScaler((0, np.pi), clip=True).fit(pca.transform(scale.transform(parts[0])))
    prepared = [angle.transform(pca.transform(scale.transform(p))) for p in parts[:2]]
    return (*(torch.tensor(p, dtype=torch.float32) for p in prepared),
            *(torch.tensor(p, dtype=torch.float32) for p in parts[2:]))  # fmt: skip


def train(seed: int, weight: float, steps: int) -> dict[str, float]:
    x, x_test, y, y_test = data(seed)
    layer = QuantumLayer(4, 3, seed=seed)
    scale = nn.Parameter(torch.tensor([3.0, 0.0]))
    penalty = EntropySpikeLoss(
        linear_schedule(20, 60, weight), tracker=SpikeTracker(k=2.0, warm_up=10)
    )
    optimiser = torch.optim.Adam([*layer.parameters(), scale], lr=0.05)
    rng = np.random.default_rng(seed)
    spikes = 0
    for _ in range(steps):
        pick = torch.tensor(rng.choice(len(x), 16, replace=False))
        # The decision register: the distribution of the four measured bits.
        state = layer.state(x[pick])
        probabilities = state.abs().square()
        z = probabilities @ layer.signs.T
        task = nn.functional.binary_cross_entropy_with_logits(
            scale[0] * z[:, 0] + scale[1], y[pick]
        )
        loss = task + penalty(probabilities, state)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        assert penalty.report is not None
        spikes += penalty.report.spike > 0
    with torch.no_grad():
        z = layer(x_test)[:, 0]
        logits = scale[0] * z + scale[1]
        decided = logits > 0
        noisy = (
            torch.tensor(rng.binomial(64, ((1 + z.clamp(-1, 1)) / 2).numpy())) / 32 - 1
        ).float()
        flips = ((scale[0] * noisy + scale[1] > 0) != decided).float().mean()
        return {
            "spikes per 1,000 steps": 1000 * spikes / steps,
            "test loss": float(nn.functional.binary_cross_entropy_with_logits(logits, y_test)),
            "test accuracy": float((decided == y_test.bool()).float().mean()),
            "flips at 64 shots": float(flips),
        }


def interval(values: np.ndarray) -> tuple[float, float, float]:
    rng = np.random.default_rng(0)
    means = values[rng.integers(0, len(values), (4000, len(values)))].mean(1)
    return float(values.mean()), *(float(v) for v in np.quantile(means, (0.025, 0.975)))


def main() -> None:
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 12
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else 250
    torch.set_num_threads(1)
    runs = {w: [train(s, w, steps) for s in range(seeds)] for w in (0.0, 0.1, 1.0)}
    print(f"{seeds} seeds, {steps} steps; mean [95 % bootstrap], then paired change against 0")
    for name in runs[0.0][0]:
        base = np.array([r[name] for r in runs[0.0]])
        for weight, rows in runs.items():
            values = np.array([r[name] for r in rows])
            mean, low, high = interval(values)
            text = f"{name:24s} weight {weight:<4} {mean:8.4f} [{low:.4f}, {high:.4f}]"
            if weight:
                change, lower, upper = interval(values - base)
                text += f"   change {change:+.4f} [{lower:+.4f}, {upper:+.4f}]"
            print(text)


if __name__ == "__main__":
    main()
