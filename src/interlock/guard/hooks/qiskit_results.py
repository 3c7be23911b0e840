"""Qiskit's results and the guard's, turned into each other."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from msgspec.structs import replace
from qiskit.primitives import (
    BitArray,
    DataBin,
    PrimitiveResult,
    PubResult,
    SamplerPubResult,
)
from qiskit.primitives.containers.estimator_pub import EstimatorPub
from qiskit.primitives.containers.sampler_pub import SamplerPub
from qiskit.result import Result as QiskitResult
from qiskit.result.models import ExperimentResult, ExperimentResultData

from interlock.errors import InputError
from interlock.guard.control import Program
from interlock.guard.hooks.qiskit_checked import neutral
from interlock.guard.hooks.reseed import repeatable
from interlock.guard.result import Estimates, Result, Samples

__all__ = ["fallback_result", "paired", "to_native"]


def fallback_result(
    fallback: Any,
    on: Callable[..., Result],
    pubs: Sequence[Any],
    kind: str,
    programs: Sequence[Program],
) -> Result:
    """Compute the classical answer of a job.

    Args:
        fallback: a primitive or backend of the same kind, or a function from the list of pubs
            (or circuits) to one answer each.
        on: runs pubs on a primitive or backend.
        pubs: what the job would have run.
        kind: sample, estimate or run.
        programs: the same in the form of no SDK.

    Raises:
        InputError: the function's answer is of the wrong kind.
    """
    own = [_copied(pub) for pub in pubs]
    if hasattr(fallback, "run"):
        return on(repeatable(fallback), own, baseline=type(fallback).__name__)
    started = time.perf_counter()
    native = fallback(own)
    if not isinstance(native, PrimitiveResult | QiskitResult):
        native = _native_answer(native, kind, programs)
    seconds = time.perf_counter() - started
    name = getattr(fallback, "__name__", type(fallback).__name__)
    return neutral(native, kind, programs, seconds, extra={"baseline": name})


def _copied(pub: Any) -> Any:
    """Return what a fallback may change: other jobs may run the same circuit."""
    if isinstance(pub, SamplerPub):
        return SamplerPub(pub.circuit.copy(), pub.parameter_values, pub.shots, validate=False)
    if isinstance(pub, EstimatorPub):
        return EstimatorPub(
            pub.circuit.copy(), pub.observables, pub.parameter_values, pub.precision, validate=False
        )
    return pub.copy()


def _native_answer(answers: Any, kind: str, programs: Sequence[Program]) -> Any:
    """Put the plain answers of a baseline function into the SDK's result.

    A function answers each circuit with its expectation values, or with its counts: a mapping, or
    one for each parameter set.

    Raises:
        InputError: there is not one answer a circuit, or an answer is of the wrong kind.
    """
    try:
        answers = list(answers)
        if len(answers) != len(programs):
            raise ValueError(f"{len(answers)} answers for {len(programs)} circuits")
        if kind == "estimate":
            arrays = [np.asarray(a, dtype=float) for a in answers]
            bins = [DataBin(evs=a, stds=np.zeros_like(a), shape=a.shape) for a in arrays]
            return PrimitiveResult([PubResult(b) for b in bins])
        if kind == "sample":
            return PrimitiveResult(
                [
                    SamplerPubResult(_counts_bin(a, p))
                    for a, p in zip(answers, programs, strict=True)
                ]
            )
        results = [
            ExperimentResult(
                shots=p.shots,
                success=True,
                data=ExperimentResultData(counts={hex(int(k, 2)): v for k, v in dict(a).items()}),
                header={"memory_slots": p.native.num_clbits, "name": p.native.name},
            )
            for a, p in zip(answers, programs, strict=True)
        ]
        return QiskitResult(results=results, backend_name="baseline", success=True)
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(
            "the fallback's answer is of the wrong kind",
            code="fallback-answer",
            got=f"{type(error).__name__}: {error}",
            expected="for each circuit its expectation values, or its counts",
            fix="see docs/how-to/fallback.md",
        ) from error


def _counts_bin(answer: Any, program: Program) -> DataBin:
    """Build the data of one circuit from counts, or from register name -> counts."""
    registers = program.native.cregs
    named = {registers[0].name: answer} if len(registers) == 1 else dict(answer)
    if set(named) != {r.name for r in registers}:
        raise ValueError(f"answers for {sorted(named)}, registers {[r.name for r in registers]}")
    arrays: dict[str, BitArray] = {}
    for register in registers:
        given = named[register.name]
        rows = [given] if isinstance(given, Mapping) else list(given)
        for row in rows:
            # Counts are expanded to shots below: a wrong total must not fill the memory first.
            if sum(row.values()) != program.shots:
                raise ValueError(f"{sum(row.values())} counts for {program.shots} shots")
            # Qiskit would cut longer strings and fill up shorter ones.
            for key in row:
                if isinstance(key, str) and set(key) <= {"0", "1"} and len(key) != register.size:
                    raise ValueError(f"{key!r} for a register of {register.size} bits")
        shape = () if isinstance(given, Mapping) else (len(rows),)
        bits = BitArray.from_counts([dict(r) for r in rows], num_bits=register.size)
        arrays[register.name] = bits.reshape(shape)
    return DataBin(**arrays, shape=shape)


def paired(pub: Any, program: Program) -> Program:
    """Return an estimator's program with one observable a parameter set, broadcast as NumPy does.

    Without the arrays' shapes, which stay with the client, this is the form in which many
    observables and many parameter sets keep their pairs.
    """
    if len(program.observables) <= 1 or len(program.values) <= 1:
        return program
    rows = np.arange(len(program.values)).reshape(pub.parameter_values.shape)
    which = np.arange(len(program.observables)).reshape(pub.observables.shape)
    row, observable = (a.ravel().tolist() for a in np.broadcast_arrays(rows, which))
    return replace(
        program,
        values=[program.values[i] for i in row],
        observables=tuple(program.observables[i] for i in observable),
    )


def to_native(result: Result, kind: str, pubs: Sequence[Any]) -> Any:
    """Make Qiskit's own result from one that came in the form of no SDK.

    Args:
        result: one item a circuit.
        kind: sample, estimate or run.
        pubs: what was asked for; its arrays give the shapes.

    Raises:
        InputError: the result does not fit what was asked for.
    """
    try:
        pairs = list(zip(result.items, pubs, strict=True))
        if kind == "run":
            return QiskitResult(
                results=[_experiment(item, circuit) for item, circuit in pairs],
                backend_name="gateway",
                success=True,
            )
        made = [
            _sampled(item, pub) if isinstance(item, Samples) else _estimated(item, pub)
            for item, pub in pairs
        ]
        return PrimitiveResult(made, metadata={"version": 2})
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise InputError(
            "what came back is no result for these circuits",
            code="result-format",
            got=f"{type(error).__name__}: {error}",
            expected="one item a circuit, in the shape that was asked for",
            fix="use the same version of Interlock on both sides",
        ) from error


def _sampled(item: Samples, pub: Any) -> SamplerPubResult:
    shape = pub.parameter_values.shape
    data = {}
    for register in pub.circuit.cregs:
        rows = [dict(r) for r in item.registers[register.name]]
        if any(sum(r.values()) != pub.shots for r in rows):
            raise ValueError("counts that do not add up to the shots")
        bits = BitArray.from_counts(rows, num_bits=register.size)
        data[register.name] = bits.reshape(shape)
    return SamplerPubResult(DataBin(**data, shape=shape), metadata={"shots": pub.shots})


def _estimated(item: Estimates, pub: Any) -> PubResult:
    shape = pub.shape
    values = np.asarray(item.values, dtype=float).reshape(shape)
    errors = np.asarray(item.errors, dtype=float).reshape(shape)
    return PubResult(DataBin(evs=values, stds=errors, shape=shape))


def _experiment(item: Any, circuit: Any) -> ExperimentResult:
    (rows,) = item.registers.values()
    return ExperimentResult(
        shots=item.shots,
        success=True,
        data=ExperimentResultData(counts={hex(int(k, 2)): v for k, v in rows[0].items()}),
        header={"memory_slots": circuit.num_clbits, "name": circuit.name},
    )
