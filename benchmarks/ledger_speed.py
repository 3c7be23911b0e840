"""The ledger's rates and times, beside the raw cost of the disk.

usage: python benchmarks/ledger_speed.py [--entries 100000] [--big 1000000] [--dir FOLDER]
       [--database postgresql://...]
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from interlock.ledger import Ledger
from interlock.ledger.tree import Frontier, Tree, leaf_hash, verify_inclusion

HEADER = {"job": "j-0001", "stage": "execute", "decision": "ALLOW"}
PAYLOAD = {"counts": {"00": 498, "11": 526}, "backend": "aer", "shots": 1024, "seed": 7}


def fsync_ms(folder: Path) -> float:
    fd = os.open(folder / "probe", os.O_RDWR | os.O_CREAT)
    times = []
    for _ in range(100):
        os.write(fd, b"x" * 4096)
        begun = time.perf_counter()
        os.fdatasync(fd)
        times.append((time.perf_counter() - begun) * 1000)
    os.close(fd)
    return statistics.median(times)


def appends(home: Path, count: int) -> dict[str, float]:
    with Ledger.open(home) as ledger:
        ledger.append("warm", HEADER, PAYLOAD).wait()
        single, cpu = [], time.thread_time()
        for _ in range(300):
            begun = time.perf_counter()
            ledger.append("execute", HEADER, PAYLOAD).wait()
            single.append((time.perf_counter() - begun) * 1000)
        cpu_ms = (time.thread_time() - cpu) / 300 * 1000
        begun, cpu = time.perf_counter(), time.process_time()
        pending = []
        for n in range(count):
            pending.append(ledger.append("execute", HEADER, PAYLOAD))
            if n % 4096 == 4095:
                for one in pending:
                    one.wait()
                pending.clear()
        for one in pending:
            one.wait()
        wall, cpu = time.perf_counter() - begun, time.process_time() - cpu
        begun = time.perf_counter()
        report = ledger.verify()
        return {
            "single append, median ms": statistics.median(single),
            "single append, p99 ms": sorted(single)[297],
            "single append, CPU ms": cpu_ms,
            "durable entries/s": count / wall,
            "entries/CPU-s": count / cpu,
            "full offline check, entries/s": report.size / (time.perf_counter() - begun),
        }


def proofs(count: int) -> dict[str, float]:
    tree = Tree(leaf_hash(b"%d" % n) for n in range(count))
    root, step = tree.root(), max(1, count // 20_000)
    indices = range(0, count, step)
    begun = time.process_time()
    paths = [tree.inclusion(n) for n in indices]
    made = time.process_time() - begun
    leaves = [leaf_hash(b"%d" % n) for n in indices]
    begun = time.process_time()
    for n, leaf, path in zip(indices, leaves, paths, strict=True):
        verify_inclusion(leaf, n, count, path, root)
    checked = time.process_time() - begun
    return {
        "inclusion proofs made/CPU-s": len(paths) / made,
        "inclusion proofs verified/CPU-s": len(paths) / checked,
    }


def pymerkle_appends(count: int) -> dict[str, float]:
    """The GPL library, for comparison only: in memory, without any durability."""
    try:
        import pymerkle
    except ImportError:
        return {"pymerkle": float("nan")}
    tree = pymerkle.InmemoryTree(algorithm="sha256")
    begun = time.process_time()
    for n in range(count):
        tree.append_entry(b"%d" % n)
    spent = time.process_time() - begun
    frontier = Frontier()
    begun = time.process_time()
    for n in range(count):
        frontier.append(leaf_hash(b"%d" % n))
    ours = time.process_time() - begun
    root, indices = tree.get_root(), range(1, count + 1, 20)
    begun = time.process_time()
    proofs_of = [tree.prove_inclusion(n) for n in indices]
    proved = time.process_time() - begun
    leaves = [tree.get_leaf(n) for n in indices]
    begun = time.process_time()
    for leaf, proof in zip(leaves, proofs_of, strict=True):
        pymerkle.verify_inclusion(leaf, root, proof)
    checked = time.process_time() - begun
    return {
        "tree appends/CPU-s, pymerkle": count / spent,
        "tree appends/CPU-s, ours": count / ours,
        "inclusion proofs made/CPU-s, pymerkle": len(indices) / proved,
        "inclusion proofs verified/CPU-s, pymerkle": len(indices) / checked,
    }


def planted(address: str) -> dict[str, float]:
    """What looking for planted objects costs a commit on PostgreSQL, and the commits beside it."""
    import psycopg

    from interlock.ledger.postgres_schema import ACTING, FOREIGN

    found = {}
    with tempfile.TemporaryDirectory() as name:
        with Ledger.open(Path(name) / "home", database=address) as ledger:
            times = []
            for _ in range(200):
                begun = time.perf_counter()
                ledger.append("execute", HEADER, PAYLOAD).wait()
                times.append((time.perf_counter() - begun) * 1000)
            found["PostgreSQL, single append, median ms"] = statistics.median(times)
            begun = time.perf_counter()
            for pending in [ledger.append("execute", HEADER, PAYLOAD) for _ in range(20_000)]:
                pending.wait()
            found["PostgreSQL, durable entries/s"] = 20_000 / (time.perf_counter() - begun)
        with psycopg.connect(address, autocommit=True) as connection:
            for what, query in (("each commit", ACTING), ("once a minute", FOREIGN)):
                times = []
                for _ in range(520):
                    begun = time.perf_counter()
                    connection.execute(query).fetchall()
                    times.append((time.perf_counter() - begun) * 1000)
                found[f"PostgreSQL, look of {what}, median ms"] = statistics.median(times[20:])
    return found


REOPEN = """
import sys, time
from pathlib import Path
from interlock.ledger import Ledger
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4 / 1024
home, base = Path(sys.argv[1]), resident()
begun = time.perf_counter()
ledger = Ledger.open(home)
opened, memory = time.perf_counter() - begun, resident()
begun = time.perf_counter()
ledger.append("after", {}, {}).wait()
first, size = time.perf_counter() - begun, len(ledger)
begun = time.perf_counter()
ledger.prove(size // 2)
proved, tree = time.perf_counter() - begun, resident()
print(size, opened, first, memory - base, proved, tree - memory, base)
ledger.close()
"""


def reopening(home: Path) -> dict[str, float]:
    out = subprocess.run(
        [sys.executable, "-c", REOPEN, str(home)], capture_output=True, text=True, check=True
    ).stdout.split()
    size, opened, first, memory, proved, tree, base = map(float, out)
    return {
        "reopened entries": size,
        "reopen, s": opened,
        "first entry after it, s": first,
        "memory of the open ledger, MiB": memory,
        "first proof (tree built), s": proved,
        "memory for the tree, MiB": tree,
        "memory of the process before, MiB": base,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--big", type=int, default=0, help="entries for the reopening figure")
    parser.add_argument("--dir", type=Path, default=None)
    parser.add_argument("--database", help="an empty PostgreSQL database, for its figures")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.dir) as name:
        folder = Path(name)
        result = {"fdatasync median ms": fsync_ms(folder)}
        result |= appends(folder / "home", max(options.entries, options.big))
        result |= proofs(min(options.entries, 100_000))
        result |= reopening(folder / "home")
        result |= pymerkle_appends(20_000)
        if options.database:
            result |= planted(options.database)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({k: round(v, 3) for k, v in result.items()} | {"peak MiB": peak}, indent=1))


if __name__ == "__main__":
    main()
