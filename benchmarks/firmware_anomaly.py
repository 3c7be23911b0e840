"""Area under the curve of the binary anomaly score, by patch size, on this machine's programs.

python benchmarks/firmware_anomaly.py [--folder /usr/bin] [--count 300]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from interlock.monitor.firmware.anomaly import BinaryBaseline


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("/usr/bin"))
    parser.add_argument("--count", type=int, default=300)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    images = []
    for path in sorted(args.folder.iterdir()):
        if path.is_file() and not path.is_symlink() and 20_000 < path.stat().st_size < 400_000:
            data = path.read_bytes()
            if data[:4] == b"\x7fELF":
                images.append(data)
    images = [images[k] for k in rng.permutation(len(images))[: args.count]]
    half = len(images) // 2
    baseline = BinaryBaseline.learn(images[:half])
    clean = np.array([baseline.score(x) for x in images[half:]])
    print(f"{len(images)} programs, half to learn from; encrypted-looking patches")
    for label, size in (("64 B", 64.0), ("1 KiB", 1024.0), ("5 %", 0.05), ("30 %", 0.3)):
        patched = []
        for x in images[half:]:
            n = int(size if size > 1 else size * len(x))
            at = int(rng.integers(0, max(1, len(x) - n)))
            patched.append(baseline.score(x[:at] + rng.bytes(n) + x[at + n :]))
        greater = np.mean(np.array(patched)[:, None] > clean[None, :])
        print(f"  patch {label:<6} AUC {greater:.3f}")


if __name__ == "__main__":
    main()
