"""SIGKILL the gateway again and again while clients submit; then count what was lost or doubled.

python benchmarks/gateway_crash.py --kills 100 --jobs 300 [--database postgresql+psycopg://...]
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from interlock.circuits.canonical import Circuit, Operation
from interlock.errors import InterlockError
from interlock.guard.remote import RemoteGuard
from interlock.ledger import Ledger


def start(home: Path, database: str | None) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "interlock.cli", "serve", "--home", str(home),
               "--socket", str(home / "run" / "g.sock"), "--workers", "2"]  # fmt: skip
    if database:
        command += ["--database", database]
    return subprocess.Popen(command)


def body(seed: int) -> bytes:
    circuit = Circuit(
        num_qubits=1,
        num_clbits=1,
        operations=(Operation("h", (), (0,)), Operation("measure", (), (0,), (0,))),
    )
    plain = json.loads(circuit.to_json())
    plain["registers"] = [["c", [0]]]
    job = {"kind": "sample", "backend": "aer_simulator", "seed": seed,
           "programs": [{"circuit": plain, "shots": 50}]}  # fmt: skip
    return json.dumps(job).encode()


def measure(kills: int, jobs: int, database: str | None = None, seed: int = 1) -> dict[str, Any]:
    rng = random.Random(seed)
    home = Path(tempfile.mkdtemp(prefix="interlock-crash-"))
    home.chmod(0o700)
    process = start(home, database)
    accepted: dict[str, str] = {}
    stop = threading.Event()

    def client() -> None:
        guard = RemoteGuard(f"unix:{home}/run/g.sock")
        for n in range(jobs):
            while not stop.is_set():
                try:
                    _, made = guard.request(
                        "POST", "/v1/jobs", body(n), {"idempotency-key": f"job-{n}"}
                    )
                    accepted[f"job-{n}"] = made["id"]
                    break
                except InterlockError:
                    time.sleep(0.05)
            time.sleep(0.02)

    thread = threading.Thread(target=client, daemon=True)
    thread.start()
    recovery: list[float] = []
    guard = RemoteGuard(f"unix:{home}/run/g.sock")

    def up() -> None:
        started = time.monotonic()
        while time.monotonic() - started < 90:
            try:
                guard.request("GET", "/v1/tenant")
            except InterlockError:
                time.sleep(0.05)
            else:
                return
        raise SystemExit("the gateway did not come back")

    up()
    done = 0
    while done < kills:
        time.sleep(rng.uniform(0.0, 2.0))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        done += 1
        started = time.monotonic()
        process = start(home, database)
        up()
        recovery.append(time.monotonic() - started)
    thread.join(300)
    end = time.monotonic() + 300
    while time.monotonic() < end:
        counts = guard.request("GET", "/v1/tenant")[1]["jobs"]
        if not counts.get("queued") and not counts.get("running"):
            break
        time.sleep(0.2)
    outcomes: dict[str, int] = {}
    for job in accepted.values():
        status, outcome = guard.request("GET", f"/v1/jobs/{job}/result")
        key = outcome.get("outcome", "PENDING") if status == 200 else "PENDING"
        outcomes[key] = outcomes.get(key, 0) + 1
    stop.set()
    process.send_signal(signal.SIGTERM)
    process.wait(60)
    released: dict[str, int] = {}
    with Ledger.open(home) as ledger:
        sound = ledger.verify().ok
        for entry in ledger.entries("release"):
            job = str(entry.header.get("job"))
            released[job] = released.get(job, 0) + 1
    return {
        "kills": done,
        "accepted": len(accepted),
        "distinct_jobs": len(set(accepted.values())),
        "jobs_in_store": sum(counts.values()),
        "outcomes": outcomes,
        "released_without_a_record": sum(j not in released for j in accepted.values())
        - sum(n for k, n in outcomes.items() if k != "RELEASE"),
        "recorded_again_after_a_kill": sum(n > 1 for n in released.values()),
        "ledger_sound": sound,
        "recovery_s": sorted(recovery)[len(recovery) // 2] if recovery else 0.0,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--database")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(json.dumps(measure(options.kills, options.jobs, options.database, options.seed)))
