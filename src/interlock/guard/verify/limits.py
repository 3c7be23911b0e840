"""Is every circuit of the job within the size the policy allows?"""

from __future__ import annotations

from typing import Any

from interlock.guard.control import Control, Request, Settings, verdict
from interlock.types import Evidence, Finding, Job, Verdict

__all__ = ["LimitsControl"]


class LimitsSettings(Settings, frozen=True, kw_only=True):
    """Settings of `limits`.

    Attributes:
        max_qubits: width of a circuit.
        max_clbits: classical bits of a circuit.
        max_depth: depth; blocks count with their rounds.
        max_operations: operations; blocks count with their rounds.
        max_two_qubit_ops: gates on two or more qubits.
        max_parameters: free parameters of a template.
        max_circuits: circuits of a job.
        max_bindings: parameter sets of a circuit.
        max_shots: shots for each parameter set.
        allow_unbounded: whether a `while` loop may run, whose cost has no bound.
    """

    max_qubits: int = 156
    max_clbits: int = 4096
    max_depth: int = 20_000
    max_operations: int = 200_000
    max_two_qubit_ops: int = 100_000
    max_parameters: int = 10_000
    max_circuits: int = 1000
    max_bindings: int = 100_000
    max_shots: int = 1_000_000
    allow_unbounded: bool = False


_FIXES = {
    "qubits": "use fewer qubits, or raise max_qubits in the policy",
    "clbits": "use fewer classical bits, or raise max_clbits in the policy",
    "depth": "shorten the circuit or transpile at a higher level, or raise max_depth",
    "operations": "shorten the circuit, or raise max_operations in the policy",
    "two-qubit-ops": "transpile at a higher level, or raise max_two_qubit_ops in the policy",
    "parameters": "use fewer free parameters, or raise max_parameters in the policy",
    "bindings": "send the parameter sets in smaller jobs, or raise max_bindings in the policy",
    "shots": "use fewer shots, or raise max_shots in the policy",
}


class LimitsControl(Control):
    """Compares width, depth, size, parameters, circuits, parameter sets and shots with limits."""

    id = "limits"
    stage = "verify"
    Settings = LimitsSettings

    def gather(self, request: Request, settings: Any) -> Evidence:
        """Return what the job's facts do not hold: parameters, and whether every loop ends."""
        circuits = [p.circuit for p in request.programs]
        return {
            "parameters": [len(c.parameters) for c in circuits],
            "bounded": [c.bounded for c in circuits],
        }

    def decide(self, job: Job, settings: LimitsSettings, evidence: Evidence) -> Verdict:
        """Compare each number with its limit."""
        findings: list[Finding] = []
        parameters, bounded = evidence["parameters"], evidence["bounded"]
        if not len(job.circuits) == len(parameters) == len(bounded):
            raise ValueError("the evidence is of another job")
        if len(job.circuits) > settings.max_circuits:
            fix = "send the circuits in smaller jobs, or raise max_circuits in the policy"
            findings.append(
                _finding("circuits", len(job.circuits), settings.max_circuits, fix, None)
            )
        for number, circuit in enumerate(job.circuits):
            where = f"circuit {number}"
            pairs = (
                ("qubits", circuit.num_qubits, settings.max_qubits),
                ("clbits", circuit.num_clbits, settings.max_clbits),
                ("depth", circuit.depth, settings.max_depth),
                ("operations", circuit.size, settings.max_operations),
                ("two-qubit-ops", circuit.two_qubit_ops, settings.max_two_qubit_ops),
                ("parameters", parameters[number], settings.max_parameters),
                ("bindings", circuit.bindings, settings.max_bindings),
                ("shots", circuit.shots, settings.max_shots),
            )
            findings += [
                _finding(rule, value, limit, _FIXES[rule], where)
                for rule, value, limit in pairs
                if value > limit
            ]
            if not bounded[number] and not settings.allow_unbounded:
                findings.append(
                    Finding(
                        rule="verify.limits.unbounded",
                        message="a loop of the circuit may never end",
                        got="while_loop",
                        expected="a loop with a fixed number of rounds",
                        fix="use a for loop with a break, or set allow_unbounded in the policy",
                        location=where,
                    )
                )
        return verdict(evidence, findings)


def _finding(rule: str, value: int, limit: int, fix: str, where: str | None) -> Finding:
    return Finding(
        rule=f"verify.limits.{rule}",
        message=f"the job has more {rule.replace('-', ' ')} than the policy allows",
        got=str(value),
        expected=f"at most {limit}",
        fix=fix,
        location=where,
    )
