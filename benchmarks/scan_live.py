"""What hostile text costs the secret rules, and how late a redacted line comes out.

    python benchmarks/scan_live.py [--lines 2000]

Hostile text is every anchor of every rule, repeated with seven kinds of glue: the rules are tried
all the time and never match. Redaction is measured through a real pipe, one line at a time, and as
CPU time in one process, which a busy machine does not change.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import time

from interlock.scan.live import LineRedactor
from interlock.scan.secrets.engine import default_engine
from interlock.scan.secrets.synth import fill

GLUE = (b" ", b"_ ", b"=", b": ", b"-a1", b"='", b'": "')
SIZE = 65_000


def hostile() -> tuple[float, bytes, float, list[bytes]]:
    engine = default_engine()
    slowest, worst, spent, count = 1e9, b"", 0.0, 0
    lines = []
    for anchor in sorted({a for rule in engine.rules for a in rule.anchors}):
        for glue in GLUE:
            text = ((anchor + glue) * SIZE)[:SIZE]
            start = time.process_time()
            engine.scan(text)
            cost = time.process_time() - start
            spent, count = spent + cost, count + 1
            if SIZE / 1e6 / cost < slowest:
                slowest, worst = SIZE / 1e6 / cost, anchor + glue
                lines.append(text)
    print("| hostile texts | all, MB a CPU-second | slowest, MB a CPU-second | which |")
    print("|---|---|---|---|")
    print(f"| {count} | {count * SIZE / 1e6 / spent:.1f} | {slowest:.2f} | `{worst.decode()}` |\n")
    return slowest, worst, spent, lines


def quantiles(values: list[float]) -> str:
    ranked = sorted(values)
    picks = [ranked[int(len(ranked) * q)] for q in (0.5, 0.95, 0.99)] + [ranked[-1]]
    return " | ".join(f"{1e3 * v:.2f}" for v in picks)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lines", type=int, default=2000)
    options = parser.parse_args()
    rng = random.Random("live")
    worst = hostile()[3][-1]
    logs = [
        f"{n} epoch loss {rng.random():.6f} token={fill('DEV-{hex:40}', rng)}\n".encode()
        for n in range(options.lines)
    ]
    kinds = {
        "log line with a secret": logs,
        "64 KB line of a log": [b"step 12 loss 0.25 " * 3600 + b"\n"] * 50,
        "64 KB line, slowest hostile text": [worst + b"\n"] * 20,
    }
    print("| redaction | lines | p50 ms | p95 ms | p99 ms | max ms |\n|---|---|---|---|---|---|")
    for name, lines in kinds.items():
        redactor, costs = LineRedactor(), []
        for line in lines:
            start = time.process_time()
            redactor(line)
            costs.append(time.process_time() - start)
        print(f"| {name}, CPU time | {len(lines)} | {quantiles(costs)} |", flush=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "interlock.cli", "scan", "--redact"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    delays = []
    for line in logs:
        start = time.monotonic()
        process.stdin.write(line)
        process.stdin.flush()
        assert len(process.stdout.readline()) < len(line)
        delays.append(time.monotonic() - start)
    process.stdin.close()
    process.wait()
    print(
        f"| log line through `interlock scan --redact`, wall | {len(logs)} | {quantiles(delays)} |"
    )


if __name__ == "__main__":
    main()
