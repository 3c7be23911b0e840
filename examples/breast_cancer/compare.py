"""Runs the classifier guarded and unguarded and prints what the guard changed, measured.

`make run` calls this. The guarded run is `interlock run -- python train.py`, the script untouched.
The unguarded run reads the same test set on the same devices with the same weights.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import baseline
import data
import numpy as np

from interlock.cli.show import job_line
from interlock.guard.validate.figures import wilson

HERE = Path(__file__).parent
Z95 = 1.959964


def run(command: list[str]) -> None:
    """Run a part and stop when it fails."""
    done = subprocess.run([sys.executable, *command], cwd=HERE, check=False)  # noqa: S603
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}")


def accuracy(answers: Any, truth: Any) -> str:
    """Return the share of right signs, with its 95 % interval."""
    right = int(np.sum(np.sign(answers) == np.asarray(truth)))
    low, high = wilson(right, len(truth), Z95)
    return f"{right / len(truth):.3f} [{low:.3f}, {high:.3f}]"


def main() -> None:
    """Run both, print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--iterations", type=int, default=120)
    parser.add_argument("--home", type=Path, default=None)
    parser.add_argument("--report", type=Path, default=Path("interlock-report.html"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        home = options.home or folder / "home"
        guarded, raw = folder / "guarded.json", folder / "raw.json"
        summary = watched(
            ["run", "--json", "--home", str(home), "--policy", "policy.yaml",
             "--fallback", "baseline:answer", "--report", str(options.report.absolute()),
             "--pipeline", "breast-cancer", "--", "python", "train.py", "--out", str(guarded),
             "--iterations", str(options.iterations)]
        )  # fmt: skip
        run(["train.py", "--out", str(raw), "--weights", str(guarded)])
        run(["-m", "interlock.cli", "verify", "--home", str(home)])
        run(["-m", "interlock.cli", "replay", "--home", str(home)])
        with_guard, without = (json.loads(p.read_text()) for p in (guarded, raw))
    table(with_guard, without)
    costs(summary)


def watched(arguments: list[str]) -> dict[str, Any]:
    """Run `interlock` with JSON events, show each job's line, and return the summary."""
    command = [sys.executable, "-m", "interlock.cli", *arguments]
    line: dict[str, Any] = {}
    with subprocess.Popen(command, cwd=HERE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        assert process.stdout is not None
        for text in process.stdout:
            line = json.loads(text)
            if line["event"] == "job":
                print(job_line(line), flush=True)
    if process.returncode:
        raise SystemExit(f"interlock {arguments[0]} ended with {process.returncode}")
    return line


def costs(summary: dict[str, Any]) -> None:
    """Print how the jobs ended, and what that cost."""
    ended = {name: summary["outcomes"].get(name, 0) for name in ("RELEASE", "FALLBACK", "DENY")}
    added = summary["seconds"] - summary["execution_seconds"]
    print(f"\n{summary['jobs']} jobs, mode ADVISORY")
    print(f"{'released':22}{ended['RELEASE']}")
    print(f"{'fallen back':22}{ended['FALLBACK']}")
    print(f"{'denied':22}{ended['DENY']}")
    print(f"{'cost':22}${summary['cost_usd']:.2f} for {summary['shots']} shots")
    print(f"{'time on devices':22}{summary['execution_seconds']:.1f} s")
    print(f"{'time the guard added':22}{added:.2f} s, {added / summary['jobs'] * 1e3:.1f} ms a job")


def table(guarded: dict[str, Any], raw: dict[str, Any]) -> None:
    """Print the measured difference."""
    truth = guarded["truth"]
    half = len(truth) // 2
    sets = data.load()
    classical = 2 * baseline.model().predict_proba(sets.test_x)[:, 1] - 1
    rows = [
        ("quantum, unguarded", raw["answers"]),
        ("classical baseline", classical),
        ("quantum, guarded", guarded["answers"]),
    ]
    print(f"\nAccuracy on {len(truth)} tumours not used for training, 95 % intervals")
    print(f"{'':22}{'all':24}{'device as calibrated':24}{'device on a bad day':24}")
    for name, answers in rows:
        parts = [accuracy(answers, truth), accuracy(answers[:half], truth[:half]),
                 accuracy(answers[half:], truth[half:])]  # fmt: skip
        print(f"{name:22}" + "".join(f"{p:24}" for p in parts))


if __name__ == "__main__":
    main()
