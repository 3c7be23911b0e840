"""What comes in and goes out: canonical circuits as JSON. Never pickle, never QPY."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from interlock.circuits.canonical import Circuit
from interlock.circuits.ingest import Limits, read_circuit
from interlock.errors import InputError, InterlockError
from interlock.guard.control import Program
from interlock.guard.result import Result, Samples

__all__ = ["MAX_BODY", "ProgramWire", "Submission", "parse_submission", "programs_of", "result_out"]

MAX_BODY = 8 * 1024 * 1024
MAX_QASM = 1024 * 1024
QASM_S = 10.0
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=r"^[\x20-\x7e]+$")]
Number = Annotated[float, msgspec.Meta(ge=-1e12, le=1e12)]


class ProgramWire(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One circuit with the values it runs with.

    Attributes:
        circuit: the canonical form as `Circuit.to_json` writes it; or
        qasm3: the circuit in OpenQASM 3, parsed in a confined child.
        parameters: names of the free parameters, in the order of the columns of `values`.
        values: one row for each parameter set.
        shots: for each parameter set; 0 for estimates.
        observables: for estimates.
        precision: for estimates, the target standard error.
    """

    circuit: dict[str, Any] | None = None
    qasm3: Annotated[str, msgspec.Meta(max_length=MAX_QASM)] = ""
    parameters: Annotated[tuple[Text, ...], msgspec.Meta(max_length=10_000)] = ()
    values: Annotated[tuple[tuple[Number, ...], ...], msgspec.Meta(max_length=10_000)] = ()
    shots: Annotated[int, msgspec.Meta(ge=0, le=100_000_000)] = 0
    observables: Annotated[
        tuple[Annotated[str, msgspec.Meta(max_length=100_000)], ...], msgspec.Meta(max_length=1000)
    ] = ()
    precision: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None


class Submission(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A job as a client sends it.

    Attributes:
        kind: `sample` or `estimate`.
        backend: name that the broker knows.
        programs: the circuits.
        seed: of a simulator.
        labels: data labels.
        pipeline: name under which releases are counted.
        priority: within the tenant's own queue; higher goes first.
    """

    kind: Annotated[str, msgspec.Meta(pattern="^(sample|estimate|run)$")]
    backend: Text
    programs: Annotated[tuple[ProgramWire, ...], msgspec.Meta(min_length=1, max_length=300)]
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] | None = None
    labels: Annotated[tuple[Text, ...], msgspec.Meta(max_length=50)] = ()
    pipeline: Text = "default"
    priority: Annotated[int, msgspec.Meta(ge=0, le=9)] = 5

    @property
    def shots(self) -> int:
        """Shots over everything; an estimate to precision p counts as 1/p^2."""
        return sum(
            (p.shots or int((p.precision or 0.015625) ** -2)) * max(1, len(p.values))
            for p in self.programs
        )


def parse_submission(raw: bytes) -> Submission:
    """Read and check a submission, circuits included; what came as OpenQASM leaves as canonical.

    Raises:
        InputError: it is too large, or something in it is wrong.
    """
    if len(raw) > MAX_BODY:
        raise InputError(
            "the job is too large",
            code="job-too-large",
            got=f"{len(raw)} B",
            expected=f"at most {MAX_BODY} B",
            fix="split the job",
        )
    try:
        job = msgspec.json.decode(raw, type=Submission)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InputError(
            "the job cannot be read",
            code="job-format",
            got=str(error)[:300],
            expected="the JSON of docs/reference/gateway.md",
            fix="send it with the client, or mend the field named above",
        ) from error
    if any(p.qasm3 for p in job.programs):
        programs = tuple(_canonical(p, i) for i, p in enumerate(job.programs))
        job = msgspec.structs.replace(job, programs=programs)
    programs_of(job)
    return job


def _canonical(wire: ProgramWire, index: int) -> ProgramWire:
    if not wire.qasm3:
        return wire
    if wire.circuit is not None:
        raise _no_circuit(index, "both circuit and qasm3")
    limits = Limits(max_bytes=MAX_QASM * 4, timeout_s=QASM_S, memory_mb=1024)
    circuit = read_circuit(wire.qasm3.encode(), format="qasm3", limits=limits)
    plain = msgspec.json.decode(circuit.to_json())
    return msgspec.structs.replace(wire, circuit=plain, qasm3="")


def _no_circuit(index: int, got: str) -> InputError:
    return InputError(
        "a program needs one circuit",
        code="job-circuit",
        got=f"circuit {index}: {got}",
        expected="either `circuit` in canonical form or `qasm3`",
        fix="send one of the two",
    )


def programs_of(job: Submission) -> tuple[Program, ...]:
    """Return the programs of a submission; `native` is not made yet.

    Raises:
        InputError: a circuit is wrong, or its values do not fit it.
    """
    return tuple(_program(p, job.kind, i) for i, p in enumerate(job.programs))


def _program(wire: ProgramWire, kind: str, index: int) -> Program:
    if wire.circuit is None:
        raise _no_circuit(index, "neither circuit nor qasm3")
    try:
        circuit = Circuit.from_json(msgspec.json.encode(wire.circuit))
    except InterlockError:
        raise
    except (ValueError, TypeError, OverflowError, RecursionError, KeyError, IndexError) as error:
        raise InputError(
            "a circuit cannot be read",
            code="circuit-json",
            got=f"circuit {index}: {type(error).__name__}: {error}"[:300],
            expected="the canonical form",
            fix="write it with Circuit.to_json()",
        ) from error
    names = wire.parameters
    fits = (
        sorted(names) == list(circuit.parameters)
        and all(len(row) == len(names) for row in wire.values)
        and (bool(wire.values) or not names)
    )
    if kind == "estimate":
        fits = fits and bool(wire.observables) and not wire.shots
    else:
        fits = fits and wire.shots > 0 and not wire.observables and wire.precision is None
    if not fits:
        raise InputError(
            "values, shots or observables do not fit the circuit",
            code="job-values",
            got=f"circuit {index}: parameters {list(names)[:8]}, {len(wire.values)} rows",
            expected=f"{kind}: a value for each of {list(circuit.parameters)[:8]};"
            " shots to sample, observables to estimate",
            fix="send one number a parameter in every row",
        )
    return Program(
        circuit=circuit,
        native=None,
        parameters=names,
        values=wire.values,
        shots=wire.shots,
        observables=wire.observables,
        precision=wire.precision,
        **_measured(wire),
    )


def _measured(wire: ProgramWire) -> dict[str, Any]:
    """Return what an estimate runs and how large its values can be; nothing of unread text.

    What cannot be read here is refused when it is run.
    """
    import ast

    try:
        terms = [
            {str(k): float(v) for k, v in ast.literal_eval(text).items()}
            for text in wire.observables
        ]
    except (ValueError, TypeError, SyntaxError, AttributeError, RecursionError, MemoryError):
        return {}
    if not terms:
        return {}
    rows = max(len(wire.values), 1)
    bounds = tuple(sum(map(abs, t.values())) for t in terms)
    try:
        from interlock.guard.hooks.qiskit_bases import paired
    except ImportError:  # no Qiskit: as if nothing commuted
        return {"executions": rows * sum(map(len, terms)), "bounds": bounds}
    return {"executions": paired(terms, rows), "bounds": bounds}


def result_out(result: Result) -> dict[str, Any]:
    """Return a result as plain values."""
    items = []
    for item in result.items:
        kind = "samples" if isinstance(item, Samples) else "estimates"
        items.append({"kind": kind, **msgspec.to_builtins(item)})
    return {
        "items": items,
        "seconds": result.seconds,
        "seed": result.seed,
        "level": result.level,
        "extra": dict(result.extra),
    }
