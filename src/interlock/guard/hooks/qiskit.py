"""Guarded Qiskit primitives and backends: ordinary results, with the receipt in their metadata."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from copy import deepcopy
from typing import Any

import numpy as np
from qiskit import QuantumCircuit
from qiskit.primitives import BaseEstimatorV2, BasePrimitiveJob, BaseSamplerV2, PrimitiveResult
from qiskit.primitives.containers.bindings_array import BindingsArray
from qiskit.primitives.containers.estimator_pub import EstimatorPub
from qiskit.primitives.containers.sampler_pub import SamplerPub
from qiskit.providers import BackendV2, JobStatus, JobV1
from qiskit.result import Result as QiskitResult

from interlock.circuits.canonical import Circuit
from interlock.errors import InputError
from interlock.guard.control import Program
from interlock.guard.hooks import Options
from interlock.guard.hooks.common import (
    Guarded,
    baseline,
    classical,
    decoder,
    on_record,
    receipt_of,
    recorded_options,
    unknown_object,
)
from interlock.guard.hooks.qiskit_bases import executions
from interlock.guard.hooks.qiskit_checked import neutral
from interlock.guard.hooks.qiskit_direct import lane_of, ran
from interlock.guard.hooks.qiskit_native import native as native_form
from interlock.guard.hooks.qiskit_options import refuse_multiplying, written_out
from interlock.guard.hooks.qiskit_results import fallback_result, paired, to_native
from interlock.guard.hooks.qiskit_targets import (
    DEFAULT_SHOTS,
    backend_of,
    default_precision,
    default_shots,
    level_of,
    name_of,
    named,
    seed_of,
)
from interlock.guard.jobs import Released
from interlock.guard.result import Result

__all__ = ["GuardedBackend", "GuardedEstimator", "GuardedSampler", "wrap"]


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
    raise unknown_object(target, "a BaseSamplerV2, BaseEstimatorV2 or BackendV2")


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


class _Guarded(Guarded):
    def __getattr__(self, name: str) -> Any:
        return _passed(self, name)

    def device_name(self) -> str:
        return name_of(self._inner)


class GuardedSampler(_Guarded, BaseSamplerV2):
    """A sampler whose every job goes the guarded path."""

    @on_record("sample")
    def run(self, pubs: Iterable[Any], *, shots: int | None = None) -> GuardedJob:
        """Submit circuits; see `BaseSamplerV2.run`."""
        shots = shots if shots is not None else default_shots(self._inner)
        inner, backend = self._inner, backend_of(self._inner)
        taken = [_copied_sampler_pub(SamplerPub.coerce(p, shots), inner, backend) for p in pubs]
        coerced = [p for p, _ in taken]
        programs = [
            Program(
                circuit=form,
                native=p.circuit,
                shots=p.shots,
                **_bound(p.circuit, p.parameter_values),
            )
            for p, form in taken
        ]
        return _start(inner, backend, self.interlock, "sample", coerced, programs, {})


class GuardedEstimator(_Guarded, BaseEstimatorV2):
    """An estimator whose every job goes the guarded path."""

    @on_record("estimate")
    def run(self, pubs: Iterable[Any], *, precision: float | None = None) -> GuardedJob:
        """Submit circuits and observables; see `BaseEstimatorV2.run`."""
        precision = precision if precision is not None else default_precision(self._inner)
        inner, backend = self._inner, backend_of(self._inner)
        taken = [
            _copied_estimator_pub(EstimatorPub.coerce(p, precision), inner, backend) for p in pubs
        ]
        coerced = [p for p, _ in taken]
        programs = [
            Program(
                circuit=form,
                native=p.circuit,
                precision=None if p.precision is None else float(p.precision),
                shape=tuple(p.shape),
                observables=tuple(str(o) for o in _observables(p)),
                bounds=tuple(sum(abs(c) for c in o.values()) for o in _observables(p)),
                executions=executions(p, self._inner),
                **_bound(p.circuit, p.parameter_values),
            )
            for p, form in taken
        ]
        return _start(inner, backend, self.interlock, "estimate", coerced, programs, {})


class GuardedBackend(_Guarded, BackendV2):
    """A backend whose `run` goes the guarded path; everything else is the backend's own."""

    def __init__(self, inner: BackendV2, options: Options) -> None:
        BackendV2.__init__(self, name=inner.name, description=inner.description)
        super().__init__(inner, options)

    def set_options(self, **fields: Any) -> None:
        """Set options of the backend."""
        self._inner.set_options(**fields)

    @property
    def target(self) -> Any:
        """The backend's target."""
        return self._inner.target

    @property
    def max_circuits(self) -> int | None:
        """Circuits one job may have."""
        return self._inner.max_circuits  # type: ignore[no-any-return]

    @property
    def options(self) -> Any:
        """The backend's run options."""
        return self._inner.options

    @classmethod
    def _default_options(cls) -> Any:
        from qiskit.providers import Options as BackendOptions

        return BackendOptions()

    @on_record("run")
    def run(self, run_input: Any, parameter_binds: Any = None, **options: Any) -> GuardedBackendJob:
        """Submit one circuit or a list of circuits; options go to the backend.

        Args:
            run_input: the circuits.
            parameter_binds: for each circuit a mapping of parameter to its values; each set of
                values becomes a circuit of the job.
            options: for the backend; they are on record.

        Raises:
            InputError: it is no circuit; `job-options`.
        """
        if isinstance(run_input, str) or not isinstance(run_input, QuantumCircuit | Iterable):
            raise InputError(
                "a backend runs circuits",
                code="guard-unknown-object",
                got=type(run_input).__name__,
                expected="a QuantumCircuit or a list of them",
                fix="read a circuit file with interlock.circuits.ingest first",
            )
        circuits = [run_input] if isinstance(run_input, QuantumCircuit) else list(run_input)
        refuse_multiplying(options)
        if parameter_binds:
            circuits = written_out(circuits, parameter_binds)
        inner, backend = self._inner, backend_of(self._inner)
        taken = [native_form(c, inner, backend) for c in circuits]
        shots = options.get("shots")
        if shots is None:
            shots = getattr(self._inner.options, "shots", None) or DEFAULT_SHOTS
        options = {**options, "shots": shots}
        copies = [c for c, _ in taken]
        programs = [Program(circuit=form, native=c, shots=shots) for c, form in taken]
        job = _start(inner, backend, self.interlock, "run", copies, programs, options)
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


def _passed(guarded: Any, name: str) -> Any:
    """Return an attribute of the wrapped object; a backend among them comes guarded."""
    if name.startswith("_") or "_inner" not in guarded.__dict__:
        raise AttributeError(f"{type(guarded).__name__} has no attribute {name!r}")
    value = getattr(guarded._inner, name)
    if isinstance(value, BackendV2) and not getattr(value, "interlock_guarded", False):
        return GuardedBackend(value, guarded.interlock)
    return value


def _copied_sampler_pub(pub: SamplerPub, device: Any, backend: Any) -> tuple[SamplerPub, Circuit]:
    """Copy it: what is checked is what runs, whatever the caller does to its parts later."""
    circuit, form = native_form(pub.circuit, device, backend)
    values = _copied(pub.parameter_values)
    return SamplerPub(circuit, values, pub.shots, validate=False), form


def _copied_estimator_pub(
    pub: EstimatorPub, device: Any, backend: Any
) -> tuple[EstimatorPub, Circuit]:
    circuit, form = native_form(pub.circuit, device, backend)
    observables = pub.observables
    copied = observables.copy() if hasattr(observables, "copy") else deepcopy(observables)
    values = _copied(pub.parameter_values)
    return EstimatorPub(circuit, copied, values, pub.precision, validate=False), form


def _copied(values: BindingsArray) -> BindingsArray:
    if not values.data:
        return values
    data = {names: np.array(array, copy=True) for names, array in values.data.items()}
    return BindingsArray(data, shape=values.shape)


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
    backend: Any,
    options: Options,
    kind: str,
    pubs: Sequence[Any],
    programs: Sequence[Program],
    run_options: Mapping[str, Any],
) -> GuardedJob:
    def on(target: Any, given: Sequence[Any], **extra: Any) -> Result:
        started = time.perf_counter()
        native = ran(target, given, run_options)
        seconds = time.perf_counter() - started
        behind = backend if target is inner else backend_of(target)
        return neutral(
            native, kind, programs, seconds,
            seed=seed_of(target, behind, run_options), level=level_of(target, behind), extra=extra,
        )  # fmt: skip

    fallback = options.fallback
    if fallback is not None:
        classical(fallback)
    compute = lambda: fallback_result(fallback, on, pubs, kind, programs)  # noqa: E731
    if kind == "estimate" and getattr(options.guard, "remote", False):
        programs = [paired(pub, p) for pub, p in zip(pubs, programs, strict=True)]
    future = options.guard.start(
        programs,
        kind=kind,
        backend_name=named(backend),
        backend=backend,
        execute=lambda: on(inner, pubs),
        baseline=None if fallback is None else baseline(fallback, compute),
        decode=decoder(options),
        seed=seed_of(inner, backend, run_options),
        labels=options.labels,
        options=recorded_options(run_options),
        isolation=level_of(inner, backend),
        lane=lane_of(inner, backend),
    )
    finish = lambda released: _with_receipt(released, kind, pubs)  # noqa: E731
    return GuardedJob(f"interlock-{id(future):x}", future, finish)


def _with_receipt(released: Released, kind: str, pubs: Sequence[Any]) -> Any:
    native = released.result.native
    if native is None:
        native = to_native(released.result, kind, pubs)
    receipt = receipt_of(released)
    if isinstance(native, PrimitiveResult):
        return PrimitiveResult(list(native), metadata={**native.metadata, "interlock": receipt})
    if isinstance(native, QiskitResult):
        native.interlock = receipt
    return native
