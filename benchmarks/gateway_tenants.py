"""Requests of one tenant against the names of another's jobs and receipts; counts what leaks.

    python benchmarks/gateway_tenants.py --requests 10000

A leak is an answer with the other tenant's canary label, its principal, its backend, or one of its
ids where the caller did not send it itself. The console's pages are asked with a signed-in session;
its event stream, which does not end, is in `tests/integration/gateway/test_console_pages.py`.
"""

import argparse
import collections
import json
import random
import sys
import time
from importlib import resources
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.gateway_crash import body
from benchmarks.gateway_fuzz import gateway_with_keys
from interlock.access import keys
from interlock.gateway.rest import build_app
from interlock.guard.policy import parse_yaml
from interlock.types import Principal

CANARY = "north-secret-label"
OWNED = "north-private-twin"
PEOPLE = ('"ada"', ">ada<", "by ada")
PAGES = ("", "/approvals", "/devices", "/budgets", "/events", "/tenant", "/tenants", "/ledger",
         "/telemetry")  # fmt: skip


def provider() -> dict[str, Any]:
    """The rules of the starter bundle of a provider; sol may do all that a tenant's own may."""
    folder = resources.files("interlock.guard").joinpath("starters", "multi-tenant-provider")
    members = parse_yaml(folder.joinpath("members.yaml").read_text("utf-8"), "members.yaml")
    for member in members["members"]:
        if member["id"] == "sol":
            member["roles"] = ["researcher", "lead", "approver", "admin", "auditor"]
    return {"rules": folder.joinpath("rules.cedar").read_text("utf-8"), **members}


def measure(requests: int, seed: int = 1) -> dict[str, Any]:
    from fastapi.testclient import TestClient

    rng = random.Random(seed)
    codes: collections.Counter[int] = collections.Counter()
    leaks: list[str] = []
    with gateway_with_keys(provider()) as (gateway, north):
        backends = {"aer_simulator": {"provider": "aer"},
                    OWNED: {"provider": "twin", "device": "quito", "tenant": "north"}}  # fmt: skip
        (gateway.home / "backends.yaml").write_text(json.dumps({"backends": backends}))
        sol = Principal(id="sol", tenant="south")
        south = keys.issue(gateway.access, sol, lifetime_s=3600)[1]
        with TestClient(build_app(gateway), raise_server_exceptions=False) as client:
            theirs = {"authorization": f"Bearer {north}"}
            job = json.loads(body(1)) | {
                "backend": "aer_simulator",
                "labels": [CANARY],
                "pipeline": CANARY,
            }
            made = client.post("/v1/jobs", json=job, headers=theirs).json()["id"]
            path = f"/v1/jobs/{made}/result?wait=20"
            while (reply := client.get(path, headers=theirs)).status_code == 202:
                continue
            receipt = reply.json()["receipt"]["id"]
            names = [made, receipt, made[:-1], made.upper(), f"{made}%00", f"../north/{made}", "*",
                     "%25", "' OR 1=1", f"{made}/../{made}", receipt[:-1], "north"]  # fmt: skip
            ours = {"authorization": f"Bearer {south}"}
            client.post("/console/enter", content=f"key={south}", follow_redirects=False)
            started = time.monotonic()
            for _ in range(requests):
                name = rng.choice(names)
                method, path = rng.choice(
                    [("GET", f"/v1/jobs/{name}"), ("GET", f"/v1/jobs/{name}/result"),
                     ("POST", f"/v1/jobs/{name}/cancel"), ("GET", f"/v1/jobs/{name}/events"),
                     ("GET", f"/v1/receipts/{name}"), ("GET", "/v1/jobs?limit=200"),
                     ("GET", f"/v1/jobs?state={name}"), ("GET", "/v1/tenant"),
                     ("GET", "/v1/approvals"), ("GET", "/v1/backends"), ("GET", "/metrics"),
                     ("GET", f"/v1/jobs?before={rng.choice(['1e10', '9e10', 'x', '-1'])}"),
                     ("PUT", "/v1/tenants/north"), ("POST", "/v1/revocations"),
                     ("POST", "/v1/approvals"), ("GET", f"/console/jobs/{name}"),
                     ("GET", f"/console{rng.choice(PAGES)}"), ("POST", "/console/approvals"),
                     ("GET", f"/console/events?before={rng.choice(['9', '5000', name])}"),
                     ("GET", f"/console/telemetry/{name}"), ("GET", f"/console/devices/{name}")]
                )  # fmt: skip
                sent = rng.choice([{"weight": 1.0}, {"kind": "tenant", "value": "north"}, {}])
                reply = client.request(method, path, headers=ours,
                                       json=sent if method != "GET" else None)  # fmt: skip
                codes[reply.status_code] += 1
                told = reply.text
                if reply.headers.get("content-type", "").endswith("problem+json"):
                    told = json.dumps({k: v for k, v in reply.json().items() if k != "got"})
                if any(w in told for w in (made, receipt, CANARY, OWNED, *PEOPLE)):
                    leaks.append(f"{method} {path}: {told[:200]}")
    return {"requests": requests, "leaks": len(leaks), "first": leaks[:3],
            "statuses": dict(sorted(codes.items())), "faults": codes[500] + codes[503],
            "seconds": round(time.monotonic() - started, 1)}  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(json.dumps(measure(options.requests, options.seed)))
