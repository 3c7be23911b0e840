"""Qubits used after they were measured, as if nothing had happened."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from interlock.scan.code.base import Hit, Module
from interlock.scan.code.circuits import circuits_of
from interlock.scan.finding import Severity

__all__ = ["MidCircuit"]


class MidCircuit:
    """A gate on a measured qubit with no reset and no condition; a classical bit written twice."""

    id: ClassVar[str] = "mid-circuit"
    title: ClassVar[str] = "Measured qubit used again without reset"
    severity: ClassVar[Severity] = Severity.MEDIUM
    confidence: ClassVar[str] = "low"
    why: ClassVar[str] = "the gate acts on a collapsed state, or a result is overwritten unseen"
    fix: ClassVar[str] = "reset the qubit, put the gate under if_test, or measure at the end"

    def check(self, module: Module) -> Iterator[Hit]:
        """Yield gates after measurement and overwritten bits, in straight-line code."""
        for circuit in circuits_of(module):
            if circuit.escapes:
                continue
            measured: dict[int, bool] = {}
            written: set[int] = set()
            for step in circuit.steps:
                if step.kind == "measure":
                    for bit in step.clbits:
                        if bit in written:
                            yield module.hit(
                                step.node, f"classical bit {bit} is measured into twice"
                            )
                        written.add(bit)
                    measured.update(dict.fromkeys(step.qubits, True))
                elif step.kind == "reset":
                    for qubit in step.qubits:
                        measured.pop(qubit, None)
                elif step.kind == "gate" and not step.conditional:
                    again = [q for q in step.qubits if q in measured]
                    if again:
                        yield module.hit(
                            step.node, f"{step.name} on qubit {again[0]} after its measurement"
                        )
                        for qubit in again:
                            measured.pop(qubit)
