"""Guarded Cirq samplers: ordinary `cirq.Result`s, with the receipt in their `interlock`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cirq
import numpy as np

from interlock.backends.cirq_source import qubits_of
from interlock.circuits.cirq_settle import settled
from interlock.errors import InputError
from interlock.guard.control import Program
from interlock.guard.hooks import Options
from interlock.guard.hooks.common import (
    Closed,
    answered,
    counted,
    expanded,
    job_of,
    native_of,
    on_record,
    receipt_of,
    stripped,
    unknown_object,
    wrong_result,
)
from interlock.guard.hooks.reseed import repeatable
from interlock.guard.jobs import Released
from interlock.guard.result import Result, Samples

__all__ = ["GuardedSampler", "wrap"]


def wrap(target: Any, options: Options) -> Any:
    """Return a guarded sampler.

    Raises:
        InputError: it is no sampler.
    """
    if isinstance(target, cirq.Sampler):
        return GuardedSampler(target, options)
    raise unknown_object(target, "a cirq.Sampler, such as cirq.Simulator()")


@dataclass(frozen=True, slots=True)
class _Asked:
    """One circuit of a job with the parameter sets and repetitions it was asked for."""

    circuit: Any
    resolvers: list[Any]
    repetitions: int
    keys: dict[str, tuple[int, ...]]
    program: Program


class GuardedSampler(Closed, cirq.Sampler):
    """A sampler whose every job goes the guarded path.

    A sweep is one job, and so is a batch. Methods that run circuits in other ways, such as
    `simulate`, are not passed on: they would go round the guard.
    """

    ways = "run, run_sweep or run_batch"

    def device_name(self) -> str:
        """Return the name of what it samples on."""
        return name_of(getattr(self._inner, "interlock_wrapped", self._inner))

    @on_record("sample")
    def run_sweep(self, program: Any, params: Any, repetitions: int = 1) -> Sequence[cirq.Result]:
        """Sample a circuit under each parameter set; see `cirq.Sampler.run_sweep`.

        Raises:
            DeniedError: the path refused the job.
            HeldError: it waits for an approval.
        """
        asked = _asked(self._inner, program, params, repetitions)
        results: Sequence[cirq.Result] = self._submit([asked])[0]
        return results

    async def run_batch_async(
        self, programs: Any, params_list: Any = None, repetitions: Any = 1
    ) -> Sequence[Sequence[cirq.Result]]:
        """Sample several circuits as one job; see `cirq.Sampler.run_batch`."""
        parts = self._normalize_batch_args(programs, params_list, repetitions)
        asked = [_asked(self._inner, *each) for each in zip(programs, *parts[-2:], strict=True)]
        return self._submit(asked) if asked else []

    @on_record("sample")
    def run_batch(
        self, programs: Any, params_list: Any = None, repetitions: Any = 1
    ) -> Sequence[Sequence[cirq.Result]]:
        """Sample several circuits as one job; see `cirq.Sampler.run_batch`."""
        import duet

        results: Sequence[Sequence[cirq.Result]] = duet.run(
            self.run_batch_async, programs, params_list, repetitions
        )
        return results

    def _submit(self, asked: list[_Asked]) -> Any:
        options, inner = self.interlock, self._inner
        programs = [a.program for a in asked]
        if getattr(options.guard, "remote", False) and any(
            len(p.circuit.registers) != 1 for p in programs
        ):
            raise InputError(
                "a gateway answers each register by itself, so several keys would lose their pairs",
                code="circuit-unsupported",
                got="circuits with several measurement keys",
                expected="one measurement key a circuit",
                fix="measure all qubits under one key",
            )
        released = options.guard.submit(
            programs,
            kind="sample",
            backend_name=self.device_name(),
            **job_of(options, inner, lambda: _on(inner, asked), lambda f: _baseline(f, asked)),
        )
        return _with_receipt(released, asked)


def name_of(sampler: Any) -> str:
    """Return the name of what a sampler runs on."""
    processor = getattr(sampler, "processor_id", None)
    return str(processor) if isinstance(processor, str) else f"cirq.{type(sampler).__name__}"


def _asked(inner: Any, program: Any, params: Any, repetitions: Any) -> _Asked:
    if isinstance(repetitions, np.integer):
        repetitions = int(repetitions)
    circuit = program.unfreeze()
    order = qubits_of(inner)
    if order is not None:  # what the device does not have is numbered after it
        order = [*order, *sorted(circuit.all_qubits().difference(order))]
    circuit, canonical, keys = settled(circuit, order)  # what is checked is what runs
    resolvers = list(cirq.to_resolvers(params))
    names = canonical.parameters
    values = [[_value(resolver, name) for name in names] for resolver in resolvers]
    plain = len(resolvers) == 1 and not names
    return _Asked(
        circuit,
        resolvers,
        repetitions,
        keys,
        Program(
            circuit=canonical,
            native=circuit,
            parameters=names,
            values=() if plain else values,
            shots=repetitions,
        ),
    )


def _value(resolver: Any, name: str) -> float:
    value = resolver.value_of(name)
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise InputError(
            "a parameter has no value",
            code="circuit-unbound",
            got=f"{name} = {value}",
            expected=f"a real number for {name}",
            fix="give every free parameter a number in the sweep",
        ) from error


def _on(sampler: Any, asked: Sequence[_Asked]) -> Result:
    started = time.perf_counter()
    if len(asked) == 1:
        (one,) = asked
        native = [list(sampler.run_sweep(one.circuit, one.resolvers, one.repetitions))]
    else:
        native = [
            list(results)
            for results in sampler.run_batch(
                [a.circuit for a in asked],
                [a.resolvers for a in asked],
                [a.repetitions for a in asked],
            )
        ]
    return _neutral(native, asked, time.perf_counter() - started)


def _neutral(native: list[list[Any]], asked: Sequence[_Asked], seconds: float) -> Result:
    """Return results in the form of no SDK, beside Cirq's own made anew from what was counted."""
    dropped: list[str] = []
    try:
        pairs = [_samples(r, a, dropped) for r, a in zip(native, asked, strict=True)]
    except (TypeError, ValueError, AttributeError, KeyError, IndexError) as error:
        raise wrong_result(native, error) from error
    return Result(
        items=tuple(item for item, _ in pairs),
        native=[made for _, made in pairs],
        seconds=seconds,
        extra=stripped(dropped),
    )


def _samples(
    results: list[Any], asked: _Asked, dropped: list[str]
) -> tuple[Samples, list[cirq.Result]]:
    circuit = asked.program.circuit
    registers: dict[str, list[dict[str, int]]] = {r.name: [] for r in circuit.registers}
    made: list[cirq.Result] = []
    for result, resolver in zip(results, asked.resolvers, strict=True):
        bits = np.zeros((asked.repetitions, circuit.num_clbits), np.uint8)
        measured = {}
        for key, places in asked.keys.items():
            measured[key] = _bits(result.measurements[key], (asked.repetitions, len(places)))
            bits[:, list(places)] = measured[key]
        dropped += [f"measurements.{k}" for k in result.measurements if k not in asked.keys]
        made.append(cirq.ResultDict(params=resolver, measurements=measured))
        for register in circuit.registers:
            registers[register.name].append(counted(bits[:, list(register.clbits)]))
    return Samples(
        registers=registers,
        widths={r.name: len(r.clbits) for r in circuit.registers},
        shots=asked.repetitions,
    ), made


def _bits(given: Any, shape: tuple[int, int]) -> Any:
    """Return a copy of an array of bits.

    Raises:
        ValueError: it has another shape, or holds something else than 0 and 1.
    """
    array = np.asarray(given)
    if array.shape != shape:
        raise ValueError(f"measurements of shape {array.shape}, not {shape}")
    if not np.isin(array, (0, 1)).all():
        raise ValueError("measurements that are no bits")
    return np.array(array, dtype=np.uint8)


def _baseline(fallback: Any, asked: Sequence[_Asked]) -> Result:
    """Compute the classical answer: from a noiseless sampler, or from a function.

    A function gets one circuit without free parameters for each parameter set, and answers each
    with a `cirq.Result` or, where there is one key, with counts (first measured qubit first).
    """
    if hasattr(fallback, "run"):
        return _on(repeatable(fallback), asked)
    bound = [cirq.resolve_parameters(a.circuit, r) for a in asked for r in a.resolvers]

    def read_answers(answers: list[Any]) -> list[list[Any]]:
        left = iter(answers)
        return [[_answer(next(left), a, r) for r in a.resolvers] for a in asked]

    seconds: list[float] = []
    native = answered(fallback, bound, read_answers, seconds)
    return _neutral(native, asked, seconds[0])


def _answer(answer: Any, asked: _Asked, resolver: Any) -> Any:
    if isinstance(answer, cirq.Result):
        return answer
    if len(asked.keys) != 1:
        raise ValueError(f"counts for the keys {sorted(asked.keys)}; a cirq.Result holds several")
    ((key, bits),) = asked.keys.items()
    counts = {outcome[::-1]: n for outcome, n in dict(answer).items()}
    measured = {key: expanded(counts, asked.repetitions, len(bits))}
    return cirq.ResultDict(params=resolver, measurements=measured)


def _from_neutral(result: Result, asked: Sequence[_Asked]) -> list[list[Any]]:
    """Make Cirq's results from one that came in the form of no SDK; shots are sorted by outcome."""
    native = []
    for item, one in zip(result.items, asked, strict=True):
        if not isinstance(item, Samples):
            raise TypeError("estimates in place of samples")
        circuit = one.program.circuit
        (register,) = circuit.registers
        rows = []
        for counts, resolver in zip(item.registers[register.name], one.resolvers, strict=True):
            bits = np.zeros((one.repetitions, circuit.num_clbits), np.uint8)
            bits[:, list(register.clbits)] = expanded(
                dict(counts), one.repetitions, len(register.clbits)
            )
            measured = {key: bits[:, list(places)] for key, places in one.keys.items()}
            rows.append(cirq.ResultDict(params=resolver, measurements=measured))
        native.append(rows)
    return native


def _with_receipt(released: Released, asked: Sequence[_Asked]) -> Any:
    native = native_of(released, lambda result: _from_neutral(result, asked))
    if isinstance(native, dict):
        return [[native for _ in a.resolvers] for a in asked]
    receipt = receipt_of(released)
    for results in native:
        for result in results:
            result.interlock = receipt
    return native
