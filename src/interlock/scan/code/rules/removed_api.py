"""Qiskit names that present versions no longer have."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import ClassVar

from interlock.scan.code.base import Hit, Module
from interlock.scan.code.circuits import circuits_of
from interlock.scan.finding import Severity

__all__ = ["RemovedApi"]

#: name -> (version that removed it, what to use)
REMOVED = {
    "qiskit.execute": ("1.0", "transpile and a primitive's run"),
    "qiskit.Aer": ("1.0", "qiskit_aer.AerSimulator"),
    "qiskit.BasicAer": ("1.0", "qiskit.providers.basic_provider"),
    "qiskit.IBMQ": ("1.0", "qiskit_ibm_runtime.QiskitRuntimeService"),
    "qiskit.assemble": ("1.0", "run the circuit"),
    "qiskit.compiler.assemble": ("1.0", "run the circuit"),
    "qiskit.aqua": ("0.40", "qiskit_algorithms and qiskit_nature"),
    "qiskit.ignis": ("0.40", "qiskit_experiments"),
    "qiskit.opflow": ("1.0", "qiskit.quantum_info.SparsePauliOp"),
    "qiskit.algorithms": ("1.0", "qiskit_algorithms"),
    "qiskit.extensions": ("1.0", "qiskit.circuit.library"),
    "qiskit.test": ("1.0", "your test framework"),
    "qiskit.tools": ("1.0", "qiskit.visualization, rustworkx"),
    "qiskit.validation": ("1.0", "nothing"),
    "qiskit.utils.QuantumInstance": ("1.0", "a primitive"),
    "qiskit.providers.aer": ("1.0", "qiskit_aer"),
    "qiskit.providers.ibmq": ("1.0", "qiskit_ibm_runtime"),
    "qiskit.providers.basicaer": ("1.0", "qiskit.providers.basic_provider"),
    "qiskit.providers.fake_provider.FakeProvider": ("1.0", "qiskit_ibm_runtime.fake_provider"),
    "qiskit.pulse": ("2.0", "fractional gates or a provider's own pulse API"),
    "qiskit.qobj": ("2.0", "run the circuit"),
    "qiskit.assembler": ("2.0", "run the circuit"),
    "qiskit.scheduler": ("2.0", "qiskit.transpiler.passes scheduling"),
    "qiskit.primitives.Sampler": ("2.0", "StatevectorSampler"),
    "qiskit.primitives.Estimator": ("2.0", "StatevectorEstimator"),
    "qiskit.primitives.BackendSampler": ("2.0", "BackendSamplerV2"),
    "qiskit.primitives.BackendEstimator": ("2.0", "BackendEstimatorV2"),
    "qiskit.providers.BackendV1": ("2.0", "BackendV2"),
    "qiskit.circuit.classicalfunction": ("2.0", "PhaseOracleGate"),
}
_METHODS = {
    "bind_parameters": ("1.0", "assign_parameters"),
    "cnot": ("1.0", "cx"),
    "toffoli": ("1.0", "ccx"),
    "fredkin": ("1.0", "cswap"),
    "mct": ("1.0", "mcx"),
    "u1": ("1.0", "p"),
    "u2": ("1.0", "u"),
    "u3": ("1.0", "u"),
    "i": ("1.0", "id"),
    "qasm": ("1.0", "qiskit.qasm2.dumps or qasm3.dumps"),
    "snapshot": ("1.0", "qiskit_aer save_* instructions"),
    "c_if": ("2.0", "if_test"),
    "diagonal": ("1.0", "append(DiagonalGate)"),
    "squ": ("1.0", "unitary"),
    "isometry": ("1.0", "append(Isometry)"),
}


class RemovedApi:
    """An import or method that Qiskit 1.0 or 2.0 removed."""

    id: ClassVar[str] = "removed-qiskit-api"
    title: ClassVar[str] = "Qiskit name that no longer exists"
    severity: ClassVar[Severity] = Severity.MEDIUM
    confidence: ClassVar[str] = "high"
    why: ClassVar[str] = "the program fails, perhaps after a queue, or pins a release without fixes"
    fix: ClassVar[str] = "use the named replacement; the Qiskit migration guides have the details"

    def check(self, module: Module) -> Iterator[Hit]:
        """Yield the uses."""
        if "qiskit" not in module.roots:
            return
        seen: set[tuple[int, str]] = set()
        for node in module.nodes:
            for full in _names(module, node):
                found = next((n for n in REMOVED if full == n or full.startswith(n + ".")), None)
                line = getattr(node, "lineno", 0)
                if found and (line, found) not in seen:
                    seen.add((line, found))
                    since, instead = REMOVED[found]
                    yield module.hit(node, f"{found} was removed in Qiskit {since}: use {instead}")
        for circuit in circuits_of(module):
            for call in circuit.calls:
                method = call.func.attr if isinstance(call.func, ast.Attribute) else ""
                if method in _METHODS:
                    since, instead = _METHODS[method]
                    yield module.hit(
                        call, f".{method}() was removed in Qiskit {since}: use {instead}"
                    )
        owners = {id(c) for circuit in circuits_of(module) for c in circuit.calls}
        for call in module.calls:
            if isinstance(call.func, ast.Attribute) and call.func.attr in (
                "c_if",
                "bind_parameters",
            ):
                inner = call.func.value
                loose = isinstance(inner, ast.Call) or call.func.attr == "bind_parameters"
                if loose and id(call) not in owners:
                    since, instead = _METHODS[call.func.attr]
                    yield module.hit(
                        call,
                        f".{call.func.attr}() was removed in Qiskit {since}: use {instead}",
                    )


def _names(module: Module, node: ast.AST) -> list[str]:
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return [f"{node.module}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return [module.name(node)] if module.imports.get(node.value.id) == "qiskit" else []
    return []
