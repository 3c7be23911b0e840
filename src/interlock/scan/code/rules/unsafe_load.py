"""Loaders that run code from the file they read."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import ClassVar

from interlock.scan.code.base import Hit, Module
from interlock.scan.finding import Severity

__all__ = ["UnsafeLoad"]

_ALWAYS = {
    "pickle.load", "pickle.loads", "pickle.Unpickler", "_pickle.load", "_pickle.loads",
    "cPickle.load", "cPickle.loads", "dill.load", "dill.loads", "cloudpickle.load",
    "cloudpickle.loads", "joblib.load", "marshal.load", "marshal.loads", "shelve.open",
    "pandas.read_pickle", "sklearn.externals.joblib.load", "jsonpickle.decode",
    "torch.jit.load", "pickle5.load", "pickle5.loads", "compress_pickle.load",
}  # fmt: skip
_LOADS = {f"{owner}.loads" for owner in ("pickle", "_pickle", "dill", "cloudpickle", "marshal")}
_DUMPS = {name.removesuffix("loads") + "dumps" for name in _LOADS}
_YAML = {"yaml.load", "yaml.load_all"}
_YAML_SAFE = {"SafeLoader", "CSafeLoader", "BaseLoader", "CBaseLoader"}
_YAML_BAD = {"yaml.unsafe_load", "yaml.unsafe_load_all", "yaml.full_load", "yaml.full_load_all"}
_KERAS = {
    "keras.models.load_model",
    "tensorflow.keras.models.load_model",
    "keras.saving.load_model",
}
_TORCH = {"torch.load", "torch.serialization.load"}
_QPY = {"qiskit.qpy.load", "qpy.load"}


def _is(node: ast.expr | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


class UnsafeLoad:
    """`pickle.load` and its kin, `torch.load` without `weights_only`, old QPY."""

    id: ClassVar[str] = "unsafe-load"
    title: ClassVar[str] = "Loading runs code from the file"
    severity: ClassVar[Severity] = Severity.HIGH
    confidence: ClassVar[str] = "high"
    why: ClassVar[str] = "whoever can replace the file runs code as this program"
    fix: ClassVar[str] = (
        "read safetensors, ONNX, OpenQASM 3 or JSON; torch.load(..., weights_only=True); "
        "np.load(..., allow_pickle=False); check circuits with `interlock check`"
    )

    def check(self, module: Module) -> Iterator[Hit]:
        """Yield the loads."""
        for call in module.calls:
            name = module.name(call.func)
            reason = self._reason(module, call, name)
            if reason:
                yield module.hit(call, f"{name}: {reason}")

    def _reason(self, module: Module, call: ast.Call, name: str) -> str | None:
        if name in _LOADS and call.args and module.made_by(call.args[0], _DUMPS):
            return None  # bytes this program made itself, a copy
        if name in _ALWAYS:
            return "runs code the file holds"
        if name in _TORCH and not _is(module.keyword(call, "weights_only"), True):
            return "weights_only=True is not set"
        if name == "numpy.load":
            flag = module.keyword(call, "allow_pickle")
            if flag is not None and not _is(flag, False):
                return "allow_pickle opens object arrays"
        if name in _YAML:
            loader = module.keyword(call, "Loader") or (
                call.args[1] if len(call.args) > 1 else None
            )
            if loader is None or not self._safe(module, loader):
                return "no safe loader"
        if name in _YAML_BAD:
            return "builds arbitrary objects"
        if name in _KERAS and _is(module.keyword(call, "safe_mode"), False):
            return "safe_mode is off"
        if name in _QPY:
            return "QPY before version 13 can run code (CVE-2025-2000); check the header first"
        return None

    def _safe(self, module: Module, loader: ast.expr) -> bool:
        name = module.name(loader).rpartition(".")[2]
        return name in _YAML_SAFE or bool(module.bases(name) & _YAML_SAFE)
