"""Kill gateway and workers again and again while clients submit; then count what was lost.

python -m benchmarks.gateway_crash --kills 100 --restarts 5            # PostgreSQL of its own
python -m benchmarks.gateway_crash --kills 20 --sqlite                 # one process, embedded

One gateway queues, two workers run (with `--sqlite` one process does both). Half of the jobs go to
a device where a second run counts: a stand-in that notes each call in a file of its own before it
runs, as a provider's bill would. With PostgreSQL the ledger is in it too, and the server is stopped
hard (`pg_ctl -m immediate`) and started again between kills.
"""

import argparse
import json
import os
import pwd
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from interlock.circuits.canonical import Circuit, Operation
from interlock.crypto import files
from interlock.errors import InterlockError
from interlock.guard.remote import RemoteGuard
from interlock.ledger import Ledger
from interlock.ledger.audit import audit

PAID = "paid_device"
LIMIT = 100_000


class Postgres:
    """A server of our own, on a Unix socket, which may be stopped without harm to anybody."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="interlock-crash-pg-"))
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        self._bin = found[-1] if found else Path(shutil.which("initdb") or "initdb").parent
        self._as: list[str] = []
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            self._as = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}",
                        "--clear-groups"]  # fmt: skip
        self._run("initdb", "-A", "trust", "-U", "interlock")
        self.start()
        self.query = f"interlock@/postgres?host={self.folder}"

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._as, str(self._bin / program), "-D", str(self.folder / "data")]
        subprocess.run(
            [*command, *arguments], cwd=self.folder, check=True, stdout=subprocess.DEVNULL
        )

    def start(self) -> None:
        options = f"-k {self.folder} -c listen_addresses='' -c fsync=on -c max_connections=200"
        self._run("pg_ctl", "-o", options, "-l", str(self.folder / "log"), "-w", "start")

    def crash(self) -> None:
        self._run("pg_ctl", "-m", "immediate", "-w", "stop")

    def close(self) -> None:
        self.crash()
        shutil.rmtree(self.folder, ignore_errors=True)


class Fleet:
    """The processes."""

    def __init__(self, home: Path, database: str | None, workers: int = 2) -> None:
        self.home = home
        self.database = database
        queueing = {"gateway": 0} | {f"worker-{n + 1}": 2 for n in range(workers)}
        self.roles = roles = queueing if database else {"gateway": 2}
        self.running = {name: self.start(name) for name in roles}

    def start(self, name: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, __file__, "--serve", "--home", str(self.home),
                   "--policy", str(self.home / "policy.json"), "--log-level", "error",
                   "--socket", str(self.home / "run" / f"{name}.sock"),
                   "--workers", str(self.roles[name]), "--name", name]  # fmt: skip
        if self.database:
            command += ["--database", self.database]
        return subprocess.Popen(command)

    def kill(self, name: str) -> None:
        self.running[name].send_signal(signal.SIGKILL)
        self.running[name].wait()
        self.running[name] = self.start(name)

    def revive(self) -> None:
        """Start again what ended by itself because the database was away, as systemd does."""
        for name, process in self.running.items():
            if process.poll() is not None:
                self.running[name] = self.start(name)

    def stop(self) -> None:
        for process in self.running.values():
            process.send_signal(signal.SIGTERM)
        for process in self.running.values():
            process.wait(120)


def serve(arguments: list[str]) -> None:
    """`interlock serve`, with the device whose calls are counted."""
    from qiskit_aer import AerSimulator

    from interlock.cli import main
    from interlock.gateway import broker

    home = Path(arguments[arguments.index("--home") + 1])

    device = AerSimulator()
    run = device.run

    def counted(circuits: Any, **options: Any) -> Any:
        fd = os.open(home / "bill", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(fd, f"{options['shots']}\n".encode())
        os.close(fd)
        time.sleep(0.3)  # a provider takes a while, in which we may be killed
        return run(circuits, **options)

    device.run = counted
    make = broker.Broker._make

    def opened(self: Any, name: str, spec: Any) -> Any:
        if name == PAID:
            return broker.Opened(name=PAID, backend=device, replayable=False, level="none")
        return make(self, name, spec)

    broker.Broker._make = opened  # type: ignore[method-assign] # the paid stand-in
    main(["serve", *arguments])


def body(n: int) -> bytes:
    """Job `n`; its number of shots says which it is."""
    circuit = Circuit(
        num_qubits=1,
        num_clbits=1,
        operations=(Operation("h", (), (0,)), Operation("measure", (), (0,), (0,))),
    )
    plain = json.loads(circuit.to_json())
    plain["registers"] = [["c", [0]]]
    job = {"kind": "run", "backend": PAID if n % 2 else "aer_simulator", "seed": n,
           "programs": [{"circuit": plain, "shots": 100 + n}]}  # fmt: skip
    return json.dumps(job).encode()


class Client:
    """Submits one job after the other, each until it is taken, under a key of its own."""

    def __init__(self, place: Path, pause_s: float) -> None:
        self.guard = RemoteGuard(f"unix:{place}")
        self.taken: dict[int, str] = {}
        self.released: set[str] = set()
        self.enough = threading.Event()
        self._pause_s = pause_s
        self._thread = threading.Thread(target=self._submit, daemon=True)
        self._thread.start()

    def _submit(self) -> None:
        n = 0
        asking = False  # what was asked for once must be answered: it may be in the queue
        while asking or not self.enough.is_set():
            asking = True
            try:
                _, made = self.guard.request(
                    "POST", "/v1/jobs", body(n), {"idempotency-key": f"job-{n}"}
                )
            except InterlockError:
                time.sleep(0.05)
                continue
            assert self.taken.setdefault(n, made["id"]) == made["id"]
            n += 1
            asking = False
            time.sleep(self._pause_s)

    def join(self) -> None:
        self.enough.set()
        self._thread.join(60)


def asked(guard: RemoteGuard, path: str, patience_s: float = 60.0) -> tuple[int, Any]:
    end = time.monotonic() + patience_s
    while True:
        try:
            return guard.request("GET", path)
        except InterlockError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def home_of(database: str | None) -> Path:
    from interlock.guard.policy import load_policy

    home = Path(tempfile.mkdtemp(prefix="interlock-crash-"))
    home.chmod(0o700)
    document = json.loads(json.dumps(load_policy().document))
    document["admit"]["budget"] = {
        **document["admit"].get("budget", {}), "max_jobs_per_day": LIMIT,
    }  # fmt: skip
    (home / "policy.json").write_text(json.dumps(document))
    # JSON is YAML.
    known = {"aer_simulator": {"provider": "aer"}, PAID: {"provider": "aer"}}
    (home / "backends.yaml").write_text(json.dumps({"backends": known}))
    if database:
        files.write_private(home / "ledger.url", database.encode())
    Ledger.open(home).close()
    return home


def measure(
    kills: int, restarts: int, *, sqlite: bool = False, seed: int = 1, pause_s: float = 0.2,
    wait_s: float = 2.0,
) -> dict[str, Any]:  # fmt: skip
    """Run it and return what was found."""
    server = None if sqlite else Postgres()
    home = home_of(f"postgresql://{server.query}" if server else None)
    fleet = Fleet(home, f"postgresql+psycopg://{server.query}" if server else None)
    try:
        return _measured(fleet, server, kills, restarts, random.Random(seed), pause_s, wait_s)
    finally:
        for process in fleet.running.values():
            process.kill()
        if server is not None:
            server.close()
        shutil.rmtree(home, ignore_errors=True)


def _measured(
    fleet: Fleet, server: Postgres | None, kills: int, restarts: int, rng: random.Random,
    pause_s: float, wait_s: float,
) -> dict[str, Any]:  # fmt: skip
    home = fleet.home
    front = home / "run" / "gateway.sock"
    guard = RemoteGuard(f"unix:{front}")
    asked(guard, "/v1/tenant")
    client = Client(front, pause_s)
    events = ["kill"] * kills + ["restart"] * (restarts if server else 0)
    rng.shuffle(events)
    killed: Counter[str] = Counter()
    recovery: list[float] = []
    for event in events:
        time.sleep(rng.uniform(0.0, wait_s))
        fleet.revive()
        if event == "restart" and server is not None:
            server.crash()
            time.sleep(rng.uniform(0.0, 1.0))
            server.start()
            continue
        name = rng.choice(sorted(fleet.roles))
        killed[name] += 1
        started = time.monotonic()
        fleet.kill(name)
        if name == "gateway":
            asked(guard, "/v1/tenant")
            recovery.append(time.monotonic() - started)
    client.join()
    end = time.monotonic() + 600
    counts: dict[str, int] = {}
    while time.monotonic() < end:
        fleet.revive()
        counts = asked(guard, "/v1/tenant")[1]["jobs"]
        if not counts.get("queued") and not counts.get("running"):
            break
        time.sleep(0.5)
    found = _count(home, guard, client, counts)
    fleet.stop()
    found |= _audit(home, client)
    recovery.sort()
    return {
        "kills": sum(killed.values()), "killed": dict(killed),
        "postgres_restarts": restarts if server else 0,
        **found,
        "gateway_recovery_s": round(recovery[len(recovery) // 2], 1) if recovery else None,
        "load": round(os.getloadavg()[0], 1),
    }  # fmt: skip


def _count(
    home: Path, guard: RemoteGuard, client: Client, counts: dict[str, int]
) -> dict[str, Any]:
    outcomes: Counter[str] = Counter()
    attempts = 0
    for job in client.taken.values():
        attempts += asked(guard, f"/v1/jobs/{job}")[1]["attempts"]
        status, outcome = asked(guard, f"/v1/jobs/{job}/result")
        name = outcome["outcome"] if status == 200 else "PENDING"
        rule = (outcome.get("receipt") or {}).get("rule") or (outcome.get("error") or {}).get(
            "code"
        )
        outcomes[name if name == "RELEASE" else f"{name} {rule}"] += 1
        if name == "RELEASE":
            client.released.add(job)
    bill = home / "bill"
    billed = Counter(bill.read_text().split() if bill.exists() else ())
    return {
        "accepted": len(client.taken),
        "distinct_jobs": len(set(client.taken.values())),
        "jobs_in_store": sum(counts.values()),
        "unfinished": counts.get("queued", 0) + counts.get("running", 0),
        "attempts": attempts,
        "outcomes": dict(outcomes),
        "paid_calls": sum(billed.values()),
        "paid_twice": sum(n > 1 for n in billed.values()),
    }


def _audit(home: Path, client: Client) -> dict[str, Any]:
    """What the ledger and the counters say once everything has stopped."""
    import sqlite3

    recorded: Counter[str] = Counter()
    with Ledger.open(home) as ledger:
        for entry in ledger.entries("release"):
            recorded[str(entry.header.get("job"))] += 1
    with sqlite3.connect(home / "state.db") as db:
        (used,) = db.execute(
            "SELECT sum(amount) FROM total WHERE unit = 'jobs' AND scope LIKE 'budget/%'"
        ).fetchone()
    return {
        "released_without_a_record": len(client.released - set(recorded)),
        "ledger_sound": audit(home).ok,
        "budget_jobs_counted": int(used),
    }


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2:])
        sys.exit()
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--restarts", type=int, default=5)
    parser.add_argument("--sqlite", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(json.dumps(measure(options.kills, options.restarts, sqlite=options.sqlite,
                             seed=options.seed)))  # fmt: skip
