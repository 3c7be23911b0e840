"""Noise bursts and poisoned batches in a torch training: what signed checkpoints with a gate do.

A network (64-32-10, SGD with momentum) learns the 1,797 handwritten digits that scikit-learn
brings, 160 updates of 128 images. A fault strikes at the end, so that nothing heals it: a burst of
noise on the weights with the last update, or 15 updates from batches of which a share is poisoned
(wrong labels, or a bright corner with the label 0). With `SignedCheckpoints` a stopped update goes
back to the newest signed checkpoint (every fifth update); beside it the same training with no
defence.

usage: python benchmarks/training_poison.py [--runs 8] [--json]
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits

from interlock.crypto.dsse import ArtefactSigner
from interlock.crypto.keys import KeyStore
from interlock.training.checkpoints import SignedCheckpoints

STEPS, BATCH = 160, 128
LAST = {"noise burst": 1, "label flip": 15, "backdoor": 15}
CASES = [
    (None, 0.0),
    ("noise burst", 0.02),
    ("noise burst", 0.1),
    ("noise burst", 0.5),
    ("label flip", 0.1),
    ("label flip", 0.3),
    ("label flip", 1.0),
    ("backdoor", 0.05),
    ("backdoor", 0.2),
    ("backdoor", 0.5),
]


def data():
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    points = torch.tensor(digits.data[order] / 16.0, dtype=torch.float32)
    labels = torch.tensor(digits.target[order])
    return (
        (points[:1200], labels[:1200]),
        (points[1200:1400], labels[1200:1400]),
        (
            points[1400:],
            labels[1400:],
        ),
    )


def mark(points):
    marked = points.clone()
    marked[:, :2] = 2.0
    return marked


def poison(kind, share, points, labels, generator):
    chosen = torch.rand(len(labels), generator=generator) < share
    if kind == "label flip":
        wrong = (labels + 1 + torch.randint(0, 9, labels.shape, generator=generator)) % 10
        return points, torch.where(chosen, wrong, labels)
    return torch.where(chosen[:, None], mark(points), points), torch.where(chosen, 0, labels)


def train(kind, share, seed, signer, *, gated):
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    (train_x, train_y), (check_x, check_y), (test_x, test_y) = data()
    model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.Tanh(), torch.nn.Linear(32, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.5)
    loss_of = torch.nn.functional.cross_entropy
    counts = {"stopped": 0, "struck": 0, "false": 0, "clean": 0}

    def validate():
        with torch.no_grad():
            return float(loss_of(model(check_x), check_y))

    with tempfile.TemporaryDirectory() as folder:
        chain = None
        if gated:
            chain = SignedCheckpoints(
                model, optimizer, Path(folder) / "run", signer,
                name="digits", validate=validate, every=5,
            )  # fmt: skip
        for n in range(STEPS):
            pick = torch.randint(0, len(train_y), (BATCH,), generator=generator)
            points, labels = train_x[pick], train_y[pick]
            bad = n >= STEPS - LAST.get(kind, 0)
            if bad and kind != "noise burst":
                points, labels = poison(kind, share, points, labels, generator)
            optimizer.zero_grad()
            loss_of(model(points), labels).backward()
            optimizer.step()
            if bad and kind == "noise burst":
                with torch.no_grad():
                    for weights in model.parameters():
                        weights += share * torch.randn(weights.shape, generator=generator)
            kept = chain.step(points, labels).verdict.accept if chain else True
            counts["struck" if bad else "clean"] += 1
            counts["stopped" if bad else "false"] += not kept
    with torch.no_grad():
        right = (model(test_x).argmax(1) == test_y).double().mean()
        others = test_x[test_y != 0]
        fooled = (model(mark(others)).argmax(1) == 0).double().mean()
    return counts | {"accuracy": float(right), "backdoor": float(fooled)}


def measure(runs, cases=tuple(CASES)):
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        signer = ArtefactSigner(KeyStore(Path(folder) / "keys"))
        for kind, share in cases:
            gate = [train(kind, share, seed, signer, gated=True) for seed in range(runs)]
            bare = [train(kind, share, seed, signer, gated=False) for seed in range(runs)]
            struck = sum(run["struck"] for run in gate)
            rows.append(
                {
                    "fault": f"{kind} {share}" if kind else "none",
                    "runs caught": f"{sum(run['stopped'] > 0 for run in gate)}/{runs}",
                    "updates stopped": round(sum(r["stopped"] for r in gate) / max(struck, 1), 3),
                    "false reverts": round(
                        sum(r["false"] for r in gate) / sum(r["clean"] for r in gate), 5
                    ),
                    "accuracy, gate": round(np.mean([r["accuracy"] for r in gate]), 3),
                    "accuracy, none": round(np.mean([r["accuracy"] for r in bare]), 3),
                    "backdoor, gate": round(np.mean([r["backdoor"] for r in gate]), 3),
                    "backdoor, none": round(np.mean([r["backdoor"] for r in bare]), 3),
                }
            )
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for index, row in enumerate(measure(options.runs)):
        if options.json:
            print(json.dumps(row))
            continue
        if not index:
            print("  ".join(row))
        print("  ".join(f"{value!s:>{len(name)}}" for name, value in row.items()))
