"""The words the whole package shares: principal, job, finding, verdict, outcome, receipt."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec

__all__ = [
    "CircuitFacts",
    "Decision",
    "Evidence",
    "Finding",
    "Job",
    "Mode",
    "Outcome",
    "Principal",
    "Verdict",
]

#: What a control learnt: plain JSON values only, so that it can be recorded and replayed.
Evidence: TypeAlias = Mapping[str, Any]


class Decision(enum.IntEnum):
    """What a control says of a job, in order of severity.

    Example:
        >>> max(Decision.ALLOW, Decision.FALLBACK, Decision.HOLD).name
        'FALLBACK'
    """

    ALLOW = 0
    HOLD = 1
    FALLBACK = 2
    DENY = 3


class Outcome(enum.StrEnum):
    """How a job ended for the person who sent it."""

    RELEASE = "RELEASE"
    FALLBACK = "FALLBACK"
    HOLD = "HOLD"
    DENY = "DENY"


class Mode(enum.StrEnum):
    """Whether user code could have gone round the guard.

    `ADVISORY`: the guard is a wrapper in the user's own process.
    `ENFORCED`: the gateway holds the credentials and user code runs in a sandbox without them.
    """

    ADVISORY = "ADVISORY"
    ENFORCED = "ENFORCED"


class Principal(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Who asks: a person, a service or an agent, and for whom."""

    id: str
    kind: str = "person"
    tenant: str = "local"
    on_behalf_of: str | None = None


class Finding(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One thing a control has to say.

    Attributes:
        rule: stable id, `<stage>.<control>.<rule>`.
        message: what was wrong.
        got: what was found.
        expected: what would have been right.
        fix: what to do next.
        location: where, for instance `instruction 4: cx q[0], q[7]`.
    """

    rule: str
    message: str
    got: str | None = None
    expected: str | None = None
    fix: str | None = None
    location: str | None = None


class Verdict(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a control decided, why, and on what evidence."""

    decision: Decision
    findings: tuple[Finding, ...] = ()
    evidence: Evidence = {}


class CircuitFacts(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the record keeps of one circuit of a job.

    Attributes:
        sha256: identity of the canonical form (a template when it has free parameters).
        num_qubits: width.
        num_clbits: classical bits.
        size: number of operations.
        depth: circuit depth.
        two_qubit_ops: operations on two or more qubits.
        bindings: number of parameter sets it runs with.
        shots: shots for each parameter set; 0 when `precision` is given.
        precision: target standard error of an estimate, or None.
        executions: circuits the device runs, when that is not one for each parameter set: an
            estimate runs one for each basis it measures in.
        finite: whether every number of the circuit and of its parameter sets is finite.
    """

    sha256: str
    num_qubits: int
    num_clbits: int
    size: int
    depth: int
    two_qubit_ops: int
    bindings: int = 1
    shots: int = 0
    precision: float | None = None
    executions: int | None = None
    finite: bool = True

    @property
    def tasks(self) -> int:
        """Circuits the device runs."""
        return self.bindings if self.executions is None else self.executions

    @property
    def total_shots(self) -> int:
        """Shots the device takes; an estimate to precision p takes ceil(1/p^2) a circuit."""
        each = -int(-(self.precision**-2) // 1) if self.precision else self.shots
        return each * self.tasks


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for. Plain facts only: recorded whole and enough to decide again.

    Attributes:
        options: how the device is asked to run, besides circuits, shots and seed.
        refused: why it was refused before the path, as what was asked for has no form to check;
            such a job has no circuits.
    """

    id: str
    kind: str
    principal: Principal
    mode: Mode
    backend: str
    circuits: tuple[CircuitFacts, ...]
    submitted_at: str
    pipeline: str = "default"
    seed: int | None = None
    labels: tuple[str, ...] = ()
    options: Mapping[str, Any] = {}
    refused: Finding | None = None

    @property
    def total_shots(self) -> int:
        """Shots the device takes over all circuits, parameter sets and measured bases."""
        return sum(c.total_shots for c in self.circuits)

    @property
    def total_tasks(self) -> int:
        """Circuits the device runs."""
        return sum(c.tasks for c in self.circuits)
