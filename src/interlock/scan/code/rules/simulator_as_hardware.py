"""Simulator results shown as if a device had produced them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import ClassVar

from interlock.scan.code.base import Hit, Module
from interlock.scan.finding import Severity

__all__ = ["SimulatorAsHardware"]

_CLAIM = re.compile(
    r"(?i)\b(?:real[ _-]?(?:quantum[ _-]?)?(?:hardware|device|qpu|machine)|on hardware|"
    r"hardware[ _-]?(?:run|results?|counts|data)|qpu[ _-]?(?:results?|counts|run)|"
    r"quantum advantage|ibm_(?!runtime|quantum|cloud)[a-z]{4,14}|ionq (?:aria|forte))"
)
_DENIAL = re.compile(
    r"(?i)simulat|noise model|fake|twin|emulat|not (?:a )?real|vs\.?|versus|compar"
)
_NAMED = re.compile(
    r"(?i)^(?:hardware|hw|qpu|real_device|device)_?(?:counts|results?|data|probs?)$"
)
_SIMULATORS = ("AerSimulator", "BasicSimulator", "StatevectorSampler", "StatevectorEstimator",
               "DensityMatrixSimulator", "LocalSimulator")  # fmt: skip
_DEVICES = (
    "QiskitRuntimeService", "IBMProvider", "AwsDevice", "IonQProvider", "QuantinuumBackend",
    "IQMProvider", "AQTProvider", "least_busy", "RemoteProcessor", "DWaveSampler",
)  # fmt: skip
_SHOW = {"print", "title", "suptitle", "set_title", "info", "xlabel", "ylabel", "label", "text"}


class SimulatorAsHardware:
    """A module that only simulates and labels what it shows as hardware."""

    id: ClassVar[str] = "simulator-as-hardware"
    title: ClassVar[str] = "Simulator result presented as hardware"
    severity: ClassVar[Severity] = Severity.MEDIUM
    confidence: ClassVar[str] = "low"
    why: ClassVar[str] = "the claim is false, and nobody downstream can tell"
    fix: ClassVar[str] = "say simulator in the label, or run on the device and keep its receipt"

    def check(self, module: Module) -> Iterator[Hit]:
        """Yield the labels and names."""
        made = {module.name(c.func).rpartition(".")[2] for c in module.calls}
        fakes = {name for name in made if name.startswith("Fake")}
        simulates = bool(made & set(_SIMULATORS) or fakes)
        if not simulates or made & set(_DEVICES):
            return
        for call in module.calls:
            last = module.name(call.func).rpartition(".")[2] or getattr(call.func, "attr", "")
            if last in _SHOW:
                for argument in (*call.args, *(k.value for k in call.keywords)):
                    text = self._words(argument)
                    if _CLAIM.search(text) and not _DENIAL.search(text):
                        yield module.hit(
                            call, "this label claims a device; the module only simulates"
                        )
                        break
        for node in module.nodes:
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    if isinstance(target, ast.Name) and _NAMED.match(target.id):
                        yield module.hit(target, f"{target.id} comes from a simulator")

    def _words(self, node: ast.expr) -> str:
        if isinstance(node, ast.JoinedStr):
            return "".join(
                str(v.value) if isinstance(v, ast.Constant) else " " for v in node.values
            )
        return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
