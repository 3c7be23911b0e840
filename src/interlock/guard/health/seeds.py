"""Does the device honour its seed, or only take it?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from interlock.guard.validate.repeats import chance_of_repeat

__all__ = ["seed_honesty"]

#: Equal counts less likely than e to this are no chance.
SURE = -14.0


def seed_honesty(run: Callable[[int], Mapping[str, int]], seed: int = 1234) -> dict[str, Any]:
    """Probe a device with one seed twice and another seed once.

    Args:
        run: runs one fixed circuit with many outcomes under a seed and returns its counts.
        seed: any seed.

    Returns:
        `verdict`: `honoured` (same seed same counts, other seed other counts), `ignored` (same
        seed, other counts), `constant` (the counts never change, whatever the seed), or `unknown`
        (equal counts would be no surprise; take more outcomes and shots); and `log_chance`, the log
        probability that equal counts are chance.

    Example:
        >>> import random
        >>> def honest(seed):
        ...     rng = random.Random(seed)
        ...     hits = [str(rng.randrange(50)) for _ in range(500)]
        ...     return {h: hits.count(h) for h in sorted(set(hits))}
        >>> seed_honesty(honest)["verdict"], seed_honesty(lambda s: honest(None))["verdict"]
        ('honoured', 'ignored')
    """
    first, second, other = (dict(run(s)) for s in (seed, seed, seed + 1))
    chance = chance_of_repeat(first)
    if first != second:
        verdict = "ignored"
    elif chance > SURE:
        verdict = "unknown"
    else:
        verdict = "constant" if other == first else "honoured"
    return {"verdict": verdict, "log_chance": chance, "shots": sum(first.values())}
