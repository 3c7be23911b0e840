"""What Braket's results are to the guard, and how they are made again."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from braket.circuits.serialization import IRType
from braket.ir.jaqcd import AdjointGradient
from braket.task_result import (
    AdditionalMetadata,
    GateModelTaskResult,
    ResultTypeValue,
    TaskMetadata,
)
from braket.tasks import GateModelQuantumTaskResult

from interlock.guard.control import Program
from interlock.guard.hooks.common import (
    answered,
    counted,
    expanded,
    native_of,
    receipt_of,
    stripped,
    wrong_result,
)
from interlock.guard.hooks.reseed import repeatable
from interlock.guard.jobs import Released
from interlock.guard.result import Estimates, Result, Samples

__all__ = ["Asked", "answer_of", "run_on", "with_receipt"]


@dataclass(frozen=True, slots=True)
class Asked:
    """One task of a job.

    Attributes:
        native: what the device gets.
        circuit: the same as Braket's own circuit.
        inputs: values of the free parameters.
        program: the same for the guard.
    """

    native: Any
    circuit: Any
    inputs: dict[str, float]
    program: Program

    @property
    def shots(self) -> int:
        """Shots of the task; 0 for exact values."""
        return self.program.shots


def run_on(device: Any, asked: Sequence[Asked], options: Mapping[str, Any]) -> Result:
    """Run what was asked for on a device."""
    started = time.perf_counter()
    native = [
        task.result()
        for task in [
            device.run(a.native, shots=a.shots, inputs=a.inputs or None, **options) for a in asked
        ]
    ]
    return _neutral(native, asked, time.perf_counter() - started)


def _neutral(native: list[Any], asked: Sequence[Asked], seconds: float) -> Result:
    """Return results in the form of no SDK, beside Braket's own made anew from what is checked."""
    dropped: list[str] = []
    try:
        pairs = [
            _samples(r, a, dropped) if a.shots else _estimates(r, a, dropped)
            for r, a in zip(native, asked, strict=True)
        ]
    except (TypeError, ValueError, AttributeError, KeyError, IndexError) as error:
        raise wrong_result(native, error) from error
    exact = {} if any(a.shots for a in asked) else {"exact": True}
    return Result(
        items=tuple(item for item, _ in pairs),
        native=[made for _, made in pairs],
        seconds=seconds,
        extra={**exact, **stripped(dropped)},
    )


def _samples(result: Any, asked: Asked, dropped: list[str]) -> tuple[Samples, Any]:
    circuit = asked.program.circuit
    given = [int(q) for q in result.measured_qubits]
    place = {q: i for i, q in enumerate(given)}
    wanted = [q for q, _ in sorted(circuit.measured, key=lambda m: m[1])]
    array = np.asarray(result.measurements)
    if array.ndim != 2 or array.shape[1] != len(given) or not np.isin(array, (0, 1)).all():
        raise ValueError(f"measurements of shape {array.shape} for {len(given)} qubits")
    bits = np.array(array[:, [place[q] for q in wanted]], dtype=np.uint8)
    # In the device's own order, if these are the qubits that were asked for.
    order = given if sorted(given) == sorted(wanted) else wanted
    measured = np.array(array[:, [place[q] for q in order]], dtype=int)
    register = circuit.registers[0]
    item = Samples(
        registers={register.name: [counted(bits)]},
        widths={register.name: len(register.clbits)},
        shots=asked.shots,
    )
    dropped += _besides(result)
    return item, _measured(asked, measured, order, _named(result, asked))


def _measured(asked: Asked, measured: Any, qubits: list[int], told: TaskMetadata) -> Any:
    """Make Braket's result of measured bits; what it says besides is computed from these."""
    more = AdditionalMetadata(action=asked.circuit.to_ir(ir_type=IRType.OPENQASM))
    kinds = [kind.to_ir() for kind in asked.circuit.result_types]
    if kinds:
        return GateModelQuantumTaskResult.from_object(
            GateModelTaskResult.construct(
                measurements=measured.tolist(),
                measuredQubits=qubits,
                resultTypes=kinds,
                taskMetadata=told,
                additionalMetadata=more,
            )
        )
    counts = GateModelQuantumTaskResult.measurement_counts_from_measurements(measured)
    return GateModelQuantumTaskResult(
        task_metadata=told,
        additional_metadata=more,
        result_types=[],
        values=[],
        measurements=measured,
        measured_qubits=qubits,
        measurement_counts=counts,
        measurement_probabilities={k: n / len(measured) for k, n in counts.items()},
        measurements_copied_from_device=True,
        measurement_counts_copied_from_device=False,
        measurement_probabilities_copied_from_device=False,
    )


def _named(result: Any, asked: Asked) -> TaskMetadata:
    """Return the names that the device gives the task and itself."""
    given = getattr(result, "task_metadata", None)
    told = [f"{getattr(given, name, '')!s:.200}" for name in ("id", "deviceId")]
    return TaskMetadata(id=told[0] or str(uuid.uuid4()), shots=asked.shots, deviceId=told[1])


def _besides(result: Any) -> list[str]:
    """Return the names of what a result holds that no control looks at."""
    more = getattr(result, "additional_metadata", None)
    found = [k for k, v in dict(more or {}).items() if v is not None and k in _TOLD]
    return [*found, *(["outputs"] if getattr(result, "outputs", None) else [])]


#: Fields of a result's additional metadata that are the device's own.
_TOLD = frozenset(
    name for name in AdditionalMetadata.__fields__ if name not in ("action", "braketSchemaHeader")
)


def _estimates(result: Any, asked: Asked, dropped: list[str]) -> tuple[Estimates, Any]:
    kinds = asked.circuit.result_types
    given = [_copied(value, kind) for value, kind in zip(result.values, kinds, strict=True)]
    values = [x for value in given for x in _numbers(value)]
    dropped += _besides(result)
    item = Estimates(values=values, errors=[0.0] * len(values), shape=(len(values),))
    made = GateModelQuantumTaskResult(
        task_metadata=_named(result, asked),
        additional_metadata=AdditionalMetadata(action=asked.circuit.to_ir(ir_type=IRType.OPENQASM)),
        result_types=[
            ResultTypeValue.construct(type=_described(kind), value=value)
            for value, kind in zip(given, kinds, strict=True)
        ],
        values=given,
    )
    return item, made


def _described(kind: Any) -> Any:
    """Return a result type as results name it; a gradient has no description, only a text."""
    try:
        return kind.to_ir()
    except NotImplementedError:
        terms = kind.target if isinstance(kind.target, list) else [kind.target]
        return AdjointGradient.construct(
            observable=list(kind.observable.ascii_symbols[:1]),
            targets=[[int(qubit) for qubit in term] for term in terms],
            parameters=kind.parameters,
        )


#: Result types whose values have an imaginary part.
_COMPLEX = frozenset({"StateVector", "DensityMatrix", "Amplitude"})


def _copied(value: Any, kind: Any) -> Any:
    """Return a plain copy of a value: the numbers that are checked are those handed over.

    Raises:
        ValueError: it is complex where it must be real.
    """
    if isinstance(value, Mapping):
        return {str(k): _copied(v, kind) for k, v in value.items()}
    array = np.array(value)
    if array.dtype.kind == "c":
        if kind.name not in _COMPLEX:
            raise ValueError(f"a complex value for {kind.name}")
    else:
        array = array.astype(float)
    return array if isinstance(value, np.ndarray) and array.ndim else array.tolist()


def _numbers(value: Any) -> list[float]:
    if isinstance(value, Mapping):
        return [x for inner in value.values() for x in _numbers(inner)]
    array = np.asarray(value)
    if array.dtype.kind == "c":
        return [float(x) for z in array.ravel() for x in (z.real, z.imag)]
    return [float(x) for x in array.ravel()]


def answer_of(fallback: Any, asked: Sequence[Asked]) -> Result:
    """Compute the classical answer: from a noiseless simulator, or from a function.

    A function gets the list of circuits with their inputs bound and answers each with Braket's own
    result, with counts (first measured qubit first) or, without shots, with the list of values.
    """
    if hasattr(fallback, "run"):
        return run_on(repeatable(fallback), asked, {})
    bound = [a.circuit.make_bound_circuit(a.inputs) if a.inputs else a.circuit for a in asked]
    seconds: list[float] = []

    def read(answers: list[Any]) -> list[Any]:
        return [_answer(answer, a) for answer, a in zip(answers, asked, strict=True)]

    native = answered(fallback, bound, read, seconds)
    return _neutral(native, asked, seconds[0])


def _answer(answer: Any, asked: Asked) -> Any:
    if isinstance(answer, GateModelQuantumTaskResult):
        return answer
    if asked.shots:
        if asked.circuit.result_types:
            raise ValueError("counts for a circuit with result types; answer with Braket's result")
        return _result(asked, counts={k[::-1]: int(n) for k, n in dict(answer).items()})
    values = list(answer)
    if len(values) != len(asked.circuit.result_types):
        raise ValueError(f"{len(values)} values for {len(asked.circuit.result_types)} result types")
    return _result(asked, values=values)


def _result(
    asked: Asked, *, counts: Mapping[str, int] | None = None, values: list[Any] | None = None
) -> Any:
    """Make Braket's result of counts (bit 0 last), sorted by outcome, or of exact values."""
    action = asked.circuit.to_ir(ir_type=IRType.OPENQASM)
    fields: dict[str, Any] = {}
    if counts is not None:
        circuit = asked.program.circuit
        bits = expanded(counts, asked.shots, circuit.num_clbits)
        found = Counter({k[::-1]: n for k, n in counts.items()})
        fields = {
            "measurements": bits,
            "measured_qubits": [q for q, _ in sorted(circuit.measured, key=lambda m: m[1])],
            "measurement_counts": found,
            "measurement_probabilities": {k: n / asked.shots for k, n in found.items()},
            "measurements_copied_from_device": False,
            "measurement_counts_copied_from_device": True,
            "measurement_probabilities_copied_from_device": False,
        }
    return GateModelQuantumTaskResult(
        task_metadata=TaskMetadata(id=str(uuid.uuid4()), shots=asked.shots, deviceId="interlock"),
        additional_metadata=AdditionalMetadata(action=action),
        values=values,
        **fields,
    )


def with_receipt(released: Released, asked: Sequence[Asked]) -> list[Any]:
    """Return Braket's results of a released job, with the receipt in each."""

    def rebuild(result: Result) -> list[Any]:
        return [
            _result(a, counts=dict(next(iter(item.registers.values()))[0]))  # type: ignore[union-attr]
            for item, a in zip(result.items, asked, strict=True)
        ]

    native = native_of(released, rebuild)
    if isinstance(native, dict):
        return [native] * len(asked)
    receipt = receipt_of(released)
    for result in native:
        result.interlock = receipt
    return list(native)
