"""Guardrail choice: exact, CP-SAT, greedy, random, QAOA and VQE side by side.

python -m benchmarks.guardrail_choice [n] [instances]
python -m benchmarks.guardrail_choice sweep    n = 4 to 20, some minutes
"""

from __future__ import annotations

import sys

from interlock.training.guardrails import compare, random_guardrails

SWEEP = {4: 5, 8: 5, 12: 5, 16: 3, 20: 2}


def main() -> None:
    if sys.argv[1:2] == ["sweep"]:
        for n, instances in SWEEP.items():
            table(n, instances)
        return
    table(
        int(sys.argv[1]) if len(sys.argv) > 1 else 10,
        int(sys.argv[2]) if len(sys.argv) > 2 else 5,
    )


def table(n: int, instances: int) -> None:
    found: dict[str, list[tuple[bool, float, float]]] = {}
    for seed in range(instances):
        choices = compare(random_guardrails(n, seed), seed=seed)
        best = choices[0].energy
        for c in choices:
            ratio = c.energy / best if best else 1.0
            row = (abs(c.energy - best) < 1e-6, ratio, c.seconds)
            found.setdefault(c.solver, []).append(row)
    print(f"n = {n}, {instances} instances; quantum solvers simulated, 1,000 shots", flush=True)
    for solver, rows in found.items():
        optimal, ratio, seconds = zip(*rows, strict=True)
        print(
            f"{solver:8s} optimal {sum(optimal)}/{instances}  share of the optimum "
            f"{sum(ratio) / instances:.4f}  {sum(seconds) / instances:8.3f} s"
        )


if __name__ == "__main__":
    main()
