"""Does the circuit disturb whoever has the qubits next to its own?"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any, Literal

import msgspec

from interlock.circuits.hammer import coupling, pressure
from interlock.circuits.target import target_of
from interlock.guard.control import Control, Request, Settings
from interlock.types import Decision, Evidence, Finding, Job, Verdict

__all__ = ["HammeringControl", "HammeringSettings"]


class HammeringSettings(Settings, frozen=True, kw_only=True):
    """Settings of `hammering`.

    Attributes:
        foreign: backend (pattern) -> qubits that other tenants have.
        shared: backends (patterns) on which any qubit the circuit leaves free may be another's.
        max_train: entangling gates in a row on one pair next to a foreign qubit.
        max_exposure: entangling gates in all next to one foreign qubit.
        on_hit: what a circuit above a limit leads to.
    """

    foreign: dict[str, tuple[int, ...]] = {}
    shared: tuple[str, ...] = ()
    max_train: int = 12
    max_exposure: int = 500
    on_hit: Literal["hold", "fallback", "deny"] = "deny"


class HammeringControl(Control):
    """Finds trains of entangling gates next to another tenant's qubits."""

    id = "hammering"
    stage = "verify"
    Settings = HammeringSettings

    def gather(self, request: Request, settings: HammeringSettings) -> Evidence:
        """Measure each circuit at the border of its qubits."""
        name = request.job.backend
        given = [qubits for p, qubits in settings.foreign.items() if fnmatchcase(name, p)]
        shared = any(fnmatchcase(name, p) for p in settings.shared)
        if not given and not shared:
            return {"shared": False, "coupled": True, "programs": []}
        pairs = coupling(target_of(request.backend))
        everywhere = frozenset().union(*pairs)
        programs: list[dict[str, Any]] = []
        for program in request.programs:
            circuit = program.circuit
            foreign = frozenset(q for qubits in given for q in qubits)
            if shared:
                foreign |= everywhere - circuit.used_qubits
            found = msgspec.to_builtins(pressure(circuit, pairs, foreign))
            programs.append({"sha256": circuit.sha256, **found})
        plain = msgspec.json.decode(msgspec.json.encode(programs))
        return {"shared": True, "coupled": bool(pairs), "programs": plain}

    def decide(self, job: Job, settings: HammeringSettings, evidence: Evidence) -> Verdict:
        """Compare with the limits; a shared device that does not tell its couplings denies."""
        if not evidence["shared"]:
            return Verdict(decision=Decision.ALLOW, evidence=evidence)
        if [p["sha256"] for p in evidence["programs"]] != [c.sha256 for c in job.circuits]:
            raise ValueError("the evidence is of another job")
        if not evidence["coupled"]:
            finding = Finding(
                rule="verify.hammering.no-coupling",
                message="the device is shared and does not tell which qubits are coupled",
                got=job.backend,
                expected="a backend with a target",
                fix="use the vendor's backend object, or take the device out of the setting",
            )
            return Verdict(decision=Decision.DENY, findings=(finding,), evidence=evidence)
        worst = Decision.ALLOW
        findings: list[Finding] = []
        for number, found in enumerate(evidence["programs"]):
            said = _judge(found, settings, f"circuit {number}")
            findings += said
            if said:
                worst = max(worst, Decision[settings.on_hit.upper()])
            if found["foreign"]:
                worst = Decision.DENY
        return Verdict(decision=worst, findings=tuple(findings), evidence=evidence)


def _judge(found: dict[str, Any], settings: HammeringSettings, where: str) -> list[Finding]:
    findings: list[Finding] = []
    if found["foreign"]:
        findings.append(
            Finding(
                rule="verify.hammering.foreign-qubit",
                message="the circuit acts on qubits that another tenant has",
                got=", ".join(map(str, found["foreign"][:8])),
                expected="its own qubits only",
                fix="transpile with an initial layout on your qubits",
                location=where,
            )
        )
    if found["train"] > settings.max_train:
        findings.append(
            Finding(
                rule="verify.hammering.train",
                message="a train of entangling gates runs next to another tenant's qubit",
                got=f"{found['train']} in a row on {found['pair']}",
                expected=f"at most {settings.max_train}",
                fix="transpile at level 1 or above, which cancels repeated gates, or move away "
                "from the border",
                location=where,
            )
        )
    if found["exposure"] > settings.max_exposure:
        findings.append(
            Finding(
                rule="verify.hammering.exposure",
                message="many entangling gates run next to one qubit of another tenant",
                got=f"{found['exposure']} next to qubit {found['victim']}",
                expected=f"at most {settings.max_exposure}",
                fix="use a layout with a free qubit between, or fewer gates",
                location=where,
            )
        )
    return findings
