"""Loaders that run code from the file they read."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import ClassVar

from interlock.scan.code.base import Hit, Module
from interlock.scan.finding import Severity

__all__ = ["UnsafeLoad"]

_PICKLES = ("pickle", "_pickle", "cPickle", "pickle5", "dill", "cloudpickle", "ray.cloudpickle")
_ALWAYS = {
    *(f"{owner}.{name}" for owner in _PICKLES for name in ("load", "loads", "Unpickler")),
    "pickle._load", "pickle._loads", "pickle._Unpickler", "dill.load_session", "dill.load_module",
    "joblib.load", "joblib.numpy_pickle.load", "sklearn.externals.joblib.load",
    "marshal.load", "marshal.loads", "shelve.open", "shelve.DbfilenameShelf",
    "pandas.read_pickle", "pandas.io.pickle.read_pickle", "compress_pickle.load",
    "jsonpickle.decode", "torch.jit.load", "torch.package.PackageImporter",
    "multiprocessing.reduction.ForkingPickler.loads",
}  # fmt: skip
_HDF = {"pandas.read_hdf", "pandas.io.pytables.read_hdf", "pandas.HDFStore"}
_LOADS = {f"{owner}.loads" for owner in (*_PICKLES, "marshal")}
_DUMPS = {name.removesuffix("loads") + "dumps" for name in _LOADS}
_YAML = {"yaml.load", "yaml.load_all"}
_YAML_SAFE = {"SafeLoader", "CSafeLoader", "BaseLoader", "CBaseLoader"}
_YAML_BAD = {"yaml.unsafe_load", "yaml.unsafe_load_all", "yaml.full_load", "yaml.full_load_all"}
_KERAS = {
    "keras.models.load_model",
    "tensorflow.keras.models.load_model",
    "keras.saving.load_model",
}
_TORCH = {"torch.load", "torch.serialization.load", "torch.hub.load_state_dict_from_url"}
#: Where `allow_pickle` stands among the positional arguments.
_NUMPY = {
    "numpy.load": 2, "numpy.lib.npyio.load": 2, "numpy.lib.npyio.NpzFile": 2,
    "numpy.lib.format.read_array": 1,
}  # fmt: skip
_QPY = {"qiskit.qpy.load", "qpy.load"}


_VALUES = _ALWAYS | _HDF | _TORCH | _YAML | _YAML_BAD | _QPY
_LASTS = {name.rpartition(".")[2] for name in _VALUES}
_CLASSES = {f"{owner}.Unpickler" for owner in _PICKLES} | {"pickle._Unpickler"}
_PARTIAL = {"functools.partial", "functools.partialmethod"}


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
        """Yield the loads: calls, loaders handed on as values, unpicklers of the module's own."""
        called: set[str] = set()
        for call in module.calls:
            if isinstance(call.func, ast.Name):
                called.add(call.func.id)
            for name in self._names(module, call.func):
                target = call
                if name in _PARTIAL and call.args:
                    target = ast.Call(func=call.args[0], args=call.args[1:], keywords=call.keywords)
                    name = module.name(call.args[0])
                reason = self._reason(module, target, name)
                if reason:
                    yield module.hit(call, f"{name}: {reason}")
        for node in module.nodes:
            if isinstance(node, ast.ClassDef):
                yield from self._unpickler(module, node)
            elif isinstance(node, (ast.Attribute, ast.Name, ast.Subscript, ast.Call)):
                yield from self._value(module, node, called)

    def _names(self, module: Module, node: ast.expr) -> list[str]:
        """The name of a loader, or each one that a star import may have given it."""
        if isinstance(node, ast.Name) and module.stars and not module.bound(node):
            return [f"{star}.{node.id}" for star in module.stars]
        return [module.name(node)]

    def _value(self, module: Module, node: ast.expr, called: set[str]) -> Iterator[Hit]:
        """A loader that is passed, kept or returned: who calls it cannot be seen."""
        if isinstance(node, ast.Attribute) and node.attr not in _LASTS:
            return
        if isinstance(node, ast.Name) and (
            not isinstance(node.ctx, ast.Load)
            or not (node.id in module.imports or (node.id in _LASTS and module.stars))
        ):
            return
        parent = module.parent(node)
        if isinstance(parent, (ast.Attribute, ast.Compare, ast.ClassDef)):
            return
        if isinstance(parent, ast.Call) and (
            parent.func is node or module.name(parent.func) in _PARTIAL
        ):
            return
        if isinstance(parent, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id in called for target in parent.targets
        ):
            return  # reported where it is called
        for name in self._names(module, node):
            if name not in _VALUES - _CLASSES:
                continue
            reason = self._reason(module, ast.Call(func=node, args=[], keywords=[]), name)
            if reason:
                yield module.hit(node, f"{name} handed on as a value: {reason}")

    def _unpickler(self, module: Module, node: ast.ClassDef) -> Iterator[Hit]:
        """A subclass opens whatever `find_class` does not refuse."""
        for base in node.bases:
            for name in self._names(module, base):
                if name in _CLASSES and not any(_refuses(item) for item in node.body):
                    yield module.hit(node, f"{node.name}: a {name} whose find_class refuses none")

    def _reason(self, module: Module, call: ast.Call, name: str) -> str | None:
        if name in _LOADS and call.args and module.made_by(call.args[0], _DUMPS):
            return None  # bytes this program made itself, a copy
        if name in _ALWAYS:
            return "runs code the file holds"
        if name in _HDF:
            return "columns of objects in the file are pickles"
        if name in _TORCH and not _is(module.argument(call, "weights_only"), True):
            return "weights_only=True is not set"
        if name in _NUMPY:
            return self._numpy(module, call, _NUMPY[name])
        if name in _YAML:
            loader = module.argument(call, "Loader") or (
                call.args[1] if len(call.args) > 1 else None
            )
            if loader is None or not self._safe(module, loader):
                return "no safe loader"
        if name in _YAML_BAD:
            return "builds arbitrary objects"
        if name in _KERAS and _is(module.argument(call, "safe_mode"), False):
            return "safe_mode is off"
        if name in _QPY:
            return "QPY before version 13 can run code (CVE-2025-2000); check the header first"
        return None

    def _numpy(self, module: Module, call: ast.Call, position: int) -> str | None:
        flag = module.argument(call, "allow_pickle")
        if flag is None and len(call.args) > position:
            flag = call.args[position]
        if flag is not None:
            return None if _is(module.value(flag), False) else "allow_pickle opens object arrays"
        if any(isinstance(argument, ast.Starred) for argument in call.args) or any(
            k.arg is None and module.pairs(k.value) is None for k in call.keywords
        ):
            return "allow_pickle may be among the arguments handed through"
        return None

    def _safe(self, module: Module, loader: ast.expr) -> bool:
        name = module.name(loader).rpartition(".")[2]
        return name in _YAML_SAFE or bool(module.bases(name) & _YAML_SAFE)


def _refuses(item: ast.stmt) -> bool:
    """A `find_class` that raises for some names."""
    return (
        isinstance(item, ast.FunctionDef)
        and item.name == "find_class"
        and any(isinstance(node, ast.Raise) for node in ast.walk(item))
    )
