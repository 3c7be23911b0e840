"""Has a sensitive column reached the circuit, or what goes to the provider?"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np

from interlock.guard.canaries import Canary, Encoding, read, search
from interlock.guard.control import Control, Program, Request, Settings, verdict
from interlock.types import Evidence, Finding, Job, Verdict

__all__ = ["TaintControl", "TaintSettings"]

_NUMBER = re.compile(r"\d+\.\d+(?:[eE][-+]?\d+)?")


class TaintSettings(Settings, frozen=True, kw_only=True):
    """Settings of `tainted-data`.

    Attributes:
        labels: data labels whose jobs may run only where canaries are planted under that label:
            without any, nothing would be found.
        encodings: how pipelines turn columns into angles; the value itself is always searched.
    """

    labels: tuple[str, ...] = ()
    encodings: tuple[Encoding, ...] = ()


class TaintControl(Control):
    """Searches parameters, circuits and the provider's payload for canaries of sensitive columns.

    Denies what holds one. A column that was turned in a way the policy does not declare (a learned
    feature, a projection, a norm) is not seen.
    """

    id = "tainted-data"
    stage = "admit"
    Settings = TaintSettings

    def gather(self, request: Request, settings: TaintSettings) -> Evidence:
        """Search; the values themselves do not get into the record."""
        planted = read(request.home)
        tenant = request.job.principal.tenant
        evidence: dict[str, Any] = {
            "planted": sorted({c.label for c in planted if c.tenant == tenant}),
            "searched": len(planted),
            "hits": [],
            "unreadable": [],
        }
        if not planted:
            return evidence
        payloads = [_payload(p.native) for p in request.programs]
        evidence["unreadable"] = [n for n, p in enumerate(payloads) if p is None]
        hits = _found(planted, settings, request, [p for p in payloads if p is not None])
        evidence["hits"] = [
            {**msgspec.to_builtins(h), "tenant": ""} if h.tenant == tenant
            # Whose it is and what it is called is not for another tenant to know.
            else {**msgspec.to_builtins(h), "tenant": "another", "column": "", "label": ""}
            for h in hits
        ]  # fmt: skip
        return evidence

    def decide(self, job: Job, settings: TaintSettings, evidence: Evidence) -> Verdict:
        """Deny what holds a canary, what could not be searched, and what nobody planted."""
        findings = [
            Finding(
                rule="admit.tainted-data.column",
                message="a sensitive column has reached this job",
                got=(f"column {h['column']!r} ({h['label']})" if not h["tenant"]
                     else "a column of another tenant")
                + f" in the {h['where']}"
                + (f", encoding {h['encoding']}" if h["encoding"] else "")
                + ("" if h["exact"] else ", rounded"),
                expected="only what may leave: no sensitive column",
                fix="drop the column before the circuit is built, or aggregate it first",
            )
            for h in evidence["hits"]
        ]  # fmt: skip
        findings += [
            Finding(
                rule="admit.tainted-data.not-planted",
                message="no canary is planted under a label whose columns are sensitive",
                got=label,
                expected="canaries, or nothing would be found",
                fix=f"interlock canary plant DATA.csv --column NAME --label {label}",
            )
            for label in settings.labels
            if label in job.labels and label not in evidence["planted"]
        ]
        findings += [
            Finding(
                rule="admit.tainted-data.unreadable",
                message="what would go to the provider cannot be searched",
                got=f"circuit {number}",
                expected="a circuit of Qiskit, Cirq, PennyLane or Braket",
                fix="send the circuit in one of these",
            )
            for number in evidence["unreadable"]
        ]
        return verdict(evidence, findings)


def _found(
    planted: Sequence[Canary], settings: TaintSettings, request: Request, payloads: Sequence[bytes]
) -> Any:
    job = request.job
    values: list[float] = []
    angles: list[float] = []
    names: list[str] = [*job.labels, job.pipeline]
    spoken: list[str] = []
    for program in request.programs:
        values += [float(v) for row in program.values for v in row]
        spoken += [*program.observables, *program.parameters]
        names += [register.name for register in program.circuit.registers]
        for param in _params(program):
            (spoken if isinstance(param, str) else angles).append(param)  # type: ignore[arg-type]
    angles += [float(n) for text in spoken for n in _NUMBER.findall(text)]
    numbers = {"parameters": np.asarray(values), "circuit": np.asarray(angles)}
    return search(planted, settings.encodings, numbers,
                  {"names": names, "circuit": spoken}, payloads)  # fmt: skip


def _params(program: Program) -> Iterator[str | float]:
    for operation in program.circuit.walk():
        yield from operation.params


def _payload(native: Any) -> bytes | None:
    """Return a circuit as its SDK would send it, names and metadata included; None if unknown."""
    if native is None:
        return b""  # only the canonical form goes on, and that was searched
    kind = f"{type(native).__module__.partition('.')[0]}.{type(native).__name__}"
    if kind == "qiskit.QuantumCircuit":
        from qiskit import qpy

        stream = io.BytesIO()
        qpy.dump(native, stream)
        return stream.getvalue()
    if kind.startswith("cirq."):
        import cirq

        return str(cirq.to_json(native)).encode()
    if kind == "braket.Circuit":
        from braket.circuits.serialization import IRType

        return str(native.to_ir(IRType.OPENQASM).source).encode()
    if kind.startswith("pennylane."):
        observed = [m.obs for m in native.measurements if m.obs is not None]
        parts = [repr(one) for one in (*native.operations, *native.measurements)]
        for one in (*native.operations, *observed):
            parts += [repr(_array(p).ravel().tolist()) for p in one.data]
        return "\n".join(parts).encode()
    return None


def _array(value: Any) -> Any:
    """Return a number or tensor of whatever library as a NumPy array."""
    import pennylane as qml

    return np.asarray(qml.math.toarray(qml.math.detach(value)))
