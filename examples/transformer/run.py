"""A small transformer with a guarded quantum layer learns real text, beside its classical twin.

    python examples/transformer/run.py [--quick] [--seeds 5] [--steps 300]

The text is the reference documentation that ships with Python (`pydoc_data.topics`, PSF licence).
The quantum layer is simulated. A transformer's feed-forward block goes through four numbers: the
guarded quantum layer, or in the twin a classical layer of as many parameters or more.
"""

from __future__ import annotations

import argparse
import math
import re
import time
from pydoc_data import topics
from typing import Any

import numpy as np
import torch
from scipy.stats import t as student
from torch import Tensor, nn

from interlock.training import GuardedLayer, QuantumLayer

CONTEXT, WIDTH, NARROW = 24, 24, 4


def text() -> tuple[Tensor, Tensor, int]:
    """Return training and held-out characters as integers, and how many there are."""
    whole = "\n".join(topics.topics[name] for name in sorted(topics.topics))
    clean = re.sub(r"[^a-z .,\n]", "", re.sub(r"[ \t]+", " ", whole.lower()))
    letters = sorted(set(clean))
    numbers = torch.tensor([letters.index(c) for c in clean])
    cut = int(0.9 * len(numbers))
    return numbers[:cut], numbers[cut:], len(letters)


class Faulty(nn.Module):
    """A quantum layer on a device that loses rows (NaN), or that is gone (raises)."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.lost, self.gone = inner, 0.0, False
        self._generator = torch.Generator().manual_seed(5)

    def forward(self, features: Tensor) -> Tensor:
        """Answer, with the faults that are set."""
        if self.gone:
            raise RuntimeError("the device is gone")
        values = self.inner(features)
        if self.lost:
            rows = torch.rand(values.shape[:-1], generator=self._generator) < self.lost
            values = torch.where(rows[..., None], float("nan"), values)
        return values


class Model(nn.Module):
    """One block of causal attention, and a feed-forward part through four numbers."""

    def __init__(self, size: int, narrow: nn.Module) -> None:
        super().__init__()
        self.letters, self.places = nn.Embedding(size, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.first, self.second = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True)
        self.down, self.narrow, self.up = nn.Linear(WIDTH, NARROW), narrow, nn.Linear(NARROW, WIDTH)
        self.out = nn.Linear(WIDTH, size)
        mask = torch.triu(torch.ones(CONTEXT, CONTEXT, dtype=torch.bool), 1)
        self.register_buffer("mask", mask)
        self.seen: Tensor | None = None

    def forward(self, letters: Tensor) -> Tensor:
        """Return logits of the next letter, (batch, CONTEXT, size)."""
        x = self.letters(letters) + self.places.weight
        y = self.first(x)
        x = x + self.attention(y, y, y, attn_mask=self.mask, need_weights=False)[0]
        self.seen = torch.tanh(self.down(self.second(x))) * math.pi / 2
        logits: Tensor = self.out(x + self.up(self.narrow(self.seen)))
        return logits


def surrogate() -> nn.Module:
    """Return the classical stand-in: bounded like expectation values."""
    return nn.Sequential(nn.Linear(NARROW, 8), nn.Tanh(), nn.Linear(8, NARROW), nn.Tanh())


def batch(numbers: Tensor, count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Return letters and the ones that follow."""
    at = torch.tensor(rng.integers(len(numbers) - CONTEXT - 1, size=count))
    rows = numbers[at[:, None] + torch.arange(CONTEXT + 1)]
    return rows[:, :-1], rows[:, 1:]


def learn(model: Model, numbers: Tensor, steps: int, seed: int) -> None:
    """Train; the surrogate learns from the quantum layer on the way, so that it can stand in."""
    rng = np.random.default_rng(seed)
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(steps):
        letters, following = batch(numbers, 16, rng)
        loss = nn.functional.cross_entropy(model(letters).flatten(0, 1), following.flatten())
        if isinstance(model.narrow, GuardedLayer):
            assert model.seen is not None
            seen = model.seen.detach()
            with torch.no_grad():
                answer = model.narrow.quantum(seen)
            loss = loss + nn.functional.mse_loss(model.narrow.surrogate(seen), answer)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


@torch.no_grad()
def bits(model: Model, numbers: Tensor) -> float:
    """Return the held-out cost in bits a letter."""
    letters, following = batch(numbers, 128, np.random.default_rng(999))
    model.eval()
    loss = nn.functional.cross_entropy(model(letters).flatten(0, 1), following.flatten())
    return loss.item() / math.log(2)


def one(seed: int, steps: int, parts: tuple[Tensor, Tensor, int]) -> dict[str, Any]:
    """Train both with one seed; return bits a letter and the share the surrogate answered."""
    training, held_out, size = parts
    torch.manual_seed(seed)
    device = Faulty(QuantumLayer(NARROW, 2, seed=seed))
    guarded = GuardedLayer(device, surrogate())
    quantum = Model(size, guarded)
    torch.manual_seed(seed)
    twin = Model(size, surrogate())
    started = time.process_time()
    learn(quantum, training, steps, seed)
    middle = time.process_time()
    learn(twin, training, steps, seed)
    row: dict[str, Any] = {
        "s_quantum": middle - started, "s_twin": time.process_time() - middle,
        "trained by": guarded.label,
        "quantum layer, guarded": bits(quantum, held_out),
        "classical twin": bits(twin, held_out),
    }  # fmt: skip
    for name, lost, gone in (("guarded, device loses 10 % of rows", 0.1, False),
                             ("guarded, device gone (surrogate)", 0.0, True)):  # fmt: skip
        device.lost, device.gone = lost, gone
        guarded.rows, before = 0, guarded.reasons.copy()
        guarded.reasons.clear()
        row[name] = bits(quantum, held_out)
        row[f"share/{name}"] = guarded.fallback_share
        guarded.reasons.update(before)
    device.lost, device.gone = 0.1, False
    quantum.narrow = device
    row["not guarded, device loses 10 % of rows"] = bits(quantum, held_out)
    return row


def mean(values: list[float]) -> str:
    """Return the mean with its 95 % interval over seeds."""
    centre = float(np.mean(values))
    if len(values) < 2 or not np.isfinite(centre):
        return f"{centre:.3f}"
    half = student.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values))
    return f"{centre:.3f} [{centre - half:.3f}, {centre + half:.3f}]"


def main() -> int:
    """Train, print the table; 0 when the guarded model stayed finite throughout."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="small numbers, for a test")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=300)
    options = parser.parse_args()
    seeds, steps = (2, 60) if options.quick else (options.seeds, options.steps)
    torch.set_num_threads(1)
    parts = text()
    rows = [one(seed, steps, parts) for seed in range(seeds)]
    print(
        f"{len(parts[0]):,} letters of Python's documentation, {steps} steps, {seeds} seeds; "
        f"uniform guessing {math.log2(parts[2]):.3f} bits a letter; trained by the "
        f"{rows[0]['trained by']} layer"
    )
    names = [n for n in rows[0] if not n.startswith(("s_", "share/", "trained"))]
    for name in names:
        share = rows[0].get(f"share/{name}")
        told = "" if share is None else f"  surrogate answered {share:.1%}"
        print(f"{name:42} {mean([r[name] for r in rows])} bits a letter{told}")
    gain = [r["classical twin"] - r["quantum layer, guarded"] for r in rows]
    print(f"twin minus quantum, paired: {mean(gain)} bits a letter")
    print(f"training: {np.mean([r['s_quantum'] for r in rows]):.1f} s quantum (simulated), "
          f"{np.mean([r['s_twin'] for r in rows]):.1f} s twin")  # fmt: skip
    return 0 if all(np.isfinite(r[n]) for r in rows for n in names if n != names[-1]) else 1


if __name__ == "__main__":
    raise SystemExit(main())
