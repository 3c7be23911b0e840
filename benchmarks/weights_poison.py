"""Noise bursts and poisoned updates in training: what the update gate stops, beside no defence.

A two-layer network (numpy) learns 8-dimensional data of two classes for 120 updates. In each run
one fault strikes from update 60 on: a noise burst on the weights, or updates from poisoned batches.
With the gate a stopped update is reverted to the last good weights.

usage: python benchmarks/weights_poison.py [--runs 20]
"""

import argparse
import json

import numpy as np

from interlock.crypto.weights.updates import UpdateGate, update_statistics

STEPS, STRIKE, BATCH = 120, 60, 256


def data(rng, count):
    labels = rng.integers(0, 2, count)
    points = rng.normal(size=(count, 8)) + 1.1 * (2 * labels[:, None] - 1) * np.linspace(1, 0, 8)
    return points, labels


def start(rng):
    return {"a": rng.normal(size=(8, 16)) * 0.4, "b": rng.normal(size=16) * 0.4}


def forward(weights, points):
    hidden = np.tanh(points @ weights["a"])
    return hidden, 1 / (1 + np.exp(-np.clip(hidden @ weights["b"], -30, 30)))


def loss_of(weights, points, labels):
    _, p = forward(weights, points)
    p = np.clip(p, 1e-9, 1 - 1e-9)
    return float(-np.mean(labels * np.log(p) + (1 - labels) * np.log(1 - p)))


def accuracy(weights, points, labels):
    return float(np.mean((forward(weights, points)[1] > 0.5) == labels))


def step(weights, points, labels, rate=0.3):
    hidden, p = forward(weights, points)
    error = (p - labels) / len(labels)
    grad_b = hidden.T @ error
    grad_a = points.T @ (np.outer(error, weights["b"]) * (1 - hidden**2))
    return {"a": weights["a"] - rate * grad_a, "b": weights["b"] - rate * grad_b}


def strike(kind, share, weights, points, labels, rng):
    """Return the weights after one update that the fault has touched."""
    if kind == "noise burst":
        after = step(weights, points, labels)
        return {n: w + rng.normal(size=w.shape) * share for n, w in after.items()}
    poisoned = rng.random(len(labels)) < share
    if kind == "label flip":
        return step(weights, points, np.where(poisoned, 1 - labels, labels))
    marked = points.copy()
    marked[poisoned, -1] = 6.0
    return step(weights, marked, np.where(poisoned, 1, labels))


def train(kind, share, seed, *, gated):
    rng = np.random.default_rng(seed)
    train_x, train_y = data(rng, 4000)
    check_x, check_y = data(rng, 500)
    test_x, test_y = data(rng, 4000)
    weights, gate, previous = start(rng), UpdateGate(), None
    false_reverts = stopped = struck = clean = 0
    for n in range(STEPS):
        pick = rng.integers(0, len(train_y), BATCH)
        bad = kind is not None and STRIKE <= n < STRIKE + (1 if kind == "noise burst" else 20)
        if bad:
            after = strike(kind, share, weights, train_x[pick], train_y[pick], rng)
        else:
            after = step(weights, train_x[pick], train_y[pick])
        keep = True
        if gated:
            loss = loss_of(after, check_x, check_y)
            statistics, update = update_statistics(weights, after, previous, loss)
            keep = gate.judge(statistics).accept
            previous = update if keep else previous
        struck += bad
        clean += not bad
        stopped += bad and not keep
        false_reverts += not bad and not keep
        weights = after if keep else weights
    marked = test_x.copy()
    marked[:, -1] = 6.0
    backdoor = float(np.mean(forward(weights, marked)[1][test_y == 0] > 0.5))
    return {
        "caught": stopped > 0,
        "stopped": stopped / struck if struck else 0.0,
        "false": false_reverts / clean,
        "accuracy": accuracy(weights, test_x, test_y),
        "backdoor": backdoor,
    }


CASES = [
    (None, 0.0),
    ("noise burst", 0.02),
    ("noise burst", 0.1),
    ("noise burst", 0.5),
    ("label flip", 0.1),
    ("label flip", 0.5),
    ("label flip", 1.0),
    ("backdoor", 0.02),
    ("backdoor", 0.1),
    ("backdoor", 0.3),
]


def measure(runs):
    rows = []
    for kind, share in CASES:
        with_gate = [train(kind, share, seed, gated=True) for seed in range(runs)]
        without = [train(kind, share, seed, gated=False) for seed in range(runs)]
        mean = {k: float(np.mean([r[k] for r in with_gate])) for k in with_gate[0]}
        bare = {k: float(np.mean([r[k] for r in without])) for k in without[0]}
        rows.append(
            {
                "fault": f"{kind} {share}" if kind else "none",
                "runs caught": round(mean["caught"], 3),
                "updates stopped": round(mean["stopped"], 3),
                "false reverts": round(mean["false"], 5),
                "accuracy, gate": round(mean["accuracy"], 4),
                "accuracy, no defence": round(bare["accuracy"], 4),
                "backdoor, gate": round(mean["backdoor"], 3),
                "backdoor, no defence": round(bare["backdoor"], 3),
            }
        )
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=20)
    for row in measure(parser.parse_args().runs):
        print(json.dumps(row))
