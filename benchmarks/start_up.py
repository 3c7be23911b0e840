"""How long a newcomer waits: the help, the demo, and the example of `make run`.

    python benchmarks/start_up.py [--example] [--json]

Each command is a new process, in a home of its own; wall and CPU seconds, the median of several.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

EXAMPLE = Path(__file__).parents[1] / "examples" / "breast_cancer" / "compare.py"


def timed(command: list[str], runs: int) -> dict[str, float]:
    """Return the medians of a command's wall and CPU seconds."""
    rows = []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            before, started = os.times(), time.perf_counter()
            subprocess.run(
                [sys.executable, *command],
                cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                env={**os.environ, "INTERLOCK_HOME": f"{folder}/home"},
            )  # fmt: skip
            after = os.times()
            cpu = sum(after[2:4]) - sum(before[2:4])
            rows.append((time.perf_counter() - started, cpu))
    wall, cpu = (statistics.median(column) for column in zip(*rows, strict=True))
    return {"wall_s": round(wall, 3), "cpu_s": round(cpu, 3)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--example", action="store_true", help="the example too: some minutes")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    found = {
        "interlock --help (goal 0.2 s)": timed(["-m", "interlock.cli", "--help"], 11),
        "interlock demo (goal 10 s)": timed(["-m", "interlock.cli", "demo"], 3),
    }
    if options.example:
        found["the example of make run (goal 180 s)"] = timed([str(EXAMPLE)], 1)
    if options.json:
        print(json.dumps({"load": load, **found}, indent=2))
        return
    print(f"load of the machine before: {load:.1f}")
    for name, row in found.items():
        print(f"{name:40}{row['wall_s']:8.2f} s wall {row['cpu_s']:8.2f} s CPU")


if __name__ == "__main__":
    main()
