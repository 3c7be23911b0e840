"""Is what runs what was reviewed?"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import msgspec

from interlock.circuits.canonical import Circuit
from interlock.circuits.check import files_of
from interlock.circuits.equivalence import (
    Answer,
    Comparison,
    Recompile,
    compare,
    placement_of,
    recompiler,
)
from interlock.circuits.ingest import load_bytes, read_circuit
from interlock.errors import InputError, UsageError
from interlock.guard.control import Control, Program, Request, Settings
from interlock.types import Decision, Evidence, Finding, Job, Verdict

__all__ = ["EquivalenceControl"]

MAX_BYTES = 16 * 1024 * 1024


class Compiler(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the circuits are compiled: `transpile(circuit, backend, ...)` of the installed Qiskit.

    Attributes:
        level: `optimization_level`.
        seed: `seed_transpiler`.
    """

    level: Literal[0, 1, 2] = 1
    seed: int = 0


class EquivalenceSettings(Settings, frozen=True, kw_only=True):
    """Settings of `equivalence`.

    Attributes:
        reviewed: folder of the reviewed circuits (OpenQASM, QPY, canonical JSON).
        accept: `proven`, or also `evidenced`: equal at random parameter values.
        on_unknown: what a comparison without an answer leads to. It is never a pass.
        timeout_s: hard deadline of one comparison.
        max_candidates: reviewed circuits that one circuit is compared with at most.
        compiler: level and seed that everybody compiles with; then a circuit that nothing proves
            is compiled again, and the same result counts as `evidenced`.
    """

    reviewed: str = ""
    accept: Literal["proven", "evidenced"] = "evidenced"
    on_unknown: Literal["hold", "fallback", "deny"] = "deny"
    timeout_s: float = 10.0
    max_candidates: int = 8
    compiler: Compiler | None = None


class EquivalenceControl(Control):
    """Compares every circuit of the job with the reviewed ones."""

    id = "equivalence"
    stage = "verify"
    Settings = EquivalenceSettings

    def gather(self, request: Request, settings: EquivalenceSettings) -> Evidence:
        """Compare each circuit with the reviewed circuits that fit it."""
        if not settings.reviewed:
            return {"reviewed": 0, "programs": [], "problem": "no folder is set"}
        try:
            reviewed = [_read(p) for p in files_of([Path(settings.reviewed)])]
        except (InputError, UsageError) as error:
            return {"reviewed": 0, "programs": [], "problem": f"{error.message}: {error.got}"}
        again = None
        if settings.compiler is not None and request.backend is not None:
            how = settings.compiler
            again = recompiler(request.backend, level=how.level, seed=how.seed)
        return {
            "reviewed": len(reviewed),
            "programs": [_judge(p, reviewed, settings, again) for p in request.programs],
            "problem": None,
        }

    def decide(self, job: Job, settings: EquivalenceSettings, evidence: Evidence) -> Verdict:
        """Allow what is equivalent; unknown is never a pass."""
        if evidence["problem"] is not None:
            finding = Finding(
                rule="verify.equivalence.no-review",
                message="there are no reviewed circuits to compare with",
                got=str(evidence["problem"]),
                expected="a folder of reviewed circuits",
                fix="set verify.equivalence.reviewed in the policy, or take the control out",
            )
            return Verdict(decision=Decision.DENY, findings=(finding,), evidence=evidence)
        if len(evidence["programs"]) != len(job.circuits):
            raise ValueError("the evidence is of another job")
        decision = Decision.ALLOW
        findings: list[Finding] = []
        for number, found in enumerate(evidence["programs"]):
            if found["sha256"] != job.circuits[number].sha256:
                raise ValueError("the evidence is of another circuit")
            verdict, said = _decide(found, settings, f"circuit {number}")
            decision = max(decision, verdict)
            findings += [said] if said is not None else []
        return Verdict(decision=decision, findings=tuple(findings), evidence=evidence)


def _read(path: Path) -> Circuit:
    return _parsed(load_bytes(path, MAX_BYTES))


@lru_cache(maxsize=256)
def _parsed(data: bytes) -> Circuit:
    return read_circuit(data)


def _judge(
    program: Program,
    reviewed: list[Circuit],
    settings: EquivalenceSettings,
    again: Recompile | None,
) -> dict[str, Any]:
    circuit = program.circuit
    placement = placement_of(program.native)
    fitting = [c for c in reviewed if set(circuit.parameters) <= set(c.parameters)]
    fitting.sort(key=lambda c: (c.sha256 != circuit.sha256, abs(c.num_qubits - circuit.num_qubits)))
    best: tuple[Comparison, str] | None = None
    for candidate in fitting[: settings.max_candidates]:
        found = compare(
            candidate,
            circuit,
            placement=placement,
            timeout_s=settings.timeout_s,
            recompile=again,
        )
        if found.answer is Answer.EQUIVALENT:
            best = (found, candidate.sha256)
            break
        if best is None or found.answer is Answer.UNKNOWN:
            best = (found, candidate.sha256)
    if best is None or (
        len(fitting) > settings.max_candidates and best[0].answer is not Answer.EQUIVALENT
    ):
        reason = "no reviewed circuit fits" if best is None else "more reviewed circuits than tried"
        answer = Answer.NOT_EQUIVALENT if best is None else Answer.UNKNOWN
        best = (Comparison(answer=answer, method="none", reason=reason), "")
    return {"sha256": circuit.sha256, "reviewed": best[1], **msgspec.to_builtins(best[0])}


def _decide(
    found: dict[str, Any], settings: EquivalenceSettings, where: str
) -> tuple[Decision, Finding | None]:
    answer = found["answer"]
    got = f"{answer} ({found['method']}): {found['reason']}"
    if answer == Answer.EQUIVALENT:
        if found["strength"] == "proven" or settings.accept == "evidenced":
            return Decision.ALLOW, None
        return Decision[settings.on_unknown.upper()], Finding(
            rule="verify.equivalence.not-proven",
            message="the circuit equals a reviewed one at random parameter values only",
            got=f"{found['strength']} by {found['method']}",
            expected="proven",
            fix="send the circuit with its parameters bound, or accept `evidenced`",
            location=where,
        )
    if answer == Answer.NOT_EQUIVALENT:
        return Decision.DENY, Finding(
            rule="verify.equivalence.differs",
            message="the circuit is not one that was reviewed",
            got=got + (f"; witness {found['witness']}" if found["witness"] else ""),
            expected="a circuit equivalent to a reviewed one",
            fix="run what was reviewed, or have this circuit reviewed",
            location=where,
        )
    return Decision[settings.on_unknown.upper()], Finding(
        rule="verify.equivalence.unknown",
        message="it could not be told whether the circuit is one that was reviewed",
        got=got,
        expected="equivalent",
        fix="review the compiled circuit itself, or allow more time",
        location=where,
    )
