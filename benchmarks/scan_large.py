"""Memory and speed of the secret scanner on a file of one line and on a long stream.

    python benchmarks/scan_large.py [--line-gb 1] [--stream-gb 10]

The file of one line is JSON with a secret at its end; the stream has one secret every GB.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

UNIT = b'{"amplitude": 0.7071067811865476, "bits": "0101101", "name": "probe", "shots": 4096}, '
CODE = """
import json, resource, sys
from pathlib import Path
from interlock.scan import run
target = Path(sys.argv[1])
report = run.scan([target], families=("secrets",), stdin=sys.stdin.buffer)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps([len(report.findings), report.bytes, report.cpu_seconds, peak]))
"""


def secret(rng: random.Random) -> bytes:
    return b'"token": "DEV-' + "".join(rng.choices("0123456789abcdef", k=40)).encode() + b'", '


def show(name: str, expected: int, out: bytes) -> None:
    found, size, cpu, peak = json.loads(out)
    row = f"{size / 1e9:.2f} | {found} of {expected} | {size / 1e6 / cpu:.0f} | {peak:.0f}"
    print(f"| {name} | {row} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--line-gb", type=float, default=1.0)
    parser.add_argument("--stream-gb", type=float, default=10.0)
    options = parser.parse_args()
    rng = random.Random("large")
    block = UNIT * (8_000_000 // len(UNIT))
    print("| input | GB | secrets found | MB a CPU-second | peak MB |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "one-line.json"
        with path.open("wb") as handle:
            handle.write(b"[")
            for _ in range(int(options.line_gb * 1e9 / len(block))):
                handle.write(block)
            handle.write(secret(rng) + b"1]")
        done = subprocess.run(
            [sys.executable, "-c", CODE, str(path)], capture_output=True, check=True
        )
        show("one line of JSON", 1, done.stdout)
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    total = int(options.stream_gb * 1e9 / len(block))
    planted = 0
    for number in range(total):
        process.stdin.write(block)
        if number % 125 == 60:
            process.stdin.write(b"\n" + secret(rng) + b"\n")
            planted += 1
    process.stdin.close()
    assert process.stdout is not None
    show("stream", planted, process.stdout.read())
    sys.exit(process.wait() or os.EX_OK)


if __name__ == "__main__":
    main()
