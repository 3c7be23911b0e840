"""Statistics on too few shots."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import ClassVar

from interlock.scan.code.base import Hit, Module
from interlock.scan.finding import Severity

__all__ = ["FewShots"]

#: Below this the standard error of a probability near one half is over five points.
LEAST = 100
_CALLS = {"run", "execute", "sample", "device", "qnode", "Sampler", "SamplerV2", "run_sampler"}
_MAKERS = {"device", "qnode", "Sampler", "SamplerV2"}  # their results are used elsewhere
_SDKS = {"qiskit", "qiskit_aer", "qiskit_ibm_runtime", "pennylane", "cirq", "braket", "interlock"}
_STATS = {"get_counts", "expval", "mean", "histogram", "plot_histogram", "probabilities", "counts",
          "result_distribution", "measurement_counts", "std", "var"}  # fmt: skip


class FewShots:
    """A run of under 100 shots whose counts are used as probabilities."""

    id: ClassVar[str] = "few-shots"
    title: ClassVar[str] = "Statistics on too few shots"
    severity: ClassVar[Severity] = Severity.LOW
    confidence: ClassVar[str] = "medium"
    why: ClassVar[str] = "at n shots a probability is known to about 0.5/sqrt(n); the rest is noise"
    fix: ClassVar[str] = "work out the shots from the effect you want to see: interlock.scan.shots"

    def check(self, module: Module) -> Iterator[Hit]:
        """Yield the runs."""
        if not module.roots & _SDKS:
            return
        places = {
            module.scope(node)
            for node in module.nodes
            if getattr(node, "attr", None) in _STATS or getattr(node, "id", None) in _STATS
        }
        if not places:
            return
        for call in module.calls:
            last = module.name(call.func).rpartition(".")[2] or getattr(call.func, "attr", "")
            shots = module.keyword(call, "shots") or module.keyword(call, "repetitions")
            count = module.number(shots)
            scope = module.scope(call)
            near = last in _MAKERS or scope in places or isinstance(scope, ast.Module)
            if near and last in _CALLS and count is not None and 1 < count < LEAST:
                error = 0.5 / count**0.5
                yield module.hit(call, f"{count} shots: standard error up to {error:.2f}")
