"""The HP lattice model of a protein (Lau and Dill, 1989) in two dimensions.

Enumeration is exact up to twelve residues. A fold is turns of two bits; the circuit is trained to
make folds of low energy likely, and every fold it proposes is held to the enumeration.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import born
import numpy as np
import torch

STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))
TOLERANCE = 1


def walk(turns: list[int]) -> list[tuple[int, int]]:
    """Return the sites of a chain; the first step goes right, then 0, 1, 2 turn by 90 degrees."""
    sites, heading = [(0, 0), (1, 0)], 0
    for turn in turns:
        heading = (heading + turn - 1) % 4
        x, y = sites[-1]
        sites.append((x + STEPS[heading][0], y + STEPS[heading][1]))
    return sites


def energy(sequence: str, sites: list[tuple[int, int]]) -> int:
    """Return minus the number of contacts between H that are not neighbours in the chain."""
    at = {site: i for i, site in enumerate(sites)}
    total = 0
    for (x, y), i in at.items():
        for dx, dy in STEPS[:2]:
            j = at.get((x + dx, y + dy))
            if j is not None and abs(i - j) > 1 and sequence[i] == sequence[j] == "H":
                total -= 1
    return total


def folds(length: int) -> Iterator[list[tuple[int, int]]]:
    """Yield every self-avoiding chain (length up to 12 is quick)."""

    def grow(turns: list[int]) -> Iterator[list[tuple[int, int]]]:
        sites = walk(turns)
        if len(set(sites)) < len(sites):
            return
        if len(sites) == length:
            yield sites
            return
        for turn in range(3):
            yield from grow([*turns, turn])

    yield from grow([])


def exact(sequence: str) -> int:
    """Return the least energy by enumeration.

    Example:
        >>> exact("HPPH")
        -1
    """
    return min(energy(sequence, sites) for sites in folds(len(sequence)))


def turns_of(bits: str) -> list[int]:
    """Return the turns of a bit string, two bits each, most significant first; 3 is none."""
    return [int(bits[i : i + 2], 2) for i in range(0, len(bits), 2)]


def fields(sequence: str, turns: list[int], best: int) -> dict[str, object]:
    """Return what the filter looks at for one proposed fold."""
    sites = walk(turns)
    return {
        "turns": turns,
        "valid": int(all(t in (0, 1, 2) for t in turns)),
        "overlaps": len(sites) - len(set(sites)),
        "energy": energy(sequence, sites),
        "worst_allowed": best + TOLERANCE,
    }


def costs(sequence: str) -> np.ndarray:
    """Return the cost of every bit string: the energy, and 2 for each overlap or wrong turn."""
    bits = 2 * (len(sequence) - 2)
    table = np.empty(2**bits)
    for k in range(2**bits):
        turns = turns_of(f"{k:0{bits}b}")
        wrong = sum(t == 3 for t in turns)
        sites = walk([min(t, 2) for t in turns])
        overlaps = len(sites) - len(set(sites))
        table[k] = (energy(sequence, sites) if not wrong + overlaps else 0) + 2 * (wrong + overlaps)
    return table


def eigensolver(
    sequence: str, *, steps: int, seed: int = 3
) -> tuple[born.Ansatz, torch.Tensor, torch.Tensor]:
    """Return the circuit with its first and its trained angles: the least mean cost (VQE)."""
    table = torch.as_tensor(costs(sequence))
    ansatz = born.Ansatz(2 * (len(sequence) - 2), 2)
    trained, _ = born.train(ansatz, lambda p: p @ table, steps=steps, seed=seed)
    return ansatz, ansatz.start(seed), trained


def greedy(sequence: str, tries: int = 400, seed: int = 4) -> list[int]:
    """Return the turns of the best of some random self-avoiding chains: the classical baseline."""
    rng = random.Random(seed)
    best: tuple[int, list[int]] | None = None
    for _ in range(tries):
        turns: list[int] = []
        for _ in range(len(sequence) - 2):
            free = [t for t in range(3) if len(set(walk([*turns, t]))) == len(turns) + 3]
            if not free:
                break
            turns.append(rng.choice(free))
        else:
            value = energy(sequence, walk(turns))
            if best is None or value < best[0]:
                best = value, turns
    if best is None:
        raise ValueError("no self-avoiding chain was found")
    return best[1]
