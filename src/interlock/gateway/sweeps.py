"""Sweeps: many guarded jobs over Ray's workers, with the results in order.

Each worker has a guard of its own on the same home, whose counters and ledger all share, or at the
same gateway. Circuits and results cross as JSON; Ray's own messages between its processes are
pickles, which is why a cluster started here takes only messages that carry its secret.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import secrets
import shutil
import signal
import tempfile
import threading
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from interlock import config, extras
from interlock.circuits.convert import canonical
from interlock.errors import BackendError, InterlockError, UsageError
from interlock.gateway.broker import Broker, run, with_native
from interlock.gateway.wire import ProgramWire, Submission, parse_submission, programs_of
from interlock.gateway.work import failed, released_view
from interlock.guard.policy import Policy, load_policy
from interlock.guard.record import Receipt
from interlock.guard.remote import RemoteGuard, result_of
from interlock.guard.result import Result
from interlock.guard.service import Guard

__all__ = ["Point", "over", "sweep"]

#: A point whose worker died is tried this often altogether.
ATTEMPTS = 2
#: For the last checkpoints; a worker that takes longer is ended, and its records stand.
CLOSE_S = 30.0
#: Ray gives up its start after 30 s, which a busy machine can take.
STARTS = 3
STORE_BYTES = 80_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """How one job of a sweep ended.

    Attributes:
        index: position in the sweep.
        outcome: RELEASE, FALLBACK, HOLD, DENY or FAILED.
        receipt: of a job that ended on the path, or None.
        result: of a job that was released, or None.
        error: why it was not released, as `InterlockError.as_dict` writes it, or None.
        attempts: 2 when a worker died with it.
    """

    index: int
    outcome: str
    receipt: Receipt | None
    result: Result | None
    error: Mapping[str, Any] | None
    attempts: int


class _Setup(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker makes its guard from."""

    home: str
    policy: dict[str, Any]
    pipeline: str
    url: str | None
    token: str | None
    ca: str | None


class _Runner:
    """One worker. It makes its guard with its first job, so that a fault is that job's answer."""

    def __init__(self, setup: bytes) -> None:
        self._setup = msgspec.json.decode(setup, type=_Setup)
        self._guard: Guard | None = None
        self._remote: RemoteGuard | None = None

    def run(self, body: bytes, key: str) -> bytes:
        """Take a submission along the path and return its outcome, as JSON."""
        try:
            outcome = self._local(body, key) if self._setup.url is None else self._sent(body, key)
        except Exception as error:  # noqa: BLE001 - a broken job must not end the worker
            outcome = failed(error)
        return msgspec.json.encode(outcome)

    def close(self) -> None:
        """Sign a checkpoint over the worker's records."""
        if self._guard is not None:
            self._guard.close()

    def _sent(self, body: bytes, key: str) -> dict[str, Any]:
        self._remote = self._remote or _client(self._setup)
        return self._remote.outcome(body, key)

    def _local(self, body: bytes, key: str) -> dict[str, Any]:
        setup = self._setup
        if self._guard is None:
            self._guard = Guard(policy=setup.policy, home=setup.home, pipeline=setup.pipeline)
        job = parse_submission(body)
        programs = with_native(programs_of(job))
        opened = Broker(Path(setup.home)).open(job.backend, "local")
        released = self._guard.submit(
            programs,
            kind=job.kind,
            backend_name=job.backend,
            backend=opened.backend,
            execute=lambda: run(opened, job.kind, programs, job.seed),
            seed=job.seed,
            labels=job.labels,
            isolation=opened.level,
            job_id=key,
        )
        return released_view(released)


def over(
    circuit: Any,
    rows: Sequence[Mapping[str, float]],
    *,
    backend: str,
    shots: int = 0,
    observables: Sequence[str] = (),
    seed: int | None = None,
    labels: Sequence[str] = (),
) -> list[Submission]:
    """Return one job for each set of parameters of a circuit.

    Args:
        circuit: of any SDK, or in canonical form.
        rows: parameter name -> value, for each job.
        backend: name in `backends.yaml`.
        shots: of each job, to sample; or
        observables: to estimate, each as "{'ZZ': 1.0}".
        seed: of a simulator.
        labels: data labels.

    Example:
        >>> from interlock.circuits.canonical import Circuit
        >>> over(Circuit(num_qubits=1), [{}, {}], backend="aer_simulator", shots=9)[1].shots
        9
    """
    plain = msgspec.json.decode(canonical(circuit).to_json())
    return [
        Submission(
            kind="estimate" if observables else "sample",
            backend=backend,
            seed=seed,
            labels=tuple(labels),
            programs=(
                ProgramWire(
                    circuit=plain,
                    parameters=tuple(row),
                    values=(tuple(map(float, row.values())),) if row else (),
                    shots=shots,
                    observables=tuple(observables),
                ),
            ),
        )
        for row in rows
    ]


def sweep(
    jobs: Sequence[Submission],
    *,
    workers: int = 2,
    policy: Policy | Mapping[str, Any] | str | Path | None = None,
    home: str | Path | None = None,
    pipeline: str = "default",
    url: str | None = None,
    token: str | None = None,
    ca: str | Path | None = None,
    key: str | None = None,
    address: str | None = None,
) -> list[Point]:
    """Run jobs on Ray's workers and return how each ended, in the order of the jobs.

    Nothing is raised for a job that was refused or failed: its point says so. A worker that dies
    is replaced and its job tried once more under the same id or idempotency key, unless nobody
    can know whether a provider was called; then it is reported (`execution-uncertain`). After an
    interrupt nothing is left running here, and what still waits at the gateway is cancelled.

    Args:
        jobs: see `over`, or make each `Submission`.
        workers: processes, one core each.
        policy: as for `interlock.guard`; the gateway's own with a URL.
        home: folder of ledger, counters and `backends.yaml` that all workers share.
        pipeline: name under which releases are counted; with a URL each job's own.
        url: a gateway that takes the jobs instead.
        token: bearer token or API key for the gateway.
        ca: file of the CAs to trust for the gateway.
        key: with a URL: a sweep with the same key and jobs gives the same jobs' outcomes.
        address: a Ray cluster to use; otherwise one is started on this machine for the sweep. One
            that the program has connected to already is used, and left as it is.

    Raises:
        UsageError: the arguments contradict each other.
        InputError: a job is wrong; none has run.
        PolicyError: the policy is wrong.
        SetupError: the extra `ray` is missing.
        BackendError: the cluster cannot be started or reached.
    """
    _check(workers, url, address, policy=policy, home=home, token=token, ca=ca, key=key)
    bodies = [msgspec.json.encode(parse_submission(msgspec.json.encode(job))) for job in jobs]
    folder = config.home(home)
    specs = {} if url else Broker(folder).specs
    again = [url is not None or (j.backend in specs and specs[j.backend].replayable) for j in jobs]
    setup = _Setup(
        home=str(folder),
        policy={} if url else dict(load_policy(policy).document),
        pipeline=pipeline,
        url=url,
        token=token,
        ca=str(Path(ca).resolve()) if ca else None,
    )
    if not bodies:
        return []
    stem = key or secrets.token_hex(12)
    names = [f"{stem}-{index}" for index in range(len(bodies))]
    with _cluster(workers, address) as ray:
        return _Sweep(ray, setup, bodies, names, again).run(min(workers, len(bodies)))


class _Sweep:
    """A sweep under way."""

    def __init__(
        self, ray: Any, setup: _Setup, bodies: list[bytes], names: list[str], again: list[bool]
    ) -> None:
        self._ray = ray
        self._setup = setup
        self._bodies = bodies
        self._names = names
        self._again = again
        self._busy: dict[Any, tuple[Any, int]] = {}
        self._attempts: Counter[int] = Counter()

    def run(self, workers: int) -> list[Point]:
        waiting = deque(range(len(self._bodies)))
        points: dict[int, Point] = {}
        free = [self._worker() for _ in range(workers)]
        actors = {id(worker): worker for worker in free}
        try:
            while waiting or self._busy:
                while waiting and free:
                    index, worker = waiting.popleft(), free.pop()
                    self._attempts[index] += 1
                    job = worker.run.remote(self._bodies[index], self._names[index])
                    self._busy[job] = worker, index
                ready, _ = self._ray.wait(list(self._busy), num_returns=1)
                worker, index = self._busy.pop(ready[0])
                outcome = self._answer(ready[0])
                if outcome is None:
                    self._ray.kill(actors.pop(id(worker)))
                    worker = self._worker()
                    actors[id(worker)] = worker
                    if self._again[index] and self._attempts[index] < ATTEMPTS:
                        waiting.appendleft(index)
                    else:
                        points[index] = self._point(index, failed(self._lost(index)))
                else:
                    points[index] = self._point(index, outcome)
                free.append(worker)
            with contextlib.suppress(self._ray.exceptions.RayError):
                self._ray.get([worker.close.remote() for worker in free], timeout=CLOSE_S)
        finally:
            for worker in actors.values():
                self._ray.kill(worker)
            self._withdraw()
        return [points[index] for index in range(len(self._bodies))]

    def _worker(self) -> Any:
        kind = self._ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0)(_Runner)
        return kind.remote(msgspec.json.encode(self._setup))

    def _answer(self, job: Any) -> dict[str, Any] | None:
        """Return the outcome of a job, or None when its worker died with it."""
        try:
            return dict(msgspec.json.decode(self._ray.get(job)))
        except self._ray.exceptions.RayActorError:
            return None

    def _lost(self, index: int) -> InterlockError:
        if self._again[index]:
            return BackendError(
                "the job's worker died, twice",
                code="sweep-worker-lost",
                got=f"job {self._names[index]}, {self._attempts[index]} attempts",
                expected="a worker that lives until its job has ended",
                fix="see whether the machine ran out of memory; run the point alone",
            )
        return BackendError(
            "the job's worker died and may have called the provider",
            code="execution-uncertain",
            got=f"job {self._names[index]}",
            expected="an answer, or a backend where a second run is harmless",
            fix="look the job up at the provider; submit it again if it never ran",
        )

    def _point(self, index: int, outcome: Mapping[str, Any]) -> Point:
        receipt, result = outcome.get("receipt"), outcome.get("result")
        return Point(
            index=index,
            outcome=str(outcome["outcome"]),
            receipt=msgspec.convert(receipt, Receipt) if receipt else None,
            result=result_of(result) if result else None,
            error=outcome.get("error"),
            attempts=self._attempts[index],
        )

    def _withdraw(self) -> None:
        """Cancel at the gateway what was under way when the sweep was broken off."""
        if self._setup.url is None or not self._busy:
            return
        client = _client(self._setup)
        for _, index in self._busy.values():
            with contextlib.suppress(InterlockError):
                name = {"idempotency-key": self._names[index]}
                _, made = client.request("POST", "/v1/jobs", self._bodies[index], name)
                client.request("POST", f"/v1/jobs/{made['id']}/cancel")
        client.close()


def _client(setup: _Setup) -> RemoteGuard:
    return RemoteGuard(setup.url or "", token=setup.token, ca=setup.ca)


def _check(workers: int, url: str | None, address: str | None, **given: Any) -> None:
    local, remote = ("policy", "home"), ("token", "ca", "key")
    odd = [name for name in (local if url else remote) if given[name] is not None]
    if address is not None and url is None:
        odd.append("address")
    if not odd and workers >= 1:
        return
    raise UsageError(
        "a sweep cannot be run like this",
        code="sweep-options",
        got=f"workers={workers}" if not odd else f"{', '.join(odd)} with{'' if url else 'out'} url",
        expected="workers >= 1; with a url token, ca, key and address; without one policy and home",
        fix="a home is one machine's: for a cluster serve a gateway and give its url",
    )


@contextlib.contextmanager
def _cluster(workers: int, address: str | None) -> Iterator[Any]:
    """Give Ray, connected; what was started here ends here."""
    try:
        import ray
    except ModuleNotFoundError as error:
        raise extras.missing(error) from error
    if ray.is_initialized():
        yield ray
        return
    names = {"RAY_USAGE_STATS_ENABLED": "0"}
    if address is None:
        names |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    try:
        with _environment(names):
            _read_environment()
            yield from _connected(ray, workers, address)
    finally:
        _read_environment()


def _read_environment() -> None:
    """Have Ray read mode and secret anew: it keeps what it saw when it was imported."""
    inner = importlib.import_module("ray._raylet")
    inner.Config.initialize("")
    inner.AuthenticationTokenLoader.instance().reset_cache()


def _connected(ray: Any, workers: int, address: str | None) -> Iterator[Any]:
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM)
    folder = tempfile.mkdtemp(prefix="interlock-ray-")
    options: dict[str, Any] = {"address": address}
    if address is None:
        options = {
            "address": "local",
            "num_cpus": workers,
            "include_dashboard": False,
            "object_store_memory": STORE_BYTES,
            "_node_ip_address": "127.0.0.1",
            "_temp_dir": folder,
        }
    try:
        for attempt in range(STARTS):
            try:
                ray.init(**options, configure_logging=False, log_to_driver=False)
                break
            except Exception as error:
                ray.shutdown()
                _end(folder)
                if attempt == STARTS - 1 or address is not None:
                    raise _unreachable(error) from error
        yield ray
    finally:
        ray.shutdown()
        _end(folder)
        shutil.rmtree(folder, ignore_errors=True)
        if main:
            signal.signal(signal.SIGTERM, handler)  # Ray puts its own there


def _end(folder: str) -> None:
    """End what Ray started and has forgotten: all of it names the folder made for it."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if folder.encode() in path.read_bytes():
                os.kill(int(path.parent.name), signal.SIGKILL)


def _unreachable(error: Exception) -> BackendError:
    return BackendError(
        "Ray cannot be started or reached",
        code="sweep-cluster",
        got=f"{type(error).__name__}: {error}"[:300],
        expected="a cluster",
        fix="check the address, the versions on both sides, and memory and processes",
    )


@contextlib.contextmanager
def _environment(names: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
