"""Jobs a second with 1, 2 and 4 worker processes on one PostgreSQL of their own.

python -m benchmarks.gateway_scale --jobs 120

Each worker runs two jobs at once. Half of the jobs go to a device that takes 0.3 s, as a provider
would; the others are simulated here. All jobs are queued before the workers are looked at, and the
clock runs from the first job that ends to the last, so that starting the processes is not counted.
CPU is that of all processes over the whole run, start included, for each job.
"""

import argparse
import json
import os
import resource
import shutil
import time
from typing import Any

from benchmarks.gateway_crash import Fleet, Postgres, asked, body, home_of
from interlock.guard.remote import RemoteGuard


def cpu_s() -> float:
    """Seconds of CPU of the children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(workers: int, jobs: int) -> dict[str, Any]:
    """Return what `workers` processes do with `jobs` jobs."""
    server = Postgres()
    home = home_of(f"postgresql://{server.query}")
    before = cpu_s()
    fleet = Fleet(home, f"postgresql+psycopg://{server.query}", workers)
    try:
        guard = RemoteGuard(f"unix:{home}/run/gateway.sock")
        for name in fleet.roles:
            asked(RemoteGuard(f"unix:{home}/run/{name}.sock"), "/v1/tenant", 120.0)
        for n in range(jobs):
            guard.request("POST", "/v1/jobs", body(n), {"idempotency-key": f"job-{n}"})
        counts: dict[str, int] = {}
        while sum(counts.get(s, 0) for s in ("done", "failed")) < jobs:
            time.sleep(0.2)
            counts = asked(guard, "/v1/tenant")[1]["jobs"]
        rows = asked(guard, f"/v1/jobs?limit={min(jobs, 200)}")[1]["jobs"]
        ended = sorted(row["updated"] for row in rows)
    finally:
        fleet.stop()
        server.close()
        shutil.rmtree(home, ignore_errors=True)
    return {
        "workers": workers,
        "jobs_per_s": round((len(ended) - 1) / (ended[-1] - ended[0]), 1),
        "failed": counts.get("failed", 0),
        "cpu_s_per_job": round((cpu_s() - before) / jobs, 3),
        "load": round(os.getloadavg()[0], 1),
        "cores": os.cpu_count(),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=120)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 4])
    options = parser.parse_args()
    for count in options.workers:
        print(json.dumps(measure(count, options.jobs)), flush=True)
