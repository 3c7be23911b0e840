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
#: Said in a title, label or beside a printed value it is a claim; elsewhere it may be a subject.
_WORD = re.compile(
    r"(?i)(?<![A-Za-z])(?:hardware|qpu|quantum[ _-](?:computer|processor|device|chip))(?![A-Za-z])"
    r"(?![ _-]?(?:efficient|aware|agnostic|native|inspired|friendly|constraint|limit|require|"
    r"topolog|connectiv|budget|cost|access|queue|ready|run\?))"
)
_DENIAL = re.compile(
    r"(?i)simulat|noise model|fake|twin|emulat|not (?:a )?real|vs\.?|versus|compar|"
    r"\b(?:no|not|without|before|unlike|ideal|expect|predict|estimat|need|requires?|future|"
    r"skip|unavailable|if|would|could|for)\b"
)
_NAMED = re.compile(
    r"(?i)^(?:hardware|hw|qpu|real_device|device)_?(?:counts|results?|data|probs?)$"
)
_SIMULATORS = {
    "AerSimulator", "BasicSimulator", "StatevectorSampler", "StatevectorEstimator",
    "DensityMatrixSimulator", "LocalSimulator", "StatevectorSimulator", "QasmSimulator",
    "QSimSimulator", "UnitarySimulator", "StabilizerSampler", "CliffordSimulator", "QVM",
}  # fmt: skip
_SIMULATED = re.compile(
    r"^(?:cirq|qiskit_aer|qsimcirq|stim|qulacs|pyquil|braket)\.(?:.*\.)?\w*[Ss]imulator$"
)
_DEVICE_NAMES = re.compile(r"^(?:default|lightning)\.|simulator|^braket\.local")
_DEVICES = (
    "QiskitRuntimeService", "IBMProvider", "AwsDevice", "IonQProvider", "QuantinuumBackend",
    "IQMProvider", "AQTProvider", "least_busy", "RemoteProcessor", "DWaveSampler",
)  # fmt: skip
_LABELS = {
    "title", "suptitle", "set_title", "xlabel", "ylabel", "set_xlabel", "set_ylabel", "label",
    "text", "annotate", "legend", "set_label", "savefig", "figtext",
}  # fmt: skip
_PRINTS = {"print", "info", "warning", "debug", "display", "write", "markdown", "log", "echo"}
_PLOTS = {
    "plot", "bar", "barh", "hist", "scatter", "errorbar", "step", "plot_histogram",
    "plot_distribution", "Bar", "Scatter", "histplot", "barplot", "lineplot",
}  # fmt: skip
_NAMING = {"title", "label", "legend", "labels", "name", "xlabel", "ylabel", "suptitle"}
#: What a module reads may have come from a device.
_READS = {"load", "loads", "read_csv", "read_json", "read_parquet", "loadtxt", "genfromtxt", "open"}


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
        if made & set(_DEVICES) or not any(self._simulates(module, c) for c in module.calls):
            return
        reads = bool(made & _READS)
        for call in module.calls:
            last = module.name(call.func).rpartition(".")[2] or getattr(call.func, "attr", "")
            for text, shown in self._shown(module, call, last):
                claims = _CLAIM.search(text) or (shown and not reads and _WORD.search(text))
                if claims and not _DENIAL.search(text):
                    yield module.hit(call, "this label claims a device; the module only simulates")
                    break
        for node in module.nodes:
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    if isinstance(target, ast.Name) and _NAMED.match(target.id):
                        yield module.hit(target, f"{target.id} comes from a simulator")

    def _simulates(self, module: Module, call: ast.Call) -> bool:
        name = module.name(call.func)
        last = name.rpartition(".")[2]
        if last in _SIMULATORS or last.startswith("Fake") or _SIMULATED.match(name):
            return True
        first = module.text_of(call.args[0]) if call.args else None
        return last in ("device", "get_backend") and bool(_DEVICE_NAMES.search(first or ""))

    def _shown(self, module: Module, call: ast.Call, last: str) -> Iterator[tuple[str, bool]]:
        """Texts a call shows, each with whether a mention of hardware in it is a claim."""
        given = [(k.arg or "", k.value) for k in call.keywords]
        if last in _LABELS or last in _PRINTS:
            given += [("", argument) for argument in call.args]
        elif last in _PLOTS:
            given = [pair for pair in given if pair[0] in _NAMING]
        else:
            return
        for _, argument in given:
            value = module.value(argument)
            items = value.elts if isinstance(value, (ast.List, ast.Tuple)) else [argument]
            for item in items:
                text, filled = self._words(module, item)
                yield text, last not in _PRINTS or filled or len(call.args) > 1

    def _words(self, module: Module, node: ast.expr) -> tuple[str, bool]:
        """The words of a text, and whether values are put into it."""
        node = module.value(node)
        if isinstance(node, ast.JoinedStr):
            parts = [str(v.value) if isinstance(v, ast.Constant) else " " for v in node.values]
            return "".join(parts), any(isinstance(v, ast.FormattedValue) for v in node.values)
        if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Mod, ast.Add)):
            left, right = self._words(module, node.left)[0], self._words(module, node.right)[0]
            return f"{left} {right}", module.text_of(node) is None
        function = node.func if isinstance(node, ast.Call) else None
        if isinstance(function, ast.Attribute) and function.attr == "format":
            return self._words(module, function.value)[0], True
        return module.text_of(node) or "", False
