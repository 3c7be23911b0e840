"""Circuits sampled without a measurement."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import ClassVar

from interlock.scan.code.base import Hit, Module
from interlock.scan.code.circuits import circuits_of
from interlock.scan.finding import Severity

__all__ = ["MissingMeasure"]


class MissingMeasure:
    """A circuit goes to a sampler and nothing in it is measured."""

    id: ClassVar[str] = "missing-measure"
    title: ClassVar[str] = "Circuit is sampled but never measured"
    severity: ClassVar[Severity] = Severity.MEDIUM
    confidence: ClassVar[str] = "medium"
    why: ClassVar[str] = "the job is paid for and returns no counts, or counts of nothing"
    fix: ClassVar[str] = "add circuit.measure_all(), or measure the qubits you need, before running"

    def check(self, module: Module) -> Iterator[Hit]:
        """Yield the runs."""
        for circuit in circuits_of(module):
            if circuit.measured or circuit.escapes or not circuit.gates:
                continue
            for call in circuit.runs:
                receiver = call.func.value if isinstance(call.func, ast.Attribute) else None
                maker = module.origin(receiver) if receiver is not None else ""
                if "Estimator" not in maker and "estimator" not in ast.unparse(call.func):
                    yield module.hit(call, f"{circuit.name} has gates and no measurement")
