"""Is the result well-formed, and could it be physics at all?"""

from __future__ import annotations

import math
from typing import Any, Literal

from interlock.circuits.faces import of_sdk
from interlock.guard.control import Control, Program, Request, Settings, verdict
from interlock.guard.result import Estimates, Result, Samples
from interlock.types import Evidence, Finding, Job, Verdict

__all__ = ["CountsControl", "faults"]

#: An estimate may exceed its bound by its own error as reported; more than this is no noise. What
#: the caller asked for as precision does not widen the bound: the device need not have kept it.
SIGMAS = 6.0


class CountsSettings(Settings, frozen=True, kw_only=True):
    """Settings of `counts`.

    Attributes:
        on_fault: what a result that cannot be right leads to.
    """

    on_fault: Literal["fallback", "deny"] = "fallback"


class CountsControl(Control):
    """Checks shots, widths and bit strings of counts, and physical bounds of estimates."""

    id = "counts"
    stage = "validate"
    Settings = CountsSettings

    def gather(self, request: Request, settings: Any) -> Evidence:
        """Look for anything that cannot be right."""
        if request.result is None:
            return {"faults": [{"rule": "no-result", "got": "nothing", "expected": "a result"}]}
        drawn = _draws(request.backend)
        return {"faults": faults(request.result, request.programs, drawn=drawn)}

    def decide(self, job: Job, settings: CountsSettings, evidence: Evidence) -> Verdict:
        """Any fault means that the result is not used."""
        findings = [
            Finding(
                rule=f"validate.counts.{fault['rule']}",
                message="the result cannot be right",
                got=fault["got"],
                expected=fault["expected"],
                fix="ask the provider; keep the receipt as evidence",
                location=fault.get("where"),
            )
            for fault in evidence["faults"]
        ]
        return verdict(evidence, findings, settings.on_fault)


def _draws(backend: Any) -> bool:
    """Whether it is Qiskit's exact estimator: it adds noise of the asked precision, reports 0."""
    for kind in type(backend).__mro__:
        if kind.__name__ == "StatevectorEstimator" and of_sdk(kind, "qiskit"):
            return True
    return False


def faults(
    result: Result, programs: tuple[Program, ...], *, drawn: bool = False
) -> list[dict[str, str]]:
    """Return what cannot be right, one entry a circuit at most.

    Args:
        result: what came back.
        programs: what was asked for.
        drawn: whether estimates carry noise of the asked precision that their errors do not say.
    """
    if len(result.items) != len(programs):
        got = f"{len(result.items)} results"
        return [{"rule": "items", "got": got, "expected": f"{len(programs)} results"}]
    found = []
    for index, (item, program) in enumerate(zip(result.items, programs, strict=True)):
        if isinstance(item, Samples):
            fault = _samples(item, program)
        else:
            fault = _estimates(item, program, (program.precision or 0.0) if drawn else 0.0)
        if fault is not None:
            found.append(fault | {"where": f"circuit {index}"})
    return found


def _fault(rule: str, got: str, expected: str) -> dict[str, str]:
    return {"rule": rule, "got": got, "expected": expected}


def _samples(item: Samples, program: Program) -> dict[str, str] | None:
    rows = max(len(program.values), 1)
    width = sum(item.widths.values())
    if width != program.circuit.num_clbits:
        return _fault("width", f"{width} bits", f"{program.circuit.num_clbits} bits")
    for name, counts_of in item.registers.items():
        if len(counts_of) != rows:
            return _fault("rows", f"{len(counts_of)} sets of counts", f"{rows} sets of counts")
        for counts in counts_of:
            whole = set(map(type, counts.values())) <= {int}
            if not whole or min(counts.values(), default=0) < 0:
                return _fault("count", f"register {name}: {counts!r:.120}", "whole numbers >= 0")
            total = sum(counts.values())
            if total != program.shots:
                return _fault("shots", f"register {name}: {total} shots", f"{program.shots} shots")
            if set(map(len, counts)) - {item.widths[name]} or "".join(counts).strip("01"):
                odd = next(b for b in counts if len(b) != item.widths[name] or b.strip("01"))
                expected = f"{item.widths[name]} characters of 0 and 1"
                return _fault("bits", f"register {name}: {odd!r:.80}", expected)
    if not item.registers and width:
        return _fault("registers", "no register", f"{width} bits of counts")
    return None


def _estimates(item: Estimates, program: Program, noise: float) -> dict[str, str] | None:
    if len(item.values) != math.prod(item.shape) or len(item.values) != len(item.errors):
        got = f"{len(item.values)} values, {len(item.errors)} errors, shape {item.shape}"
        return _fault("shape", got, "one error a value, as the shape says")
    if program.shape is not None and tuple(item.shape) != program.shape:
        return _fault("shape", f"shape {tuple(item.shape)}", f"shape {program.shape}")
    if not item.values:
        return _fault("empty", "no value", "at least one value")
    bounds = list(program.bounds)
    if len(bounds) != len(item.values):  # parameter sets beside observables: the loosest
        bounds = [max(bounds, default=math.inf)] * len(item.values)
    for value, error, bound in zip(item.values, item.errors, bounds, strict=True):
        if not math.isfinite(value) or not math.isfinite(error) or error < 0:
            return _fault("finite", f"{value!r} +- {error!r}", "finite numbers")
        if abs(value) > bound * (1 + 1e-9) + SIGMAS * max(error, noise):
            return _fault("bound", f"{value:.6g}", f"between {-bound:.6g} and {bound:.6g}")
    return None
