"""What a control is: one question of one stage, asked with IO and answered without.

`gather` does the IO and returns plain JSON values. `decide` is a pure function of the job, the
settings and that evidence: the same three give the same verdict on any machine, at any time, which
is what makes replay possible.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from interlock.types import Decision, Evidence, Finding, Job, Outcome, Verdict

if TYPE_CHECKING:
    from interlock.circuits.canonical import Circuit
    from interlock.guard.result import Result
    from interlock.guard.state import State

__all__ = ["Control", "Program", "Request", "Settings", "allow", "check_control", "deny", "verdict"]


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of a control's settings: the keys its policy section may have, with defaults."""


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """One circuit of a job with the values it runs with.

    Attributes:
        circuit: canonical form.
        native: the SDK's own object, untouched.
        parameters: names of the free parameters, in the order of the columns of `values`.
        values: one row for each parameter set; empty when the circuit has no free parameters.
        shots: shots for each parameter set; 0 for estimates.
        observables: for estimates, the observables as text, else empty.
        bounds: for estimates, the largest absolute value each observable can have.
        precision: for estimates, the target standard error.
        shape: for estimates, the shape the answer must have, or None when it is not known.
        executions: circuits the device runs, when that is not one for each parameter set.
    """

    circuit: Circuit
    native: Any
    parameters: tuple[str, ...] = ()
    values: Sequence[Sequence[float]] = ()
    shots: int = 0
    observables: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    precision: float | None = None
    shape: tuple[int, ...] | None = None
    executions: int | None = None


class Request(msgspec.Struct, kw_only=True):
    """A job on its way, with the live objects that gathering needs. Never recorded itself.

    Attributes:
        job: the facts of the job.
        programs: the circuits to run.
        backend: the SDK's backend or sampler, or None.
        execute: runs the programs on the device and returns the result.
        baseline: computes the classical answer for the same programs, or None.
        decode: turns a result into named fields for the filter, or None for the default.
        isolation: level of isolation that what executes the programs offers.
        home: folder of the ledger, state and keys.
        state: counters shared by all processes.
        now: wall-clock seconds since the epoch.
        result: set by the execute stage (or by the baseline), read by the later ones.
        branch: "quantum" or "baseline".
        shared: what controls hand to later ones within this job, for instance the calibration.
        entered: when each (stage, branch) was entered, in nanoseconds since the epoch.
    """

    job: Job
    programs: tuple[Program, ...]
    backend: Any
    execute: Callable[[], Result]
    baseline: Callable[[], Result] | None
    decode: Callable[[Result], Mapping[str, Any]] | None
    isolation: str = "none"
    home: Path
    state: State
    now: Callable[[], float]
    timeout_s: float = 600.0
    result: Result | None = None
    branch: str = "quantum"
    shared: dict[str, Any] = msgspec.field(default_factory=dict)
    entered: dict[tuple[str, str], int] = msgspec.field(default_factory=dict)


class Control(abc.ABC):
    """One question of one stage.

    Class attributes:
        id: kebab-case name, the key in the policy section and the entry point.
        stage: the stage it belongs to.
        version: raise it whenever `decide` may answer differently on the same evidence.
        phase: controls of a later phase run only when all earlier ones of the stage allowed;
            for what takes effect (a reservation, the execution itself).
        Settings: the settings struct.
    """

    id: ClassVar[str]
    stage: ClassVar[str]
    version: ClassVar[int] = 1
    phase: ClassVar[int] = 0
    Settings: ClassVar[type[Settings]] = Settings

    @abc.abstractmethod
    def gather(self, request: Request, settings: Any) -> Evidence:
        """Collect the evidence; may do IO. Returns plain JSON values."""

    @abc.abstractmethod
    def decide(self, job: Job, settings: Any, evidence: Evidence) -> Verdict:
        """Decide on the evidence alone: no IO, no clock, no randomness."""

    def prepare(self, settings: Any) -> None:  # noqa: B027
        """Called when a guard is made, for what is slow to load; no deadline holds here.

        What fails is left to `gather`, which then denies on record. The default does nothing.
        """

    def settle(self, request: Request, settings: Any, outcome: Outcome) -> None:  # noqa: B027
        """Called once when the job has ended, whatever the outcome, if `gather` was called.

        Most controls have nothing to settle, so the default does nothing.
        """


def allow(evidence: Evidence, *findings: Finding) -> Verdict:
    """Return an ALLOW verdict."""
    return Verdict(decision=Decision.ALLOW, findings=findings, evidence=evidence)


def deny(evidence: Evidence, *findings: Finding) -> Verdict:
    """Return a DENY verdict."""
    return Verdict(decision=Decision.DENY, findings=findings, evidence=evidence)


def verdict(
    evidence: Evidence, findings: Sequence[Finding], worst: Decision | str = Decision.DENY
) -> Verdict:
    """Return `worst`, a decision or its name in lower case, when there are findings; else ALLOW."""
    if not findings:
        return Verdict(decision=Decision.ALLOW, evidence=evidence)
    decision = worst if isinstance(worst, Decision) else Decision[worst.upper()]
    return Verdict(decision=decision, findings=tuple(findings), evidence=evidence)


def check_control(control: Control, job: Job, settings: Any, evidence: Evidence) -> None:
    """Hold a control to its contract; for the tests of built-ins and of third parties.

    Raises:
        AssertionError: the control has no proper id, is not registered, decides differently on
            the same evidence, answers with something else than a Verdict, changes its evidence,
            or its settings have no defaults.
    """
    from interlock import plugins
    from interlock.guard.pipeline import STAGES

    cls = type(control)
    assert cls.id, "id is empty"
    assert cls.id == cls.id.lower().replace("_", "-"), f"{cls.id} is not kebab-case"
    assert cls.stage in STAGES, f"{cls.stage} is not a stage"
    assert issubclass(cls.Settings, Settings)
    cls.Settings()
    assert cls.id in plugins.installed(f"interlock.{cls.stage}"), f"{cls.id} is not registered"
    assert plugins.load(f"interlock.{cls.stage}", cls.id) is cls
    before = msgspec.json.encode(evidence)
    restored = msgspec.json.decode(before)
    first = control.decide(job, settings, evidence)
    second = cls().decide(job, settings, restored)
    assert isinstance(first, Verdict), f"decide returned {type(first).__name__}"
    assert first == second, "the same evidence gave two verdicts"
    assert msgspec.json.encode(evidence) == before, "decide changed its evidence"
