"""Samplers and estimators that run every job in a fresh confined child of a warm worker."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
from qiskit import qpy
from qiskit.circuit import QuantumCircuit
from qiskit.primitives import (
    BackendEstimatorV2,
    BaseSamplerV2,
    BitArray,
    DataBin,
    PrimitiveJob,
    PrimitiveResult,
    SamplerPubResult,
)
from qiskit.primitives.containers.sampler_pub import SamplerPub
from qiskit.providers import BackendV2, Options
from qiskit.result import Result

from interlock.backends.twins import Twin, used_qubits
from interlock.backends.worker import pack, unpack
from interlock.confine import Completed, ForkServer, Level, Limits
from interlock.errors import BackendError, InputError

__all__ = ["ConfinedBackend", "ConfinedEstimator", "ConfinedSampler"]

_MODULE = "interlock.backends.worker"
_ENTRIES = tuple(f"{_MODULE}:{name}" for name in ("prepare", "sample"))
DEFAULT = Limits(cpu_s=60.0, wall_s=60.0, memory_mb=2048, threads=True)

_server: ForkServer | None = None
_server_lock = threading.Lock()


def shared_server() -> ForkServer:
    """Return the one warm worker of this process, made at first use."""
    global _server
    with _server_lock:
        if _server is None:
            _server = ForkServer(_ENTRIES, warm_up=(f"{_MODULE}:warm_up",))
        return _server


class _Confined:
    """What sampler and estimator share: the device's description and the way to the worker."""

    def __init__(
        self, backend: Any, seed: int | None, limits: Limits, minimum: Level, server: ForkServer
    ) -> None:
        self._backend = backend
        self._seed = seed
        self._limits = limits
        self._minimum = minimum
        self._worker = server
        self._kind, self._spec = _describe(backend)
        self._id = hashlib.sha256(self._kind.encode() + self._spec).hexdigest()
        self._prepared: set[tuple[int | None, tuple[int, ...]]] = set()
        self.last: Completed | None = None

    def call(
        self,
        entry: str,
        pubs: Sequence[dict[str, Any]],
        circuits: Sequence[QuantumCircuit],
        values: Sequence[bytes],
    ) -> tuple[dict[str, Any], list[bytes]]:
        buffer = io.BytesIO()
        qpy.dump(list(circuits), buffer)
        header = {"id": self._id, "seed": self._seed, "pubs": list(pubs)}
        payload = pack(header, buffer.getvalue(), *values)
        keys: list[tuple[int, ...]] = [()]
        if self._kind == "twin":
            keys = sorted({used_qubits(c) for c in circuits})
        done = self._run(entry, payload, keys)
        if done.level < self._minimum:
            raise BackendError(
                "the job ran at a level of isolation below the minimum",
                code="isolation-insufficient",
                got=f"{done.level.name}: " + "; ".join(done.missing),
                expected=self._minimum.name,
                fix="use a kernel with Landlock and seccomp, or lower the minimum",
            )
        self.last = done
        return unpack(done.result)

    def _run(self, entry: str, payload: bytes, keys: list[tuple[int, ...]]) -> Completed:
        for attempt in (1, 2):
            self._worker.start()
            pid = self._worker.pid
            if any((pid, key) not in self._prepared for key in keys):
                described = {"id": self._id, "kind": self._kind, "qubits": keys}
                self._worker.prepare(f"{_MODULE}:prepare", pack(described, self._spec))
                self._prepared |= {(pid, key) for key in keys}
            try:
                return self._worker.run(f"{_MODULE}:{entry}", payload, self._limits)
            except InputError as error:
                if error.code != "worker-unprepared" or attempt == 2:
                    raise
                self._prepared.clear()
        raise AssertionError("the second attempt returns or raises")


def _describe(backend: Any) -> tuple[str, bytes]:
    if isinstance(backend, Twin):
        return "twin", backend.spec.to_json()
    from qiskit_aer import AerSimulator

    if isinstance(backend, AerSimulator):
        model = backend.options.noise_model
        noise = None if model is None or model.is_ideal() else _plain(model.to_dict())
        options = {"method": backend.options.method, "max_parallel_threads": 1}
        return "aer", msgspec.json.encode(options | {"noise_model": noise}, order="deterministic")
    raise InputError(
        "this backend cannot be run in a worker",
        code="worker-backend",
        got=type(backend).__name__,
        expected="an interlock.backends.Twin or a qiskit_aer.AerSimulator",
        fix="run it unconfined; a cloud device does not run on this machine anyway",
    )


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        if np.iscomplexobj(value):
            return {"__complex__": np.stack([value.real, value.imag], -1).tolist()}
        return value.tolist()
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value.item() if isinstance(value, np.generic) else value


def _parameters(circuit: QuantumCircuit, bindings: Any) -> tuple[dict[str, Any], bytes]:
    parameters = list(circuit.parameters)
    array = np.ascontiguousarray(bindings.as_array(parameters), dtype=np.float64)
    return (
        {"parameters": [p.name for p in parameters], "shape": list(bindings.shape)},
        array.tobytes() if parameters else b"",
    )


def _array(blob: bytes, dtype: Any, shape: Sequence[int]) -> np.ndarray[Any, Any]:
    try:
        return np.frombuffer(blob, dtype=dtype).reshape(shape).copy()
    except (ValueError, TypeError) as error:
        raise BackendError(
            "the worker's result is malformed",
            code="worker-message",
            got=str(error),
            expected="an array of the shape it names",
            fix="treat the worker as broken; report it if it recurs",
        ) from error


class ConfinedSampler(BaseSamplerV2):
    """A sampler whose every job runs in a confined child.

    Args:
        backend: a `Twin` or an `AerSimulator`.
        default_shots: when neither `run` nor the pub says.
        seed: same seed, same counts.
        limits: of each job.
        minimum: the lowest level of confinement accepted.
        server: the warm worker; one is shared by all by default.
    """

    def __init__(
        self,
        backend: Any,
        *,
        default_shots: int = 1024,
        seed: int | None = None,
        limits: Limits = DEFAULT,
        minimum: Level = Level.CONFINED,
        server: ForkServer | None = None,
    ) -> None:
        self.backend = backend
        self.seed = seed
        self.isolation_level = minimum.name.lower()
        self._shots = default_shots
        self._confined = _Confined(backend, seed, limits, minimum, server or shared_server())

    @property
    def last(self) -> Completed | None:
        """How the latest job was held and what it used."""
        return self._confined.last

    def run(self, pubs: Iterable[Any], *, shots: int | None = None) -> Any:
        """Run and return a job whose result is a `PrimitiveResult`."""
        coerced = [SamplerPub.coerce(p, self._shots if shots is None else shots) for p in pubs]
        job = PrimitiveJob(self._run, coerced)
        job._submit()
        return job

    def _run(self, pubs: list[SamplerPub]) -> Any:
        described, values = [], []
        for pub in pubs:
            head, blob = _parameters(pub.circuit, pub.parameter_values)
            described.append(head | {"shots": pub.shots})
            values.append(blob)
        header, blobs = self._confined.call("sample", described, [p.circuit for p in pubs], values)
        results, parts = [], iter(blobs)
        for pub, made in zip(pubs, header["pubs"], strict=True):
            shape = tuple(made["shape"])
            data = {
                r["name"]: BitArray(_array(next(parts), np.uint8, r["shape"]), r["bits"])
                for r in made["registers"]
            }
            results.append(SamplerPubResult(DataBin(**data, shape=shape), {"shots": pub.shots}))
        return PrimitiveResult(results, metadata={"version": 2})


class ConfinedBackend(BackendV2):
    """A backend that runs circuits through a `ConfinedSampler` and answers with counts."""

    def __init__(self, inner: Any, sampler: ConfinedSampler) -> None:
        super().__init__(name=inner.name)
        self._inner = inner
        self._sampler = sampler

    @property
    def target(self) -> Any:
        """The device's own."""
        return self._inner.target

    @property
    def max_circuits(self) -> None:
        """No limit."""
        return

    @classmethod
    def _default_options(cls) -> Options:
        return Options(shots=1024)

    def run(self, run_input: Any, **options: Any) -> Any:
        """Run circuits, `shots` times each, and return a job whose result has counts."""
        circuits = [run_input] if isinstance(run_input, QuantumCircuit) else list(run_input)
        shots = options.get("shots", self.options.shots)
        job = PrimitiveJob(self._counts, circuits, shots)
        job._submit()
        return job

    def _counts(self, circuits: list[QuantumCircuit], shots: int) -> Result:
        found = self._sampler.run(circuits, shots=shots).result()
        rows = [
            {
                "shots": shots,
                "success": True,
                "data": {"counts": _hex(data.data.values())},
                "header": {"memory_slots": circuit.num_clbits},
            }
            for circuit, data in zip(circuits, found, strict=True)
        ]
        return Result.from_dict({"results": rows, "success": True, "job_id": "confined"})


class ConfinedEstimator(BackendEstimatorV2):
    """An estimator that samples in confined children; arguments as `ConfinedSampler`."""

    def __init__(
        self,
        backend: Any,
        *,
        precision: float = 0.02,
        seed: int | None = None,
        limits: Limits = DEFAULT,
        minimum: Level = Level.CONFINED,
        server: ForkServer | None = None,
    ) -> None:
        sampler = ConfinedSampler(backend, seed=seed, limits=limits, minimum=minimum, server=server)
        super().__init__(
            backend=ConfinedBackend(backend, sampler), options={"default_precision": precision}
        )
        self.seed = seed
        self.isolation_level = sampler.isolation_level
        self.calibration = getattr(backend, "calibration", None)


def _hex(registers: Iterable[BitArray]) -> dict[str, int]:
    """Join the registers, the first in the lowest bits, and count."""
    joined = BitArray.concatenate_bits(list(registers))
    return {hex(int(bits, 2)): n for bits, n in joined.get_counts().items()}
