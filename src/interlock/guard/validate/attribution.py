"""What do this result and the ones before it say of the device: shot noise, or more?"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from interlock.backends.calibration import Calibration
from interlock.errors import InputError
from interlock.guard.control import Control, Program, Request, Settings
from interlock.guard.health.calibration import calibration_for
from interlock.guard.health.evidence_store import store_of
from interlock.guard.result import Samples
from interlock.guard.stats.attribution import Arm, attribute
from interlock.types import Decision, Evidence, Finding, Job, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["AttributionControl"]

_REMEMBERED = 256
#: Outcomes of one result that the history keeps.
MOST = 256


class AttributionSettings(Settings, frozen=True, kw_only=True):
    """Settings of `attribution`.

    Attributes:
        alpha: chance, at each look, that pure shot noise is called anything else.
        effect: the smallest deviation that matters, in total variation.
        jobs: runs of the same question that are looked at together.
        circuits: circuits of a job that are looked at, the first ones.
        predict_from: runs of the same question from which on the calibration's prediction is
            computed (at first up to a second of computing time); before, only the runs are
            compared. Above 1 it spares loops that ask something new each time.
        on_found: what a deviation that is no shot noise leads to.
    """

    alpha: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.03
    effect: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.05
    jobs: Annotated[int, msgspec.Meta(ge=1, le=256)] = 16
    circuits: Annotated[int, msgspec.Meta(ge=1)] = 4
    predict_from: Annotated[int, msgspec.Meta(ge=1)] = 1
    on_found: Literal["allow", "fallback", "deny"] = "allow"


class AttributionControl(Control):
    """Tells shot noise from drift and from other deviations, with the power it has to do so.

    Counts are compared with what the calibration predicts (circuits to seven qubits) and with
    those of earlier jobs that asked the same. Coherent error and bias are only told apart by
    `interlock health attribute`, which runs the circuit in two more ways.
    """

    id = "attribution"
    stage = "validate"
    Settings = AttributionSettings

    def __init__(self) -> None:
        self._expected: dict[tuple[str, str, str], Mapping[str, float] | None] = {}

    def gather(self, request: Request, settings: AttributionSettings) -> Evidence:
        """Attribute the first parameter set of each circuit."""
        rows: list[dict[str, Any]] = []
        if request.result is None:
            return {"circuits": rows}
        calibration = calibration_for(request)
        if calibration is not None and calibration.kind == "ideal":
            return {"circuits": rows, "skipped": "a simulator without noise"}
        pairs = zip(request.result.items, request.programs, strict=False)
        for index, (item, program) in enumerate(pairs):
            if not isinstance(item, Samples) or len(item.registers) != 1:
                continue
            if len(rows) == settings.circuits:
                break
            (counts,) = (batches[0] for batches in item.registers.values())
            values = [float(v) for v in program.values[0]] if program.values else []
            asked = [
                request.job.principal.tenant, request.job.backend, program.circuit.sha256, values,
                getattr(calibration, "id", ""),
            ]  # fmt: skip
            stream = hashlib.sha256(msgspec.json.encode(asked)).hexdigest()
            kept = sorted(counts.items(), key=lambda kv: (-kv[1], kv[0]))[:MOST]
            batches = store_of(request.home).recent("counts/" + stream, dict(kept), settings.jobs)
            expected = None
            if len(batches) >= settings.predict_from:
                expected = self._predicted(program, values, calibration)
            arm = Arm(counts=tuple(batches), expected=expected)
            found = attribute({"plain": arm}, alpha=settings.alpha, effect=settings.effect)
            rows.append(
                {
                    "circuit": index,
                    "jobs": len(batches),
                    "predicted": expected is not None,
                    **msgspec.to_builtins(found),
                    "statement": found.statement,
                }
            )
        return {"circuits": rows}

    def _predicted(
        self, program: Program, values: list[float], calibration: Calibration | None
    ) -> Mapping[str, float] | None:
        if calibration is None or calibration.kind in ("ideal", "model"):
            return None
        key = (program.circuit.sha256, repr(values), calibration.id)
        if key not in self._expected:
            if len(self._expected) >= _REMEMBERED:
                self._expected.clear()
            self._expected[key] = _predict(program, values, calibration)
        return self._expected[key]

    def decide(self, job: Job, settings: AttributionSettings, evidence: Evidence) -> Verdict:
        """Report every deviation that is no shot noise."""
        findings = tuple(
            Finding(
                rule=f"validate.attribution.{row['cause']}",
                message="the result deviates by more than shot noise",
                got=row["statement"],
                expected="no more than shot noise",
                fix="interlock health attribute tells coherent error, bias, drift and noise apart",
                location=f"circuit {row['circuit']}",
            )
            for row in evidence["circuits"]
            if row["cause"] not in ("shot-noise", "cannot-tell")
        )
        decision = Decision[settings.on_found.upper()] if findings else Decision.ALLOW
        return Verdict(decision=decision, findings=findings, evidence=evidence)


def _predict(
    program: Program, values: list[float], calibration: Calibration
) -> Mapping[str, float] | None:
    from interlock.backends.twins import Twin, TwinSpec
    from interlock.circuits.qiskit_adapter import to_qiskit
    from interlock.guard.hooks.autoguard import INSIDE

    token = INSIDE.set(True)  # under `interlock run` the simulation would be a job of its own
    try:
        circuit = to_qiskit(program.circuit)
        if values:
            by_name = {p.name: p for p in circuit.parameters}
            bound = dict(zip(program.parameters, values, strict=True))
            circuit = circuit.assign_parameters({by_name[n]: v for n, v in bound.items()})
        return Twin(TwinSpec(reported=calibration)).probabilities(circuit)
    except InputError:
        return None  # too wide, conditional, or not in the device's own gates: not predicted
    finally:
        INSIDE.reset(token)
