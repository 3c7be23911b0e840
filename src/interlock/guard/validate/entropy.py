"""Output entropy, entanglement and spikes in time, recorded apart because none stands for another.

The output entropy says how spread the counts are: a decohered state and a perfect superposition
both read 1. The entanglement is that of the circuit's noiseless state: what the circuit asks for,
not what the device made. A spike says that the entropy changed against earlier jobs, not why.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from interlock.errors import InputError
from interlock.guard.control import Control, Program, Request, Settings, verdict
from interlock.guard.health.evidence_store import store_of
from interlock.guard.result import Samples
from interlock.guard.stats.entropy import SpikeTracker, meyer_wallach, miller_madow
from interlock.types import Evidence, Finding, Job, Verdict

__all__ = ["EntropyControl"]

_REMEMBERED = 1024


class EntropySettings(Settings, frozen=True, kw_only=True):
    """Settings of `entropy`.

    Attributes:
        circuits: circuits of a job that are looked at, the first ones.
        max_qubits: up to this width the noiseless state is computed for its entanglement; 0 for
            none.
        max_spike: a larger spike, in standard deviations beyond two, is acted on; null to watch.
        on_spike: what it leads to.
    """

    circuits: Annotated[int, msgspec.Meta(ge=1)] = 4
    max_qubits: Annotated[int, msgspec.Meta(ge=0, le=14)] = 10
    max_spike: Annotated[float, msgspec.Meta(gt=0)] | None = None
    on_spike: Literal["allow", "fallback", "deny"] = "allow"


class EntropyControl(Control):
    """Records output entropy, entanglement and temporal spikes of each circuit."""

    id = "entropy"
    stage = "validate"
    Settings = EntropySettings

    def __init__(self) -> None:
        self._entangled: dict[tuple[str, str], float | None] = {}

    def gather(self, request: Request, settings: EntropySettings) -> Evidence:
        """Compute the three figures of the first parameter set of each circuit."""
        rows: list[dict[str, Any]] = []
        if request.result is None:
            return {"circuits": rows}
        pairs = zip(request.result.items, request.programs, strict=False)
        for index, (item, program) in enumerate(pairs):
            if len(rows) == settings.circuits:
                break
            if not isinstance(item, Samples) or not any(sum(r[0].values()) for r in
                                                        item.registers.values()):  # fmt: skip
                continue
            name = max(item.registers, key=lambda r: (item.widths[r], r))
            entropy = miller_madow(item.registers[name][0], item.widths[name])
            rows.append(
                {
                    "circuit": index,
                    "register": name,
                    "output_entropy": entropy,
                    "entanglement": self._entanglement(program, settings.max_qubits),
                    "spike": _spike(request, index, name, entropy),
                }
            )
        return {"circuits": rows}

    def _entanglement(self, program: Program, limit: int) -> float | None:
        values = [float(v) for v in program.values[0]] if program.values else []
        if not 2 <= len(program.circuit.used_qubits) <= limit:
            return None
        key = (program.circuit.sha256, repr(values))
        if key not in self._entangled:
            if len(self._entangled) >= _REMEMBERED:
                self._entangled.clear()
            self._entangled[key] = _noiseless(program, values)
        return self._entangled[key]

    def decide(self, job: Job, settings: EntropySettings, evidence: Evidence) -> Verdict:
        """Act on spikes beyond the limit, if one is set."""
        limit = math.inf if settings.max_spike is None else settings.max_spike
        findings = [
            Finding(
                rule="validate.entropy.spike",
                message="the entropy of the result jumped against earlier jobs",
                got=f"{row['spike']:.1f} deviations",
                expected=f"at most {limit:g}",
                fix="something changed; `validate.attribution` and the sentinels say more",
                location=f"circuit {row['circuit']}",
            )
            for row in evidence["circuits"]
            if row["spike"] > limit
        ]
        return verdict(evidence, findings, settings.on_spike)


def _spike(request: Request, index: int, register: str, entropy: float) -> float:
    asked = [
        request.job.principal.tenant,
        request.job.pipeline,
        request.job.backend,
        index,
        register,
    ]
    stream = hashlib.sha256(msgspec.json.encode(asked)).hexdigest()

    def step(state: Any) -> tuple[Any, float]:
        tracker = SpikeTracker()
        if state is not None:
            tracker.state = (float(state[0]), float(state[1]), int(state[2]))
        told = tracker.update(entropy)
        return tracker.state, told

    return store_of(request.home).fold("entropy/" + stream, step)


def _noiseless(program: Program, values: list[float]) -> float | None:
    from qiskit.circuit import QuantumCircuit
    from qiskit.exceptions import QiskitError
    from qiskit.quantum_info import Statevector

    from interlock.circuits.qiskit_adapter import to_qiskit

    try:
        circuit = to_qiskit(program.circuit)
        if values:
            named: Mapping[str, Any] = {p.name: p for p in circuit.parameters}
            bound = zip(program.parameters, values, strict=True)
            circuit = circuit.assign_parameters({named[n]: v for n, v in bound})
        used = sorted(program.circuit.used_qubits)
        place = {q: i for i, q in enumerate(used)}
        small = QuantumCircuit(len(used))
        ended: set[int] = set()
        for item in circuit.data:
            where = [circuit.find_bit(q).index for q in item.qubits]
            if item.operation.name in ("barrier", "delay"):
                continue
            if item.operation.name == "measure":
                ended.update(where)
                continue
            if ended & set(where) or item.clbits:
                return None  # measured in the middle: there is no one state
            small.append(item.operation, [place[q] for q in where])
        return meyer_wallach(Statevector(small).data)
    except (QiskitError, InputError):
        return None
