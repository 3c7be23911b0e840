"""Guarded Braket devices: ordinary tasks and results, with the receipt in `result.interlock`."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy as np
from braket.circuits import Circuit, Observable
from braket.devices import Device
from braket.ir.openqasm import Program as OpenQASMProgram
from braket.tasks import QuantumTask
from braket.tasks.quantum_task_batch import QuantumTaskBatch

from interlock.circuits.braket_settle import settled
from interlock.errors import InputError
from interlock.guard.control import Program
from interlock.guard.hooks import Options
from interlock.guard.hooks.braket_results import Asked, answer_of, run_on, with_receipt
from interlock.guard.hooks.common import (
    Closed,
    hold_amplitudes,
    job_of,
    on_record,
    recorded_options,
    unknown_object,
)
from interlock.guard.jobs import Released

__all__ = ["GuardedDevice", "wrap"]


def wrap(target: Any, options: Options) -> Any:
    """Return a guarded device.

    Raises:
        InputError: it is no device.
    """
    if isinstance(target, Device):
        return GuardedDevice(target, options)
    raise unknown_object(target, "a braket.devices.Device, such as LocalSimulator()")


class GuardedDevice(Closed, Device):
    """A device whose every task goes the guarded path; a batch is one job."""

    ways = "run or run_batch"

    def __init__(self, inner: Any, options: Options) -> None:
        super().__init__(inner, options)

    name = property(lambda self: self._inner.name)
    status = property(lambda self: self._inner.status)
    properties = property(lambda self: self._inner.properties)

    @on_record("sample")
    def run(
        self,
        task_specification: Any,
        *positional: Any,
        shots: Any = None,
        inputs: Any = None,
        **options: Any,
    ) -> GuardedTask:
        """Submit a circuit; see the device's own `run`. Refusals are raised by `result()`."""
        names = ("s3_destination_folder", "shots") if _cloud(self._inner) else ("shots", "inputs")
        given = _named(names, positional) | options
        shots, inputs = given.pop("shots", shots), given.pop("inputs", inputs)
        asked = [_asked(self._inner, task_specification, shots, inputs)]
        return GuardedTask(self._start(asked, given), lambda done: with_receipt(done, asked)[0])

    @on_record("sample")
    def run_batch(
        self,
        task_specifications: Any,
        *positional: Any,
        shots: Any = None,
        inputs: Any = None,
        max_parallel: int | None = None,
        **options: Any,
    ) -> GuardedBatch:
        """Submit circuits as one job; refusals are raised by `results()`."""
        names = ("shots", "max_parallel", "inputs")
        if _cloud(self._inner):
            names = ("s3_destination_folder", "shots", "max_parallel")
        given = _named(names, positional) | options
        given.pop("max_parallel", max_parallel)  # one job at a time, and the queue is the device's
        shots, inputs = given.pop("shots", shots), given.pop("inputs", inputs)
        many = isinstance(task_specifications, (list, tuple))
        rows = inputs if isinstance(inputs, (list, tuple)) else None
        specifications = list(task_specifications) if many else [task_specifications]
        if not many and rows is not None:
            specifications = specifications * len(rows)
        rows = list(rows) if rows is not None else [inputs] * len(specifications)
        each = list(shots) if isinstance(shots, (list, tuple)) else [shots] * len(specifications)
        if not len(rows) == len(each) == len(specifications):
            raise InputError(
                "a batch has not one of each for every circuit",
                code="guard-unknown-object",
                got=f"{len(specifications)} circuits, {len(rows)} inputs, {len(each)} shots",
                expected="as many inputs and shots as circuits, or one for all",
                fix="pass lists of one length",
            )
        zipped = zip(specifications, each, rows, strict=True)
        asked = [_asked(self._inner, *row) for row in zipped]
        return GuardedBatch(self._start(asked, given), lambda done: with_receipt(done, asked))

    def _start(self, asked: list[Asked], run_options: dict[str, Any]) -> Future[Released]:
        options, inner = self.interlock, self._inner
        kinds = {"sample" if a.shots else "estimate" for a in asked}
        if len(kinds) != 1:
            raise InputError(
                "a batch mixes exact values and samples",
                code="job-shots",
                got="shots=0 and shots>0 in one batch",
                expected="one or the other",
                fix="send two batches",
            )
        (kind,) = kinds
        if kind == "estimate" and getattr(options.guard, "remote", False):
            raise InputError(
                "a gateway gives counts to Braket, and nothing else",
                code="circuit-unsupported",
                got="shots=0",
                expected="shots >= 1",
                fix="guard the device in this process, or ask for shots",
            )
        hold_amplitudes(options, [t for a in asked for t in a.circuit.result_types])
        started: Future[Released] = options.guard.start(
            [a.program for a in asked],
            kind=kind,
            backend_name=str(inner.name),
            options=recorded_options(run_options),
            **job_of(
                options,
                inner,
                lambda: run_on(inner, asked, run_options),
                lambda f: answer_of(f, asked),
            ),
        )
        return started


class GuardedTask(QuantumTask):
    """A task under way on the guarded path."""

    def __init__(self, future: Future[Released], finish: Callable[[Released], Any]) -> None:
        self._future = future
        self._finish = finish
        self._id = f"interlock-{uuid.uuid4()}"

    @property
    def id(self) -> str:
        """The id of the task at the guard; the device's own is in the result's metadata."""
        return self._id

    def cancel(self) -> None:
        """Cancel it if it has not begun."""
        self._future.cancel()

    def state(self) -> str:
        """Return RUNNING, COMPLETED, FAILED (refused) or CANCELLED."""
        if self._future.cancelled():
            return "CANCELLED"
        if not self._future.done():
            return "RUNNING"
        return "COMPLETED" if self._future.exception() is None else "FAILED"

    def result(self) -> Any:
        """Return the result once it is released.

        Raises:
            DeniedError: the path refused the job.
            HeldError: it waits for an approval.
        """
        return self._finish(self._future.result())

    def async_result(self) -> Any:
        """Return an asyncio task for the result."""
        return asyncio.ensure_future(asyncio.to_thread(self.result))

    def metadata(self, use_cached_value: bool = False) -> dict[str, Any]:
        """Return the status of the task."""
        del use_cached_value
        return {"status": self.state()}


class GuardedBatch(QuantumTaskBatch):
    """A batch under way on the guarded path, as one job."""

    def __init__(self, future: Future[Released], finish: Callable[[Released], Any]) -> None:
        self._future = future
        self._finish = finish

    def results(self, *_: Any, **__: Any) -> list[Any]:
        """Return the results once the job is released.

        Raises:
            DeniedError: the path refused the job.
            HeldError: it waits for an approval.
        """
        released: list[Any] = self._finish(self._future.result())
        return released


def _cloud(device: Any) -> bool:
    """Whether a device's `run` takes a folder for its results first, as those of AWS do."""
    return hasattr(device, "arn")


def _named(names: tuple[str, ...], positional: tuple[Any, ...]) -> dict[str, Any]:
    if len(positional) > len(names):
        raise InputError(
            "too many arguments without a name",
            code="guard-unknown-object",
            got=f"{len(positional)} after the circuit",
            expected=", ".join(names),
            fix="pass the others by name",
        )
    return dict(zip(names, positional, strict=False))


def _asked(inner: Any, specification: Any, shots: Any, inputs: Any) -> Asked:
    inputs = {str(k): float(v) for k, v in (inputs or {}).items()}
    if isinstance(specification, Circuit):
        native: Any = None
        circuit: Any = specification
    elif isinstance(specification, OpenQASMProgram):
        given = {str(k): float(v) for k, v in (specification.inputs or {}).items()}
        native = OpenQASMProgram(source="".join([specification.source]), inputs=given or None)
        inputs = {**given, **inputs}
        circuit = _parsed(native)
    else:
        raise InputError(
            "a guarded Braket device runs circuits",
            code="circuit-unsupported",
            got=type(specification).__name__,
            expected="a braket.circuits.Circuit or an OpenQASM program",
            fix="send the circuits of a program set one by one; annealing and analogue programs "
            "have no canonical form",
        )
    shots = _shots(inner, circuit, shots)
    circuit, canonical = settled(circuit, measured=bool(shots))  # what is checked is what runs
    missing = sorted(set(canonical.parameters) - set(inputs))
    if missing:
        raise InputError(
            "a parameter has no value",
            code="circuit-unbound",
            got=", ".join(sorted(inputs)) or "no inputs",
            expected="a value for " + ", ".join(missing),
            fix="pass inputs={name: number}",
        )
    names = canonical.parameters
    if not shots and not circuit.result_types:
        raise InputError(
            "a circuit without shots asks for no value",
            code="job-shots",
            got="shots=0 and no result type",
            expected="shots >= 1, or a result type",
            fix="pass shots=1000, or add circuit.expectation(...)",
        )
    program = Program(
        circuit=canonical,
        native=circuit,
        parameters=names,
        values=[[inputs[n] for n in names]] if names else (),
        shots=shots,
        observables=() if shots else tuple(f"{t!r:.200}" for t in circuit.result_types),
        bounds=() if shots else _bounds(circuit),
    )
    return Asked(circuit if native is None else native, circuit, inputs, program)


def _parsed(program: Any) -> Any:
    try:
        return Circuit.from_ir(program)
    except Exception as error:
        raise InputError(
            "the OpenQASM program cannot be read as a circuit",
            code="circuit-unsupported",
            got=f"{type(error).__name__}: {error}"[:200],
            expected="gates, result types and measurements",
            fix="build it with braket.circuits.Circuit",
        ) from error


def _shots(inner: Any, circuit: Any, shots: Any) -> Any:
    """Return the shots the device would take by itself; a wrong number is refused later."""
    if shots is not None:
        return int(shots) if isinstance(shots, np.integer) else shots
    default = getattr(inner, "_default_shots", 0)
    return default(circuit) if callable(default) else default


def _bounds(circuit: Any) -> tuple[float, ...]:
    found = []
    for kind in circuit.result_types:
        observable = getattr(kind, "observable", None)
        if isinstance(observable, Observable):
            try:
                largest = float(np.max(np.abs(observable.eigenvalues)))
            except Exception:  # noqa: BLE001 - a sum, for instance: no bound
                return ()
            found.append(largest**2 if kind.name == "Variance" else largest)
        elif kind.name in ("Probability", "StateVector", "DensityMatrix", "Amplitude"):
            found.append(1.0)
        else:
            return ()
    return tuple(found)
