"""What Braket's results are to the guard, and how they are made again."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from braket.task_result import AdditionalMetadata, TaskMetadata
from braket.tasks import GateModelQuantumTaskResult

from interlock.guard.control import Program
from interlock.guard.hooks.common import answered, counted, expanded, native_of, wrong_result
from interlock.guard.result import Estimates, Result, Samples
from interlock.guard.service import Released

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
    try:
        items = tuple(
            _samples(r, a) if a.shots else _estimates(r) for r, a in zip(native, asked, strict=True)
        )
    except (TypeError, ValueError, AttributeError, KeyError, IndexError) as error:
        raise wrong_result(native, error) from error
    exact = not any(a.shots for a in asked)
    return Result(
        items=items, native=native, seconds=seconds, extra={"exact": True} if exact else {}
    )


def _samples(result: Any, asked: Asked) -> Samples:
    circuit = asked.program.circuit
    place = {int(q): i for i, q in enumerate(result.measured_qubits)}
    order = [place[qubit] for qubit, _ in sorted(circuit.measured, key=lambda m: m[1])]
    bits = np.asarray(result.measurements)[:, order]
    register = circuit.registers[0]
    return Samples(
        registers={register.name: [counted(bits)]},
        widths={register.name: len(register.clbits)},
        shots=asked.shots,
    )


def _estimates(result: Any) -> Estimates:
    values = [x for value in result.values for x in _numbers(value)]
    return Estimates(values=values, errors=[0.0] * len(values), shape=(len(values),))


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
        return run_on(fallback, asked, {})
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
    from braket.circuits.serialization import IRType

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
    receipt = released.receipt.as_dict()
    for result in native:
        result.interlock = receipt
    return list(native)
