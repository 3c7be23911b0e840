"""Guarded Qiskit primitives and backends: ordinary results, with the receipt in their metadata."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from qiskit import QuantumCircuit
from qiskit.primitives import BaseEstimatorV2, BasePrimitiveJob, BaseSamplerV2, PrimitiveResult
from qiskit.primitives.containers.estimator_pub import EstimatorPub
from qiskit.primitives.containers.sampler_pub import SamplerPub
from qiskit.providers import BackendV2, JobStatus, JobV1
from qiskit.result import Result as QiskitResult

from interlock.circuits.qiskit_adapter import from_qiskit
from interlock.errors import InputError
from interlock.guard.control import Program
from interlock.guard.hooks import Options
from interlock.guard.hooks.qiskit_results import fallback_result, neutral, paired, to_native
from interlock.guard.hooks.qiskit_targets import (
    DEFAULT_SHOTS,
    backend_of,
    default_precision,
    default_shots,
    level_of,
    name_of,
    seed_of,
)
from interlock.guard.result import Result
from interlock.guard.service import Released

__all__ = ["GuardedBackend", "GuardedEstimator", "GuardedSampler", "wrap"]

#: Jobs of one process that may be under way at once; more wait their turn.
WORKERS = 8

_executor = ThreadPoolExecutor(max_workers=WORKERS, thread_name_prefix="interlock-job")


def wrap(target: Any, options: Options) -> Any:
    """Return a guarded object of the same kind.

    Raises:
        InputError: it is no sampler, estimator or backend.
    """
    if isinstance(target, BaseSamplerV2):
        return GuardedSampler(target, options)
    if isinstance(target, BaseEstimatorV2):
        return GuardedEstimator(target, options)
    if isinstance(target, BackendV2):
        return GuardedBackend(target, options)
    raise InputError(
        f"cannot guard a {type(target).__qualname__}",
        code="guard-unknown-object",
        got=type(target).__qualname__,
        expected="a BaseSamplerV2, BaseEstimatorV2 or BackendV2",
        fix="wrap the object that submits the jobs",
    )


class GuardedJob(BasePrimitiveJob[Any, JobStatus]):
    """A job under way on the guarded path."""

    def __init__(self, job_id: str, future: Future[Released], finish: Callable[[Released], Any]):
        super().__init__(job_id)
        self._future = future
        self._finish = finish
        self._done: Any = None

    def result(self) -> Any:
        """Return the result once it is released.

        Raises:
            DeniedError: the path refused the job.
            HeldError: it waits for an approval.
        """
        if self._done is None:
            self._done = self._finish(self._future.result())
        return self._done

    def status(self) -> JobStatus:
        """Return the status in Qiskit's terms; a refused job is an error."""
        if self._future.cancelled():
            return JobStatus.CANCELLED
        if not self._future.done():
            return JobStatus.RUNNING
        return JobStatus.DONE if self._future.exception() is None else JobStatus.ERROR

    def done(self) -> bool:
        """Whether it was released."""
        return self.status() is JobStatus.DONE

    def running(self) -> bool:
        """Whether it is still under way."""
        return self.status() is JobStatus.RUNNING

    def cancelled(self) -> bool:
        """Whether it was cancelled before it began."""
        return self._future.cancelled()

    def in_final_state(self) -> bool:
        """Whether it has ended."""
        return self._future.done()

    def cancel(self) -> bool:
        """Cancel it if it has not begun."""
        return self._future.cancel()


class GuardedSampler(BaseSamplerV2):
    """A sampler whose every job goes the guarded path."""

    interlock_guarded = True

    def __init__(self, inner: BaseSamplerV2, options: Options) -> None:
        self.inner = inner
        self.interlock = options

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def run(self, pubs: Iterable[Any], *, shots: int | None = None) -> GuardedJob:
        """Submit circuits; see `BaseSamplerV2.run`."""
        shots = shots if shots is not None else default_shots(self.inner)
        coerced = [_copied_sampler_pub(SamplerPub.coerce(p, shots)) for p in pubs]
        programs = [
            Program(
                circuit=from_qiskit(p.circuit),
                native=p.circuit,
                shots=int(p.shots),
                **_bound(p.circuit, p.parameter_values),
            )
            for p in coerced
        ]
        return _start(self.inner, self.interlock, "sample", coerced, programs, {})


class GuardedEstimator(BaseEstimatorV2):
    """An estimator whose every job goes the guarded path."""

    interlock_guarded = True

    def __init__(self, inner: BaseEstimatorV2, options: Options) -> None:
        self.inner = inner
        self.interlock = options

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def run(self, pubs: Iterable[Any], *, precision: float | None = None) -> GuardedJob:
        """Submit circuits and observables; see `BaseEstimatorV2.run`."""
        precision = precision if precision is not None else default_precision(self.inner)
        coerced = [_copied_estimator_pub(EstimatorPub.coerce(p, precision)) for p in pubs]
        programs = [
            Program(
                circuit=from_qiskit(p.circuit),
                native=p.circuit,
                precision=float(p.precision),
                observables=tuple(str(o) for o in _observables(p)),
                bounds=tuple(sum(abs(c) for c in o.values()) for o in _observables(p)),
                **_bound(p.circuit, p.parameter_values),
            )
            for p in coerced
        ]
        return _start(self.inner, self.interlock, "estimate", coerced, programs, {})


class GuardedBackend(BackendV2):
    """A backend whose `run` goes the guarded path; everything else is the backend's own."""

    interlock_guarded = True

    def __init__(self, inner: BackendV2, options: Options) -> None:
        super().__init__(name=inner.name, description=inner.description)
        self.inner = inner
        self.interlock = options

    def __getattr__(self, name: str) -> Any:
        if name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)

    @property
    def target(self) -> Any:
        """The backend's target."""
        return self.inner.target

    @property
    def max_circuits(self) -> int | None:
        """Circuits one job may have."""
        return self.inner.max_circuits  # type: ignore[no-any-return]

    @property
    def options(self) -> Any:
        """The backend's run options."""
        return self.inner.options

    @classmethod
    def _default_options(cls) -> Any:
        from qiskit.providers import Options as BackendOptions

        return BackendOptions()

    def run(self, run_input: Any, **options: Any) -> GuardedBackendJob:
        """Submit one circuit or a list of circuits; options go to the backend."""
        circuits = [run_input] if isinstance(run_input, QuantumCircuit) else list(run_input)
        copies = [c.copy() for c in circuits]
        shots = options.get("shots") or getattr(self.inner.options, "shots", None) or DEFAULT_SHOTS
        options = {**options, "shots": int(shots)}
        programs = [Program(circuit=from_qiskit(c), native=c, shots=int(shots)) for c in copies]
        job = _start(self.inner, self.interlock, "run", copies, programs, options)
        return GuardedBackendJob(self, job)


class GuardedBackendJob(JobV1):
    """A backend's job under way on the guarded path."""

    def __init__(self, backend: GuardedBackend, job: GuardedJob) -> None:
        super().__init__(backend, job.job_id())
        self._job = job

    def submit(self) -> None:
        """Do nothing: it was submitted when it was made."""

    def result(self) -> QiskitResult:
        """Return the result once it is released."""
        released: QiskitResult = self._job.result()
        return released

    def status(self) -> JobStatus:
        """Return the status; a refused job is an error."""
        return self._job.status()

    def cancel(self) -> bool:
        """Cancel it if it has not begun."""
        return self._job.cancel()


def _copied_sampler_pub(pub: SamplerPub) -> SamplerPub:
    """Copy the circuit: what is checked is what runs, whatever the caller does to it later."""
    return SamplerPub(pub.circuit.copy(), pub.parameter_values, pub.shots, validate=False)


def _copied_estimator_pub(pub: EstimatorPub) -> EstimatorPub:
    return EstimatorPub(
        pub.circuit.copy(), pub.observables, pub.parameter_values, pub.precision, validate=False
    )


def _observables(pub: EstimatorPub) -> list[dict[str, float]]:
    """Return the observables as mappings of Pauli string to coefficient, flattened."""
    return list(pub.observables.ravel().tolist())


def _bound(circuit: QuantumCircuit, values: Any) -> dict[str, Any]:
    parameters = list(circuit.parameters)
    if not parameters:
        size = int(np.prod(values.shape)) if values.shape else 1
        return {"values": [[]] * size if size != 1 else ()}
    array = values.as_array(parameters).reshape(-1, len(parameters))
    return {"parameters": tuple(p.name for p in parameters), "values": array.tolist()}


def _start(
    inner: Any,
    options: Options,
    kind: str,
    pubs: Sequence[Any],
    programs: Sequence[Program],
    run_options: Mapping[str, Any],
) -> GuardedJob:
    def on(target: Any, **extra: Any) -> Result:
        started = time.perf_counter()
        native = target.run(list(pubs), **run_options).result()
        seconds = time.perf_counter() - started
        return neutral(native, kind, programs, seconds, seed_of(target, run_options), target, extra)

    baseline: Callable[[], Result] | None = None
    if options.fallback is not None:
        baseline = lambda: fallback_result(options.fallback, on, pubs, kind, programs)  # noqa: E731
    decode = options.decode
    if kind == "estimate" and getattr(options.guard, "remote", False):
        programs = [paired(pub, p) for pub, p in zip(pubs, programs, strict=True)]
    future = _executor.submit(
        options.guard.submit,
        programs,
        kind=kind,
        backend_name=name_of(inner),
        backend=backend_of(inner),
        execute=lambda: on(inner),
        baseline=baseline,
        decode=(lambda result: decode(result.native)) if decode else None,
        seed=seed_of(inner, run_options),
        labels=options.labels,
        isolation=level_of(inner),
    )
    finish = lambda released: _with_receipt(released, kind, pubs)  # noqa: E731
    return GuardedJob(f"interlock-{id(future):x}", future, finish)


def _with_receipt(released: Released, kind: str, pubs: Sequence[Any]) -> Any:
    native = released.result.native
    if native is None:
        native = to_native(released.result, kind, pubs)
    receipt = released.receipt.as_dict()
    if isinstance(native, PrimitiveResult):
        return PrimitiveResult(list(native), metadata={**native.metadata, "interlock": receipt})
    if isinstance(native, QiskitResult):
        native.interlock = receipt
    return native
