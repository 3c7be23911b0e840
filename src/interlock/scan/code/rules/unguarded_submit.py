"""Jobs that go to a device or simulator without passing the guard."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import ClassVar

from interlock.scan.code.base import Hit, Module
from interlock.scan.finding import Severity

__all__ = ["UnguardedSubmit"]

_MAKERS = {
    "Sampler", "SamplerV2", "Estimator", "EstimatorV2", "StatevectorSampler", "BackendSamplerV2",
    "StatevectorEstimator", "BackendEstimatorV2", "AerSimulator", "BasicSimulator", "AwsDevice",
    "IonQProvider", "IBMBackend", "BraketBackend", "QuantinuumBackend", "DWaveSampler",
    "EmbeddingComposite", "RemoteProcessor",
}  # fmt: skip
_GETTERS = {"backend", "get_backend", "least_busy"}
_SDKS = {"qiskit", "qiskit_ibm_runtime", "qiskit_aer", "qiskit_ionq", "braket", "pytket", "dwave",
         "perceval", "qiskit_braket_provider"}  # fmt: skip
_SUBMIT = {"run", "submit", "sample", "sample_qubo", "sample_ising", "run_batch"}


class UnguardedSubmit:
    """`sampler.run(...)` on a primitive that `interlock.guard` has not wrapped."""

    id: ClassVar[str] = "unguarded-submit"
    title: ClassVar[str] = "Job sent round the guard"
    severity: ClassVar[Severity] = Severity.MEDIUM
    confidence: ClassVar[str] = "medium"
    why: ClassVar[str] = (
        "no budget, no policy, no receipt: nobody can say who ran it or what it cost"
    )
    fix: ClassVar[str] = "wrap it: sampler = interlock.guard(sampler, policy='policy.yaml')"

    def check(self, module: Module) -> Iterator[Hit]:
        """Yield the submissions."""
        if not module.roots & _SDKS:
            return
        for call in module.calls:
            if isinstance(call.func, ast.Attribute) and call.func.attr in _SUBMIT:
                maker = self._maker(module, call.func.value)
                if maker:
                    yield module.hit(
                        call,
                        f"{maker} is used directly by .{call.func.attr}(), not through the guard",
                    )

    def _maker(self, module: Module, receiver: ast.expr, depth: int = 0) -> str:
        value = module.value(receiver)
        if not isinstance(value, ast.Call) or depth > 4:
            return ""
        name = module.name(value.func)
        if name in ("interlock.guard", "guard") or name.endswith(".guard"):
            return ""
        last = name.rpartition(".")[2] or getattr(value.func, "attr", "")
        if last in _MAKERS or (last.startswith("Fake") and "fake_provider" in name):
            return last
        if last in _GETTERS and isinstance(value.func, ast.Attribute):
            return f"a backend from .{last}()"
        if last == "from_backend":
            return name.split(".")[-2] if "." in name else "a simulator"
        return ""
