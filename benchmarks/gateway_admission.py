"""Admission through the gateway against bare FastAPI, side by side, both on loopback TCP.

    python benchmarks/gateway_admission.py --requests 4000

A request is a JWT (EdDSA) checked, rate-limited, made idempotent, put into the durable queue and
into the ledger by group commit. Bare FastAPI reads the same body and answers a constant. The
policy decision (Cedar) is timed by itself: it is asked when the job is taken along the path.
"""

import argparse
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from interlock.access.cedar import Authoriser, Member
from interlock.types import Principal

SERVER = """
import gc, sys, json
from pathlib import Path
import uvicorn
kind, port, home = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
def run(app):
    gc.collect()
    gc.freeze()  # as `interlock serve` does
    uvicorn.run(app, host="127.0.0.1", port=port, http="httptools", loop="uvloop",
                log_level="critical", access_log=False, lifespan="off")
if kind == "bare":
    from fastapi import FastAPI, Request
    app = FastAPI()
    @app.post("/v1/jobs", status_code=202)
    async def submit(request: Request):
        await request.body()
        return {"id": "0" * 28, "state": "queued"}
    run(app)
else:
    from interlock.gateway.rest import build_app
    from interlock.gateway.serve import Options, running
    from interlock.gateway.store import Tenant
    with running(Options(home=home, workers=0, local=False)) as (gateway, _):
        gateway.store.set_tenant(Tenant(name="local", rate=1e9, burst=1e9, max_queued=10**7))
        run(build_app(gateway))
"""


def token(home: Path) -> str:
    from joserfc import jwk, jwt

    key = jwk.OKPKey.generate_key("Ed25519", parameters={"kid": "b"})
    issuer = {"issuer": "https://bench", "audience": "interlock",
              "jwks": {"keys": [key.as_dict(private=False)]}}  # fmt: skip
    (home / "identity.yaml").write_text(json.dumps({"issuers": [issuer]}))
    now = int(time.time())
    claims = {"iss": "https://bench", "aud": "interlock", "sub": "ada", "iat": now,
              "exp": now + 3000, "jti": "b"}  # fmt: skip
    return str(jwt.encode({"alg": "EdDSA", "kid": "b"}, claims, key, algorithms=["EdDSA"]))


def cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def load(kind: str, home: Path, requests: int, connections: int, bearer: str, body: bytes) -> Any:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    server = subprocess.Popen([sys.executable, "-c", SERVER, kind, str(port), str(home)])
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            time.sleep(0.05)
    head = (
        f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {bearer}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    times: list[float] = []
    bad: list[bytes] = []

    def client(count: int) -> None:
        mine = []
        with socket.create_connection(("127.0.0.1", port)) as sock:
            for _ in range(count):
                started = time.perf_counter()
                sock.sendall(head + body)
                reply = sock.recv(65536)
                while b"queued" not in reply and b"problem" not in reply:
                    reply += sock.recv(65536)
                mine.append(time.perf_counter() - started)
                if not reply.startswith(b"HTTP/1.1 202"):
                    bad.append(reply)
        times.extend(mine)

    def volley(count: int) -> float:
        threads = [threading.Thread(target=client, args=(count // connections,))
                   for _ in range(connections)]  # fmt: skip
        started = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.perf_counter() - started

    volley(connections * 10)
    times.clear()
    before = cpu(server.pid)
    seconds = volley(requests)
    used = cpu(server.pid) - before
    server.terminate()
    server.wait(60)
    if bad:
        raise SystemExit(f"{len(bad)} refused: {bad[0][:300]!r}")
    times.sort()
    return {
        "per_second": round(len(times) / seconds),
        "per_cpu_second": round(len(times) / used),
        "p50_ms": round(times[len(times) // 2] * 1000, 2),
        "p99_ms": round(times[int(len(times) * 0.99)] * 1000, 2),
    }


def policy_us() -> tuple[float, float]:
    """CPU microseconds of a decision: of a question never asked before, and of one asked before."""
    rules = "\n".join(
        f'@id("r{i}") permit (principal in Interlock::Role::"x{i}", '
        f'action == Interlock::Action::"submit", resource) when {{ context.shots <= {i + 100} }};'
        for i in range(50)
    )
    auth = Authoriser(rules, [Member(id=f"p{i}", roles=(f"x{i % 50}",)) for i in range(1000)])
    facts = {"shots": 100, "qubits": 2, "circuits": 1, "depth": 3, "labels": [], "kind": "sample",
             "mode": "ENFORCED", "hour_utc": 9}  # fmt: skip
    backend = auth.backend("aer", "local")
    people = [Principal(id=f"p{i}") for i in range(1000)]
    for who in people:
        auth.ask(who, "submit", backend, facts)
    out = []
    for shots in (range(5), [100] * 5):
        started = resource.getrusage(resource.RUSAGE_SELF).ru_utime
        for count in shots:
            asked = facts | {"shots": count}
            for who in people:
                assert auth.ask(who, "submit", backend, asked).allowed
        spent = resource.getrusage(resource.RUSAGE_SELF).ru_utime - started
        out.append(round(spent / 5000 * 1e6, 1))
    return out[0], out[1]


def measure(requests: int, connections: int = 16) -> dict[str, Any]:
    from benchmarks.gateway_crash import body as job

    home = Path(tempfile.mkdtemp(prefix="interlock-admission-"))
    bearer = token(home)
    bare = load("bare", home, requests, connections, bearer, job(1))
    full = load("gateway", home, requests, connections, bearer, job(1))
    decided = policy_us()
    ratio = full["per_cpu_second"] / bare["per_cpu_second"]
    return {"bare": bare, "gateway": full, "ratio_per_cpu_second": round(ratio, 3),
            "policy_decision_us": decided[0], "policy_decision_again_us": decided[1]}  # fmt: skip


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--connections", type=int, default=16)
    options = parser.parse_args()
    print(json.dumps(measure(options.requests, options.connections)))
