"""The HP lattice model of a protein (Lau and Dill, 1989) in two dimensions, folded exactly."""

from __future__ import annotations

from collections.abc import Iterator

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


def fields(sequence: str, turns: list[int]) -> dict[str, object]:
    """Return what the filter looks at for one proposed fold."""
    sites = walk(turns)
    return {
        "self_avoiding": len(set(sites)) == len(sites),
        "energy": energy(sequence, sites),
        "worst_allowed": exact(sequence) + TOLERANCE,
    }
