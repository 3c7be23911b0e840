"""Recall and false holds of the dual-use gate on the labelled set, by the way it is written.

    python -m benchmarks.dual_use [seed] [seconds] [way...]   (12, 1500 and every way by default)

The thresholds were set on seeds 1, 3 and 11. The set is in `tests/vectors/circuits/dual_use.py`.
What there was no time for is counted as such.
"""

from __future__ import annotations

import sys
import time
from collections import Counter

from qiskit import transpile
from qiskit_ibm_runtime.fake_provider import FakeGuadalupeV2
from tests.vectors.circuits.dual_use import attacks, disguises, look_alikes, shor_compiled

from interlock.circuits.intent import classify
from interlock.circuits.qiskit_adapter import from_qiskit

#: Ways of writing in which a wide matrix stays one gate.
PLAIN = ("as written", "reordered", "padded", "known bits")


def compiled_for_a_device() -> None:
    """Print how many of six toy Shor circuits are held once compiled for a heavy-hex device."""
    device = FakeGuadalupeV2()
    held = 0
    for seed in range(6):
        circuit = transpile(shor_compiled(3), device, optimization_level=3, seed_transpiler=seed)
        held += classify(from_qiskit(circuit)).kind != "none"
    print(f"toy Shor circuits compiled for Guadalupe at level 3: held {held} of 6", flush=True)


def main() -> int:
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 12
    budget = float(sys.argv[2]) if len(sys.argv) > 2 else 1500.0
    started = time.perf_counter()
    ways = {k: v for k, v in disguises(seed).items() if k in sys.argv[3:] or len(sys.argv) < 4}
    compiled_for_a_device()
    held: Counter[tuple[str, str]] = Counter()
    total: Counter[tuple[str, str]] = Counter()
    spent: list[float] = []
    left = 0
    for disguise, change in ways.items():
        for label, table in (("attack", attacks(seed)), ("look-alike", look_alikes(seed))):
            for name, make in table.items():
                if "(matrix)" in name and disguise not in PLAIN:
                    continue
                if time.perf_counter() - started > budget:
                    left += 1
                    continue
                circuit = from_qiskit(change(make()))
                began = time.process_time()
                found = classify(circuit)
                spent.append(time.process_time() - began)
                hit = found.kind != "none"
                total[label, disguise] += 1
                held[label, disguise] += hit
                if hit != (label == "attack"):
                    what = "false hold" if hit else "missed"
                    size = f"{circuit.size} operations"
                    print(f"  {what}: {name}, {disguise}, {size}: {found.reason}", flush=True)
    for label in ("attack", "look-alike"):
        print(label)
        for disguise in ways:
            print(f"  {disguise:12} held {held[label, disguise]} of {total[label, disguise]}")
        print(f"  all          held {sum(v for k, v in held.items() if k[0] == label)} of "
              f"{sum(v for k, v in total.items() if k[0] == label)}")  # fmt: skip
    spent.sort()
    print(f"CPU a circuit: median {spent[len(spent) // 2] * 1e3:.0f} ms, "
          f"p95 {spent[int(len(spent) * 0.95)] * 1e3:.0f} ms, most {spent[-1] * 1e3:.0f} ms; "
          f"no time for {left}")  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
