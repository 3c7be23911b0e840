"""Sweeps over real Ray workers: one that is killed, budgets, a gateway, an interrupt."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import pytest

from interlock.circuits.canonical import Circuit, Operation
from interlock.errors import InputError, SetupError, UsageError
from interlock.gateway import sweeps
from interlock.gateway.rest import build_app
from interlock.gateway.sweeps import over, sweep
from interlock.gateway.wire import Submission
from interlock.guard.policy import load_policy
from interlock.ledger import Ledger
from tests.integration.gateway.kit import bell, kit

if find_spec("ray") is None:
    pytest.skip("needs the extra ray", allow_module_level=True)
pytestmark = [pytest.mark.slow, pytest.mark.alone]

JOBS = [msgspec.convert(bell(100 + i), Submission) for i in range(6)]


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    with sweeps._cluster(2, None) as connected:
        yield connected


def priced(**budget: Any) -> dict[str, Any]:
    document = json.loads(json.dumps(load_policy().document))
    document["admit"]["budget"] = {"prices": {"*": {"per_task_usd": 1.0}}, **budget}
    return document


def family(root: int) -> list[int]:
    """A process's descendants."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rsplit(")", 1)[1].split()[1])
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found - {root})


def running() -> list[int]:
    """Our workers that have a job now; Ray writes it into their title."""
    found = []
    for pid in family(os.getpid()):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::_Runner.run"):
                found.append(pid)
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@contextmanager
def serving(gateway: Any) -> Iterator[str]:
    import uvicorn

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(
            uvicorn.Config(build_app(gateway), lifespan="off", log_level="critical")
        )
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def killing(many: int) -> Iterator[list[int]]:
    """Kill the first workers that are seen with a job."""
    killed: list[int] = []
    over = threading.Event()

    def hunt() -> None:
        while not over.is_set() and len(killed) < many:
            for pid in set(running()) - set(killed):
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
                if len(killed) == many:
                    break
            time.sleep(0.01)

    thread = threading.Thread(target=hunt)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


def test_a_killed_workers_job_is_tried_again_and_the_order_stays(ray: Any, tmp_path: Path) -> None:
    with killing(1) as killed:
        points = sweep(JOBS, home=tmp_path)
    assert len(killed) == 1
    assert [(p.index, p.outcome, p.error) for p in points] == [
        (i, "RELEASE", None) for i in range(6)
    ]
    assert sorted(p.attempts for p in points) == [1, 1, 1, 1, 1, 2]
    for i, point in enumerate(points):
        assert point.result is not None
        assert sum(point.result.items[0].registers["meas"][0].values()) == 100 + i  # type: ignore[union-attr]
    with Ledger.read(tmp_path) as ledger:
        for point in points:
            assert point.receipt is not None
            assert ledger.find(point.receipt.id).leaf_hash.hex() == point.receipt.leaf_sha256
        ended = Counter(e.header["job"] for e in ledger.entries() if "outcome" in e.header)
    assert set(ended) == {p.receipt.job for p in points if p.receipt}


def test_the_workers_share_one_budget(ray: Any, tmp_path: Path) -> None:
    points = sweep(JOBS, home=tmp_path, policy=priced(max_cost_usd_per_day=4))
    assert Counter(p.outcome for p in points) == {"RELEASE": 4, "DENY": 2}
    for point in points:
        assert point.receipt is not None
        assert (point.result is None) == (point.outcome == "DENY")
        if point.outcome == "DENY":
            assert str(point.receipt.rule).startswith("admit.budget")
            assert point.error is not None
            assert point.error["code"] == "job-denied"


def test_a_worker_that_dies_twice_is_reported(ray: Any, tmp_path: Path) -> None:
    with killing(2):
        points = sweep(JOBS[:1], home=tmp_path)
    assert (points[0].outcome, points[0].attempts, points[0].receipt) == ("FAILED", 2, None)
    assert points[0].error is not None
    assert points[0].error["code"] == "sweep-worker-lost"


def test_nothing_is_sent_to_a_provider_twice(ray: Any, tmp_path: Path) -> None:
    # The device cannot be opened here; the worker dies before it finds that out.
    (tmp_path / "backends.yaml").write_text(
        "backends: {ibm_x: {provider: ibm, credential: none}, aer_simulator: {provider: aer}}"
    )
    job = msgspec.structs.replace(JOBS[0], backend="ibm_x")
    with killing(1):
        points = sweep([job], home=tmp_path)
    assert (points[0].outcome, points[0].attempts) == ("FAILED", 1)
    assert points[0].error is not None
    assert points[0].error["code"] == "execution-uncertain"
    points = sweep([job, JOBS[0], msgspec.structs.replace(job, backend="none")], home=tmp_path)
    assert [p.outcome for p in points] == ["FAILED", "RELEASE", "FAILED"]
    assert [p.error["code"] for p in points if p.error] == ["credential-missing", "backend-unknown"]


def test_at_a_gateway_a_killed_workers_job_is_one_job(ray: Any, tmp_path: Path) -> None:
    with kit(tmp_path / "home") as made, serving(made.gateway) as url:
        token = made.key("ada")
        with killing(1) as killed:
            points = sweep(JOBS, url=url, token=token, key="s")
        assert len(killed) == 1
        assert [p.outcome for p in points] == ["RELEASE"] * 6
        assert sum(made.gateway.store.counts("north").values()) == 6
        again = sweep(JOBS, url=url, token=token, key="s")
        assert [p.receipt for p in again] == [p.receipt for p in points]
        other = sweep(JOBS[1:2], url=url, token=token, key="s")
        assert other[0].error is not None
        assert other[0].error["code"] == "idempotency-key"
        denied = sweep(JOBS[:1], url=url, token="wrong")
        assert denied[0].outcome in ("DENY", "FAILED")
        assert denied[0].receipt is None


def test_parameter_sets_become_jobs(ray: Any, tmp_path: Path) -> None:
    circuit = Circuit(
        num_qubits=1,
        num_clbits=1,
        operations=(
            Operation("ry", ("t",), (0,)),
            Operation("measure", (), (0,), (0,)),
        ),
        registers=(("c", (0,)),),
    )
    jobs = over(circuit, [{"t": 0.0}, {"t": 3.141592653589793}], backend="aer_simulator", shots=50)
    counts = [p.result.items[0].registers["c"][0] for p in sweep(jobs, home=tmp_path) if p.result]  # type: ignore[union-attr]
    assert counts == [{"0": 50}, {"1": 50}]
    with pytest.raises(InputError, match="do not fit"):
        sweep(over(circuit, [{"u": 1.0}], backend="aer_simulator", shots=5), home=tmp_path)


SCRIPT = """
import msgspec, sys
from interlock.gateway.sweeps import sweep
from interlock.gateway.wire import Submission
job = msgspec.json.decode(sys.argv[2], type=Submission)
print("begin", flush=True)
try:
    sweep([job] * 5000, home=sys.argv[1])
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_an_interrupt_leaves_nothing_running(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="il-") as folder:  # Ray's sockets need a short path
        program = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(tmp_path), json.dumps(bell(100))],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": folder},
            start_new_session=True,
        )
        try:
            while not (tmp_path / "ledger.db").exists():
                assert program.poll() is None, program.communicate()
                time.sleep(0.05)
            ours = family(program.pid)
            assert len(ours) > 3
            program.send_signal(signal.SIGINT)
            out, said = program.communicate(timeout=120)
            assert (out.split(), program.returncode) == (["begin", "interrupted"], 0), said
        finally:
            program.kill()
            program.wait()
        end = time.monotonic() + 60
        while left := [pid for pid in ours if alive(pid)]:
            assert time.monotonic() < end, left
            time.sleep(0.1)
        assert list(Path(folder).glob("interlock-ray-*")) == []


@pytest.mark.parametrize(
    "options",
    [
        {"workers": 0},
        {"key": "k"},
        {"token": "t"},
        {"address": "10.0.0.1:6379"},
        {"url": "https://g", "home": "/nowhere"},
        {"url": "https://g", "policy": {}},
    ],
)
def test_arguments_that_contradict_each_other_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        sweep(JOBS, **options)
    assert caught.value.code == "sweep-options"


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SetupError) as caught:
        sweep(JOBS, home=tmp_path)
    assert (caught.value.code, caught.value.fix) == (
        "extra-missing",
        "pip install 'interlock[ray]'",
    )
