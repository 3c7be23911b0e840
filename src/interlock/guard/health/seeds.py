"""Does the device honour its seed, or only take it?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from interlock.errors import InputError
from interlock.guard.validate.repeats import chance_of_repeat

__all__ = ["seed_honesty", "seeded"]

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


def seeded(sampler: Any, target: Any, shots: int = 2000) -> Callable[[int], Mapping[str, int]]:
    """Return what runs a probe circuit of many outcomes on a sampler or backend under a seed.

    Args:
        sampler: a Qiskit backend whose `run` takes `seed_simulator`, or a sampler with a seed of
            its own that can be set.
        target: backend to compile for.
        shots: of each run.

    Raises:
        InputError: it takes no seed (`seed-unsettable`).
    """
    from qiskit import QuantumCircuit, transpile

    width = min(5, target.target.num_qubits or 5)
    made = QuantumCircuit(width)
    made.sx(range(width))
    made.measure_all()
    isa = transpile(made, target, optimization_level=0, seed_transpiler=1)
    options = getattr(sampler, "options", None)
    places: list[tuple[Any, str]] = [(options, "seed_simulator"), (sampler, "_seed")]
    held = next(((o, n) for o, n in places if o is not None and hasattr(o, n)), None)
    simulator = getattr(options, "simulator", None)
    if held is None and simulator is not None:
        held = (simulator, "seed_simulator")

    def run(seed: int) -> Mapping[str, int]:
        if hasattr(sampler, "target") and hasattr(sampler, "run"):
            done = sampler.run(isa, shots=shots, seed_simulator=seed).result()
            counts: Mapping[str, int] = done.get_counts()
            return counts
        if held is None:
            raise InputError(
                "this sampler takes no seed",
                code="seed-unsettable",
                got=type(sampler).__qualname__,
                expected="a backend with seed_simulator, or a sampler with a seed",
                fix="probe the backend behind it",
            )
        setattr(*held, seed)
        (bits,) = sampler.run([isa], shots=shots).result()[0].data.values()
        sampled: Mapping[str, int] = bits.get_counts()
        return sampled

    return run
